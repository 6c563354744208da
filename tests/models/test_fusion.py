"""The fusion network: what of photo and donor it may look at, and what it takes over from the anonymizer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dp3_jax.models import anonymizer, fusion
from dp3_jax.vision import masks

SIZE = 32
WIDTHS = {"widths": (8, 16), "style_dim": 16}


def drawn(count=2, seed=0):
    """image, mask, donor, donor mask; the donor's mask reaches out of the mask."""
    keys = jax.random.split(jax.random.key(seed), 4)
    shape = (count, SIZE, SIZE, 3)
    image, donor = (jax.random.uniform(key, shape, minval=-1, maxval=1) for key in keys[:2])
    mask = masks.random_masks(keys[2], count, SIZE)
    corners = jnp.array(
        [[[8.3, 9.0], [25.0, 9.0], [31.0, 26.0], [16.0, 31.0], [4.0, 26.0]]] * count
    )
    return image, mask, donor, masks.polygon(corners, SIZE)


@functools.cache
def made(dtype=jnp.float32):
    """The network with random weights of some size everywhere, so that every path matters."""
    network = fusion.FusionGenerator(**WIDTHS, dtype=dtype)
    variables = jax.jit(network.init)(jax.random.key(0), *drawn())
    keys = iter(jax.random.split(jax.random.key(1), 200))
    variables = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), variables)
    return network, variables, jax.jit(functools.partial(network.apply, variables))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
def test_what_is_masked_and_what_the_donor_shows_outside_of_its_mask_changes_no_bit(dtype):
    apply = made(dtype)[2]
    image, mask, donor, donor_mask = drawn()
    expected = np.asarray(apply(image, mask, donor, donor_mask))
    for nothing in (0.5, np.nan, np.inf):
        other = jnp.where(mask > 0, nothing, image)
        outside = jnp.where((donor_mask > 0) & (mask > 0), donor, nothing)
        np.testing.assert_array_equal(np.asarray(apply(other, mask, outside, donor_mask)), expected)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
def test_derivatives_vanish_in_the_masked_region_and_live_in_context_and_donor(dtype):
    apply = made(dtype)[2]
    image, mask, donor, donor_mask = drawn()
    weight = jax.random.normal(jax.random.key(5), image.shape) * mask

    def loss(image, donor):
        return (apply(image, mask, donor, donor_mask) * weight).sum()

    of_image, of_donor = map(np.asarray, jax.jit(jax.grad(loss, (0, 1)))(image, donor))
    masked = np.broadcast_to(np.asarray(mask) > 0, of_image.shape)
    shown = masked & (np.asarray(donor_mask) > 0)
    assert not of_image[masked].any() and not of_donor[~shown].any()
    assert np.abs(of_image[~masked]).max() > 1e-4 and np.abs(of_donor[shown]).max() > 1e-2


def test_outside_the_mask_the_image_stays_bit_for_bit():
    image, mask, donor, donor_mask = drawn()
    out = np.asarray(made()[2](image, mask, donor, donor_mask))
    kept = np.broadcast_to(np.asarray(mask) == 0, out.shape)
    np.testing.assert_array_equal(out[kept], np.asarray(image)[kept])
    assert (out[~kept] != np.asarray(image)[~kept]).mean() > 0.99


def test_without_a_donor_nothing_of_it_is_composed_and_with_one_alpha_lies_inside_its_mask():
    network, variables, _ = made()
    image, mask, donor, donor_mask = drawn()
    parts = jax.jit(functools.partial(network.apply, variables, method="parts"))
    alpha = np.asarray(parts(image, mask, donor, donor_mask).alpha)
    shown = (np.asarray(mask) > 0) & (np.asarray(donor_mask) > 0)
    assert not alpha[~shown].any() and alpha.min() >= 0 and alpha.max() <= 1
    assert (alpha[shown] > 0).mean() > 0.8  # all but the corners of its outline
    assert not np.asarray(parts(image, mask, donor, 0 * donor_mask).alpha).any()


