"""What a face mesh tells: pose, expression, gaze; and that the network finds the points where they are."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.common.errors import UserError
from dp3_jax.detection.detections import Detection
from dp3_jax.detection.face_vector import measure_raw
from dp3_jax.metrics.head_pose import rotation
from dp3_jax.models import iris, mesh
from dp3_jax.models.mesh import five_points, yaw_pitch_roll
from dp3_jax.vision import geometry

angles = st.floats(-40, 40)


def upright():
    """The mean face, f64[468, 3], 100 px between the eyes."""
    shape, _ = mesh.mean_shape()
    return 100 * shape


@given(angles, angles, st.floats(-60, 60), st.floats(0.1, 10))
def test_a_turned_head_shows_the_angles_that_it_was_turned_by(yaw, pitch, roll, scale):
    turned = scale * upright() @ rotation(yaw, pitch, roll).T + [300.0, 200.0, 5.0]
    np.testing.assert_allclose(yaw_pitch_roll(turned), (yaw, pitch, roll), atol=1e-6)


@given(angles, angles)
def test_an_expression_is_the_same_whatever_the_turn_and_size(yaw, pitch):
    turned = 3.0 * upright() @ rotation(yaw, pitch, 10).T + 7.0
    np.testing.assert_allclose(mesh.expression(turned), mesh.expression(upright()), rtol=1e-6)


def test_signs_of_pose_and_expression():
    face = upright()
    # The tip of the nose lies in front of the eyes: with the head it goes to the viewer's left, or down.
    left = face @ rotation(20, 0, 0).T
    down = face @ rotation(0, 20, 0).T
    assert left[mesh.NOSE_TIP, 0] < -5
    assert down[mesh.NOSE_TIP, 1] > face[mesh.NOSE_TIP, 1] + 5
    speaking = face.copy()
    speaking[14, 1] += 30  # the lower lip
    assert mesh.expression(speaking).mouth_opening > mesh.expression(face).mouth_opening + 0.25
    assert mesh.expression(speaking)[1:] == mesh.expression(face)[1:]


def test_gaze_is_zero_in_the_middle_and_grows_to_the_side_looked_at():
    face = upright()
    middles = np.stack([face[list(eye), :2].mean(0) for eye in (mesh.LEFT_EYE, mesh.RIGHT_EYE)])
    np.testing.assert_allclose(iris.gaze(face, middles), (0, 0), atol=1e-6)
    across, down = iris.gaze(face, middles + np.array([4.0, 2.0]))
    assert across > 0.05 and 0.02 < down < across


@pytest.fixture(scope="module")
def network():
    try:
        return mesh.FaceMesh()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def eyes():
    try:
        return iris.Iris()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def photo():
    """(the astronaut's photo u8[512, 512, 3], five points as YuNet reports them)."""
    data = pytest.importorskip("skimage.data")
    five = np.array([[200, 102], [247, 103], [220, 125], [199, 143], [240, 144]], np.float32)
    return data.astronaut(), five


def test_the_points_lie_on_the_face(network, photo):
    image, five = photo
    points, score = network.points(image, five=five)
    assert points.shape == (468, 3) and points.dtype == np.float32
    assert score > 0.9
    eye = np.linalg.norm(five[1] - five[0])
    assert np.linalg.norm(five_points(points) - five, axis=1).max() < 0.25 * eye


def test_the_points_move_with_the_picture(network, photo):
    image, five = photo
    turn = cv2.getRotationMatrix2D((224, 128), 25, 1.3)
    turned = cv2.warpAffine(image, turn, (512, 512))
    there = five @ turn[:, :2].T + turn[:, 2]
    before, _ = network.points(image, five=five)
    after, _ = network.points(turned, five=there.astype(np.float32))
    expected = before[:, :2] @ turn[:, :2].T + turn[:, 2]
    eye = 1.3 * np.linalg.norm(five[1] - five[0])
    assert np.linalg.norm(after[:, :2] - expected, axis=1).mean() < 0.05 * eye


def test_a_mirrored_face_looks_to_the_other_side(network, photo):
    image, five = photo
    mirrored = np.ascontiguousarray(image[:, ::-1])
    there = (five * [-1, 1] + [511, 0])[[1, 0, 2, 4, 3]].astype(np.float32)
    pose = yaw_pitch_roll(network.points(image, five=five)[0])
    other = yaw_pitch_roll(network.points(mirrored, five=there)[0])
    np.testing.assert_allclose(
        [other.yaw, other.pitch, other.roll], [-pose.yaw, pose.pitch, -pose.roll], atol=4
    )


def test_eyes_of_a_mirrored_face_change_places(network, eyes, photo):
    image, five = photo
    mirrored = np.ascontiguousarray(image[:, ::-1])
    there = (five * [-1, 1] + [511, 0])[[1, 0, 2, 4, 3]].astype(np.float32)
    points, others = network.points(image, five=five)[0], network.points(mirrored, five=there)[0]
    seen, other = eyes.measure(image, points), eyes.measure(mirrored, others)
    assert all(0.2 < opening < 0.6 for opening in seen.openings)
    np.testing.assert_allclose(other.openings, seen.openings[::-1], atol=0.08)
    across, down = iris.gaze(points, seen.centres)
    np.testing.assert_allclose(iris.gaze(others, other.centres), (-across, down), atol=0.15)


def test_lids_drawn_over_the_eyes_shut_them(network, eyes, photo):
    image, five = photo
    points, _ = network.points(image, five=five)
    shut = image.copy()
    for eye, brow in ((mesh.LEFT_EYE, 105), (mesh.RIGHT_EYE, 334)):
        (x0, y0), (x1, y1) = points[list(eye), :2]
        middle, width = ((x0 + x1) / 2, (y0 + y1) / 2), np.hypot(x1 - x0, y1 - y0)
        skin = image[int(0.4 * points[brow, 1] + 0.6 * middle[1]) - 4, int(middle[0])]
        cv2.ellipse(shut, (middle, (1.15 * width, 0.75 * width), 0), skin.tolist(), -1)
        lashes = (middle[0], middle[1] + 0.12 * width), (1.0 * width, 0.3 * width)
        cv2.ellipse(shut, tuple(map(round, lashes[0])), tuple(round(v / 2) for v in lashes[1]), 0, 15, 165,
                    (40, 25, 20), 2)  # fmt: skip
    before, after = (eyes.measure(one, points).openings for one in (image, shut))
    assert all(b < 0.6 * a for a, b in zip(before, after, strict=True)), (before, after)


def test_colours_and_light_have_next_to_no_part_in_the_vector(network, eyes, photo):
    """Motion passes from the masked face, not how it looks."""
    image, five = photo
    face = Detection((190.0, 70.0, 70.0 * 1.0, 92.0), five, 0.9)
    light = np.array([0.7, 0.8, 1.0]) * image
    for other in (image[..., ::-1], light, 255 * (image / 255.0) ** 0.7):
        looks = np.ascontiguousarray(other, dtype=np.uint8)
        one, two = (np.array(measure_raw(i, face, network, eyes)[:4]) for i in (image, looks))
        assert (np.abs(one - two) < (4.0, 4.0, 0.05, 0.06)).all(), (one, two)


def test_a_box_alone_will_do(network, photo):
    image, five = photo
    alignment = geometry.align_points(five)
    x, y, width, height = geometry.CANONICAL_BOX
    middle = alignment.invert(np.array([x + width / 2, y + height / 2]))
    size = np.array([width, height]) / alignment.scale
    points, _ = network.points(image, box=(*(middle - size / 2), *size))
    by_five, _ = network.points(image, five=five)
    assert np.linalg.norm(points - by_five, axis=1).mean() < 4
    with pytest.raises(ValueError, match="box or round five points"):
        network.points(image)


def test_an_outline_goes_round_all_points_at_even_steps():
    angle = np.linspace(0, 2 * np.pi, mesh.POINTS - 1, endpoint=False)
    ring = np.stack([50 + 30 * np.cos(angle), 60 + 40 * np.sin(angle)], 1)
    points = np.concatenate([ring, [[50, 60]]]).astype(np.float32)  # one in the middle
    found = mesh.outline(points)
    assert found.shape == (mesh.OUTLINE, 2)
    on_it = ((found - [50, 60]) / [30, 40]) ** 2
    np.testing.assert_allclose(on_it.sum(1), 1, atol=0.01)
    steps = np.linalg.norm(np.diff(found, axis=0, append=found[:1]), axis=1)
    assert steps.max() < 1.05 * steps.min()
    points[-1] = [120, 60]  # a nose that stands out
    assert mesh.outline(points)[:, 0].max() > 110
