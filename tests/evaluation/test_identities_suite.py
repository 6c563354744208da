"""The evaluation of generated identities: its statistics, and a whole run with toy sources."""

import dataclasses
import json
import math

import numpy as np
import pytest

from dp3_jax.detection.detections import Detection
from dp3_jax.evaluation import identities_pictures as pictures
from dp3_jax.evaluation import identities_suite as suite
from dp3_jax.evaluation import identities_tables as tables
from dp3_jax.evaluation import identities_targets, people
from dp3_jax.evaluation.replacers import Replaced, paste
from dp3_jax.metrics.resampling import interval
from dp3_jax.models.mesh import Expression, Pose
from dp3_jax.replacement.identities import Rendering
from dp3_jax.vision import geometry
from dp3_jax.vision.masks import CANONICAL_POINTS

FACE = Detection(geometry.CANONICAL_BOX, CANONICAL_POINTS, 1.0, "user")


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def measures(embeddings, index=None, **others):
    n = len(embeddings)
    return {
        "found": np.ones(n, bool), "sface": unit(np.asarray(embeddings, float)),
        "index": np.arange(n) if index is None else np.asarray(index), **others,
    }  # fmt: skip


def test_intervals_hold_the_mean_and_widen_when_pictures_of_a_person_are_alike():
    rng = np.random.default_rng(0)
    people_ = np.repeat(np.arange(100), 4)
    each = rng.normal(size=400)
    alike = np.repeat(rng.normal(size=100), 4)
    apart, together = interval(each, people_), interval(alike, people_)
    for found, values in ((apart, each), (together, alike)):
        assert found["value"] == pytest.approx(values.mean())
        assert found["low"] < values.mean() < found["high"]
    assert together["high"] - together["low"] > 1.5 * (apart["high"] - apart["low"])
    known = np.where(people_ < 50, np.nan, each)
    assert interval(known, people_)["value"] == pytest.approx(np.nanmean(known))
    assert interval(np.full(3, np.nan), np.arange(3))["value"] is None


def test_a_face_that_gives_people_away_is_above_the_baseline():
    rng = np.random.default_rng(0)
    gallery_rows = rng.normal(size=(30, 32))
    probe_people = np.repeat(np.arange(30), 2)
    same = probe_people[:, None] == np.arange(30)
    gallery = measures(gallery_rows)
    impostors = rng.normal(size=(60, 32))
    betrays = gallery_rows[probe_people] + 0.5 * impostors
    rows = {"new": measures(betrays), "real_person": measures(impostors)}
    found = tables.above_baseline(rows, "sface", gallery, same, threshold=0.5)
    assert found["verified"]["low"] > 0.5 and found["rank_1"]["low"] > 0.5
    rows = {"new": measures(impostors), "real_person": measures(impostors[::-1])}
    found = tables.above_baseline(rows, "sface", gallery, same, threshold=0.5)
    assert found["verified"]["low"] <= 0 <= found["verified"]["high"]
    rows["new"]["found"][:] = False
    assert tables.above_baseline(rows, "sface", gallery, same, 0.5)["verified"]["value"] is None
    assert tables.above_baseline(rows, "sface", gallery, same, None) is None


def shape_of(pose, expression):
    found = np.ones(len(pose), bool)
    return {"pose": np.float32(pose), "expression": np.float32(expression), "found": found}


def test_pose_and_mouth_alone_tell_nobody_apart_unless_everybody_has_their_own():
    rng = np.random.default_rng(0)
    pose, mouth = rng.normal(size=(2, 200, 3))
    gallery, whose = shape_of(pose, mouth), np.arange(200)
    # Roll does not pass on, and no more does the third number of a mouth.
    roll = pose + np.array([0, 0, 90])
    found = tables.vector_alone(shape_of(roll, mouth), gallery, whose, whose)
    assert found["rank_1"]["value"] == found["verified"]["value"] == 1
    found = tables.vector_alone(shape_of(pose[::-1], mouth[::-1]), gallery, whose, whose)
    assert found["rank_1"]["value"] <= 0.03 and found["verified"]["value"] <= 0.05
    assert 0.4 < found["area_under_curve"] < 0.6
    nobody = shape_of(pose, mouth) | {"found": np.zeros(200, bool)}
    assert tables.vector_alone(nobody, gallery, whose, whose)["rank_1"]["value"] is None


