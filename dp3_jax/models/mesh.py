"""468 points on a face, and what they tell: five points, pose, expression.

The network is MediaPipe's face mesh (Kartynnik et al., 2019, arXiv:1907.06724; asset `face_mesh`,
Apache-2.0), run by OpenCV: about 3 ms a face. Indices are those of its topology. Left and right are
the viewer's.
"""

import functools
import pathlib
from typing import NamedTuple

import cv2
import numpy as np

from dp3_jax.common.opencv import Network
from dp3_jax.vision import geometry

POINTS = 468

OUTLINE = 36  # corners of `outline`
LEFT_EYE = (33, 133)  # outer and inner corner
RIGHT_EYE = (263, 362)
NOSE_TIP = 4
MOUTH_CORNERS = (61, 291)
_LEFT_LIDS, _RIGHT_LIDS = (159, 145), (386, 374)  # middles of the upper and the lower lid
LIPS = (13, 14)  # middles of the lips' inner edges

_SIDE = 192  # px, the network's picture
_MARGIN = 1.5  # sides of the picture in those of the box, as in training
_SHAPE = pathlib.Path(__file__).parents[1] / "weights" / "face_shape.safetensors"


class Pose(NamedTuple):
    """Degrees, about 0 for a mean frontal face.

    Attributes:
      yaw: positive looks to the viewer's left.
      pitch: positive looks down.
      roll: positive leans clockwise.
    """

    yaw: float
    pitch: float
    roll: float


class Expression(NamedTuple):
    """In units of the distance between the eyes' centres, which is taken in three dimensions.

    Attributes:
      mouth_opening: between the lips' inner edges.
      mouth_width: between the corners of the mouth.
      eye_opening: between the lids, mean of both eyes.
    """

    mouth_opening: float
    mouth_width: float
    eye_opening: float


class FaceMesh:
    """The network."""

    def __init__(self):
        """Loads it, fetching it once.

        Raises:
          UserError: it cannot be fetched.
        """
        self._network = Network("face_mesh")

    def points(
        self, image: np.ndarray, box=None, five: np.ndarray | None = None
    ) -> tuple[np.ndarray, float]:
        """The mesh of the face at a place.

        Args:
          image: u8[h, w, 3] RGB.
          box: (x, y, width, height) in px, as YuNet draws it; by default taken from the five points.
          five: f[5, 2] px in YuNet's order; turn the crop upright. At least one of both must be given.

        Returns:
          f32[468, 3]: x and y in px of the image, z in the same unit, larger further away, with an
          arbitrary zero; and how sure the network is that this is a face, 0 to 1.
        """
        if box is None and five is None:
            raise ValueError("a mesh is looked for in a box or round five points")
        to_image = _crop(box, five)
        crop = cv2.warpAffine(
            image,
            to_image,
            (_SIDE, _SIDE),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
        )
        outputs = self._network(crop.astype(np.float32) / 255)
        raw = next(o for o in outputs if o.size == 3 * POINTS).reshape(POINTS, 3)
        logit = next(o for o in outputs if o.size == 1)
        scale = float(np.hypot(*to_image[:, 0]))
        points = np.column_stack(
            [raw[:, :2] @ to_image[:, :2].T + to_image[:, 2], raw[:, 2] * scale]
        )
        return points.astype(np.float32), float(1 / (1 + np.exp(-logit[0])))


def _crop(box, five: np.ndarray | None) -> np.ndarray:
    """f64[2, 3], network's picture -> image: a square of 1.5 times the longer side, turned by the eyes."""
    angle = 0.0
    if five is not None:
        across = np.asarray(five[1], np.float64) - five[0]
        angle = float(np.arctan2(across[1], across[0]))
    if box is not None:
        x, y, width, height = (float(v) for v in box)
        middle, side = np.array([x + width / 2, y + height / 2]), max(width, height)
    else:
        alignment = geometry.align_points(five)
        x, y, width, height = geometry.CANONICAL_BOX
        middle = alignment.invert(np.array([x + width / 2, y + height / 2]))
        side = max(width, height) / alignment.scale
    step = side * _MARGIN / _SIDE
    turn = step * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, middle - turn @ np.full(2, (_SIDE - 1) / 2)])


