"""The differentiable warp against transformations whose result is known, and the random motion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp3_jax.vision import flow as estimated
from dp3_jax.vision import warping

SIZE = 24
PIXELS = jnp.stack(jnp.meshgrid(jnp.arange(SIZE), jnp.arange(SIZE), indexing="xy"), -1)
PIXELS = PIXELS.astype(jnp.float32)


def noise(seed=0, batch=2, size=SIZE, channels=3):
    return jax.random.uniform(jax.random.key(seed), (batch, size, size, channels), minval=-1)


def constant(x, y, batch=2):
    return jnp.broadcast_to(jnp.array([x, y], jnp.float32), (batch, SIZE, SIZE, 2))


warp = jax.jit(warping.warp)
random_motion = jax.jit(warping.random_motion, static_argnums=(1, 2, 3))


@given(st.integers(-SIZE, SIZE), st.integers(-SIZE, SIZE))
def test_whole_shifts_give_the_images_own_bits(x, y):
    image = np.asarray(noise())
    rows = np.clip(np.arange(SIZE) + y, 0, SIZE - 1)
    columns = np.clip(np.arange(SIZE) + x, 0, SIZE - 1)
    found = warp(image, constant(x, y))
    np.testing.assert_array_equal(found, image[:, rows][:, :, columns])
    inside = np.zeros((SIZE, SIZE), bool)
    inside[max(0, -y) : max(0, SIZE - y), max(0, -x) : max(0, SIZE - x)] = True
    np.testing.assert_array_equal(warping.inside(constant(x, y))[0, ..., 0], inside)


entries = st.floats(-0.5, 0.5, width=32)


@given(st.tuples(entries, entries, entries, entries), st.tuples(*[st.floats(-6, 6, width=32)] * 2))
def test_linear_ramps_are_exact_under_any_affine_map(matrix, shift):
    matrix = jnp.eye(2) + jnp.array(matrix, jnp.float32).reshape(1, 2, 2)
    motion = warping.affine_flow(matrix, jnp.array([shift], jnp.float32), SIZE)
    ramps = jnp.stack(
        [PIXELS[..., 0], PIXELS[..., 1], 2 * PIXELS[..., 0] - 3 * PIXELS[..., 1] + 5], -1
    )
    x, y = np.moveaxis(np.asarray(PIXELS + motion[0], np.float64), -1, 0)
    expected = np.stack([x, y, 2 * x - 3 * y + 5], -1)
    seen = np.asarray(warping.inside(motion)[0, ..., 0]) > 0
    np.testing.assert_allclose(warp(ramps[None], motion)[0][seen], expected[seen], atol=2e-4)


def test_the_affine_flow_turns_about_the_middle():
    quarter = jnp.array([[[0.0, -1.0], [1.0, 0.0]]])  # x' = -y, y' = x
    image = noise(batch=1)
    found = warp(image, warping.affine_flow(quarter, jnp.zeros((1, 2)), SIZE))
    np.testing.assert_allclose(found[0], jnp.rot90(image[0], 1), atol=1e-5)


@given(st.integers(0, 1000))
def test_warped_values_lie_between_the_images_own(seed):
    image = noise(seed)
    motion = 8 * jax.random.normal(jax.random.key(seed), (2, SIZE, SIZE, 2))
    found = warp(image, motion)
    assert found.max() <= image.max() + 1e-6 and found.min() >= image.min() - 1e-6
    # Linear in the image, and each image of a batch alone.
    np.testing.assert_allclose(warp(2 * image + 1, motion), 2 * found + 1, atol=1e-5)
    np.testing.assert_array_equal(warp(image[1:], motion[1:]), found[1:])


def test_it_agrees_with_the_warp_of_estimated_flow():
    image, motion = noise(batch=1), 3 * noise(1, batch=1, channels=2)
    other, inside = estimated.warp(np.asarray(image[0]), np.asarray(motion[0]))
    # OpenCV rounds positions to 1/32 px; neighbours here differ by up to 2.
    np.testing.assert_allclose(warp(image, motion)[0], other, atol=2 * 2 / 32)
    np.testing.assert_array_equal(warping.inside(motion)[0, ..., 0] > 0, inside)


@settings(max_examples=6)
@given(st.integers(0, 1000))
def test_gradients_are_those_of_finite_differences(seed):
    keys = jax.random.split(jax.random.key(seed), 4)
    image = noise(seed)
    # Whole numbers, where the slope jumps, are kept at a distance; the rim is reached and passed.
    whole = jax.random.randint(keys[0], (2, SIZE, SIZE, 2), -5, 5).astype(jnp.float32)
    motion = whole + jax.random.uniform(keys[1], whole.shape, minval=0.1, maxval=0.9)
    weights = jax.random.normal(keys[2], image.shape)

    def loss(image, motion):
        return (weights * warp(image, motion)).sum()

    on_image, on_flow = jax.grad(loss, (0, 1))(image, motion)
    by_image, by_flow = noise(seed + 1), noise(seed + 2, channels=2)
    step = 0.02

    def slope(d_image, d_flow):
        ends = [loss(image + s * d_image, motion + s * d_flow) for s in (step, -step)]
        return float(ends[0] - ends[1]) / (2 * step)

    zero = jnp.zeros(())
    scale = float(jnp.abs(weights).sum())
    assert slope(by_image, zero) == pytest.approx(
        float((on_image * by_image).sum()), abs=1e-4 * scale
    )
    assert slope(zero, by_flow) == pytest.approx(float((on_flow * by_flow).sum()), abs=1e-4 * scale)


def test_there_is_no_gradient_of_positions_outside():
    image, motion = noise(), constant(-3.0 * SIZE, 2.0 * SIZE)
    slope = jax.grad(lambda f: warping.warp(image, f).sum())(motion)
    assert not slope.any()


def test_one_row_of_pixels_can_be_warped():
    image = jnp.arange(5.0).reshape(1, 1, 5, 1)
    motion = jnp.zeros((1, 1, 5, 2)).at[..., 0].set(0.5)
    np.testing.assert_allclose(warping.warp(image, motion).ravel(), [0.5, 1.5, 2.5, 3.5, 4])


def test_motion_is_smooth_bounded_and_never_folds():
    motion = random_motion(jax.random.key(0), 100, 64)
    assert motion.shape == (100, 64, 64, 2)
    length = jnp.linalg.norm(motion, axis=-1) * 128 / 64
    assert 1.5 < length.mean() < 6 and length.max() < 20
    moved = jnp.stack(jnp.meshgrid(jnp.arange(64.0), jnp.arange(64.0), indexing="xy"), -1) + motion
    dx, dy = jnp.diff(moved, axis=2)[:, :-1], jnp.diff(moved, axis=1)[:, :, :-1]
    area = dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0]
    assert area.min() > 0.5 and area.max() < 1.6


def test_motion_scales_with_size_and_strength_and_depends_on_the_key_alone():
    key = jax.random.key(3)
    large, small = (random_motion(key, 4, size) for size in (128, 64))
    pooled = large.reshape(4, 64, 2, 64, 2, 2).mean((2, 4))
    np.testing.assert_allclose(pooled / 2, small, atol=0.05)
    assert not random_motion(key, 4, 32, strength=0.0).any()
    np.testing.assert_array_equal(random_motion(key, 4, 128), large)
    assert (random_motion(jax.random.key(4), 4, 128) != large).any()


def test_the_flow_of_two_views_is_what_optical_flow_finds_between_them():
    """The direction: what is at p in the second view is at p + flow in the first."""
    from tests.vision.test_flow import interior, texture

    first = texture(128, 128)
    motion = random_motion(jax.random.key(1), 1, 128)
    second = np.asarray(warping.warp(jnp.asarray(first[None], jnp.float32), motion))[0]
    found = estimated.dense_flow(np.round(second).astype(np.uint8), first)
    error = interior(np.linalg.norm(found - np.asarray(motion[0]), axis=-1))
    assert np.median(error) < 0.15


def test_a_carried_mask_moves_with_the_scene_and_stays_a_mask():
    mask = np.zeros((1, SIZE, SIZE, 1), np.float32)
    mask[0, 6:12, 8:15] = 1
    found = warping.carried(jnp.asarray(mask), constant(2.0, -1.0, batch=1))
    np.testing.assert_array_equal(found, np.roll(mask, (1, -2), (1, 2)))
    turned = warping.carried(jnp.asarray(mask), random_motion(jax.random.key(0), 1, SIZE))
    assert set(np.unique(turned)) == {0.0, 1.0}
