"""Recognisers that learn from anonymized pictures: the regression, and the network trained further."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.common.errors import UserError
from dp3_jax.evaluation.attacks import ridge
from dp3_jax.evaluation.attacks.context import Context
from dp3_jax.evaluation.attacks.parrot import Eyes, Parrot
from dp3_jax.evaluation.attacks.tuned import Network, Tuned
from tests.evaluation import attack_makers as made


def pixels(pictures):
    return pictures.reshape(len(pictures), -1).astype(np.float32) / 128 - 1


def whole(pictures):
    return made.embed(pictures)["whole"]


def inner(pictures):
    return made.embed(pictures)["inner"]


def open_eyes():
    """Compares faces; sees all pixels of them."""
    return Eyes(inner, lambda x: np.concatenate([inner(x), pixels(x[:, 8:24, 8:24])], 1), "pixels")


def open_wide_eyes():
    """Compares and sees whole pictures."""
    return Eyes(whole, whole, "coarse pixels")


KNOWN, TRIED = made.faces(1, people=80), made.faces(2, people=40)
PARROT = Parrot(open_eyes)


def attacked(attack, change, known=KNOWN, tried=TRIED):
    fitted = attack.fit(made.anonymized(known, change), seed=0)
    return fitted.score(made.anonymized(tried, change))


@pytest.mark.parametrize("leak", made.LEAKS)
def test_a_regression_finds_who_it_is_where_anything_leaks(leak):
    result = made.caught(attacked(PARROT, made.LEAKS[leak]))
    assert result.value > 0.9 and result.floor < 0.6 and result.control > 0.9
    assert result.count == 80 and result.details["gallery"] == 40


def test_a_regression_finds_nobody_under_one_grey():
    result = made.not_caught(attacked(PARROT, made.solid))
    assert result.value == pytest.approx(result.details["anonymized"]["area_under_curve"], abs=0.1)


def test_training_finds_what_the_untrained_recogniser_cannot_read():
    change = made.LEAKS["pixel-swapped"]
    fitted = PARROT.fit(made.anonymized(KNOWN, change), seed=0)
    rates = fitted.rates(made.anonymized(TRIED, change))["anonymized"]
    assert rates["trained"]["area_under_curve"] > 0.95 > rates["untrained"]["area_under_curve"]
    assert rates["trained"]["rank_1"]["value"] > 0.5 + rates["untrained"]["rank_1"]["value"]


@pytest.mark.parametrize("hair", [True, False])
def test_surroundings_are_found_where_they_tell_who_it_is_and_only_there(hair):
    known, tried = made.faces(1, people=80, hair=hair), made.faces(2, hair=hair)
    context = attacked(Context(open_wide_eyes), made.solid, known, tried)
    if hair:
        assert made.caught(context).value > 0.8
    else:
        made.not_caught(context)
    # What the surroundings give away is no leak of what lies under the mask.
    made.not_caught(attacked(Parrot(open_wide_eyes), made.solid, known, tried))


def network():
    start = np.random.default_rng(0).normal(0, 0.05, (16 * 16 * 3, 16)).astype(np.float32)
    return Network(
        lambda pictures: pixels(pictures[:, 8:24, 8:24]), {"w": start}, lambda p, x: x @ p["w"]
    )


@pytest.mark.parametrize("leak", ["half-transparent", "pixel-swapped"])
def test_a_network_trained_further_finds_who_it_is(leak):
    result = made.caught(attacked(Tuned(network, 80, None), made.LEAKS[leak]))
    assert result.value > 0.75


def test_a_network_trained_further_finds_nobody_under_one_grey():
    made.not_caught(attacked(Tuned(network, 20, None), made.solid))


def test_what_a_regression_reads_from_surroundings_is_a_floor_for_the_network_too():
    known, tried = made.faces(1, people=80, hair=True), made.faces(2, hair=True)
    change = made.LEAKS["half-transparent"]
    floors = []
    for surroundings in (None, open_wide_eyes):
        fitted = Tuned(network, 4, surroundings).fit(made.anonymized(known, change), seed=0)
        floors.append(fitted.score(made.anonymized(tried, change)).floor)
    assert floors[0] < 0.6 and floors[1] > 0.8


@pytest.mark.parametrize("attack", [PARROT, Tuned(network, 2, None)])
def test_nobody_is_trained_on_and_tried(attack):
    with pytest.raises(ValueError, match="must not train on people"):
        attack.fit(KNOWN, seed=0).score(KNOWN)


@pytest.mark.parametrize("attack", [PARROT, Context(open_eyes), Tuned(network)])
def test_too_few_people_to_learn_from_are_refused_in_one_line(attack):
    with pytest.raises(UserError, match="5 people with two faces are too few to learn from"):
        attack.fit(made.faces(1, people=5), seed=0)


def test_too_few_people_to_try_are_not_called_safe():
    fitted = PARROT.fit(made.anonymized(KNOWN, made.solid), seed=0)
    assert fitted.score(made.anonymized(made.faces(2, people=2), made.solid)).found is None
    few = fitted.score(made.anonymized(made.faces(2, people=9), made.solid))
    assert few.found is None and "18 faces are too few" in few.sentence


@given(st.integers(0, 100), st.sampled_from([(30, 4), (4, 30)]))
def test_without_a_penalty_the_regression_is_least_squares(seed, shape):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=shape), rng.normal(size=(shape[0], 3))
    fitted = ridge.fit(x, y, [1e-9])[0]
    expected = np.linalg.lstsq(x - x.mean(0), y - y.mean(0), rcond=None)[0]
    np.testing.assert_allclose(fitted.weights, expected, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(fitted.predict(x), axis=1), 1)
    strong = ridge.fit(x, y, [1e3])[0].weights
    assert np.linalg.norm(strong) < 0.01 * np.linalg.norm(expected)
