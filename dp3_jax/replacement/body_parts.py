"""Head, trunk and limbs of a body: which pixel belongs to which, and how light falls on them.

All of it comes from the body's outline and the points of its pose, nothing from its pixels.
"""

import dataclasses
import enum
from collections.abc import Sequence

import cv2
import numpy as np

from dp3_jax.detection.body_outline import BONES, TRUNK, Outline, head_circle, trunk_length
from dp3_jax.models import body_pose
from dp3_jax.vision.geometry import Region


class Part(enum.IntEnum):
    """Of a body; left and right are the person's. The bones of `body_outline.BONES` are 2 to 11, in order."""

    HEAD = 0
    TRUNK = 1
    LEFT_UPPER_ARM = 2
    RIGHT_UPPER_ARM = 3
    LEFT_FOREARM = 4
    RIGHT_FOREARM = 5
    LEFT_THIGH = 6
    RIGHT_THIGH = 7
    LEFT_SHIN = 8
    RIGHT_SHIN = 9
    LEFT_FOOT = 10
    RIGHT_FOOT = 11
    LEFT_HAND = 12
    RIGHT_HAND = 13


_HANDS = ((15, 17, 19, 21), (16, 18, 20, 22))  # points of the wrist and three fingers
_HAND = 0.1  # trunk lengths, a hand's radius
_FLAT = 0.03  # trunk lengths that the trunk counts as deep: an arm before it is in front of it
# Without points: down to which share of the box each part reaches.
_DOWN = ((Part.HEAD, 0.15), (Part.TRUNK, 0.5), (Part.LEFT_THIGH, 0.75), (Part.LEFT_SHIN, 0.93))
_MAX_SIDE = 512  # px, of the canvas that a body is drawn on

_LIGHT = np.array([-0.35, -0.55, 0.76])  # from above and the viewer's left, towards the viewer
_AMBIENT = 0.45


