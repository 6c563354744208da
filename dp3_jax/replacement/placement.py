"""The pixels of a tracked face: those that are hidden, and those that its new face is put into."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from dp3_jax.detection.detections import Detection
from dp3_jax.replacement import generation, obfuscation
from dp3_jax.replacement.face_actions import FaceAction
from dp3_jax.vision import geometry
from dp3_jax.vision.masks import inference_mask


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a face is taken to be.

    Attributes:
      smooth: its alignment for rendering.
      raw: its alignment by this frame alone, which is to be hidden too.
      dilation: canonical px by which the mask of `smooth` grows.
      raw_dilation: the same for `raw`.
    """

    smooth: geometry.Alignment
    raw: geometry.Alignment
    dilation: int
    raw_dilation: int


def extent(how: str, place: Place, box: Sequence[float], shape: Sequence[int]) -> geometry.Region:
    """The pixels that a classic method covers: by the smoothed and by the raw alignment."""
    smooth = obfuscation.extent(place.smooth, box, how, shape, place.dilation)
    if place.raw is place.smooth:
        return smooth
    return geometry.joined(
        smooth, obfuscation.extent(place.raw, box, how, shape, place.raw_dilation)
    )


def request(
    number: int, action: FaceAction, place: Place, shape: Sequence[int], memory: Any
) -> generation.InpaintRequest:
    """A face to be made; hidden is the face by its smoothed and by its raw alignment."""
    mask, own = _dilated(place.smooth, action.face, place.dilation, shape)
    target = own
    if place.raw is not place.smooth:
        _, raw = _dilated(place.raw, action.face, place.raw_dilation, shape)
        target = geometry.joined(own, raw)
    return generation.InpaintRequest(number, action, place.smooth, mask, target, own, memory)


def _dilated(
    alignment: geometry.Alignment, face: Detection, by: int, shape: Sequence[int]
) -> tuple[np.ndarray, geometry.Region]:
    """A face's mask f32[S, S, 1] grown by canonical px, and its pixels, beyond the canonical view too."""
    mask = face.kind.mask(alignment, face.box, enough=1.0)
    dilated = (
        _usual_dilated(by) if mask is inference_mask() else obfuscation.dilated(mask[..., 0], by)
    )
    own = slice(by, dilated.shape[0] - by)
    return dilated[own, own, None], geometry.region(alignment.shifted(by, by), dilated, shape)


@functools.cache  # by some canonical px
def _usual_dilated(by: int) -> np.ndarray:
    return obfuscation.dilated(inference_mask()[..., 0], by)
