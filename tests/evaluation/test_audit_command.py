"""`dp3 audit` as it is called: what leaks on purpose is caught, what cannot passes, few faces say nothing.

All faces are one public-domain portrait, turned and lit in many ways.
"""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from dp3_jax.cli import audit_command, main
from dp3_jax.common import assets
from dp3_jax.evaluation.audit import run as auditing
from dp3_jax.pipelines.anonymize import Anonymizer
from tests.face_photos import BOX, astronaut, detector_or_skip

NETWORKS = ("sface", "dlib_resnet", "dlib_resnet_manifest", "faceres", "faceres_graph")
SIDE = 150  # px of a portrait
COLUMNS, ROWS = 8, 4


@pytest.fixture(scope="module")
def networks():
    detector_or_skip()
    for name in NETWORKS:
        if not assets.is_cached(name):
            pytest.skip(f"needs the asset {name}: dp3 assets {name} --fetch")


def portrait(number):
    """u8[SIDE, SIDE, 3] of the astronaut, another way each time."""
    rng = np.random.default_rng(number)
    centre = (BOX[0] + BOX[2] / 2, BOX[1] + BOX[3] / 2)
    turn = cv2.getRotationMatrix2D(centre, rng.uniform(-15, 15), rng.uniform(0.7, 0.95))
    turn[:, 2] += np.array([SIDE / 2, SIDE / 2]) - centre
    shown = cv2.warpAffine(astronaut(), turn, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
    shown = shown[:, ::-1] if number % 2 else shown
    light = rng.uniform(0.75, 1.1) * rng.uniform(0.93, 1.07, 3)
    return np.clip(shown * light, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def group():
    """u8[4 SIDE, 8 SIDE, 3]: 32 faces."""
    rows = [[portrait(COLUMNS * r + c) for c in range(COLUMNS)] for r in range(ROWS)]
    return np.concatenate([np.concatenate(row, 1) for row in rows])


@pytest.fixture(scope="module")
def covered(networks, group):
    """The group with each face in one colour, as `dp3 anonymize --method solid` makes it."""
    return Anonymizer(method="solid")(group).frame


@pytest.fixture
def audit(tmp_path, capsys):
    """Audits pairs of pictures by name; gives the exit status, audit.json and what was printed."""

    def run(*more, **pairs):
        for name, ends in pairs.items():
            for folder, picture in zip(("in", "out"), ends, strict=True):
                (tmp_path / folder).mkdir(exist_ok=True)
                Image.fromarray(picture).save(tmp_path / folder / f"{name}.png")
        report = tmp_path / "report"
        ends = (str(tmp_path / "in"), str(tmp_path / "out"))
        status = main.main(["audit", *ends, "-o", str(report), "--quiet", *more])
        told = capsys.readouterr()
        data = report / audit_command.DATA
        return status, json.loads(data.read_text()) if data.exists() else None, told

    return run


def found(result):
    return {risk["name"]: risk["found"] for risk in result["risks"]}


def test_what_cannot_leak_passes(audit, group, covered):
    status, result, told = audit(group=(group, covered))
    assert status == 0 and set(found(result).values()) == {False}
    assert result["compared"]["faces"] >= 30
    assert "Nothing was found by what was tried" in told.out


@pytest.mark.parametrize("leak", ["identity", "veil", "mirrored"])
def test_what_leaks_on_purpose_is_caught(audit, group, covered, leak):
    results = {
        "identity": lambda: group,
        "veil": lambda: ((group.astype(int) + covered) // 2).astype(np.uint8),
        # Each face from the left to the right: other pixels, the same person.
        "mirrored": lambda: np.concatenate(
            [part[:, ::-1] for part in np.split(group, COLUMNS, axis=1)], 1
        ),
    }
    status, result, told = audit(group=(group, results[leak]()))
    assert status == 3
    risks = found(result)
    if leak == "identity":
        assert risks["shown"]
    elif leak == "veil":
        assert risks["too_little"] and not risks["shown"]
    else:
        assert not risks["shown"] and any(
            risks[f"recognised_{n}"] for n in ("sface", "dlib_resnet")
        )
    assert "Do not release this yet" in told.out


FEW = slice(0, SIDE), slice(0, 3 * SIDE)  # of the group


def test_one_face_that_was_forgotten_is_enough(audit, group, covered):
    missed = covered[FEW].copy()
    missed[:, :SIDE] = group[FEW][:, :SIDE]
    status, result, told = audit(group=(group[FEW], missed))
    assert status == 3 and found(result)["shown"]
    worst = result["files"][0]["faces"][0]
    assert worst["state"] == "shown" and worst["box"][0] < SIDE
    assert "To look at first" in told.out


def test_few_faces_say_nothing_and_a_file_that_cannot_be_used_is_named(audit, covered, group):
    pairs = {"group": (group[FEW], covered[FEW]), "other": (group[:90], covered[:99])}
    status, result, told = audit(**pairs)
    assert status == 4
    assert found(result)["shown"] is False and found(result)["recognised_sface"] is None
    assert "too few" in told.out
    assert "skipped: other.png" in told.err and "must be equal" in told.err
    assert len(result["skipped"]) == 1


def test_an_interrupted_audit_goes_on_and_leaves_no_faces(audit, tmp_path, monkeypatch, networks):
    first, second = portrait(1), portrait(2)
    looked = []
    look = auditing.photo_faces

    def interrupted(original, result, detector):
        looked.append(original.name)
        if len(looked) == 2:
            raise KeyboardInterrupt
        return look(original, result, detector)

    monkeypatch.setattr(auditing, "photo_faces", interrupted)
    pairs = {"a": (first, first), "b": (second, second)}
    status, result, _ = audit(**pairs)
    assert status == 130 and result is None
    assert list((tmp_path / "report" / ".audit").iterdir())
    status, result, _ = audit()
    assert status == 3 and looked == ["a.png", "b.png", "b.png"]
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == ["audit.html", "audit.json"]


def test_a_mistake_in_the_call_is_one_line_and_writes_nothing(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(portrait(0)).save(folder / "a.png")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "audit.json").write_text("{}")
    for more, said in (
        (["nowhere"], "there is no file or folder"),
        ([str(folder), "--attacks", "magic"], "no attack 'magic'"),
        ([str(folder), "--people", "nobody.csv"], "cannot read --people"),
        ([str(folder), "--min-confidence", "2"], "--min-confidence"),
        ([str(tmp_path / "out"), "-o", str(taken)], "not an audit of dp3"),
    ):
        if more[0].endswith("out"):
            (tmp_path / "out").mkdir()
            Image.fromarray(portrait(0)).save(tmp_path / "out" / "a.png")
        elif more[0] == str(folder):
            Image.fromarray(portrait(0)).save(folder / "a_anonymized.png")
        report = tmp_path / "report"
        status = main.main(["audit", str(folder), "-o", str(report), *more])
        told = capsys.readouterr().err
        assert status == 2 and said in told and told.count("\n") == 1
        assert not report.exists() or not list(report.iterdir())