@dataclasses.dataclass(frozen=True, eq=False)
class Canvas:
    """A body on a square picture of its own.

    Attributes:
      labels: u8[n, n], the Part that each pixel belongs to, also outside of the body.
      face: bool[n, n], face and neck as seen from the front; nowhere without points.
      light: f32[n, n], about 1: brightness of an evenly grey body.
      across, down: f32[n, n], place along the trunk's axes in its lengths, from the middle of the shoulders.
      to_frame: f64[2, 3], canvas -> frame.
    """

    labels: np.ndarray
    face: np.ndarray
    light: np.ndarray
    across: np.ndarray
    down: np.ndarray
    to_frame: np.ndarray

    def shown(self, picture: np.ndarray, target: Region) -> np.ndarray:
        """u8[h, w, 3], the part of the frame that `target` describes, of f32[n, n, 3] on the canvas."""
        matrix = self.to_frame.copy()
        matrix[:, 2] -= (target.left, target.top)
        height, width = target.inside.shape
        warped = cv2.warpAffine(
            np.ascontiguousarray(picture, np.float32),
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.clip(np.round(warped), 0, 255).astype(np.uint8)


def canvas(outline: Outline, box: Sequence[float], target: Region) -> Canvas:
    """A body's parts.

    Args:
      outline: of it.
      box: (x, y, width, height) in px.
      target: its pixels, perhaps more than those of the outline.
    """
    wanted = max(target.inside.shape)
    side = int(np.clip(wanted, 64, _MAX_SIDE))
    step = wanted / side
    to_frame = np.array([[step, 0, target.left], [0, step, target.top]], np.float64)
    small = cv2.resize(
        target.inside.astype(np.uint8),
        (
            max(1, round(target.inside.shape[1] / step)),
            max(1, round(target.inside.shape[0] / step)),
        ),
        interpolation=cv2.INTER_AREA,
    )
    inside = np.zeros((side, side), np.uint8)
    inside[: small.shape[0], : small.shape[1]] = small[:side, :side]
    corner = np.array([target.left, target.top])
    own_box = [*((np.asarray(box[:2]) - corner) / step), *(np.asarray(box[2:]) / step)]
    if outline.points is None:
        points, depths, trunk = None, _by_box(own_box, side), own_box[3] * 0.3
    else:
        points = (outline.points.astype(np.float64) - corner) / step
        trunk = trunk_length(points)
        depths = _depths(points, side) / trunk
    across, down = _axes(points, own_box, trunk, side)
    labels = depths.argmin(0).astype(np.uint8)
    face = np.zeros(labels.shape, bool) if points is None else _face(points, labels)
    return Canvas(labels, face, _light(inside, depths, trunk), across, down, to_frame)


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    line = np.arange(side, dtype=np.float32)
    return line[None, :], line[:, None]


def _from_segment(a: np.ndarray, b: np.ndarray, side: int) -> np.ndarray:
    """f32[side, side]: px from each pixel to the segment between two points."""
    x, y = _grid(side)
    along = b - a
    length = max(float(along @ along), 1e-6)
    t = np.clip(((x - a[0]) * along[0] + (y - a[1]) * along[1]) / length, 0, 1)
    return np.hypot(x - a[0] - t * along[0], y - a[1] - t * along[1]).astype(np.float32)


def _depths(points: np.ndarray, side: int) -> np.ndarray:
    """f32[parts, side, side]: px from each part's surface, negative inside of it."""
    trunk, x, y = trunk_length(points), *_grid(side)
    middle, radius = head_circle(points)
    found = [np.hypot(x - middle[0], y - middle[1]) - radius]
    corners = np.clip(np.round(points[list(TRUNK)]), -2 * side, 3 * side).astype(np.int32)
    hull = cv2.fillConvexPoly(np.zeros((side, side), np.uint8), cv2.convexHull(corners), 1)
    away = (
        cv2.distanceTransform(1 - hull, cv2.DIST_L2, 3) if hull.any() else np.full(hull.shape, 1e3)
    )
    found.append(away.astype(np.float32) - _FLAT * trunk)
    found += [
        _from_segment(points[a], points[b], side) - thickness * trunk for a, b, thickness in BONES
    ]
    for hand in _HANDS:
        at = points[list(hand)].mean(0)
        found.append(np.hypot(x - at[0], y - at[1]) - _HAND * trunk)
    return np.stack(found).astype(np.float32)


def _face(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """bool[n, n]: below the hair, down to where the clothes begin."""
    side = len(labels)
    x, y = _grid(side)
    middle, radius = head_circle(points)
    shoulders = points[list(body_pose.SHOULDERS)].mean(0)
    down = (shoulders - middle) / max(float(np.hypot(*(shoulders - middle))), 1e-3)
    chin = middle + 0.35 * radius * down
    face = np.hypot(x - chin[0], y - chin[1]) < 0.72 * radius
    neck = _from_segment(chin, shoulders - 0.1 * radius * down, side) < 0.42 * radius
    low = (x - middle[0]) * down[0] + (y - middle[1]) * down[1] > 0.45 * radius
    return ((face | low) & (labels == Part.HEAD)) | neck


def _by_box(box: Sequence[float], side: int) -> np.ndarray:
    """The same, in shares of the box's height, where no points are known: by height alone."""
    share = (np.arange(side, dtype=np.float32) - box[1]) / max(box[3], 1.0)
    far = np.full((len(Part), side, side), 9.0, np.float32)
    before = -1.0
    for part, end in (*_DOWN, (Part.LEFT_FOOT, 2.0)):
        middle, half = (before + end) / 2, (end - before) / 2
        far[part] = (np.abs(share - middle) - half)[:, None]
        before = end
    return far


def _axes(
    points: np.ndarray | None, box: Sequence[float], trunk: float, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """`Canvas.across` and `Canvas.down`."""
    x, y = _grid(side)
    origin, axis = np.array([box[0] + box[2] / 2, box[1] + 0.2 * box[3]]), np.array([0.0, 1.0])
    if points is not None:
        origin = points[list(body_pose.SHOULDERS)].mean(0)
        down = points[list(body_pose.HIPS)].mean(0) - origin
        if (length := float(np.hypot(*down))) > 0.3 * trunk:
            axis = down / length
    dx, dy = (x - origin[0]) / trunk, (y - origin[1]) / trunk
    return (
        (dx * axis[1] - dy * axis[0]).astype(np.float32),
        (dx * axis[0] + dy * axis[1]).astype(np.float32),
    )


def _light(inside: np.ndarray, depths: np.ndarray, trunk: float) -> np.ndarray:
    """f32[n, n]: Lambert's law on a body that is as round as its outline and its parts say."""
    deep = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    round_ = np.sqrt(np.clip(1 - (1 - np.clip(deep / (0.25 * trunk), 0, 1)) ** 2, 0, 1))
    parts = np.sqrt(np.clip(-depths.min(0) / 0.12, 0, 1))
    height = (0.16 * round_ + 0.07 * parts) * trunk
    height = cv2.GaussianBlur(height.astype(np.float32), (0, 0), max(0.035 * trunk, 0.8))
    dy, dx = np.gradient(height)
    normal = np.stack([-dx, -dy, np.ones_like(dx)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    lit = np.clip(normal @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    return ((_AMBIENT + (1 - _AMBIENT) * lit) / 0.88).astype(np.float32)