def test_it_begins_as_the_anonymizer_whose_weights_it_takes():
    """Of an anonymizer that ignores its latent, the fill is that anonymizer's picture."""
    old = anonymizer.AnonymizerGenerator(**WIDTHS)
    image, mask, donor, _ = drawn()
    z = jax.random.normal(jax.random.key(3), (2, 8))
    params = dict(jax.jit(old.init)(jax.random.key(4), image, mask, z)["params"])
    for name in ("mapping_0", "mapping_1", "sketch"):
        bias = jax.random.normal(jax.random.key(6), params[name]["bias"].shape)
        params[name] = {"kernel": 0 * params[name]["kernel"], "bias": bias}
    fresh = jax.jit(fusion.FusionGenerator(**WIDTHS).init)(jax.random.key(7), *drawn())["params"]
    taken = fusion.from_anonymizer(fresh, params)
    assert jax.tree.map(jnp.shape, taken) == jax.tree.map(jnp.shape, dict(fresh))
    nothing = jnp.zeros_like(mask)
    apply = jax.jit(fusion.FusionGenerator(**WIDTHS).apply)
    found = apply({"params": taken}, image, mask, donor, nothing)
    expected = jax.jit(old.apply)({"params": params}, image, mask, z)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=2e-5)


def test_a_composite_is_the_formula_at_any_size():
    """Constant parts and a constant donor give one colour, at 128 px and at four times that."""
    for size in (8, 32):
        ones = jnp.ones((1, size, size, 3))
        parts = fusion.FusionParts(0.5 * ones, 0.25 * ones[..., :1], 0.1 * ones, -0.2 * ones)
        # 0.25 * (0.4 * 1.1 - 0.2) + 0.75 * 0.5
        np.testing.assert_allclose(
            np.asarray(fusion.composite(parts, 0.4 * ones)), 0.435, rtol=1e-6
        )


def test_a_polygon_covers_the_pixels_whose_centres_lie_inside():
    from matplotlib.path import Path

    rng = np.random.default_rng(0)
    angle = np.sort(rng.uniform(0, 2 * np.pi, (3, 9)), 1)
    radius = rng.uniform(4, 14, (3, 9))
    corners = np.stack([16 + radius * np.cos(angle), 15 + radius * np.sin(angle)], -1) + 0.013
    found = np.asarray(masks.polygon(jnp.asarray(corners, jnp.float32), SIZE))[..., 0]
    y, x = np.mgrid[:SIZE, :SIZE]
    centres = np.stack([x.ravel(), y.ravel()], 1)
    for one, outline in zip(found, corners, strict=True):
        np.testing.assert_array_equal(one.ravel() > 0, Path(outline).contains_points(centres))


def test_in_the_middle_of_the_donor_nothing_of_the_fill_shows():
    network, variables, _ = made()
    keys = jax.random.split(jax.random.key(8), 2)
    image, donor = (jax.random.normal(key, (1, SIZE, SIZE, 3)) for key in keys)
    mask = jnp.zeros((1, SIZE, SIZE, 1)).at[:, 2:30, 2:30].set(1.0)
    donor_mask = jnp.zeros_like(mask).at[:, 4:28, 4:28].set(1.0)
    parts = jax.jit(functools.partial(network.apply, variables, method="parts"))
    alpha = np.asarray(parts(image, mask, donor, donor_mask).alpha)[0, ..., 0]
    assert (alpha[7:25, 7:25] == 1).all() and alpha[4, 4:28].min() < 0.99


def test_what_lies_under_a_donor_is_continued_from_outside_of_it():
    """There training hardly says what the fill holds; a smooth one shows no dots whatever the alpha."""
    rows, columns = np.mgrid[:64, :64]
    alpha = np.clip((20.0 - np.hypot(rows - 32, columns - 32)) / 3, 0, 1)[None, ..., None]
    noise = np.random.default_rng(0).uniform(-2, 2, (1, 64, 64, 3))
    fill = np.where(alpha > 0, noise, 0.25).astype(np.float32)
    found = np.asarray(fusion._continued(jnp.asarray(fill), jnp.asarray(alpha, jnp.float32)))
    outside = np.broadcast_to(alpha == 0, fill.shape)
    np.testing.assert_array_equal(found[outside], fill[outside])
    shown = (1 - alpha) * (found - 0.25)
    before = (1 - alpha) * (fill - 0.25)
    deep = np.broadcast_to((alpha > 0.5) & (alpha < 1), fill.shape)
    assert np.abs(shown[deep]).mean() < 0.5 * np.abs(before[deep]).mean()
