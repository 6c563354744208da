"""A fused face put into its frame: the donor's detail under the colours that the network asks for."""

import dataclasses

import cv2
import numpy as np

from dp3_jax.replacement import fusing, mirrored_detail, surroundings
from dp3_jax.replacement.fusing import Donor, Parts
from dp3_jax.replacement.generation import InpaintRequest
from dp3_jax.replacement.mirrored_detail import MirroredDetail
from dp3_jax.vision import blending, geometry

_BAND = 1 << 20  # px of the frame that are worked on at once
_EDGE = 1.0  # canonical px, standard deviation by which the mask is blurred where a face takes over
_TIMES = 2  # the canonical size at which larger faces of clips are put together
_MIN_BLUR = 0.3  # px there, standard deviation that makes a difference
_BLUR_SCALE = 0.3  # canonical px between the places where sharpness is measured on large faces
_SHARP = 0.8  # px: what is this sharp is never blurred


@dataclasses.dataclass(frozen=True, eq=False)
class Fused:
    """What a fused face is painted from.

    Attributes:
      donor: placed.
      parts: with the background in their fill.
      said: the network's parts, and f32[S, S, 1], where the background shows instead; None where they were
        carried from an earlier frame.
    """

    donor: Donor
    parts: Parts
    said: tuple[Parts, np.ndarray] | None = None


def composite(request: InpaintRequest, seen: np.ndarray, fused: Fused) -> np.ndarray:
    """u8[S, S, 3]: the view with the face."""
    inside = (request.mask[..., 0] > 0).astype(np.uint8)
    return cv2.copyTo(fused.parts.composite(fused.donor.view), inside, seen.copy())


@dataclasses.dataclass(frozen=True, eq=False)
class _Paint:
    """A face before it is seen from the frame: factor * donor + offset + (1 - share) * what is under it.

    Attributes:
      alignment: of the face, frame to canonical.
      donor: its detail.
      factor: f32[S, S, 3].
      offset: f32[S, S, 4], levels, and in the last channel the share.
      blur: standard deviation in frame px by which the donor is too sharp.
      fill: f32[S, S, 4], levels of what is drawn round the donor, and its share; with `detail`.
      detail: of what is round the face; None in clips.
    """

    alignment: geometry.Alignment
    donor: Donor
    factor: np.ndarray
    offset: np.ndarray
    blur: float
    fill: np.ndarray | None = None
    detail: MirroredDetail | None = None

    def band(self, under: np.ndarray, part: geometry.Region) -> np.ndarray:
        """u8[h, w, 3]: a part of the frame with the face; `under` is the background-filled frame there."""
        seen = fusing.donor_in_frame(self.donor, self.alignment, part)
        if self.blur > 0:
            seen = cv2.GaussianBlur(seen, (0, 0), self.blur)
        offset = _enlarged(self.offset, self.alignment, part)
        shown = _enlarged(self.factor, self.alignment, part)
        shown = cv2.multiply(seen, shown, dst=shown, dtype=cv2.CV_32F)
        left = np.clip(1 - offset[..., 3:], 0, 1)
        shown += cv2.multiply(under, cv2.merge([left[..., 0]] * 3), dtype=cv2.CV_32F)
        if self.detail is not None:
            fill = _enlarged(self.fill, self.alignment, part)
            finer = self.detail.at(part, np.ascontiguousarray(fill[..., :3]))
            shown += cv2.multiply(finer, cv2.merge([fill[..., 3].clip(0, 1)] * 3))
        # Levels above and below are clipped.
        return cv2.add(shown, np.ascontiguousarray(offset[..., :3]), dtype=cv2.CV_8U)


def _share(mask: np.ndarray) -> np.ndarray:
    """f32[S, S] of the new face: from 0 at a mask's edge to 1 two px further in, without its stairs."""
    smooth = cv2.GaussianBlur(mask[..., 0], (0, 0), _EDGE)
    return np.clip(2 * smooth - 1, 0, 1) * mask[..., 0]


def _paint(request: InpaintRequest, fused: Fused, blur: float) -> _Paint:
    """The composite and its blending into the frame as one linear function of the donor's levels."""
    parts, share = fused.parts, _share(request.mask)
    # Three channels each: NumPy would go through three numbers at a time.
    shares, alpha = (cv2.merge([one] * 3) for one in (share, parts.alpha))
    factor = cv2.multiply(alpha, parts.gain + np.float32(1))
    offset = parts.fill + cv2.multiply(alpha, parts.bias - parts.fill) - factor + np.float32(1)
    offset = cv2.multiply(offset, shares, scale=127.5)
    offset = np.dstack([offset, share])
    return _Paint(request.alignment, fused.donor, cv2.multiply(factor, shares), offset, blur)


