"""Where new faces are put."""

import numpy as np
import pytest

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


def test_a_head_that_turns_in_a_still_box_moves_nothing_of_who_is_to_stay_still():
    ahead, turned = (placement.by_boxes(of_points(*how), [BOX]) for how in ((), (9.0, 0.7)))
    assert turned.a == pytest.approx(ahead.a, rel=2e-3)
    assert turned.b == pytest.approx(ahead.b, rel=2e-3)


def test_a_head_that_is_tilted_is_tilted_still():
    tilted = placement.by_boxes(of_points(roll=0.3), [BOX])
    assert np.angle(tilted.a) == pytest.approx(np.angle(of_points(roll=0.3).a))
    middle = complex(BOX[0] + BOX[2] / 2, BOX[1] + BOX[3] / 2)
    upright = geometry.align_box(BOX)
    assert tilted.a * middle + tilted.b == pytest.approx(upright.a * middle + upright.b)


def test_boxes_are_averaged_within_a_shot():
    seen = tuple(Observation(n, (float(n), 0.0, 9.0, 9.0), None, 0.9) for n in range(3, 23))
    track = Track(1, seen)
    near = placement.boxes_near(track, seen[10], cuts=(11,))
    assert [box[0] for box in near] == [11, 12, 13, 14, 15, 16, 17]
