"""Do new faces move as the old ones did: correlations of made faces whose motion is known."""

import numpy as np
import pytest

from dp3_jax.metrics import video_motion
from dp3_jax.metrics.video_motion import Series
from dp3_jax.models import mesh

FRAMES = 40
TIME = np.linspace(0, 2 * np.pi, FRAMES, endpoint=False)


def turned(yaw, pitch=0.0, opening=0.0):
    """f[468, 3]: the mean face, turned by degrees, its lips apart by eye distances."""
    shape = mesh.mean_shape()[0].copy()
    shape[mesh.LIPS[1], 1] += opening
    a, b = np.radians(yaw), np.radians(pitch)
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return 100 * shape @ (about_y @ about_x).T


def series(yaw, pitch=None, opening=None, missing=()):
    still = np.zeros(FRAMES)
    made = Series()
    for n in range(FRAMES):
        row = None
        if n not in missing:
            points = turned(
                yaw[n],
                (still if pitch is None else pitch)[n],
                (still if opening is None else opening)[n],
            )
            row = video_motion.motions(mesh.yaw_pitch_roll(points), mesh.expression(points))
        made.add(n, row)
    return made


def test_a_face_that_turns_half_as_far_follows_wholly():
    source = series(20 * np.sin(TIME), 10 * np.cos(TIME))
    half = series(10 * np.sin(TIME), 5 * np.cos(TIME)).follows(source)
    for name, deviation in (("yaw", 20 / np.sqrt(2)), ("pitch", 10 / np.sqrt(2))):
        assert half[name].value == pytest.approx(1, abs=0.01)
        assert half[name].source == pytest.approx(deviation, rel=0.1)
        assert half[name].result == pytest.approx(deviation / 2, rel=0.1)
        assert half[name].frames == FRAMES


def test_a_quarter_of_a_period_late_is_no_correlation_and_the_other_way_round_is_minus_one():
    source = series(20 * np.sin(TIME))
    assert series(20 * np.cos(TIME)).follows(source)["yaw"].value == pytest.approx(0, abs=0.02)
    assert series(-20 * np.sin(TIME)).follows(source)["yaw"].value == pytest.approx(-1, abs=0.01)


def test_half_of_the_variance_shared_is_the_root_of_a_half():
    shared, own = np.sin(TIME), np.sin(2 * TIME)
    found = series(10 * shared + 10 * own).follows(series(10 * shared))["yaw"].value
    assert found == pytest.approx(np.sqrt(0.5), abs=0.02)


def test_the_mouth_has_a_number_of_its_own():
    speaking = 0.1 * (1 + np.sin(3 * TIME))
    source = series(np.zeros(FRAMES), opening=speaking)
    found = series(20 * np.sin(TIME), opening=speaking / 2).follows(source)
    assert found["mouth_opening"].value == pytest.approx(1, abs=0.02)
    assert found["yaw"].value is None and found["yaw"].reason == video_motion.SOURCE_STILL


def test_what_does_not_move_has_no_correlation_but_its_deviation():
    source = series(20 * np.sin(TIME))
    still = series(0.3 * np.sin(TIME)).follows(source)["yaw"]
    assert still.value is None and still.reason == video_motion.STILL
    assert still.result == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


def test_frames_without_a_face_are_left_out_and_counted():
    source = series(20 * np.sin(TIME), missing=(0, 1))
    own = series(20 * np.sin(TIME), missing=(1, 5, 6))
    assert own.left_out(source) == 4
    found = own.follows(source)["yaw"]
    assert found.frames == FRAMES - 4 and found.value == pytest.approx(1, abs=1e-6)
    few = series(20 * np.sin(TIME), missing=range(video_motion.MIN_FRAMES - 1, FRAMES))
    assert few.follows(source)["yaw"].reason == video_motion.TOO_SHORT


def test_tracks_and_keys_are_joined_by_their_frames():
    source = series(20 * np.sin(TIME))
    follows = series(20 * np.sin(TIME)).follows(source)
    late = series(20 * np.cos(TIME)).follows(source)
    still = series(np.zeros(FRAMES)).follows(source)
    both = video_motion.summary([follows, late, still], 3)
    assert both["left_out"] == 3
    assert both["yaw"]["value"] == pytest.approx(0.5, abs=0.02)
    assert both["yaw"]["frames"] == 2 * FRAMES
    assert both["yaw"]["reason"] == ""
    none = video_motion.summary([still], 0)
    assert none["yaw"]["value"] is None and none["yaw"]["reason"] == video_motion.STILL
    assert none["yaw"]["source_deviation"] == pytest.approx(20 / np.sqrt(2), rel=0.1)
    nothing = video_motion.summary([], 0)
    assert nothing["yaw"]["value"] is None and nothing["yaw"]["frames"] == 0
