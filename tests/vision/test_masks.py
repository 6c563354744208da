import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.vision import masks


def curve(centre, half_axes, exponent, size=32):
    arrays = (jnp.array([value], jnp.float32) for value in (centre, half_axes, exponent))
    return np.asarray(masks.superellipse(*arrays, size))[0, :, :, 0]


@given(st.floats(8, 24), st.floats(8, 24), st.floats(2, 14), st.floats(2, 14), st.floats(1.5, 6.0))
def test_a_superellipse_holds_the_pixels_its_formula_says(x, y, a, b, n):
    drawn = curve((x, y), (a, b), n)
    rows, columns = np.mgrid[:32, :32]
    value = (np.abs(columns - x) / a) ** n + (np.abs(rows - y) / b) ** n
    sure = np.abs(value - 1) > 1e-4  # float32 may decide either way on the curve itself
    np.testing.assert_array_equal(drawn[sure], (value <= 1)[sure])


def test_exponent_two_is_a_disc_and_infinity_a_box():
    disc = curve((15.5, 15.5), (10, 10), 2)
    assert disc.sum() == pytest.approx(np.pi * 100, rel=0.03)
    box = curve((15.5, 15.5), (10, 5), np.inf)
    assert box.sum() == 20 * 10
    assert box[11:21, 6:26].all()


def test_the_inference_mask_covers_the_face_and_leaves_context_on_all_sides():
    mask = masks.inference_mask()
    assert mask.shape == (128, 128, 1)
    assert set(np.unique(mask)) == {0.0, 1.0}
    for x, y in masks.CANONICAL_POINTS:  # each with a wide margin
        assert mask[round(float(y)) - 10 : round(float(y)) + 11,
                    round(float(x)) - 10 : round(float(x)) + 11].all()  # fmt: skip
    assert not mask[:22].any() and not mask[:, :20].any() and not mask[:, -20:].any()
    assert not mask[-2:].any()
    np.testing.assert_array_equal(mask[:, 1:], mask[:, :0:-1])  # symmetric about x = 64
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = 1


def test_the_inference_mask_of_half_the_size_is_the_same_shape():
    half = masks.inference_mask(64)[:, :, 0]
    pooled = masks.inference_mask(128)[:, :, 0].reshape(64, 2, 64, 2).mean((1, 3))
    assert (half[pooled == 1] == 1).all() and (half[pooled == 0] == 0).all()


def test_the_inference_mask_is_a_constant_inside_a_traced_function():
    inside = jax.jit(lambda: jnp.asarray(masks.inference_mask(96)))()
    np.testing.assert_array_equal(inside, masks.inference_mask(96))


@pytest.mark.parametrize("size", [16, 32, 64, 96, 128, 192, 256])
def test_the_inference_mask_is_a_superellipse_to_the_bit(size):
    scale = size / masks.SIZE
    centre = (np.array(masks.CENTRE) + 0.5) * scale - 0.5
    drawn = curve(centre, np.array(masks.HALF_AXES) * scale, masks.EXPONENT, size)
    np.testing.assert_array_equal(masks.inference_mask(size)[..., 0], drawn)


def test_training_masks_surround_the_inference_mask_and_differ():
    drawn = np.asarray(masks.random_masks(jax.random.key(0), 300))
    assert drawn.shape == (300, 128, 128, 1) and set(np.unique(drawn)) == {0.0, 1.0}
    always, never = drawn.min(0), drawn.max(0) == 0
    inference = masks.inference_mask()
    assert (inference[always > 0] == 1).all() and not inference[never].any()
    assert drawn[:, 60:90, 50:78].all()  # the middle of the face is always hidden
    sizes = drawn.mean((1, 2, 3))
    assert sizes.min() < 0.85 * inference.mean() and sizes.max() > 1.15 * inference.mean()
    # A box fills its own bounding box; an ellipse does not.
    fill = [m.sum() / np.ptp(np.argwhere(m), axis=0)[:2].__add__(1).prod() for m in drawn]
    share = np.mean(np.array(fill) > 0.999)
    assert 0.1 < share < 0.3


def test_training_masks_depend_on_the_key_alone():
    a, b = (np.asarray(masks.random_masks(jax.random.key(i), 4)) for i in (0, 1))
    np.testing.assert_array_equal(a, masks.random_masks(jax.random.key(0), 4))
    assert (a != b).any()


def test_the_rim_is_the_outermost_pixels_of_the_mask():
    mask = np.zeros((1, 12, 12, 1), np.float32)
    mask[0, 3:10, 2:9] = 1
    expected = mask.copy()
    expected[0, 5:8, 4:7] = 0
    np.testing.assert_array_equal(masks.boundary(jnp.asarray(mask), 2), expected)
    everything = jnp.ones((1, 8, 8, 1))  # no complement, no rim
    assert not masks.boundary(everything, 3).any()


@pytest.mark.parametrize("name", ["landmarks"])
def test_canonical_points_are_the_mean_detections(shared_data, name):
    table = np.loadtxt(
        shared_data / "celeba" / f"{name}_detected.csv",
        delimiter=",", skiprows=1, usecols=range(1, 11),
    )  # fmt: skip
    points = table.reshape(-1, 5, 2).mean(0)
    expected = (points + 0.5 - [0, 20]) * 128 / 178 - 0.5
    np.testing.assert_allclose(masks.CANONICAL_POINTS, expected, atol=0.06)


@pytest.mark.parametrize("yaw", [14, 22, 30, 50])
def test_the_mask_of_a_turned_head_lies_further_to_its_near_side(yaw):
    upright, turned = masks.inference_mask()[..., 0] > 0, masks.turned_mask(yaw)[..., 0] > 0
    far, near = np.flatnonzero(turned.any(0))[[0, -1]]
    assert far > np.flatnonzero(upright.any(0))[0] and near > np.flatnonzero(upright.any(0))[-1]
    ends = [np.flatnonzero(mask.any(1))[[0, -1]] for mask in (upright, turned)]
    assert np.abs(ends[0] - ends[1]).max() <= 1  # hairline and chin stay
    mirrored = masks.turned_mask(-yaw)[..., 0] > 0
    np.testing.assert_array_equal(mirrored[:, 1:], turned[:, :0:-1])  # the middle is at x = 64
    assert np.flatnonzero(turned.any(0))[-1] <= 127 - 8  # there is context on the near side too


def test_a_head_that_is_hardly_turned_has_the_usual_mask_and_a_jump_is_small():
    for yaw in (0, 5, -9):
        np.testing.assert_array_equal(masks.turned_mask(yaw), masks.inference_mask())
    sizes = [masks.turned_mask(yaw).sum() for yaw in range(0, 60, 2)]
    assert max(np.abs(np.diff(sizes))) < 0.02 * sizes[0]
