"""The pixels of a tracked face: those that are hidden, and those that its new face is put into."""

import bisect
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dp3_jax.detection.detections import Detection
from dp3_jax.detection.face_vector import pose_of_points
from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.replacement import generation, obfuscation
from dp3_jax.replacement.face_actions import FaceAction
from dp3_jax.vision import blending, geometry, masks
from dp3_jax.vision.masks import inference_mask

# Of a face's size: how far round its pixels anything is looked at, and the exposure.
_NEAR, _ROUND = 0.35, 0.8
_MARGIN = 7.0  # canonical px, likewise round its canonical view (`geometry.extract` looks at 6)
_BOXES = 4  # frames on each side over which boxes are averaged
_AHEAD = 0.15  # of a box's width: how far the box of a head in profile lies before the head


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


def upright(alignment: geometry.Alignment, seen: Sequence[Observation]) -> geometry.Alignment:
    """A face in the mean box of some observations, with the roll of `alignment`; points move with a turn.

    Frontal faces that are placed by points lean after the head: a mesh saw them turn by a third of what it
    did (correlation .92 on a talking head). As the box runs ahead of the head that turns, by boxes they still
    turned by a sixth of it (.76); so they are put back by what the points say that it has turned, after
    which nothing is left (.03).

    Args:
      alignment: of the face.
      seen: it, in this frame and others near.
    """
    x, y, width, height = np.mean([one.box for one in seen], 0)
    by_box = geometry.align_box((x, y, width, height))
    middle = complex(x + width / 2, y + height / 2)
    a = alignment.a * (by_box.scale / alignment.scale)
    yaws = [pose_of_points(one.keypoints).yaw for one in seen if one.keypoints is not None]
    ahead = math.sin(math.radians(float(np.mean(yaws)))) * _AHEAD * width if yaws else 0.0
    # Along the face's own width, to the side that it has turned from.
    middle += ahead * abs(a) / a
    centre = by_box.a * complex(x + width / 2, y + height / 2) + by_box.b
    return geometry.Alignment(a, centre - a * middle)


def near(track: Track, observation: Observation, cuts: Sequence[int]) -> list[Observation]:
    """The observations of a track in the frames round one, of the same shot."""
    shot = bisect.bisect_right(cuts, observation.frame)
    index = observation.frame - track.first
    close = track.observations[max(index - _BOXES, 0) : index + _BOXES + 1]
    return [one for one in close if bisect.bisect_right(cuts, one.frame) == shot] or [observation]


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


def surroundings(
    target: geometry.Region, shape: Sequence[int], *, far: bool
) -> tuple[slice, slice]:
    """The part of a frame of a clip that is looked at to change these pixels; `far`: to see the exposure."""
    return blending.neighbourhood(target, shape, _ROUND if far else _NEAR)[0]


def view(alignment: geometry.Alignment, shape: Sequence[int]) -> tuple[slice, slice]:
    """The part of a frame that a face's canonical view shows."""
    ends = -_MARGIN, masks.SIZE - 1 + _MARGIN
    corners = alignment.invert(np.array([(x, y) for x in ends for y in ends]))
    limit = np.array(shape[1::-1])
    low = np.floor(corners.min(0)).astype(int).clip(0, limit)
    high = (np.ceil(corners.max(0)).astype(int) + 1).clip(0, limit)
    return slice(low[1], high[1]), slice(low[0], high[0])