def painted(background_fill: np.ndarray, request: InpaintRequest, fused: Fused) -> np.ndarray:
    """A face of a photo in its part of the frame, u8[h, w, 3], at its own size.

    Args:
      background_fill: u8[H, W, 3], the frame.
      request: whose face it is.
      fused: what it is painted from.
    """
    blur = _missing_blur(background_fill, request, fused.donor)
    paint = _paint(request, fused, blur)
    scale = 1 / request.alignment.scale
    if scale > mirrored_detail.MIN_SCALE:
        detail = mirrored_detail.look(background_fill, request.own, scale)
        left = paint.offset[..., 3] * (1 - fused.parts.alpha[..., 0])
        fill = np.dstack([(fused.parts.fill + 1) * np.float32(127.5), left])
        paint = dataclasses.replace(paint, fill=fill, detail=detail)
    return _in_frame(background_fill, request.own, paint)


def quickly_painted(
    background_fill: np.ndarray, request: InpaintRequest, view: np.ndarray, fused: Fused
) -> np.ndarray:
    """As `painted`, for clips: put together at _TIMES the canonical size; `view` u8[S, S, 3] is erased."""
    paint = _paint(
        request,
        fused,
        request.memory.stabilise_blur(lambda: _missing_blur(background_fill, request, fused.donor)),
    )
    seen = fusing.donor_in_view(paint.donor, _TIMES)
    blur = paint.blur * _TIMES * request.alignment.scale
    if blur > _MIN_BLUR:
        seen = cv2.GaussianBlur(seen, (0, 0), blur)
    left = cv2.merge([1 - paint.offset[..., 3]] * 3)
    under = paint.offset[..., :3] + cv2.multiply(left, view, dtype=cv2.CV_32F)
    factor, under = (
        cv2.resize(layer, None, fx=_TIMES, fy=_TIMES, interpolation=cv2.INTER_LINEAR)
        for layer in (paint.factor, under)
    )
    shown = cv2.add(cv2.multiply(seen, factor, dtype=cv2.CV_32F), under, dtype=cv2.CV_8U)
    # Pixel centres lie at whole numbers: z -> times * z + half is the larger view.
    half = (_TIMES - 1) / 2 * complex(1, 1)
    larger = geometry.Alignment(_TIMES * request.alignment.a, _TIMES * request.alignment.b + half)
    return geometry.project(shown, larger, request.own, quick=True)


def _in_frame(background_fill: np.ndarray, target: geometry.Region, paint: _Paint) -> np.ndarray:
    """The face u8[h, w, 3] in its part of the frame, a band of rows after the other."""
    height, width = target.inside.shape
    shown = np.empty((height, width, 3), np.uint8)
    step = max(16, _BAND // max(width, 1))
    margin = int(np.ceil(3 * paint.blur))
    for top in range(0, height, step):
        bottom = min(top + step, height)
        wide = slice(max(top - margin, 0), min(bottom + margin, height))
        part = geometry.Region(target.top + wide.start, target.left, target.inside[wide])
        band = paint.band(np.ascontiguousarray(background_fill[part.slices]), part)
        shown[top:bottom] = band[top - wide.start : bottom - wide.start]
    return shown


def _enlarged(
    layer: np.ndarray, alignment: geometry.Alignment, part: geometry.Region
) -> np.ndarray:
    """f32[h, w, C]: a canonical layer f32[S, S, C] in a part of the frame."""
    shifted = geometry.Alignment(
        alignment.a, alignment.b + alignment.a * complex(part.left, part.top)
    )
    height, width = part.inside.shape
    return cv2.warpAffine(
        layer,
        shifted.matrix,
        (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _missing_blur(background_fill: np.ndarray, request: InpaintRequest, donor: Donor) -> float:
    """Standard deviation in frame px by which the surroundings are less sharp than the donor."""
    part, own = blending.neighbourhood(request.own, background_fill.shape)
    # Of large faces every step-th px will do.
    step = max(1, round(_BLUR_SCALE / request.alignment.scale))
    near = cv2.dilate(own[::step, ::step].astype(np.uint8), np.ones((5, 5), np.uint8))
    wanted = surroundings.edge_blur(_luma(background_fill[part][::step, ::step]), near == 0)
    if wanted is None or wanted < _SHARP:
        return 0.0
    few = geometry.Alignment(request.alignment.a * step, request.alignment.b)
    origin = complex(request.own.left, request.own.top) * (request.alignment.a - few.a)
    few = geometry.Alignment(few.a, few.b + origin)
    size = [max(1, n // step) for n in request.own.inside.shape]
    small = geometry.Region(request.own.top, request.own.left, np.ones(size, bool))
    # Hair is as sharp as it is in focus, and would ask for softer skin.
    face = _enlarged(fusing.face_of(donor), few, small) > 0.5
    there = surroundings.edge_blur(_luma(fusing.donor_in_frame(donor, few, small)), face)
    return step * surroundings.missing_blur(wanted, there)


def _luma(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
