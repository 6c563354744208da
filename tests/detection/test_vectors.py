"""The vector that passes from faces in clips: bounded, rounded, smooth, and blinks survive."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.detection import face_vector, vector_meter, vectors
from dp3_jax.detection.detections import Detection
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.detection.vectors import NUMBERS, VectorFilter, smooth

OPEN, SHUT = 0.42, 0.16  # lids in widths of the eye


def measured(frame, **changes):
    """A raw vector as of somebody who looks ahead; eyes are looked at in every second frame."""
    looks = {"left_eye": OPEN, "right_eye": OPEN, "gaze_x": 0.05, "gaze_y": -0.04} | changes
    if frame % 2:
        looks = {name: value for name, value in looks.items() if name in FaceVector._fields[:4]}
    return FaceVector(
        **({"yaw": 3.0, "pitch": 1.0, "mouth_opening": 0.02, "mouth_width": 0.8} | looks)
    )


def filtered(raw):
    follow = VectorFilter()
    return [follow.update(one) for one in raw]


def track(raw, first=0):
    seen = (
        Observation(first + i, (0.0, 0.0, 100.0, 120.0), None, 0.9, vector=v)
        for i, v in enumerate(raw)
    )
    return Track(1, tuple(seen))


def column(found, name):
    return np.array([getattr(one, name) for one in found], float)


anything = st.none() | st.builds(
    FaceVector,
    *[st.floats(-1e3, 1e3)] * 2,
    *[st.none() | st.floats(-50, 50)] * 6,
)


@pytest.mark.parametrize("way", [smooth, filtered])
@given(raw=st.lists(anything, max_size=12))
def test_whatever_was_measured_each_number_is_bounded_and_rounded(way, raw):
    for one in way(raw):
        for value, number in zip(one or (), NUMBERS.values(), strict=True) if one else ():
            if value is not None:
                assert number.low <= value <= number.high
                steps = value / number.step
                assert steps == pytest.approx(round(steps), abs=1e-6)


@pytest.mark.parametrize("way", [smooth, filtered])
def test_what_changes_evenly_goes_on_evenly(way):
    frames = range(60)
    raw = [
        measured(n, yaw=20 * math.sin(n / 12), mouth_opening=0.1 + 0.1 * math.sin(n / 3))
        for n in frames
    ]
    shown = way(raw)
    assert np.abs(np.diff(column(shown, "yaw"))).max() <= 20 / 12 + 0.5
    for name in ("yaw", "mouth_opening"):
        assert np.corrcoef(column(raw, name), column(shown, name))[0, 1] > 0.99


def test_the_causal_filter_is_close_behind_a_turn_and_calm_at_rest():
    rng = np.random.default_rng(0)
    turn = np.concatenate([np.zeros(40), np.arange(20) * 2.0])
    noisy = turn + 0.5 * rng.standard_normal(60)
    shown = column(filtered([FaceVector(float(v), 0.0) for v in noisy]), "yaw")
    assert shown[10:40].std() < 0.75 * noisy[10:40].std()
    assert np.mean(turn[-10:] - shown[-10:]) < 2.0  # one frame's way


@pytest.mark.parametrize("way", [smooth, filtered])
def test_poses_by_five_points_are_steadier(way):
    rng = np.random.default_rng(0)
    noisy = 3 + rng.standard_normal(80)
    by_points = [FaceVector(float(v), 0.0) for v in noisy]
    by_mesh = [FaceVector(float(v), 0.0, 0.1, 0.9) for v in noisy]
    calm, lively = (column(way(raw), "yaw")[20:].std() for raw in (by_points, by_mesh))
    assert calm < 0.7 * lively
    turn = [FaceVector(float(v), 0.0) for v in np.arange(80)]
    assert abs(column(way(turn), "yaw")[-1] - 60) < 3  # bounded there


@pytest.mark.parametrize(("way", "most"), [(smooth, 0.3), (filtered, 0.35)])
@pytest.mark.parametrize("length", [3, 4, 5])
@pytest.mark.parametrize("start", [40, 41])
def test_a_blink_of_three_to_five_frames_survives(way, most, length, start):
    blinks = range(start, start + length)
    raw = [
        measured(n, **(dict.fromkeys(("left_eye", "right_eye"), SHUT) if n in blinks else {}))
        for n in range(80)
    ]
    shown = way(raw)
    for name in ("left_eye", "right_eye"):
        lids = column(shown, name)
        assert lids[start - 1 : start + length + 1].min() < most
        assert np.abs(np.delete(lids, range(start - 3, start + length + 3))[20:] - 1).max() < 0.1


@pytest.mark.parametrize("way", [smooth, filtered])
def test_what_is_usual_of_somebody_is_left_out(way):
    """Two whose eyes are shaped unlike and who hold their gaze unlike, and who move alike, show the same."""
    move = [0.1 * math.sin(n / 9) for n in range(150)]
    one = [measured(n, left_eye=0.40, gaze_x=0.1 + move[n]) for n in range(150)]
    other = [measured(n, left_eye=0.33, gaze_x=-0.1 + move[n]) for n in range(150)]
    for name in ("left_eye", "gaze_x"):
        a, b = column(way(one), name)[100:], column(way(other), name)[100:]
        assert np.abs(a - b).max() < 0.06


@pytest.mark.parametrize("way", [smooth, filtered])
def test_where_nothing_is_known_a_blink_is_not_held(way):
    raw = [measured(n) for n in range(40)]
    raw += [measured(40 + n, left_eye=SHUT, right_eye=SHUT) for n in range(3)]
    raw += [None] * 50 + [measured(93 + n, yaw=13.0) for n in range(10)]
    shown = way(raw)
    lids, yaw = column(shown, "left_eye"), column(shown, "yaw")
    assert lids[41] < 0.4 and lids[75] > 0.8
    assert 2.5 <= yaw[60] <= 13.0 and abs(yaw[-1] - 13) < 1  # the pose is held, or on its way


def test_before_and_where_nothing_was_measured_there_is_no_vector():
    assert smooth([None] * 5) == [None] * 5 == filtered([None] * 5)
    assert smooth([]) == []
    small = smooth([FaceVector(3.0, 1.0)] * 5)  # of five points
    assert small == [FaceVector(3.0, 1.0)] * 5


def test_shut_eyes_do_not_tell_where_they_look():
    raw = [measured(n) for n in range(60)]
    raw[30] = raw[30]._replace(left_eye=SHUT, right_eye=SHUT, gaze_x=0.4, gaze_y=0.3)
    for way in (smooth, filtered):
        assert np.abs(column(way(raw), "gaze_x")[25:40]).max() < 0.05


def test_a_scene_is_not_smoothed_into_the_next_one():
    raw = [measured(n, yaw=0.0 if n < 20 else 40.0) for n in range(40)]
    whole = track(raw, first=5)
    found = [vectors.centred(whole, s, cuts=(25,)) for s in whole.observations]
    assert column(found, "yaw").tolist() == [0.0] * 20 + [40.0] * 20
    blurred = [vectors.centred(whole, s) for s in whole.observations]
    assert 0 < blurred[19].yaw < 40


def test_motion_says_what_passes():
    vector = FaceVector(10.0, -5.0, 0.1, 0.9, 0.5, 0.6, 0.1, 0.0)
    assert vectors.limited_to(vector, "face") == vector
    assert vectors.limited_to(vector, "head") == FaceVector(10.0, -5.0)
    assert vectors.limited_to(vector, "none") == FaceVector(0.0, 0.0)
    with pytest.raises(ValueError, match="wink"):
        vectors.limited_to(vector, "wink")


def test_a_filter_goes_on_after_its_way_through_a_file():
    raw = [measured(n, yaw=float(n), gaze_x=0.01 * n) for n in range(40)]
    whole, part = VectorFilter(), VectorFilter()
    for one in raw[:20]:
        whole.update(one)
        part.update(one)
    part = VectorFilter.from_json(json.loads(json.dumps(part.to_json())))
    assert [whole.update(one) for one in raw[20:]] == [part.update(one) for one in raw[20:]]


class Named(vector_meter.VectorMeter):
    """With names for networks."""

    _mesh, _iris = "mesh", "iris"


@pytest.mark.parametrize(
    ("rate", "live", "count", "looks"),
    [
        (25, True, 1, (24, 12)),
        (25, False, 1, (12, 12)),
        (60, True, 1, (12, 6)),
        (60, False, 1, (6, 6)),
        (30, True, 6, (72, 36)),
    ],
)
def test_measuring_costs_the_same_at_any_rate_and_is_bounded(monkeypatch, rate, live, count, looks):
    asked = []
    monkeypatch.setattr(
        vector_meter, "measure_raw", lambda image, face, mesh, iris=None: asked.append((mesh, iris))
    )
    meter = Named(rate, live=live)
    faces = [Detection((0.0, 0.0, 100.0, 120.0), None, 0.9)] * count
    for number in range(24):
        assert len(meter(number, np.zeros((1, 1, 3), np.uint8), faces)) == count
    assert (
        tuple(sum(one is not None for one in which) for which in zip(*asked, strict=True)) == looks
    )


def test_numbers_that_are_none_are_no_vector():
    assert face_vector.finite([1.0, math.nan]) is None
    assert face_vector.finite([1.23456789, 2.0]) == FaceVector(1.2346, 2.0)
