"""Verifiers as they are, and what anonymizing twice gives away."""

import dataclasses
import json

import numpy as np
import pytest

from dp3_jax.common import assets
from dp3_jax.evaluation import attacks
from dp3_jax.evaluation.attacks.attack import another_of_each, gallery_and_probes
from dp3_jax.evaluation.attacks.linkage import Linkage
from dp3_jax.evaluation.attacks.remembering import remembered
from dp3_jax.evaluation.attacks.repeat import Repeat
from dp3_jax.evaluation.attacks.verifiers import FaceVerifiers
from dp3_jax.evaluation.attacks.verify import Verify
from tests.evaluation import attack_makers as made

FACES = made.faces(3)
VERIFY = Verify(made.embed, made.thresholds)


def unknown(set_):
    return dataclasses.replace(set_, people=np.full(len(set_), attacks.UNKNOWN))


@pytest.mark.parametrize("leak", ["identity", "half-transparent"])
def test_a_face_that_shows_is_verified(leak):
    result = made.caught(VERIFY.score(made.anonymized(FACES, made.LEAKS[leak])))
    assert result.value > 0.9 and result.control > 0.9 and result.floor < 0.1
    assert result.details["identification"]["inner"]["rows"]["anonymized"]["rank_1"]["value"] > 0.9
    assert set(result.details["verifiers"]) == {"inner", "whole"}
    json.dumps(result.as_dict())


@pytest.mark.parametrize("people", [lambda x: x, unknown])
def test_a_covered_face_is_not_verified(people):
    result = made.not_caught(VERIFY.score(people(made.anonymized(FACES, made.solid))))
    assert result.value <= result.floor


def test_pixels_in_another_order_are_not_read_by_verifiers_that_were_not_trained_for_it():
    result = VERIFY.score(made.anonymized(FACES, made.LEAKS["pixel-swapped"]))
    assert result.value < 0.6  # what finds it are the attacks that learn


def test_people_who_are_not_known_are_compared_with_their_own_originals():
    result = made.caught(VERIFY.score(unknown(made.anonymized(FACES, made.LEAKS["identity"]))))
    assert result.value == 1 and result.control is None
    assert result.details["identification"] == {}


def test_few_faces_are_never_called_safe_but_may_be_found():
    few = made.faces(3, people=5)
    assert VERIFY.score(made.anonymized(few, made.solid)).found is None
    assert VERIFY.score(made.anonymized(few, made.LEAKS["identity"])).found is True


def test_a_verifier_that_fails_on_originals_says_nothing():
    def blind(pictures):
        rows = np.random.default_rng(0).normal(size=(len(pictures), 8))
        return {"blind": rows / np.linalg.norm(rows, axis=1, keepdims=True)}

    result = Verify(blind, lambda: {"blind": 0.9}).score(made.anonymized(FACES, made.solid))
    assert result.found is None and "fails on the originals" in result.sentence


def anonymizer(change):
    return lambda picture, key: made.under_mask(picture[None], change)[0]


def by_key(picture, key):
    """A pattern of the key alone."""
    pattern = np.random.default_rng(list(key)).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    result = picture.copy()
    result[8:24, 8:24] = np.kron(pattern, np.ones((6, 6, 1), np.uint8))[:16, :16]
    return result


def of_photo(picture, key):
    """A pattern that the surroundings alone decide, whatever the key."""
    return by_key(picture, bytes(picture[0, 0]) + b"one" if key else b"")


def inner(pictures):
    """The scene is in both releases, so that only what looks at the face alone can tell."""
    return {"inner": made.embed(pictures)["inner"]}


def linkage(anonymize, **more):
    return Linkage(anonymize, embed=inner, find=made.sees_face, thresholds=made.thresholds, **more)


@pytest.mark.parametrize("leaky", [anonymizer(made.LEAKS["identity"]), of_photo])
def test_releases_that_show_one_person_are_linked(leaky):
    result = made.caught(linkage(leaky).score(FACES))
    assert result.value == 1 and result.floor < 0.2


@pytest.mark.parametrize("safe", [anonymizer(made.solid), by_key])
def test_releases_of_other_people_or_of_nobody_are_not_linked(safe):
    made.not_caught(linkage(safe).score(FACES))


