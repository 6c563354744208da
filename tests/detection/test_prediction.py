"""Where a face is expected that nobody sees: the one model of motion."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.detection.detections import Detection
from dp3_jax.detection.prediction import CALM, Motion, coasting, moved

speeds = st.floats(-8, 8)


@given(speeds, speeds, st.integers(3, 12))
def test_a_steady_face_is_expected_where_it_goes(right, down, count):
    boxes = [(frame, (100 + right * frame, 50 + down * frame, 40, 50)) for frame in range(count)]
    motion = Motion.through(boxes)
    np.testing.assert_allclose(motion.speed, (right, down), atol=0.4)
    value, _ = motion.expect(count)
    np.testing.assert_allclose(value[:2], (120 + right * count, 75 + down * count), atol=1.5)


def test_it_comes_to_rest_and_is_the_less_sure_the_longer_it_is_gone():
    motion = Motion.through([(frame, (10 * frame, 0, 40, 50)) for frame in range(6)])
    ways = [float(motion.way(5 + frames)[0]) for frames in range(1, 60)]
    assert all(np.diff(ways) >= 0) and ways[-1] < 10 * CALM + 1
    assert all(np.diff([motion.expect(5 + frames)[1][0, 0] for frames in range(1, 60)]) > 0)
    assert float(coasting(1)) > 0.99


def test_one_odd_detection_changes_little_and_a_face_at_rest_stays():
    still = Motion.through([(frame, (100, 100, 40, 40)) for frame in range(10)])
    np.testing.assert_allclose(still.speed, 0, atol=1e-9)
    odd = still.seen(10, (104, 100, 40, 40))
    assert abs(odd.speed[0]) < 4


@given(speeds, speeds)
def test_a_face_is_moved_with_its_points(right, down):
    face = Detection((10.0, 20.0, 30.0, 40.0), np.zeros((5, 2), np.float32), 0.9)
    there = moved(face, np.array([right, down]))
    assert there.box == (10.0 + right, 20.0 + down, 30.0, 40.0)
    np.testing.assert_allclose(there.keypoints, np.tile([right, down], (5, 1)), atol=1e-5)
    assert moved(Detection(face.box, None, 0.5), np.ones(2)).keypoints is None
