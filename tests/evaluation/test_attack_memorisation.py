"""Training faces that come again, and what passes on from an original face."""

import dataclasses

import cv2
import numpy as np
import pytest

from dp3_jax.evaluation.attacks.conditioning import Conditioning
from dp3_jax.evaluation.attacks.memorisation import Memorisation, of_two_keys
from dp3_jax.evaluation.attacks.motion import RATE, MotionAttack
from tests.evaluation import attack_makers as made

FACES, TRAINING = made.faces(4, people=50, each=2), made.faces(5, people=100, each=1)


def attack(training=TRAINING.originals):
    return Memorisation(training, made.embed, spaces=("pixels", "inner"))


def with_faces_of(others, rng):
    """The set with faces under the mask that come from `others`, with some noise."""
    rows = rng.integers(0, len(others), len(FACES))
    shown = FACES.originals.copy()
    noise = rng.normal(0, 5, (len(FACES), 16, 16, 3))
    drawn = np.clip(others.originals[rows, 8:24, 8:24] + noise, 0, 255)
    shown[:, 8:24, 8:24] = drawn
    return dataclasses.replace(FACES, anonymized=shown)


def test_a_generator_that_repeats_training_faces_is_caught():
    result = made.caught(attack().score(with_faces_of(TRAINING, np.random.default_rng(0))))
    assert result.value > 0.9 and set(result.details) == {"pixels", "inner"}


def test_new_faces_and_covered_ones_repeat_nobody():
    fresh = made.faces(6, people=100, each=1)
    made.not_caught(attack().score(with_faces_of(fresh, np.random.default_rng(0))))
    made.not_caught(attack().score(made.anonymized(FACES, made.solid)))


def softened(part):
    return np.array([cv2.GaussianBlur(p, (0, 0), 4) for p in part])


def test_beside_unseen_faces_copies_are_caught_and_smooth_pictures_are_not():
    unseen = made.faces(7, people=100, each=1).originals
    of_two = Memorisation(TRAINING.originals, made.embed, ("pixels", "inner"), unseen)
    copied = with_faces_of(TRAINING, np.random.default_rng(0))
    assert made.caught(of_two.score(copied)).value > 0.9
    blurred = made.under_mask(copied.anonymized, softened)
    made.caught(of_two.score(dataclasses.replace(copied, anonymized=blurred)))
    for harmless in (softened, made.solid, made.LEAKS["identity"]):
        made.not_caught(of_two.score(made.anonymized(FACES, harmless)))
    assert of_two.score(FACES.select(np.arange(9))).found is None


def test_without_training_faces_nothing_is_said():
    assert attack(TRAINING.originals[:5]).score(FACES).found is None


def test_two_keys_that_give_one_person_are_counted():
    few = np.concatenate([TRAINING.originals[:3]] * 2)
    found = of_two_keys(few, made.embed, made.thresholds())["inner"]
    assert found["pairs"] == 15 and found["linked"]["value"] >= 3 / 15


@pytest.mark.parametrize("leaks", [True, False])
def test_vectors_that_everybody_has_their_own_of_tell_who_it_is_and_others_do_not(leaks):
    rng = np.random.default_rng(0)
    own = rng.normal(size=(50, 4))[np.repeat(np.arange(50), 2)] if leaks else 0
    vectors = own + 0.3 * rng.normal(size=(100, 4))
    vectors = np.concatenate([vectors, np.full((100, 2), np.nan)], 1).astype(np.float32)
    result = Conditioning().score(dataclasses.replace(FACES, conditioning=vectors))
    (made.caught if leaks else made.not_caught)(result)
    assert Conditioning().score(FACES).found is None
    vectors[3] = np.nan  # of one face nothing is known
    assert Conditioning().score(dataclasses.replace(FACES, conditioning=vectors)).count == 49


@pytest.mark.parametrize("leaks", [True, False])
def test_tracks_are_known_by_their_movement_only_where_it_is_their_own(leaks):
    rng = np.random.default_rng(1)
    count, people = int(6 * RATE), np.arange(6)
    owners = np.repeat(people, count)
    pitch = rng.normal(0, 1, len(owners)) + (8 * owners if leaks else 0)
    vectors = np.stack([rng.normal(0, 1, len(owners)), pitch], 1).astype(np.float32)
    blank = np.zeros((len(owners), 4, 4, 3), np.uint8)
    tracks = dataclasses.replace(
        FACES, originals=blank, anonymized=blank, masks=blank[..., 0] > 0, people=owners,
        conditioning=vectors,
    )  # fmt: skip
    result = MotionAttack().score(tracks)
    assert result.found is leaks, result.sentence
    assert MotionAttack().score(FACES).found is None
