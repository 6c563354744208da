"""Which pixels of a frame show a body: by the pose network's outline, wherever that can be trusted.

Fail closed: an outline is a guess, a box is what a person was found in. What the outline leaves open of the
box's height is covered over the box's whole width; a body whose outline is lost is its box, dilated.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import cv2
import numpy as np

from dp3_jax.detection.kinds import BODY
from dp3_jax.models import body_pose
from dp3_jax.models.body_pose import BodyPose
from dp3_jax.vision import geometry
from dp3_jax.vision.geometry import Region

MIN_OUTLINED = 56.0  # px, the height of a box below which a body is its box
MIN_SCORE = 0.3  # of the network, likewise
_SEEN = 0.4  # of a point: less sure ones are guessed
_PROBABLE = 0.3  # of a pixel
_MIN_SHARE = 0.2  # of the box that an outline covers, or it is lost
_BANDS = 12  # of a box's height that are looked at one by one
_MIN_BAND = 0.14  # of a box's width that a band of the outline has at least, or it is open
_REACH = 0.14  # of the box's longer side that an outline may go beyond it
_DILATION = 0.018  # of the box's longer side
_CLOSED = 0.045  # likewise: gaps as wide are closed, between a body and its bag

# Bones, and how thick they are in lengths of the trunk, from its middle line outwards.
BONES = (
    (body_pose.SHOULDERS[0], body_pose.ELBOWS[0], 0.13),
    (body_pose.SHOULDERS[1], body_pose.ELBOWS[1], 0.13),
    (body_pose.ELBOWS[0], body_pose.WRISTS[0], 0.1),
    (body_pose.ELBOWS[1], body_pose.WRISTS[1], 0.1),
    (body_pose.HIPS[0], body_pose.KNEES[0], 0.17),
    (body_pose.HIPS[1], body_pose.KNEES[1], 0.17),
    (body_pose.KNEES[0], body_pose.ANKLES[0], 0.12),
    (body_pose.KNEES[1], body_pose.ANKLES[1], 0.12),
    (body_pose.HEELS[0], body_pose.TOES[0], 0.09),
    (body_pose.HEELS[1], body_pose.TOES[1], 0.09),
)
TRUNK = (*body_pose.SHOULDERS, body_pose.HIPS[1], body_pose.HIPS[0])


@dataclasses.dataclass(frozen=True, eq=False)
class Outline:
    """A body in a frame.

    Attributes:
      region: its pixels.
      points: f32[33, 2] px, as of `BodyPose`; None where they are not known.
      by_box: whether it is no more than the box, dilated.
    """

    region: Region
    points: np.ndarray | None = None
    by_box: bool = False


def outline(
    box: Sequence[float], pose: BodyPose | None, shape: Sequence[int], *, loose: bool = False
) -> Outline:
    """The body in a box.

    Args:
      box: (x, y, width, height) in px.
      pose: as seen in it; None where nobody looked.
      shape: of the frame.
      loose: the box was interpolated, and is larger than the body.
    """
    if pose is None or pose.score < MIN_SCORE or box[3] < MIN_OUTLINED:
        return of_box(box, shape)
    inside = _drawn(box, pose)
    region = warped(inside, pose.to_frame, shape)
    within = _in_box(region, box)
    if within.size == 0 or within.mean() < _MIN_SHARE:
        return of_box(box, shape)
    return Outline(_closed_bands(region, box, shape, loose), _with_guessed_legs(pose))


def of_box(box: Sequence[float], shape: Sequence[int]) -> Outline:
    """A body of which no more is known than its box."""
    alignment = BODY.frame(box, None)
    return Outline(geometry.region(alignment, BODY.mask(alignment, box), shape), None, by_box=True)


def _with_guessed_legs(pose: BodyPose) -> np.ndarray:
    """The points, with legs straight down from the hips where they are out of the picture or hidden.

    The network folds legs that it does not see into the picture.
    """
    points = pose.points.copy()
    shoulders, hips = points[list(body_pose.SHOULDERS)].mean(0), points[list(body_pose.HIPS)]
    trunk = trunk_length(points)
    axis = (hips.mean(0) - shoulders) / max(float(np.hypot(*(hips.mean(0) - shoulders))), 1e-3)
    if min(pose.visible[list(body_pose.HIPS)]) < _SEEN:  # they are too high then
        middle = shoulders + trunk * axis
        hips = hips - hips.mean(0) + middle
        points[list(body_pose.HIPS)] = hips
    legs = (body_pose.KNEES, body_pose.ANKLES, body_pose.HEELS, body_pose.TOES)
    for side in (0, 1):
        if pose.visible[body_pose.KNEES[side]] < _SEEN:
            for down, pair in zip((0.95, 1.85, 1.9, 1.95), legs, strict=True):
                points[pair[side]] = hips[side] + down * trunk * axis
    return points


def trunk_length(points: np.ndarray) -> float:
    """px between the middles of shoulders and hips, or what the shoulders' width says if that is more."""
    shoulders, hips = points[list(body_pose.SHOULDERS)], points[list(body_pose.HIPS)]
    down = float(np.hypot(*(shoulders.mean(0) - hips.mean(0))))
    return max(down, 1.2 * float(np.hypot(*(shoulders[0] - shoulders[1]))), 1e-3)


