"""How a new face moves with the head, the lips and the lids under it: its picture warped by optical flow.

A face that stands still on a head that turns and speaks looks like a mask. So the motion in the hidden face
is measured between each frame and the one before, made coarse, summed up over the frames, and the picture of
the new face is moved along. Of the hidden pixels nothing but this motion has a part in the new face: for each
frame a grid of GRID displacements, of at most _FASTEST px each, 0 where nothing moves, whatever is there.
They tell how the face moves (that it speaks, laughs or blinks), and not how it looks; one who does not want
even that to be told switches it off (`--motion head`).
"""

import functools

import cv2
import numpy as np

from dp3_jax.vision import flow, geometry, masks
from dp3_jax.vision.geometry import Alignment

CELL = 8  # canonical px between two displacements: a third of the distance of the eyes
# The part of the canonical frame that is looked at, in cells: left, top, columns, rows. The mask lies in it.
_LEFT, _TOP, _COLUMNS, _ROWS = 2, 2, 12, 14
GRID = (_ROWS, _COLUMNS)

_FINE = 2  # px of a view for each canonical px; flow of coarser views is not exact enough
# Canonical px per px of the frame from which on faces are not followed, those narrower than about 80 px:
# nobody sees their lips, and frames have no such detail of them.
_SMALL_SCALE = 0.75

_ALIKE = 12.0  # levels by which what was followed may look different
_EXPLAINED = 0.6  # or the share of the difference that was there before it was followed
_FASTEST = 4.0  # canonical px per frame; what seems faster was not found
_FURTHEST = 8.0  # canonical px from where the face was drawn
# A displacement fades to half in 46 frames, for what is summed up from frame to frame drifts.
_KEPT = 0.985
_TAPER = 2.5  # canonical px inside the mask over which the picture begins to move


def is_small(alignment: Alignment) -> bool:
    """Whether a face is too small to be followed."""
    return alignment.scale >= _SMALL_SCALE


def detail(grey: np.ndarray, alignment: Alignment) -> np.ndarray:
    """A view of a face for `step`, u8[_ROWS * c, _COLUMNS * c] with c = CELL * _FINE px for each cell.

    Args:
      grey: u8[h, w], a frame as it was recorded; its rim repeats outside.
      alignment: of the face.
    """
    # Made small by whole factors first, as bilinear sampling must not skip pixels; what is left of it to be
    # done, by less than two, keeps more detail for the search than smooth shrinking would.
    times = max(1, int(1 / (alignment.scale * _FINE)))
    if times > 1:
        height, width = (side // times * times for side in grey.shape)
        size = width // times, height // times
        grey = cv2.resize(grey[:height, :width], size, interpolation=cv2.INTER_AREA)
    # Pixel centres lie at whole numbers: p -> (p + 0.5) * factor - 0.5 makes a picture larger by a factor.
    half = complex(0.5, 0.5)
    shift = alignment.a * (times - 1) * half + alignment.b  # frame made small -> canonical
    corner = complex(_LEFT, _TOP) * CELL
    view = Alignment(alignment.a * times * _FINE, (shift + half - corner) * _FINE - half)
    return cv2.warpAffine(
        grey,
        view.matrix,
        (_COLUMNS * CELL * _FINE, _ROWS * CELL * _FINE),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def step(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Where what is in each cell was in the frame before, f32[GRID, 2] canonical px, (x, y).

    0 in cells where that was not found: what is there now looks different from what was there.

    Args:
      before, now: u8[h, w] of `detail`.
    """
    back = flow.dense_flow(now, before, preset="lean")
    was = flow.sample(before, back)
    size = _COLUMNS, _ROWS
    cells = cv2.resize(back, size, interpolation=cv2.INTER_AREA) / _FINE
    left, still = (
        cv2.resize(cv2.absdiff(now, one).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        for one in (was, before)
    )
    found = (left <= np.maximum(_ALIKE, _EXPLAINED * still)) & (
        np.hypot(*np.moveaxis(cells, -1, 0)) <= _FASTEST
    )
    return np.where(found[..., None], cells, np.float32(0))


def advance(offset: np.ndarray | None, since: np.ndarray | None) -> np.ndarray:
    """Where each cell of a face lies in its picture, relative to where it is now, f32[GRID, 2] canonical px.

    Args:
      offset: the same of the frame before; None at the beginning.
      since: f32[GRID, 2], `step` since then; None where that is not known.
    """
    offset = np.zeros((*GRID, 2), np.float32) if offset is None else offset
    since = np.zeros_like(offset) if since is None else since
    total = _KEPT * (flow.sample(offset, since / CELL) + since)
    length = np.hypot(*np.moveaxis(total, -1, 0))[..., None]
    return total * np.minimum(1, _FURTHEST / np.maximum(length, 1e-6))


def moved(picture: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The picture of a face, [S, S, 3], moved to where the face is now; its rim stays.

    Args:
      picture: u8 or f32.
      offset: f32[GRID, 2], of `advance`.
    """
    left, top = _LEFT * CELL, _TOP * CELL
    right, bottom = left + _COLUMNS * CELL, top + _ROWS * CELL
    part = slice(top, bottom), slice(left, right)
    fine = cv2.resize(offset, (right - left, bottom - top), interpolation=cv2.INTER_CUBIC)
    places = flow.pixels(*picture.shape[:2])[part] + fine * _taper()[part]
    result = picture.copy()
    result[part] = cv2.remap(
        picture, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return result


@functools.cache
def _taper() -> np.ndarray:
    """f32[S, S, 1]: from 0 at the rim of the usual mask to 1 inside."""
    return geometry.feather(masks.inference_mask(), _TAPER)[..., None]
