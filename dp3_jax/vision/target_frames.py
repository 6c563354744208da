"""The canonical frames of heads, bodies and licence plates, and what of them is replaced.

Each is a view of `masks.SIZE` px. How large a target is drawn in it decides how much the obfuscations leave
of it, as they average over cells of a fixed number of canonical px (`replacement.obfuscation`): five across
a head, eight down a body, three along a plate.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from dp3_jax.vision import geometry
from dp3_jax.vision.masks import SIZE

# The whole head with hair, ears and neck, in the canonical face frame: it reaches out of that on each side.
HEAD_CENTRE = (64.0, 62.0)
HEAD_HALF_AXES = (60.0, 80.0)

_HEAD_SCALE = 0.5  # canonical px of a head for each of the face frame
_BODY_SIDE = 104.0  # canonical px, the longer side of a body's box
_PLATE_SIDE = 44.0  # canonical px, the length of a plate
_BODY_EXPONENT = 4.0  # of the superellipse that a body of unknown outline is taken to fill
_BODY_DILATION = 1.12  # times its box: feet, hair and bags reach out of those that detectors draw
_PLATE_DILATION = (1.1, 1.3)  # times a plate's sides, along and across


def align_head(box: Sequence[float], points: np.ndarray | None) -> geometry.Alignment:
    """Where a head lies: by its face's box and five points, as `geometry.align`."""
    face = geometry.align(box, points)
    middle = complex(SIZE / 2, SIZE / 2)
    return geometry.Alignment(face.a * _HEAD_SCALE, (face.b - middle) * _HEAD_SCALE + middle)


def head_mask(
    alignment: geometry.Alignment, box: Sequence[float], enough: float = 1.0, yaw: float = 0.0
) -> np.ndarray:
    """f32[128, 128, 1]: hair, ears and neck; the same for all heads."""
    del alignment, box, enough, yaw
    return _head_mask()


@functools.cache
def _head_mask() -> np.ndarray:
    centre = [(c - SIZE / 2) * _HEAD_SCALE + SIZE / 2 for c in HEAD_CENTRE]
    return _superellipse(centre, [half * _HEAD_SCALE for half in HEAD_HALF_AXES], 2.0)


def _superellipse(
    centre: Sequence[float], half_axes: Sequence[float], exponent: float
) -> np.ndarray:
    grid = np.arange(SIZE, dtype=np.float64)
    across = np.abs(grid - centre[0])[None, :, None] / half_axes[0]
    down = np.abs(grid - centre[1])[:, None, None] / half_axes[1]
    inside = np.maximum(across, down) <= 1.0
    if not math.isinf(exponent):
        inside = across**exponent + down**exponent <= 1.0
    mask = inside.astype(np.float32)
    mask.flags.writeable = False
    return mask


def _centred(box: Sequence[float], side: float) -> geometry.Alignment:
    """The middle of a box to the middle of the view, its longer side to `side` px.

    Raises:
      ValueError: the box is empty or not finite.
    """
    x, y, width, height = (float(v) for v in box)
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise ValueError(f"a box is (x, y, width, height) with a positive size, not {box!r}")
    a = complex(side / max(width, height))
    middle = complex(x + width / 2, y + height / 2)
    return geometry.Alignment(a, complex(SIZE / 2, SIZE / 2) - a * middle)


def align_body(box: Sequence[float], points: np.ndarray | None) -> geometry.Alignment:
    """Where a body lies: upright in its box; raises ValueError as `geometry.align_box`."""
    del points
    return _centred(box, _BODY_SIDE)


def body_mask(
    alignment: geometry.Alignment, box: Sequence[float], enough: float = 1.0, yaw: float = 0.0
) -> np.ndarray:
    """f32[128, 128, 1]: a body of which nothing but the box is known, dilated."""
    del enough, yaw
    half = [side / 2 * alignment.scale * _BODY_DILATION for side in box[2:]]
    return _superellipse((SIZE / 2, SIZE / 2), half, _BODY_EXPONENT)


def align_plate(box: Sequence[float], points: np.ndarray | None) -> geometry.Alignment:
    """Where a licence plate lies: by its box, whatever its corners; raises ValueError as `align_body`."""
    del points
    return _centred(box, _PLATE_SIDE)


def plate_mask(
    alignment: geometry.Alignment, box: Sequence[float], enough: float = 1.0, yaw: float = 0.0
) -> np.ndarray:
    """f32[128, 128, 1]: the plate's box, dilated."""
    del enough, yaw
    half = [
        side / 2 * alignment.scale * by for side, by in zip(box[2:], _PLATE_DILATION, strict=True)
    ]
    # Thinner than a canonical px it would be smoothed away.
    return _superellipse((SIZE / 2, SIZE / 2), np.maximum(half, 1.5), math.inf)