def head_circle(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Middle f[2] and radius of the head, px: hair included."""
    middle = points[[body_pose.NOSE, body_pose.LEFT_EAR, body_pose.RIGHT_EAR]].mean(0)
    neck = points[list(body_pose.SHOULDERS)].mean(0)
    up = (middle - neck) / max(float(np.hypot(*(middle - neck))), 1e-3)
    radius = max(0.24 * trunk_length(points), 0.48 * float(np.hypot(*(middle - neck))))
    return middle + 0.2 * radius * up, radius


def _drawn(box: Sequence[float], pose: BodyPose) -> np.ndarray:
    """u8[256, 256] in the network's picture: outline and bones together, closed and dilated."""
    inside = (pose.mask >= _PROBABLE).astype(np.uint8)
    scale = 1 / pose.to_frame[0, 0]
    points = (pose.points - pose.to_frame[:, 2]) * scale
    _draw_bones(inside, points)
    side = max(box[2:]) * scale
    for share, operation in ((_CLOSED, cv2.MORPH_CLOSE), (_DILATION, cv2.MORPH_DILATE)):
        radius = max(1, round(share * side))
        disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        inside = np.asarray(cv2.morphologyEx(inside, operation, disk), np.uint8)
    corner = (np.asarray(box[:2]) - pose.to_frame[:, 2]) * scale - _REACH * side
    left, top = np.maximum(np.floor(corner), 0).astype(int)
    right, bottom = np.ceil(corner + np.asarray(box[2:]) * scale + 2 * _REACH * side).astype(int)
    near = np.zeros_like(inside)
    near[top : bottom + 1, left : right + 1] = 1
    return inside * near


def _draw_bones(inside: np.ndarray, points: np.ndarray) -> None:
    """Draws head, trunk and limbs into u8[256, 256], in place."""
    trunk = trunk_length(points)
    at = np.clip(np.round(points), -1000, 1000).astype(int)
    for a, b, thickness in BONES:
        width = max(1, round(1.2 * thickness * trunk))
        cv2.line(inside, at[a].tolist(), at[b].tolist(), 1, width)
    cv2.fillConvexPoly(inside, cv2.convexHull(at[list(TRUNK)].astype(np.int32)), 1)
    middle, radius = head_circle(points)
    cv2.circle(inside, np.round(middle).astype(int).tolist(), max(1, round(0.8 * radius)), 1, -1)


def warped(inside: np.ndarray, to_frame: np.ndarray, shape: Sequence[int]) -> Region:
    """The pixels of a frame that u8[n, n] of a picture stands for; `to_frame` f64[2, 3], without rotation."""
    low = to_frame[:, 2]
    high = to_frame @ np.array([inside.shape[1] - 1, inside.shape[0] - 1, 1])
    left, top = np.maximum(np.floor(low), 0).astype(int)
    right = int(min(np.ceil(high[0]) + 1, shape[1]))
    bottom = int(min(np.ceil(high[1]) + 1, shape[0]))
    if right <= left or bottom <= top:
        return Region(0, 0, np.zeros((0, 0), bool))
    shifted = to_frame.copy()
    shifted[:, 2] -= (left, top)
    seen = cv2.warpAffine(inside.astype(np.float32), shifted, (right - left, bottom - top))
    return Region(int(top), int(left), seen >= 0.5)


def _in_box(region: Region, box: Sequence[float]) -> np.ndarray:
    """The part of a region's pixels that lies in the box: a view."""
    left, top = round(box[0]) - region.left, round(box[1]) - region.top
    right, bottom = left + round(box[2]), top + round(box[3])
    return region.inside[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]


def _closed_bands(
    region: Region, box: Sequence[float], shape: Sequence[int], loose: bool
) -> Region:
    """The region with the box's whole width in each band that it leaves open; `loose` as of `outline`."""
    whole = of_box(box, shape).region
    joined = geometry.joined(region, whole)
    inside = _placed(region, joined)
    covered = _placed(whole, joined)
    left = max(round(box[0]) - joined.left, 0)
    right = max(round(box[0] + box[2]) - joined.left, left + 1)
    edges = np.linspace(box[1], box[1] + box[3], _BANDS + 1).round().astype(int) - joined.top
    edges = edges[1:-1] if loose else edges  # there is room at both ends
    for top, bottom in itertools.pairwise(np.maximum(edges, 0)):
        band = inside[top:bottom, left:right]
        if band.size and band.mean() < _MIN_BAND:
            inside[top:bottom] |= covered[top:bottom]
    return Region(joined.top, joined.left, inside)


def _placed(region: Region, whole: Region) -> np.ndarray:
    """bool[h, w] over the part that `whole` describes, which holds the region."""
    inside = np.zeros_like(whole.inside)
    down, across = region.top - whole.top, region.left - whole.left
    height, width = region.inside.shape
    inside[down : down + height, across : across + width] = region.inside
    return inside
