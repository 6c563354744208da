import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.metrics import head_pose
from dp3_jax.vision.masks import CANONICAL_POINTS


def seen(yaw, pitch, roll, away=24.0, size=128):
    """The five points of the model turned and looked at by the portrait's camera."""
    points = head_pose.MODEL @ head_pose.rotation(yaw, pitch, roll).T + (0, 0, away)
    return points[:, :2] / points[:, 2:] * head_pose.FOCAL * size / 128 + (size - 1) / 2


@given(st.floats(-50, 50), st.floats(-30, 30), st.floats(-80, 80), st.sampled_from([64, 128, 512]))
def test_the_pose_of_the_model_is_found_again(yaw, pitch, roll, size):
    found = head_pose.head_pose(seen(yaw, pitch, roll, size=size), size)
    np.testing.assert_allclose(found, [yaw, pitch, roll], atol=0.1)


def test_half_a_pixel_of_noise_turns_no_head_far():
    rng = np.random.default_rng(0)
    poses = rng.uniform((-40, -20, -20), (40, 20, 20), (100, 3))
    found = [head_pose.head_pose(seen(*p) + rng.normal(0, 0.5, (5, 2))) for p in poses]
    errors = head_pose.difference(found, poses)
    assert errors.mean() < 2.5 and errors.max() < 15


def test_the_mean_face_is_frontal_and_a_head_to_the_left_has_its_nose_there():
    assert np.abs(head_pose.head_pose(CANONICAL_POINTS)).max() < 3
    left = CANONICAL_POINTS.copy()
    left[2, 0] -= 6
    assert head_pose.head_pose(left)[0] > 8
    low = CANONICAL_POINTS.copy()
    low[2, 1] += 4
    assert head_pose.head_pose(low)[1] > 4


def test_a_difference_of_angles_goes_the_short_way_round():
    assert head_pose.difference([170, 0, 10], [-170, 0, -10]).tolist() == [20, 0, 20]
    assert head_pose.ANGLES == ("yaw", "pitch", "roll")
    assert head_pose.difference(np.zeros((4, 3)), np.ones((4, 3))).shape == (4, 3)
    with pytest.raises(ValueError):
        head_pose.difference(np.zeros(3), np.zeros(2))
