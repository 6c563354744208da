"""The classic ways to cover a face, with their strength tied to the face and not to the picture.

Each takes pixels of a frame and returns what is to be shown in the region. They keep nothing finer than a
fixed number of cells across the face, whatever its size: what is gone cannot be brought back by sharpening,
as it can after a mild linear filter.
"""

import dataclasses
import functools
from collections.abc import Sequence

import cv2
import numpy as np

from dp3_jax.detection.kinds import FACE, TargetKind
from dp3_jax.vision.geometry import Alignment, Region, region
from dp3_jax.vision.masks import SIZE
from dp3_jax.vision.target_frames import HEAD_CENTRE, HEAD_HALF_AXES

CELLS = 5  # across the face: eyes, nose and mouth melt into two or three cells each way

_FACE_WIDTH = 66.0  # canonical px, cheek to cheek
_DILATION = (
    4  # canonical px by which the classic methods reach over the mask that the generator fills
)

# The whole head with hair, ears and neck, on a canvas this much larger than the canonical frame on each side.
_HEAD_PADDING = 64


@functools.cache
def head_mask() -> np.ndarray:
    """u8[256, 256] on a canvas with _HEAD_PADDING px round the canonical frame: the whole head."""
    side = SIZE + 2 * _HEAD_PADDING
    y, x = np.mgrid[0:side, 0:side] - _HEAD_PADDING
    across, down = (
        (grid - centre) / half
        for grid, centre, half in zip((x, y), HEAD_CENTRE, HEAD_HALF_AXES, strict=True)
    )
    return (across**2 + down**2 <= 1).astype(np.uint8)


def extent(
    alignment: Alignment,
    box: Sequence[float],
    cover: str,
    shape: Sequence[int],
    dilation: int = 0,
    *,
    kind: TargetKind = FACE,
) -> Region:
    """The pixels to cover.

    Args:
      alignment, box: of the target.
      cover: of a face: "face", what a new one would replace with a rim round it, or "head", with hair and
        neck.
      shape: of the frame.
      dilation: canonical px by which to reach further.
      kind: of the target.
    """
    if cover == "head" and kind is FACE:
        alignment = alignment.shifted(_HEAD_PADDING, _HEAD_PADDING)
        return region(alignment.shifted(dilation, dilation), dilated(head_mask(), dilation), shape)
    mask = np.ascontiguousarray(kind.mask(alignment, box)[..., 0], np.float32)
    grown = _grown(mask.tobytes(), mask.shape, dilation)
    return region(alignment.shifted(dilation, dilation), grown, shape)


@functools.lru_cache(maxsize=64)  # most faces of a run share a few masks
def _grown(mask: bytes, shape: tuple[int, int], by: int) -> np.ndarray:
    """A mask f32[h, w] grown by _DILATION, and then `dilated`."""
    pixels = np.frombuffer(mask, np.float32).reshape(shape)
    return dilated(cv2.dilate(pixels, _disk(_DILATION)), by)


def _disk(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)


def dilated(mask: np.ndarray, by: int) -> np.ndarray:
    """A mask [h, w] grown by whole px, on a canvas larger by as much on each side."""
    return cv2.dilate(np.pad(mask, by), _disk(by)) if by else mask


def _cells(part: np.ndarray, scale: float) -> np.ndarray:
    """`part` averaged over cells of a CELLS-th of the face's width; `scale` as in `Alignment.scale`."""
    cell = max(_FACE_WIDTH / scale / CELLS, 1.0)
    height, width = part.shape[:2]
    size = max(1, round(width / cell)), max(1, round(height / cell))
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA)


def pixelate(part: np.ndarray, scale: float) -> np.ndarray:
    """u8[h, w, 3] -> the same size in squares, each the mean of the pixels below it."""
    height, width = part.shape[:2]
    return cv2.resize(_cells(part, scale), (width, height), interpolation=cv2.INTER_NEAREST)


def blur(part: np.ndarray, scale: float) -> np.ndarray:
    """u8[h, w, 3] -> the same size with as little left as `pixelate` leaves, interpolated smoothly."""
    height, width = part.shape[:2]
    cells = cv2.GaussianBlur(_cells(part, scale), (3, 3), 0.6)
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)


def solid(part: np.ndarray, scale: float) -> np.ndarray:
    """u8[h, w, 3] -> one grey; nothing of the picture shows, not even how bright it was."""
    del scale
    return np.full_like(part, 128)


@dataclasses.dataclass(frozen=True, eq=False)
class ObfuscationTask:
    """A face to be covered.

    Attributes:
      method: one of `choices.OBFUSCATIONS`.
      scale: as `Alignment.scale`.
      target: its pixels.
    """

    method: str
    scale: float
    target: Region


def apply(method: str, frame: np.ndarray, target: Region, scale: float) -> np.ndarray:
    """What `method` shows in the part of the frame that `target` describes, u8[h, w, 3]."""
    part = np.ascontiguousarray(frame[target.slices])
    return {"blur": blur, "pixelate": pixelate, "solid": solid}[method](part, scale)
