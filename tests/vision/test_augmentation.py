import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dp3_jax.vision import augmentation

KEY = jax.random.key(3)


def pictures(count=64, side=16):
    return jax.random.uniform(jax.random.key(0), (count, side, side, 3), minval=-1.0)


@pytest.mark.parametrize("name", augmentation.POLICIES)
def test_each_policy_keeps_the_shape_and_has_a_gradient(name):
    images = pictures(4)
    policy = augmentation.POLICIES[name]
    assert policy(KEY, images).shape == images.shape
    gradient = jax.grad(lambda x: policy(KEY, x).sum())(images)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.parametrize("name", augmentation.POLICIES)
def test_an_image_is_augmented_alone(name):
    images = pictures(4)
    changed = images.at[2].set(-images[2])
    a, b = (augmentation.POLICIES[name](KEY, x) for x in (images, changed))
    np.testing.assert_array_equal(np.delete(a, 2, axis=0), np.delete(b, 2, axis=0))


def test_no_policy_is_the_identity():
    images = pictures(2)
    assert augmentation.augment(KEY, images, ()) is images


def test_translation_shifts_by_whole_pixels_and_fills_with_zeros():
    images = pictures() + 2.0  # no zero inside
    moved = np.asarray(augmentation.translation(KEY, images))
    seen = set()
    for before, after in zip(np.asarray(images), moved, strict=True):
        padded = np.pad(before, ((2, 2), (2, 2), (0, 0)))
        shifts = [
            (2 - y, 2 - x)
            for y in range(5)
            for x in range(5)
            if np.array_equal(padded[y : y + 16, x : x + 16], after)
        ]
        assert len(shifts) == 1
        seen.update(shifts)
    assert {y for y, _ in seen} == {x for _, x in seen} == {-2, -1, 0, 1, 2}


def test_cutout_removes_at_most_a_quarter_and_touches_nothing_else():
    images = pictures() + 2.0
    cut = np.asarray(augmentation.cutout(KEY, images))
    gone = (cut == 0).all(axis=3)
    np.testing.assert_array_equal(cut[~gone], np.asarray(images)[~gone])
    share = gone.mean(axis=(1, 2))
    assert share.max() == pytest.approx(0.25, abs=0.08) and share.min() > 0


def test_colour_keeps_grey_images_grey():
    grey = jnp.broadcast_to(pictures()[..., :1], (64, 16, 16, 3))
    changed = augmentation.color(KEY, grey)
    np.testing.assert_allclose(changed[..., 0], changed[..., 2], atol=1e-6)
