"""Thresholds from impostors: those that the package brings, and those that a user gives."""

import numpy as np
import pytest
from PIL import Image

from dp3_jax.common.errors import UserError
from dp3_jax.evaluation.attacks.verify import Verify
from dp3_jax.evaluation.audit import calibration, given_impostors
from tests.evaluation import attack_makers as made
from tests.face_photos import detector_or_skip


def unit_rows(count, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_package_brings_thresholds_of_every_verifier():
    brought = calibration.brought()
    low, high = (brought.by_far[far] for far in calibration.FARS)
    assert set(low) == {"sface", "dlib_resnet", "faceres"} and not brought.is_given
    assert all(low[name] < high[name] < 1 for name in low)


def test_given_impostors_pass_as_seldom_as_said():
    rows, people = unit_rows(120), np.repeat(np.arange(60), 2)
    found = calibration.of_embeddings({"one": rows}, people, "others/")
    scores = (rows @ rows.T)[people[:, None] != people]
    for far in calibration.FARS:
        assert 0.9 * far < (scores >= found.by_far[far]["one"]).mean() <= far
    assert found.is_given and "7,080 pairs" in found.about and "60 people" in found.about


def test_pairs_of_one_person_are_no_impostors():
    rows = unit_rows(60)
    rows[1::2] = rows[::2]  # two photos of each
    people = np.repeat(np.arange(30), 2)
    found = calibration.of_embeddings({"one": rows}, people, "others/")
    alone = calibration.of_embeddings({"one": rows}, np.arange(60), "others/")
    assert found.by_far[1e-2]["one"] < 0.95 < alone.by_far[1e-2]["one"]
    assert calibration.of_embeddings({"one": rows[:40]}, np.arange(40), "others/") is None


def test_given_thresholds_go_before_those_of_the_faces_themselves():
    tried = made.anonymized(made.faces(2, people=40), made.LEAKS["half-transparent"])
    results = {
        own: Verify(made.embed, lambda: {"inner": 0.2, "whole": 0.2}, own=own).by_verifier(tried)
        for own in (True, False)
    }
    assert results[False]["inner"].details["threshold"] == 0.2
    assert results[True]["inner"].details["threshold"] != 0.2


def calibrate(folder, embed):
    return given_impostors.calibrate(folder, 0.5, 0, embed, lambda text: None)


def save(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / name)


def every_face(monkeypatch):
    """Every photo shows a face; whose it is the order of the photos says."""
    monkeypatch.setattr(given_impostors, "_face", lambda path, _: np.zeros((128, 128, 3), np.uint8))


def test_folders_are_people(tmp_path, monkeypatch):
    detector_or_skip()
    every_face(monkeypatch)
    save(tmp_path, *(f"{person}/{shot}.png" for person in range(25) for shot in "ab"))
    found = calibrate(tmp_path, lambda views: {"one": unit_rows(len(views))})
    assert "1,200 pairs" in found.about and "25 people" in found.about


def test_one_photo_of_two_people_is_refused_in_one_line(tmp_path, monkeypatch):
    detector_or_skip()
    every_face(monkeypatch)
    save(tmp_path, *(f"{number:02}.png" for number in range(50)))
    rows = unit_rows(50)
    rows[7] = rows[3]
    with pytest.raises(UserError, match=r"03\.png and .*07\.png are one photo"):
        calibrate(tmp_path, lambda views: {"one": rows})


def test_too_few_impostors_are_refused_in_one_line(tmp_path):
    detector_or_skip()
    save(tmp_path, "a.png")
    with pytest.raises(UserError, match="faces of 0 people in 1 photos; it takes 1000 pairs"):
        calibrate(tmp_path, lambda views: {})
    with pytest.raises(UserError, match="is no folder"):
        calibrate(tmp_path / "a.png", lambda views: {})
