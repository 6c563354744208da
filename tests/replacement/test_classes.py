"""Coarse classes from the surroundings: they cannot come from the face."""

import jax
import numpy as np
import pytest

from dp3_jax.common import asset_sources, assets
from dp3_jax.common.errors import UserError
from dp3_jax.models.mobilenet import MobileNetV2
from dp3_jax.replacement import classes
from dp3_jax.replacement.identities import AGE_BANDS, Classes
from dp3_jax.vision.masks import inference_mask, turned_mask


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """A file as the asset `context_trunk` is, with weights of chance: blindness is no matter of weights."""
    shapes = jax.eval_shape(MobileNetV2().init, jax.random.key(0), np.zeros((1, 128, 128, 3)))
    rng, tensors = np.random.default_rng(1), {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
        spread = 0.5 / np.sqrt(max(np.prod(leaf.shape[:-1]), 1))
        name = "/".join(part.key for part in path)
        tensors[name] = (spread * rng.standard_normal(leaf.shape)).astype(np.float16)
    target = tmp_path_factory.mktemp("trunk") / "trunk.safetensors"
    target.write_bytes(asset_sources.safetensors_bytes(tensors))
    return target


@pytest.fixture(scope="module", params=["head", "trunk"])
def classifier(request, trunk):
    return classes.ContextClassifier(trunk if request.param == "trunk" else None)


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
    background_fill = (
        [classes.continued(views()[0], inference_mask())] if classifier.has_trunk else []
    )
    others = [(np.float32(view) / 127.5 - 1)[None] for view in background_fill]
    function = classes.guess_with_trunk if classifier.has_trunk else classes.guess_both

    def total(x):
        return function(classifier.parameters, x, mask, *others).sum()

    gradient = np.asarray(jax.jit(jax.grad(total))(image))
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
    if not classifier.has_trunk:  # MobileNetV2 sees one of them
        np.testing.assert_allclose(guess.tones, other.tones, atol=1e-4)
    assert classifier.classify(view, mask) == guess.classes


def test_what_the_trunk_sees_under_a_mask_is_the_restcontinued():
    """Of a grey face before green nothing is left; whatever the shape of the mask."""
    green = np.broadcast_to(np.uint8([20, 160, 60]), (128, 128, 3)).copy()
    for mask in (inference_mask(), np.eye(128, dtype=np.float32)[..., None], turned_mask(30)):
        view = np.where(mask > 0, np.uint8(128), green).astype(np.uint8)
        assert np.abs(classes.continued(view, mask).astype(int) - green).max() <= 1


def test_without_its_trunk_the_smaller_head_decides_and_nothing_is_asked_for_again(
    tmp_path, monkeypatch
):
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path))
    asked = []

    def refuse(name):
        asked.append(name)
        raise UserError("no network")

    monkeypatch.setattr(assets, "fetch", refuse)
    found = [classes.load_classifier() for _ in range(2)]
    assert asked == ["context_trunk"] and not any(one.has_trunk for one in found)


def test_another_trunk_is_another_classifier(trunk):
    assert classes.ContextClassifier(trunk).fingerprint != classes.ContextClassifier().fingerprint


def test_tones_are_sure_of_a_sure_prediction_and_wide_of_an_unsure_one():
    light, sure, unsure = np.array([72.0, 12.0, 18.0]), np.full(2, 0.5), np.full(2, 12.0)
    assert classes._tones(light, sure)[4] > 0.95  # 51 degrees
    assert classes._tones(light, unsure)[4] < 0.6
    assert classes._tones(np.array([30.0, 12.0, 18.0]), sure)[0] > 0.95


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
