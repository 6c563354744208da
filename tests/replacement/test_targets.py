"""Bodies: what each method hides, and how faces go with them; no network is needed for any of it."""

import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.detection import body_outline
from dp3_jax.detection.detections import Detection
from dp3_jax.detection.kinds import BODY, FACE, PLATE
from dp3_jax.models import body_pose
from dp3_jax.pipelines.anonymize import anonymize_frame
from dp3_jax.replacement import key_derivation, targets
from dp3_jax.replacement.face_actions import Done, FaceAction, Settings

SHAPE = (240, 320, 3)
BODY_BOX = (100.0, 40.0, 80.0, 180.0)
FACE_BOX = (126.0, 48.0, 24.0, 30.0)
COVERING = ("blur", "pixelate", "solid", "silhouette", "background")


def _frame(person: int) -> np.ndarray:
    """A scene with a person of random colours, which depend on `person` alone."""
    frame = np.random.default_rng(0).integers(60, 200, SHAPE, np.uint8)
    region = body_outline.of_box(BODY_BOX, SHAPE).region
    coloured = np.random.default_rng(person).integers(0, 255, (*region.inside.shape, 3), np.uint8)
    frame[region.slices][region.inside] = coloured[region.inside]
    return frame


def _points() -> np.ndarray:
    """A body standing upright in BODY_BOX, f32[33, 2]."""
    points = np.full((body_pose.POINTS, 2), (140.0, 60.0), np.float32)
    pairs = {
        body_pose.SHOULDERS: (22, 84), body_pose.ELBOWS: (32, 112), body_pose.WRISTS: (34, 136),
        body_pose.HIPS: (13, 132), body_pose.KNEES: (14, 172), body_pose.ANKLES: (14, 208),
        body_pose.HEELS: (14, 212), body_pose.TOES: (20, 214),
    }  # fmt: skip
    for (left, right), (across, down) in pairs.items():
        points[left], points[right] = (140 + across, down), (140 - across, down)
    points[17:23] = points[[15, 16] * 3]
    return points


def _key(number: int) -> bytes:
    return key_derivation.track_key(key_derivation.master_key_from_seed(1), number)


def _body(method: str, **more) -> FaceAction:
    return FaceAction(Detection(BODY_BOX, None, 0.9, kind=BODY), _key(1), method=method, **more)


def _face(**more) -> FaceAction:
    return FaceAction(Detection(FACE_BOX, None, 0.9), _key(0), **more)


def _outline() -> body_outline.Outline:
    return body_outline.Outline(body_outline.of_box(BODY_BOX, SHAPE).region, _points())


@pytest.mark.parametrize("points", [True, False])
@pytest.mark.parametrize("method", ["silhouette", "background", "generate", "solid"])
def test_a_body_drawn_anew_shows_nothing_of_the_person(method, points):
    outlines = {0: _outline()} if points else {}
    shown = [
        anonymize_frame(_frame(person), [_body(method)], Settings(), outlines=outlines)[0]
        for person in (1, 2)
    ]
    np.testing.assert_array_equal(shown[0], shown[1])


@pytest.mark.parametrize("method", ["silhouette", "background", "generate", "blur"])
def test_nothing_outside_of_a_body_changes(method):
    frame = _frame(1)
    shown, _ = anonymize_frame(frame, [_body(method)], Settings(), outlines={0: _outline()})
    region = _outline().region
    changed = (shown != frame).any(-1)
    inside = np.zeros(SHAPE[:2], bool)
    inside[region.slices] = region.inside
    assert not changed[~inside].any()
    assert changed[inside].mean() > 0.95


def test_another_key_wears_other_clothes():
    frame = _frame(1)
    pictures = []
    for number in range(3):
        action = FaceAction(
            Detection(BODY_BOX, None, 0.9, kind=BODY), _key(number), method="generate"
        )
        pictures.append(anonymize_frame(frame, [action], Settings(), outlines={0: _outline()})[0])
    apart = [np.abs(pictures[i].astype(int) - pictures[i - 1]).mean() for i in range(3)]
    assert min(apart) > 3


def test_limbs_of_a_silhouette_are_told_apart():
    shown, _ = anonymize_frame(
        _frame(1), [_body("silhouette")], Settings(), outlines={0: _outline()}
    )
    points = _points()
    middles = [
        (points[a] + points[b]) / 2
        for a, b in ((12, 14), (14, 16), (24, 26), (26, 28), (11, 13), (23, 25))
    ]
    colours = {tuple(shown[round(y), round(x)]) for x, y in middles}
    assert len(colours) == len(middles)


@pytest.mark.parametrize("method", COVERING)
def test_a_face_goes_with_its_body_also_where_the_outline_misses_it(method):
    frame = _frame(1)
    x, y, width, height = map(round, FACE_BOX)
    lost = body_outline.Outline(body_outline.of_box((110.0, 100.0, 60.0, 110.0), SHAPE).region)
    shown, results = anonymize_frame(
        frame, [_face(), _body(method)], Settings(), outlines={1: lost}
    )
    middle = slice(y + 3, y + height - 3), slice(x + 3, x + width - 3)
    assert (shown[middle] != frame[middle]).any(-1).mean() > 0.95
    assert results[0].done == results[1].done


def test_a_face_outside_of_all_bodies_is_anonymized_by_itself():
    far = FaceAction(Detection((260.0, 100.0, 26.0, 32.0), None, 0.9), _key(2), method="solid")
    shown, results = anonymize_frame(_frame(1), [far, _body("silhouette")], Settings())
    assert results[0].done == Done.SOLID
    assert (shown[116, 273] == 128).all()


def test_who_is_kept_is_kept_with_the_body_and_nobody_else():
    frame = _frame(1)
    other = FaceAction(Detection((150.0, 50.0, 24.0, 30.0), None, 0.9), _key(2), method="solid")
    actions = [_face(keep=True, reason="wish"), other, _body("silhouette")]
    shown, results = anonymize_frame(frame, actions, Settings())
    assert [one.done for one in results] == [Done.KEPT, Done.SOLID, Done.KEPT]
    np.testing.assert_array_equal(shown[150:200, 100:170], frame[150:200, 100:170])
    assert (shown[65, 162] == 128).all()


def test_each_target_has_the_method_asked_for_or_its_own():
    asked = targets.parse(["face", "body=silhouette", "plate"], "pixelate")
    assert [asked.method_of(kind) for kind in (FACE, BODY, PLATE)] == [
        "pixelate", "silhouette", "pixelate",
    ]  # fmt: skip
    assert targets.parse(["body", "plate"], "background").method_of(PLATE) == "solid"
    assert targets.parse(["body"], "background").method_of(FACE) == "generate"
    assert targets.parse((), "generate").only_faces


@pytest.mark.parametrize(
    "names, method",
    [(["dog"], "blur"), (["plate=generate"], "blur"), ([], "silhouette"), (["face"], "smear")],
)
def test_what_cannot_be_done_is_said_in_one_line(names, method):
    with pytest.raises(UserError, match=r"^[^\n]+$"):
        targets.parse(names, method)