def test_two_keys_are_linked_where_the_faces_are_alike_and_not_where_one_person_was_drawn_twice():
    first = np.eye(4)
    second = np.eye(4)[[0, 2, 3, 1]]
    rows = {
        "real_person": measures(first, person=np.array(["a", "b", "c", "d"])),
        "real_person_2": measures(second, person=np.array(["e", "b", "f", "g"])),
    }
    found = tables.linkage(rows, "real_person", "sface", threshold=0.5)
    assert found["pairs"] == 3 and found["linked"]["value"] == pytest.approx(1 / 3)
    rows["real_person_2"] = measures(first[[1, 3]], index=[1, 3], person=np.array(["x", "y"]))
    assert tables.linkage(rows, "real_person", "sface", 0.5)["linked"]["value"] == 1.0
    assert tables.linkage(rows, "new", "sface", 0.5) is None


def test_kid_of_real_photos_is_about_0_though_people_come_several_times():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, 16))
    whose = np.repeat(np.arange(200), 2)
    probes = centres[whose] + 0.3 * rng.normal(size=(400, 16))
    gallery = measures(centres + 0.3 * rng.normal(size=(200, 16)))
    shifted = probes + np.array([1.5] + [0] * 15)
    rows = {
        "original": measures(probes), "new": measures(probes + np.array([0.5] + [0] * 15)),
        "shipped": measures(shifted), "real_person": measures(probes),
    }  # fmt: skip
    found = tables.realism(rows, gallery, ["sface", "missing"], whose, np.arange(200))
    kids = {kind: row["kid"] for kind, row in found["sface"]["rows"].items()}
    error = found["sface"]["rows"]["original"]["standard_error"]
    assert abs(kids["original"]) < 4 * error
    assert kids["original"] < kids["new"] < kids["shipped"]
    assert 0 < found["sface"]["closed"] < 1
    assert "missing" not in found


def test_expressions_and_tones_are_compared_photo_by_photo():
    rng = np.random.default_rng(0)
    n = 60
    five = CANONICAL_POINTS + rng.normal(size=(n, 5, 2)).astype(np.float32)
    original = measures(
        rng.normal(size=(n, 8)), points=five, pose=rng.normal(0, 15, (n, 3)),
        expression=rng.uniform(0, 0.3, (n, 3)), ita=rng.uniform(-50, 70, n),
    )  # fmt: skip
    light = {**original, "ita": np.full(n, 65.0)}
    table = tables.expressions({"original": original, "new": original}, np.arange(n))
    assert table["new"]["yaw"]["value"] == 0 and table["new"]["smile"]["value"] == 1
    assert table["new"]["mouth_opening"] == pytest.approx(1)
    assert table["another_face"]["yaw"]["value"] > 5
    assert abs(table["another_face"]["mouth_width"]) < 0.5
    table = tables.tones({"original": original, "new": original, "shipped": light}, np.arange(n))
    assert table["new"]["within_one_band"]["value"] == 1
    assert table["shipped"]["dark"]["value"] == 0
    assert sum(band["photos"] for band in table["shipped"]["bands"]) == n


@dataclasses.dataclass
class Colour:
    """An identity source without any face: a person is a colour."""

    fingerprint: str
    name: str = "colours"

    def render(self, key, classes, pose, expression, size, *, mended=True):
        del classes, pose, expression, size, mended
        colour = np.frombuffer(key, np.uint8)[:3]
        image = np.broadcast_to(colour, (128, 128, 3)).copy()
        mesh = np.zeros((468, 2), np.float32)
        zero = Pose(0, 0, 0), Expression(0, 0, 0)
        return Rendering(image, CANONICAL_POINTS, mesh, *zero, False, key.hex()[:8])


@dataclasses.dataclass
class Painting:
    """Paints the middle of the photo; counts how often."""

    fingerprint: str
    calls: int = 0

    def __call__(self, photo, face, key, source):
        self.calls += 1
        result = photo.copy()
        donor = None if source is None else source.render(key, None, None, None, 128)
        result[40:100, 40:90] = 128 if donor is None else donor.image[0, 0]
        return Replaced(result, donor)


@pytest.fixture
def ruler(monkeypatch):
    """Measures without any network: the mean colour of the middle."""

    class Ruler:
        def __init__(self):
            self.verifiers = {"sface": type("Middle", (), {"threshold": 0.9})()}

        def measure(self, shown, *, features=False):
            del features
            n = len(shown)
            middle = shown[:, 45:95, 45:85].astype(float).mean((1, 2)) - 100
            return {
                "found": np.ones(n, bool), "sface": unit(middle + 1e-3),
                "points": np.broadcast_to(CANONICAL_POINTS, (n, 5, 2)).astype(np.float32),
                "pose": np.zeros((n, 3)), "expression": middle / 255, "ita": middle[:, 0],
            }  # fmt: skip

    class Nothing:
        def __init__(self, **_):
            pass

        def detect(self, photo):
            del photo
            return []

    monkeypatch.setattr(suite, "Ruler", lambda *_, **__: Ruler())
    monkeypatch.setattr(suite.embedders, "EMBEDDERS", {"sface": lambda: None})
    monkeypatch.setattr(suite, "Detector", Nothing)
    monkeypatch.setattr(pictures, "Detector", Nothing)