def test_tracks_are_linked_by_all_their_frames():
    numbered = dataclasses.replace(FACES, files=tuple(str(p) for p in FACES.people))
    result = made.caught(linkage(of_photo, tracks=True).score(numbered))
    assert result.count == 40 and "track" in result.sentence


def repeat(anonymize):
    return Repeat(anonymize, embed=made.embed, find=made.sees_face, thresholds=made.thresholds)


def test_anonymizing_again_finds_the_person_who_stays_and_says_what_happens():
    change = made.LEAKS["identity"]
    result = made.caught(repeat(anonymizer(change)).score(made.anonymized(FACES, change)))
    assert [one["round"] for one in result.details["rounds"]] == [1, 2, 3]
    assert result.details["rounds"][-1]["mask_changed"] == 0
    assert result.name == "repeat" and "After 3 times" in result.sentence


def test_half_of_a_face_each_time_is_less_and_less_of_it():
    change = made.LEAKS["half-transparent"]
    rounds = repeat(anonymizer(change)).score(made.anonymized(FACES, change)).details["rounds"]
    cosines = [one["cosine_to_the_original"]["inner"] for one in rounds]
    assert cosines == sorted(cosines, reverse=True)


@pytest.mark.parametrize("safe", [made.solid, None])
def test_anonymizing_again_brings_nobody_back(safe):
    if safe is None:
        shown = np.stack([by_key(p, bytes([i % 256])) for i, p in enumerate(FACES.originals)])
        result = repeat(by_key).score(dataclasses.replace(FACES, anonymized=shown))
        assert result.details["rounds"][-1]["mask_changed"] > 0.9
        assert result.details["rounds"][-1]["face_found"] == 1
    else:
        result = repeat(anonymizer(safe)).score(made.anonymized(FACES, safe))
        assert result.details["rounds"][-1]["face_found"] == 0
    made.not_caught(result)


def test_every_other_picture_of_a_person_is_a_probe_and_nobody_is_alone():
    people = np.array([5, 5, -1, 7, 5, -1, 8, 8])
    gallery, probes = gallery_and_probes(people)
    assert gallery.tolist() == [0, 6] and probes.tolist() == [1, 4, 7]
    other = another_of_each(people)
    assert (people[other[other >= 0]] == people[other >= 0]).all()
    assert (other != np.arange(8)).all() and (other[[2, 3, 5]] == -1).all()


def test_learning_and_trying_share_nobody():
    known, tried = attacks.split_people(FACES, 0.25, seed=0)
    assert len(known) == 30 and len(tried) == 90
    assert not np.isin(known.people, tried.people).any()


def test_an_attack_is_registered_by_its_name_once():
    assert {"verify", "parrot", "parrot_tuned", "context", "conditioning"} <= set(attacks.ATTACKS)
    assert "linkage" not in attacks.offered() and "linkage" in attacks.offered(by_key)
    assert "memorisation" in attacks.offered(training=FACES.originals)
    with pytest.raises(ValueError, match="give yours another name"):
        attacks.register(Verify())


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="120 faces"):
        dataclasses.replace(FACES, people=FACES.people[:-1])


def test_what_was_computed_from_equal_pictures_is_not_computed_again():
    calls = []

    @remembered
    def mean(pictures, scale):
        calls.append(scale)
        return pictures.mean() * scale

    for pictures, scale in ((FACES.originals, 1), (FACES.originals.copy(), 1), (FACES.blanked, 1)):
        assert mean(pictures, scale) == pictures.mean() * scale
    assert mean(FACES.originals, 2) == FACES.originals.mean() * 2
    assert calls == [1, 1, 2]


def test_objects_are_told_apart_even_when_one_takes_the_place_of_another_in_memory():
    @remembered
    def read(thing):
        return thing["value"]

    assert [read({"value": i}) for i in range(50)] == list(range(50))


def test_the_verifiers_of_all_attacks_give_unit_rows_and_remember_them():
    names = ("sface", "dlib_resnet", "dlib_resnet_manifest", "faceres", "faceres_graph")
    if missing := [name for name in names if not assets.is_cached(name)]:
        pytest.skip(f"needs the cached assets {', '.join(missing)}")
    pictures = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    embed = FaceVerifiers()
    rows, again = embed(pictures), embed(pictures[::-1])
    assert set(rows) == set(embed.thresholds)
    for name, each in rows.items():
        np.testing.assert_allclose(np.linalg.norm(each, axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(each, again[name][::-1])
