"""The floor of strangers: an anonymizer that passes a class alone names nobody, one that shows more does."""

import dataclasses
import functools

import cv2
import numpy as np
import pytest

from dp3_jax.evaluation.attacks import UNKNOWN, impostors
from dp3_jax.evaluation.attacks.inversion import Inversion
from dp3_jax.evaluation.attacks.linkage import Linkage
from dp3_jax.evaluation.attacks.parrot import Eyes, Parrot
from dp3_jax.evaluation.attacks.restoration import Restoration
from dp3_jax.evaluation.attacks.tuned import Network, Tuned
from dp3_jax.evaluation.attacks.verify import Verify
from tests.evaluation import attack_makers as made

# Four classes, as sex and age make them: people of one look alike.
KINDS = np.random.default_rng(3).uniform(60, 195, (4, 3, 3, 3)).astype(np.float32)


def face_of(kind):
    return cv2.resize(KINDS[kind], (16, 16))


def kind_of(pictures):
    """i[n]: the class whose mean face is nearest."""
    middle = pictures[:, None, 8:24, 8:24].astype(np.float32)
    means = np.stack([face_of(kind) for kind in range(4)])
    return np.abs(middle - means).mean((2, 3, 4)).argmin(1)


def read(pictures):
    """Classes as numbers of which two differ by much or not at all."""
    return 10.0 * np.eye(4)[kind_of(pictures)]


def people(seed, count):
    set_ = made.faces(seed, people=count)
    kinds = np.repeat(np.arange(count) % 4, 3)
    own = set_.originals[:, 8:24, 8:24].astype(np.float32) - 128
    pictures = set_.originals.copy()
    shown = [face_of(kind) + 0.6 * part for kind, part in zip(kinds, own, strict=True)]
    pictures[:, 8:24, 8:24] = np.clip(shown, 0, 255)
    return dataclasses.replace(set_, originals=pictures, anonymized=pictures)


def class_only(pictures):
    """The class's mean face, whoever it is."""
    result = pictures.copy()
    result[:, 8:24, 8:24] = [face_of(kind) for kind in kind_of(pictures)]
    return result


def half_transparent(pictures):
    """The class's mean face, through which the person shines."""
    mixed = class_only(pictures).astype(np.float32) + pictures
    return np.rint(mixed / 2).astype(np.uint8)


KNOWN, TRIED = people(1, 40), people(2, 32)


def anonymized(set_, anonymize):
    return dataclasses.replace(set_, anonymized=anonymize(set_.originals))


def exchanged(set_, anonymize):
    return impostors.with_exchanged(anonymized(set_, anonymize), read)


def before_it(set_, anonymize):
    """Strangers laid in before the anonymizer."""
    rows = impostors.companions(set_.people, read(set_.originals))[:, 0]
    shown = anonymize(impostors.laid_in(set_, rows))
    return dataclasses.replace(anonymized(set_, anonymize), impostors=shown)


def inner(pictures):
    return {"inner": made.embed(pictures)["inner"]}


def pixels(pictures):
    return pictures[:, 8:24, 8:24].reshape(len(pictures), -1).astype(np.float32) / 128 - 1


def open_eyes():
    return Eyes(
        lambda x: inner(x)["inner"], lambda x: np.concatenate([inner(x)["inner"], pixels(x)], 1), ""
    )


def network():
    start = np.random.default_rng(0).normal(0, 0.05, (16 * 16 * 3, 16)).astype(np.float32)
    return Network(pixels, {"w": start}, lambda p, x: x @ p["w"])


ATTACKS = {
    "inversion": Inversion(inner, updates=16),
    "restoration": Restoration(inner, inner),
    "parrot": Parrot(open_eyes),
    "parrot_tuned": Tuned(network, 60, None),
    "verify": Verify(inner, made.thresholds),
}


@functools.cache
def fitted(name, anonymize):
    return ATTACKS[name].fit(anonymized(KNOWN, anonymize), seed=0)


@functools.cache
def attacked(name, anonymize, with_floor):
    return fitted(name, anonymize).score(with_floor(TRIED, anonymize))


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("with_floor", [exchanged, before_it])
def test_a_class_names_nobody(name, with_floor):
    alone = attacked(name, class_only, anonymized)
    result = made.not_caught(attacked(name, class_only, with_floor))
    assert result.value == alone.value
    assert "strangers of the same sex" in result.floor_is or result.value - alone.floor < 0.1
    # Without the strangers this would be a false alarm.
    assert alone.found is True or name == "verify"


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("with_floor", [exchanged, before_it])
def test_a_face_that_shines_through_names_its_person(name, with_floor):
    made.caught(attacked(name, half_transparent, with_floor))


def test_two_keys_are_compared_with_two_strangers_of_the_class():
    def anonymize(picture, key):
        """Whoever the key says, within the class."""
        rng = np.random.default_rng(int.from_bytes(key, "big"))
        part = cv2.resize(rng.uniform(-25, 25, (3, 3, 3)).astype(np.float32), (16, 16))
        result = picture.copy()
        result[8:24, 8:24] = np.clip(face_of(kind_of(picture[None])[0]) + part, 0, 255)
        return result

    attack = Linkage(anonymize, embed=inner, find=made.sees_face, thresholds=made.thresholds)
    assert attack.score(TRIED).found is True
    made.not_caught(attack.score(dataclasses.replace(TRIED, classes=read(TRIED.originals))))


def test_strangers_are_others_and_as_near_as_can_be():
    classes = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [np.nan]])
    rows = impostors.companions(np.array([7, 7, 8, 9, UNKNOWN, UNKNOWN]), classes, 2)
    assert rows[0].tolist() == [2, 3] and rows[3].tolist()[0] == 4 and rows[4].tolist()[0] == 3
    with pytest.raises(ValueError, match="2 strangers take 3 people"):
        impostors.companions(np.array([1, 1, 2]), classes[:3], 2)


def test_an_exchange_keeps_the_mean_colour_and_all_around():
    set_ = anonymized(TRIED, half_transparent)
    shown = impostors.exchanged(set_, np.roll(np.arange(len(set_)), 5)).astype(float)
    inside = np.broadcast_to(made.MASK, shown.shape[:3])
    np.testing.assert_array_equal(shown[~inside], set_.anonymized[~inside])
    means = [x[:, 8:24, 8:24].mean((1, 2)) for x in (shown, set_.anonymized.astype(float))]
    assert np.abs(means[0] - means[1]).max() < 3


def test_too_few_people_are_attacked_without_strangers():
    one = TRIED.select(np.arange(3))
    assert impostors.with_exchanged(one, read).impostors is None
