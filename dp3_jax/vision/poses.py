"""Where a face lies, in terms that can be averaged and compared."""

from typing import NamedTuple

import numpy as np

from dp3_jax.vision import masks
from dp3_jax.vision.geometry import Alignment

_ANCHOR = complex(*masks.CENTRE)  # canonical px; a face turns and grows round it

LEVER = 45.0  # canonical px: how far from its middle a face shows that it is turned or too large
MAX_MOVED = 12.0  # canonical px by which smoothing may move any part of the mask


class Pose(NamedTuple):
    """An alignment in terms that can be averaged.

    Attributes:
      centre: complex, px of the frame, where the middle of the mask lies.
      size: log of the frame px for each canonical px.
      angle: radians.
    """

    centre: complex
    size: float
    angle: float


def to_pose(alignment: Alignment) -> Pose:
    """The pose of a face."""
    centre = (_ANCHOR - alignment.b) / alignment.a
    return Pose(centre, -float(np.log(alignment.scale)), float(np.angle(alignment.a)))


def to_alignment(pose: Pose) -> Alignment:
    """The inverse of `to_pose`."""
    a = complex(np.exp(complex(-pose.size, pose.angle)))
    return Alignment(a, _ANCHOR - a * pose.centre)


def turned(angles: np.ndarray) -> np.ndarray:
    """Angles in radians brought between -pi and pi."""
    return (np.asarray(angles) + np.pi) % (2 * np.pi) - np.pi


def moved(smooth: Alignment, raw: Alignment) -> float:
    """Canonical px by which parts of the mask lie elsewhere with `smooth` than with `raw`, at most."""
    centre, half = np.array(masks.CENTRE), np.array(masks.HALF_AXES)
    corners = centre + half * np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
    return float(np.linalg.norm(smooth.apply(raw.invert(corners)) - corners, axis=1).max())


def limited(smooth: Pose, raw: Pose, most: float = MAX_MOVED) -> Pose:
    """`smooth`, or a pose on the way to it from `raw` that is no further away than `most` canonical px."""
    share, pose, origin = 1.0, smooth, to_alignment(raw)
    while (distance := moved(to_alignment(pose), origin)) > most:
        share *= 0.99 * most / distance
        pose = Pose(
            raw.centre + share * (smooth.centre - raw.centre),
            raw.size + share * (smooth.size - raw.size),
            raw.angle + share * float(turned(smooth.angle - raw.angle)),
        )
    return pose