def five_points(mesh: np.ndarray) -> np.ndarray:
    """f32[5, 2]: what YuNet would report; between them and YuNet's lie .05 of the eye distance on average.

    Args:
      mesh: f[468, 2 or more], px.
    """
    points = np.asarray(mesh, np.float32)[:, :2]
    left, right = points[list(LEFT_EYE)].mean(0), points[list(RIGHT_EYE)].mean(0)
    nose = points[[1, NOSE_TIP]].mean(0)  # YuNet's tip lies between these two
    return np.stack([left, right, nose, *points[list(MOUTH_CORNERS)]])


def outline(mesh: np.ndarray) -> np.ndarray:
    """f32[36, 2] px: corners, equally far apart, of the face as it is seen.

    The convex hull of all points. The mesh's own oval lies on the skull: of a turned head its far side runs
    behind the cheekbone, and in the picture through the far eye and the corner of the mouth.

    Args:
      mesh: f[468, 2 or more], px.
    """
    hull = cv2.convexHull(np.ascontiguousarray(mesh, np.float32)[:, :2].copy())[:, 0]
    closed = np.concatenate([hull, hull[:1]])
    along = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))]
    places = np.linspace(0.0, along[-1], OUTLINE, endpoint=False)
    return np.stack([np.interp(places, along, side) for side in closed.T], 1).astype(np.float32)


@functools.cache
def mean_shape() -> tuple[np.ndarray, np.ndarray]:
    """The mean face and the points of it that bones hold.

    Mean of the meshes of 800 rendered faces after a similarity to their mean, made symmetric, turned
    upright; `rigid` are those above the mouth that are not on a lid.

    Returns:
      f64[468, 3] in eye distances, x to the viewer's right, y down, z away; i32[n] indices.
    """
    from safetensors.numpy import load_file

    stored = load_file(_SHAPE)
    return stored["points"].astype(np.float64), stored["rigid"]


def yaw_pitch_roll(mesh: np.ndarray) -> Pose:
    """How a head is turned against the line of sight to it (a similarity of the mean face to its mesh).

    Against a perspective fit (SQPNP, 53 degrees of view) to MediaPipe's own canonical face, on 800
    rendered faces: correlation .997 in yaw and .96 in pitch; that calls a yaw 12% smaller.

    Args:
      mesh: f[468, 3] px, from `FaceMesh.points`.
    """
    shape, rigid = mean_shape()
    seen = np.asarray(mesh, np.float64)[rigid]
    u, _, vt = np.linalg.svd((seen - seen.mean(0)).T @ (shape[rigid] - shape[rigid].mean(0)))
    r = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt  # Kabsch, 1976; seen = r shape
    yaw = np.arctan2(-r[2, 0], np.hypot(r[0, 0], r[1, 0]))
    pitch, roll = np.arctan2(r[2, 1], r[2, 2]), np.arctan2(r[1, 0], r[0, 0])
    return Pose(*(float(v) for v in np.degrees([yaw, pitch, roll])))


def expression(mesh: np.ndarray) -> Expression:
    """How far mouth and eyes are open, whatever the head's turn.

    Args:
      mesh: f[468, 3] px, from `FaceMesh.points`.
    """
    points = np.asarray(mesh, np.float64)

    def apart(pair: tuple[int, int]) -> float:
        return float(np.linalg.norm(points[pair[0]] - points[pair[1]]))

    eyes = points[list(LEFT_EYE)].mean(0) - points[list(RIGHT_EYE)].mean(0)
    unit = max(float(np.linalg.norm(eyes)), 1e-6)
    lids = (apart(_LEFT_LIDS) + apart(_RIGHT_LIDS)) / 2
    return Expression(apart(LIPS) / unit, apart(MOUTH_CORNERS) / unit, lids / unit)
