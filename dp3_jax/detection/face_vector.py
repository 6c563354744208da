"""The short vector that passes from an original face to the new one: which way it looks, how its mouth is.

Nothing else inside the masked region has a part in the new face, so this is what can leak. In photos it has
two angles and two lengths, each rounded; `--expression none` leaves the lengths out. In video the eyes join
them: how far each is open and where they look (`video.vectors` smooths, bounds and rounds it there).
"""

import math
from typing import NamedTuple

import numpy as np

from dp3_jax.detection.detections import Detection
from dp3_jax.models.iris import Iris, gaze
from dp3_jax.models.mesh import Expression, FaceMesh, Pose, expression, yaw_pitch_roll

MIN_MESH_SIZE = 32  # px, the smaller side of a face's box from which on its mesh is looked for
MIN_IRIS_SIZE = 80  # px, likewise of its eyes: a width of the eye is then some 12 px
_MIN_SCORE = 0.9  # of the mesh, to be used
_DEGREES = 2.0  # angles are rounded to multiples of this
_LENGTH = 0.02  # eye distances, likewise
_MAX_DEGREES = 60.0
_RAW_DECIMALS = 4
_MAX_OPENING, _WIDTHS = 0.6, (0.5, 1.4)

# Least squares on 1,439 rendered faces, checked on 360: yaw good to 1.3 degrees (R^2 .99), pitch to 1.7
# (.94). Lengths are in units of the hypotenuse of the distance of the eyes and that from their middle to
# the mouth's.
_YAW = (-108.3, 28.3)  # the nose's and the mouth's distance from the eyes' middle, along the eyes
_PITCH = (
    -72.7,
    118.1,
    59.8,
    -27.7,
)  # 1, the nose's across them, the eyes' distance, the mouth's width


class FaceVector(NamedTuple):
    """What is known of an original face's look; degrees and eye distances as in `models.mesh`.

    Attributes:
      yaw, pitch: which way it looks.
      mouth_opening, mouth_width: None where it is not measured or not wanted.
      left_eye, right_eye: how far each (the viewer's) is open: as measured in widths of the eye
        (`models.iris.Eyes`), after `video.vectors` as a share of what is usual, 0 shut to 1 open.
      gaze_x, gaze_y: as `models.iris.gaze`: positive to the viewer's right and down, widths of the eye.
    """

    yaw: float
    pitch: float
    mouth_opening: float | None = None
    mouth_width: float | None = None
    left_eye: float | None = None
    right_eye: float | None = None
    gaze_x: float | None = None
    gaze_y: float | None = None

    @property
    def pose(self) -> Pose:
        """As renderings take it; the roll is in the alignment."""
        return Pose(self.yaw, self.pitch, 0.0)

    @property
    def expression(self) -> Expression | None:
        """As renderings take it."""
        if self.mouth_opening is None or self.mouth_width is None:
            return None
        return Expression(self.mouth_opening, self.mouth_width, 0.0)

    def without_expression(self) -> "FaceVector":
        """The pose alone."""
        return FaceVector(self.yaw, self.pitch)


def _stepped(value: float, step: float, low: float, high: float) -> float:
    value = min(max(value, low), high)
    return round(round(value / step) * step, 6)


def face_vector(pose: Pose, shown: Expression | None = None) -> FaceVector:
    """The bounded and rounded vector of a measured pose and, if known, expression."""
    angles = (_stepped(v, _DEGREES, -_MAX_DEGREES, _MAX_DEGREES) for v in (pose.yaw, pose.pitch))
    if shown is None:
        return FaceVector(*angles)
    opening = _stepped(shown.mouth_opening, _LENGTH, 0.0, _MAX_OPENING)
    return FaceVector(*angles, opening, _stepped(shown.mouth_width, _LENGTH, *_WIDTHS))


def measure_raw(
    frame: np.ndarray, face: Detection, mesh: FaceMesh | None, iris: Iris | None = None
) -> FaceVector | None:
    """All that `video.vectors` wants of a face in a frame of a clip, neither bounded nor rounded much.

    Args:
      frame: u8[h, w, 3] RGB.
      face: in it.
      mesh: for faces of at least MIN_MESH_SIZE; smaller ones have the pose by the five points.
      iris: for the eyes of faces of at least MIN_IRIS_SIZE; None leaves them out.

    Returns:
      None where the mesh is of low confidence, or nothing tells it.
    """
    size = min(face.box[2:])
    if mesh is None or size < MIN_MESH_SIZE:
        if face.keypoints is None:
            return None
        pose = pose_of_points(face.keypoints)
        return finite([pose.yaw, pose.pitch])
    points, score = mesh.points(frame, face.box, face.keypoints)
    if score < _MIN_SCORE:
        return None
    pose, shown = yaw_pitch_roll(points), expression(points)
    numbers = [pose.yaw, pose.pitch, shown.mouth_opening, shown.mouth_width]
    if iris is not None and size >= MIN_IRIS_SIZE:
        eyes = iris.measure(frame, points)
        numbers += [*eyes.openings, *gaze(points, eyes.centres)]
    return finite(numbers)


def finite(numbers: list[float]) -> FaceVector | None:
    """The vector of the first so many numbers, short in a journal; None if any is none."""
    if not np.isfinite(numbers).all():
        return None
    return FaceVector(*(round(float(v), _RAW_DECIMALS) for v in numbers))


def pose_of_points(points: np.ndarray) -> Pose:
    """The pose that five points tell, in degrees.

    Args:
      points: f[5, 2] px, in YuNet's order.
    """
    left, right, nose, *corners = np.asarray(points, np.float64)
    eyes, middle, mouth = right - left, (left + right) / 2, np.mean(corners, axis=0)
    apart = max(float(np.hypot(*eyes)), 1e-6)
    along = eyes / apart
    across = np.array([-along[1], along[0]])
    unit = max(math.hypot(apart, float(np.hypot(*(mouth - middle)))), 1e-6)
    to_nose, to_mouth = (nose - middle) / unit, (mouth - middle) / unit
    yaw = np.dot(_YAW, (to_nose @ along, to_mouth @ along))
    width = float((corners[1] - corners[0]) @ along) / unit
    pitch = np.dot(_PITCH, (1.0, to_nose @ across, apart / unit, width))
    return Pose(float(yaw), float(pitch), math.degrees(math.atan2(eyes[1], eyes[0])))


def measure(frame: np.ndarray, face: Detection, mesh: FaceMesh | None) -> FaceVector | None:
    """The vector of a face in a frame; None where nothing tells it.

    Args:
      frame: u8[h, w, 3] RGB.
      face: in it.
      mesh: for faces of at least MIN_MESH_SIZE; None, or a smaller face: the pose by the five points.
    """
    if mesh is not None and min(face.box[2:]) >= MIN_MESH_SIZE:
        points, score = mesh.points(frame, face.box, face.keypoints)
        if score >= _MIN_SCORE:
            return face_vector(yaw_pitch_roll(points), expression(points))
    if face.keypoints is None:
        return None
    return face_vector(pose_of_points(face.keypoints))
