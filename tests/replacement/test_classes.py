"""Coarse classes from the surroundings: they cannot come from the face."""

import jax
import numpy as np
import pytest

from dp3_jax.replacement import classes
from dp3_jax.replacement.identities import AGE_BANDS, Classes
from dp3_jax.vision.masks import inference_mask


@pytest.fixture(scope="module")
def classifier():
    return classes.ContextClassifier()


def views():
    """Two views that differ under the mask only, u8[128, 128, 3]."""
    rng = np.random.default_rng(0)
    outside, one, other = rng.integers(0, 256, (3, 128, 128, 3), np.uint8)
    mask = inference_mask()
    return [np.where(mask > 0, face, outside).astype(np.uint8) for face in (one, other)]


def test_two_faces_under_one_mask_give_the_same_bits(classifier):
    one, other = views()
    first, second = classifier(one, inference_mask()), classifier(other, inference_mask())
    assert first.female == second.female
    np.testing.assert_array_equal(first.ages, second.ages)
    np.testing.assert_array_equal(first.tones, second.tones)


def test_no_derivative_in_a_masked_pixel_and_some_outside(classifier):
    image = (np.float32(views()[0]) / 127.5 - 1)[None]
    mask = inference_mask()[None]

    def total(x):
        return classes.guess_both(classifier._parameters, x, mask).sum()

    gradient = np.asarray(jax.grad(total)(image))
    inside = np.broadcast_to(mask > 0, gradient.shape)
    assert not gradient[inside].any()
    assert np.abs(gradient[~inside]).mean() > 0


def test_a_guess_is_probabilities_and_a_mirrored_view_gives_the_same(classifier):
    view, mask = views()[0], inference_mask()
    guess = classifier(view, mask)
    assert 0 <= guess.female <= 1
    assert guess.ages.sum() == pytest.approx(1, abs=1e-5)
    assert guess.tones.sum() == pytest.approx(1, abs=1e-5)
    other = classifier(np.ascontiguousarray(view[:, ::-1]), np.ascontiguousarray(mask[:, ::-1]))
    np.testing.assert_allclose(guess.tones, other.tones, atol=1e-4)
    assert classifier.classify(view, mask) == guess.classes


def test_the_band_of_tone_is_the_one_with_the_least_harm():
    ages = np.eye(len(AGE_BANDS))[2]
    sure = classes.Guess(0.9, ages, np.eye(6)[0])
    assert sure.classes == Classes(True, "middle", 0)
    # Dark or light: neither must be two bands off where the other is likelier.
    torn = classes.Guess(0.1, ages, np.array([0.3, 0.3, 0.1, 0.1, 0.1, 0.1]))
    assert torn.classes.tone == 1 and torn.classes.female is False


def test_a_child_must_be_sure_to_be_one():
    tones = np.eye(6)[2]
    perhaps = classes.Guess(0.9, np.array([0.6, 0.1, 0.25, 0.05]), tones)
    assert perhaps.classes.age == "middle"
    sure = classes.Guess(0.9, np.array([0.8, 0.1, 0.05, 0.05]), tones)
    assert sure.classes.age == "child"


def test_what_the_surroundings_do_not_tell_is_left_to_the_key():
    tones = np.eye(6)[2]
    unsure = classes.Guess(0.48, np.array([0.34, 0.17, 0.21, 0.28]), tones)
    assert unsure.classes == Classes(None, "middle", 2)
    likely = classes.Guess(0.62, np.array([0.0, 0.9, 0.1, 0.0]), tones)
    assert likely.classes.female
