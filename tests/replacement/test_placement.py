"""Where new faces are put."""

import numpy as np
import pytest

from dp3_jax.detection.face_vector import pose_of_points
from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.replacement import placement
from dp3_jax.vision import geometry
from dp3_jax.vision.masks import CANONICAL_POINTS

BOX = (100.0, 80.0, 60.0, 80.0)


def of_points(shift=0.0, closer=1.0, roll=0.0):
    """The alignment of a face in BOX whose points lie beside their usual places, and closer together."""
    upright = geometry.align_box(BOX)
    middle = CANONICAL_POINTS.mean(0)
    points = (CANONICAL_POINTS - middle) * (closer, 1.0) + middle + (shift, 0.0)
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    return geometry.align_points(upright.invert((points - middle) @ turn.T + middle))


def seen(points=None, box=BOX, frame=0):
    return Observation(frame, box, points, 0.9)


def test_a_head_that_turns_in_a_still_box_moves_nothing_of_who_is_to_stay_still():
    ahead, turned = (placement.upright(of_points(*how), [seen()]) for how in ((), (9.0, 0.7)))
    assert turned.a == pytest.approx(ahead.a, rel=2e-3)
    assert turned.b == pytest.approx(ahead.b, rel=2e-3)


def test_who_is_to_stay_still_is_not_carried_along_by_a_box_that_runs_ahead_of_the_head():
    """The box follows the nose; the middle of the head, which new faces are put on, stays."""
    middles = []
    for yaw in (-30.0, 0.0, 30.0):
        turn = np.sin(np.radians(yaw))
        box = (BOX[0] - 0.15 * BOX[2] * turn, *BOX[1:])
        points = geometry.align_box(box).invert(CANONICAL_POINTS)
        points[2] -= (0.5 * BOX[2] * turn, 0)  # to the viewer's left, as of positive yaws
        toward = pose_of_points(points).yaw
        assert toward == pytest.approx(yaw, abs=20)
        placed = placement.upright(geometry.align_box(box), [seen(points.astype(np.float32), box)])
        middles.append(placed.invert(CANONICAL_POINTS.mean(0))[0])
    left, ahead, right = middles
    assert abs(left - ahead) < 0.04 * BOX[2] and abs(right - ahead) < 0.04 * BOX[2]


def test_a_head_that_is_tilted_is_tilted_still():
    tilted = placement.upright(of_points(roll=0.3), [seen()])
    assert np.angle(tilted.a) == pytest.approx(np.angle(of_points(roll=0.3).a))
    middle = complex(BOX[0] + BOX[2] / 2, BOX[1] + BOX[3] / 2)
    upright = geometry.align_box(BOX)
    assert tilted.a * middle + tilted.b == pytest.approx(upright.a * middle + upright.b)


def test_observations_near_are_of_the_same_shot():
    those = tuple(seen(box=(float(n), 0.0, 9.0, 9.0), frame=n) for n in range(3, 23))
    near = placement.near(Track(1, those), those[10], cuts=(11,))
    assert [one.frame for one in near] == [11, 12, 13, 14, 15, 16, 17]
