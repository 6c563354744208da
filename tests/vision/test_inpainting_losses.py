"""The anonymizer's losses: values worked out by hand, derivatives against differences, invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from dp3_jax.vision import inpainting_losses as losses


def pictures(seed, shape=(2, 8, 8, 3)):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1, maxval=1)


def left_half(batch=2, size=8):
    return jnp.zeros((batch, size, size, 1)).at[:, :, : size // 2].set(1.0)


def test_l1_of_a_shift_is_the_shift_and_only_the_region_counts():
    image, region = pictures(0), left_half()
    changed = image + 0.25 * region + 9.0 * (1 - region)
    assert losses.region_l1(changed, image, region) == pytest.approx(0.25, rel=1e-5)
    assert losses.region_l1(image, image, region) == 0
    assert losses.region_l1(changed, image, jnp.zeros_like(region)) == 0


def test_l1_has_no_gradient_outside_its_region():
    gradient = jax.grad(losses.region_l1)(pictures(0), pictures(1), left_half())
    assert not gradient[:, :, 4:].any()
    # Each of the 2 * 8 * 4 pixels' 3 channels weighs the same.
    np.testing.assert_allclose(np.abs(gradient[:, :, :4]), 1 / (2 * 8 * 4 * 3), rtol=1e-5)


def test_total_variation_of_a_ramp_is_its_slope_and_of_a_constant_zero():
    ramp = jnp.broadcast_to(jnp.arange(8.0)[None, None, :, None] * 0.1, (1, 8, 8, 3))
    everywhere = jnp.ones((1, 8, 8, 1))
    assert losses.total_variation(ramp, everywhere) == pytest.approx(0.1, rel=1e-5)
    tilted = ramp + jnp.arange(8.0)[None, :, None, None] * 0.3
    assert losses.total_variation(tilted, everywhere) == pytest.approx(0.4, rel=1e-5)
    assert losses.total_variation(jnp.ones((1, 8, 8, 3)), everywhere) == 0
    assert losses.total_variation(ramp, jnp.zeros((1, 8, 8, 1))) == 0


def test_total_variation_sees_the_seam_of_its_region_but_nothing_farther():
    step = jnp.zeros((1, 8, 8, 3)).at[:, :, 4:].set(1.0)  # an edge between columns 3 and 4
    touching, away = (jnp.zeros((1, 8, 8, 1)).at[:, :, c].set(1.0) for c in (3, 1))
    # Column 3 takes part in two horizontal pairs in each row, one of them the edge.
    assert losses.total_variation(step, touching) == pytest.approx(0.5, rel=1e-5)
    assert losses.total_variation(step, away) == 0


def test_diversity_is_one_for_equal_images_and_zero_beyond_the_target():
    image, region = pictures(0), left_half()
    assert losses.diversity(image, image, region, 0.2) == 1
    top_and_bottom = jnp.where(jnp.arange(8) < 4, 1.0, -1.0)[None, :, None, None]
    for step, expected in [(0.1, 0.5), (0.3, 0.0)]:
        other = image + step * top_and_bottom
        assert losses.diversity(image, other, region, 0.2) == pytest.approx(expected, abs=1e-4)
    outside = image + 5.0 * (1 - region)
    assert losses.diversity(image, outside, region, 0.2) == 1


def test_diversity_counts_neither_noise_nor_a_colour_cast():
    checkers = jnp.where(jnp.indices((8, 8)).sum(0) % 2, 0.5, -0.5)[None, :, :, None]
    image = jnp.broadcast_to(checkers, (1, 8, 8, 3))
    everywhere = jnp.ones((1, 8, 8, 1))
    assert losses.diversity(image, -image, everywhere, 0.2) == pytest.approx(1, abs=1e-6)
    cast = image + jnp.array([0.5, 0.0, -0.3])
    assert losses.diversity(image, cast, everywhere, 0.2) == pytest.approx(1, abs=1e-5)


def test_pooled_colours_are_means_of_the_region_alone():
    image = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0].set(0.8).at[0, 1, 1].set(99.0)
    region = jnp.zeros((1, 4, 4, 1)).at[0, 0, :2].set(1.0)
    colour, share = losses.pooled(image, region, 2)
    assert colour[0, 0, 0, 0] == pytest.approx(0.4)
    np.testing.assert_allclose(share[0, :, :, 0], [[0.5, 0], [0, 0]])
    assert not colour[0, 1].any()


def test_feature_distance_averages_layers_whatever_their_sizes():
    small, large = jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 8, 8, 5))
    assert losses.feature_distance([small, large], [small + 1, large + 3]) == pytest.approx(2)
    with pytest.raises(ValueError, match="zip"):
        losses.feature_distance([small], [small, large])


def test_gram_matrix_against_its_definition():
    features = np.asarray(pictures(3, (2, 4, 5, 6)))
    expected = np.zeros((2, 6, 6))
    for image in range(2):
        for c in range(6):
            for d in range(6):
                expected[image, c, d] = (features[image, :, :, c] * features[image, :, :, d]).sum()
    np.testing.assert_allclose(losses.gram(features), expected / (4 * 5 * 6), rtol=1e-4, atol=1e-6)


@given(st.integers(0, 1000))
def test_style_ignores_where_things_are_and_content_does_not(seed):
    features = pictures(seed, (1, 4, 4, 3))
    moved = jnp.roll(features, (1, 2), (1, 2))
    assert losses.style_distance([moved], [features]) == pytest.approx(0, abs=1e-6)
    assert losses.feature_distance([moved], [features]) > 0.01


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: losses.region_l1(x, pictures(1), left_half()),
        lambda x: losses.total_variation(x, left_half()),
        lambda x: losses.diversity(x, 2 * pictures(1), left_half(), 3.0),
        lambda x: losses.feature_distance([x], [pictures(1)]),
        lambda x: losses.style_distance([x], [pictures(1)]),
    ],
    ids=["l1", "total_variation", "diversity", "features", "style"],
)
def test_derivatives_agree_with_differences(loss):
    with jax.enable_x64(True):
        x = jnp.asarray(np.asarray(pictures(0), np.float64))
        check_grads(loss, (x,), order=1, modes=["rev"], eps=1e-6, atol=1e-5, rtol=1e-4)


def test_feature_diversity_is_a_hinge_on_the_mean_distance_of_all_layers():
    first = [np.zeros((2, 4, 4, 3)), np.zeros((2, 2, 2, 5))]
    second = [np.full((2, 4, 4, 3), 0.1), np.stack([np.full((2, 2, 5), 0.3), np.zeros((2, 2, 5))])]
    # Distances: (0.1 + 0.3) / 2 and (0.1 + 0) / 2.
    assert losses.feature_diversity(first, second, 0.2) == pytest.approx((0 + 0.75) / 2, abs=1e-6)
    assert losses.feature_diversity(first, first, 0.2) == 1.0