def photos(count, each):
    rng = np.random.default_rng(0)
    colours = rng.integers(30, 220, (count, 1, 1, 1, 3))
    shown = np.broadcast_to(colours, (count, 1 + each, 128, 128, 3)).astype(np.uint8)
    whose = np.arange(count, dtype=np.int32)
    probes = shown[:, 1:].reshape(-1, 128, 128, 3)
    return people.People("heldout", shown[:, 0], whose, probes, np.repeat(whose, each))


def test_an_evaluation_goes_on_where_it_was_and_writes_all_tables(tmp_path, ruler, monkeypatch):
    monkeypatch.setattr(suite, "SAVED_EVERY", 8)
    replace, shipped = Painting("fused"), Painting("shipped")
    bench = pictures.Bench(replace, Colour("nobody"), Colour("real"), shipped, "toy.safetensors")
    group, settings = photos(8, 3), {**suite.DEFAULTS, "verifiers": ("sface",)}

    written = suite.write_result

    def fail(path, measured):
        if path.name.startswith("000016"):
            raise KeyboardInterrupt
        written(path, measured)

    monkeypatch.setattr(suite, "write_result", fail)
    with pytest.raises(KeyboardInterrupt):
        suite.measure_identities(bench, [group], settings, tmp_path)
    assert not (tmp_path / "identities.json").exists()
    monkeypatch.setattr(suite, "write_result", written)
    before = replace.calls
    whole = suite.measure_identities(bench, [group], settings, tmp_path)
    # The last 8 photos with two sources, 2 or 3 of them with two keys; and those of the picture.
    assert replace.calls - before <= 2 * (8 + 3) + 3 * 8
    assert json.loads((tmp_path / "identities.json").read_text())["groups"] == json.loads(
        json.dumps(whole["groups"])
    )
    assert (tmp_path / "identities.png").exists()
    heldout = whole["groups"]["heldout"]
    assert heldout["found"]["new"]["n"] == 24 and heldout["found"]["new_2"]["n"] == 8
    assert heldout["found"]["shipped"]["n"] == 16
    # Photos as they are give everyone away, colours of keys nobody; the grey of "shipped" links all photos.
    assert heldout["recognition"]["sface"]["rows"]["original"]["rank_1"]["value"] > 0.9
    assert heldout["two_keys"]["sface"]["rows"]["shipped"]["linked"]["value"] == 1.0
    assert heldout["two_keys"]["sface"]["rows"]["new"]["linked"]["value"] < 0.5
    assert {row["met"] for row in whole["targets"]} <= {True, False, None}
    # Other weights: nothing of before is used.
    other = dataclasses.replace(bench, replace=Painting("other"))
    suite.measure_identities(other, [group], settings, tmp_path)
    assert other.replace.calls >= 2 * 24
    assert len(list((tmp_path / "identities_parts").iterdir())) == 1


def test_a_target_that_was_not_measured_is_neither_met_nor_missed():
    nothing = {
        "recognition": {},
        "two_keys": {},
        "found": {},
        "kid": {},
        "expression": {},
        "tone": {},
    }
    assert {row["met"] for row in identities_targets.targets(nothing, ())} == {None}


def test_a_pasted_donor_shows_its_detail_in_the_photos_colours():
    rng = np.random.default_rng(0)
    photo = np.full((128, 128, 3), (60, 80, 120), np.uint8)
    pattern = np.kron(rng.integers(0, 2, (32, 32, 1)), np.ones((4, 4, 3))) * 60 + 150
    donor = Colour("x").render(bytes(32), None, None, None, 128)
    donor = dataclasses.replace(donor, image=pattern.astype(np.uint8))
    shown = paste(photo, FACE, donor).astype(float)
    np.testing.assert_array_equal(shown[:10], photo[:10])
    middle = np.s_[60:90, 50:78]
    assert np.abs(shown[middle].mean((0, 1)) - photo[0, 0]).max() < 15
    both = np.corrcoef(shown[middle].mean(-1).ravel(), pattern[middle].mean(-1).ravel())
    assert both[0, 1] > 0.8
    assert not math.isclose(shown[middle].std(), 0)
