"""What draws new faces into an erased photo: the shipped generator, or persons that are fused into it.

A renderer draws a face for a key, candidate by candidate, and then paints the chosen one into the frame. It
sees the erased frame, the mask, the five points and the face's vector, and no pixel of the face itself.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from dp3_jax.anonymization import blending, geometry, secrets
from dp3_jax.anonymization.generation import Drawn, Generator, Job, generate
from dp3_jax.replacement import fusing, surroundings
from dp3_jax.replacement.far_side import with_background
from dp3_jax.replacement.fusing import Donor, FusionNetwork, Parts
from dp3_jax.replacement.identities import Classes, IdentitySource

# Canonical px for each frame px from which on a face is put together at 128 px and then made smaller.
_SMALL = 0.9
_BAND = 1 << 20  # px of the frame that are worked on at once
# Canonical px inside the mask over which a fused face takes over: its own edge fits already.
_FEATHER = 3.0

_BLUR_SCALE = 0.3  # canonical px between the places where sharpness is measured on large faces
_SHARP = 0.8  # px: what is this sharp is never blurred

Classify = Callable[[np.ndarray, np.ndarray], Classes]  # erased view u8[S, S, 3], mask f32[S, S, 1]


class BuiltinRenderer:
    """Faces of a generator that draws them whole, at 128 px."""

    identity = "builtin"
    takes_vector = False

    def __init__(self, generator: Generator):
        self._generator = generator
        self.fingerprint = generator.fingerprint

    def draw(
        self, wave: Sequence[Job], views: Sequence[np.ndarray], numbers: Sequence[Sequence[int]]
    ) -> list[list[Drawn | None]]:
        """See `generation.FaceRenderer`; all in one call of the generator."""
        made = generate(wave, views, numbers, self._generator)
        return [
            [Drawn(number, view) for number, view in zip(own, faces, strict=True)]
            for own, faces in zip(numbers, made, strict=True)
        ]

    def paint(self, erased: np.ndarray, job: Job, view: np.ndarray, face: Drawn) -> np.ndarray:
        """See `generation.FaceRenderer`."""
        blended = blending.blend(view, face.view, job.mask)
        return geometry.project(blended, job.alignment, job.target)


@dataclasses.dataclass(frozen=True, eq=False)
class _Fused:
    """What a fused face is painted from."""

    donor: Donor
    parts: Parts


def candidate_key(key: bytes, number: int) -> bytes:
    """The key of a face's candidate; that of number 0 is the face's own."""
    return key if number == 0 else secrets.derived_key(key, f"dp3 candidate {number}")


def _no_classes(view: np.ndarray, mask: np.ndarray) -> Classes:
    del view, mask
    return Classes()


class FusedRenderer:
    """Persons of an identity source, fused into the photo. Calls may come from one thread only."""

    takes_vector = True

    def __init__(
        self, source: IdentitySource, network: FusionNetwork, classify: Classify = _no_classes
    ):
        """`classify` tells a person's coarse classes from the surroundings."""
        self.source, self._network, self._classify = source, network, classify
        self.identity = source.name
        both = f"{network.fingerprint} {source.fingerprint}".encode()
        self.fingerprint = hashlib.sha256(both).hexdigest()

    def draw(
        self, wave: Sequence[Job], views: Sequence[np.ndarray], numbers: Sequence[Sequence[int]]
    ) -> list[list[Drawn | None]]:
        """See `generation.FaceRenderer`."""
        drawn = []
        for job, seen, own in zip(wave, views, numbers, strict=True):
            view = seen if job.exposure is None else job.exposure.normalised(seen)
            view = np.where(job.mask > 0, np.uint8(0), view)
            classes = self._classify(view, job.mask)
            drawn.append([self._draw(job, seen, view, classes, n) for n in own])
        return drawn

    def _draw(
        self, job: Job, seen: np.ndarray, view: np.ndarray, classes: Classes, number: int
    ) -> Drawn | None:
        """One candidate; `seen` and the normalised `view` u8[S, S, 3]."""
        vector, face = job.plan.vector, job.plan.face
        try:
            rendering = self.source.render(
                candidate_key(job.plan.key, number),
                classes,
                None if vector is None else vector.pose,
                None if vector is None else vector.expression,
                fusing.rendering_size(job.alignment),
            )
        except ValueError:  # that person shows no face in that pose
            return None
        points = None if face.points is None else job.alignment.apply(face.points)
        donor = fusing.place_donor(rendering, points, job.mask)
        parts = self._network.parts(view, job.mask, donor)
        if job.exposure is not None:
            parts = parts.exposed(job.exposure)
        parts = with_background(parts, donor, seen)
        drawn = np.where(job.mask > 0, parts.composite(donor.view), seen)
        return Drawn(number, drawn, rendering.person, _Fused(donor, parts))

    def paint(self, erased: np.ndarray, job: Job, view: np.ndarray, face: Drawn) -> np.ndarray:
        """See `generation.FaceRenderer`; at the size of the face."""
        correction = blending.correction(view, face.view, job.mask)
        if job.alignment.scale >= _SMALL:
            blended = blending.blend(view, face.view, job.mask, correction, _FEATHER)
            return geometry.project(blended, job.alignment, job.target)
        blur = _missing_blur(erased, job, face.layers.donor)
        paint = _paint(job, face.layers, correction, blur)
        return _in_frame(erased, job.target, paint)


@dataclasses.dataclass(frozen=True, eq=False)
class _Paint:
    """A face before it is seen from the frame: factor * donor + offset + (1 - share) * what is under it.

    Attributes:
      alignment: of the face, frame to canonical.
      donor: its detail.
      factor: f32[S, S, 3].
      offset: f32[S, S, 4], levels, and in the last channel the share.
      blur: standard deviation in frame px by which the donor is too sharp.
    """

    alignment: geometry.Alignment
    donor: Donor
    factor: np.ndarray
    offset: np.ndarray
    blur: float

    def band(self, under: np.ndarray, part: geometry.Region) -> np.ndarray:
        """u8[h, w, 3]: a part of the frame with the face; `under` is the erased frame there."""
        seen = fusing.donor_in_frame(self.donor, self.alignment, part)
        if self.blur > 0:
            seen = cv2.GaussianBlur(seen, (0, 0), self.blur)
        offset = _enlarged(self.offset, self.alignment, part)
        shown = _enlarged(self.factor, self.alignment, part)
        shown = cv2.multiply(seen, shown, dst=shown, dtype=cv2.CV_32F)
        left = np.clip(1 - offset[..., 3:], 0, 1)
        shown += cv2.multiply(under, cv2.merge([left[..., 0]] * 3), dtype=cv2.CV_32F)
        # Levels above and below are clipped.
        return cv2.add(shown, np.ascontiguousarray(offset[..., :3]), dtype=cv2.CV_8U)


def _paint(job: Job, fused: _Fused, correction: np.ndarray, blur: float) -> _Paint:
    """The composite and its blending into the frame as one linear function of the donor's levels."""
    share, fade = blending.shares(job.mask, _FEATHER)
    parts = fused.parts
    factor = parts.alpha * (1 + parts.gain)
    offset = 127.5 * (parts.alpha * parts.bias + (1 - parts.alpha) * parts.fill + 1 - factor)
    offset = np.concatenate([share * offset + correction * fade, share[..., :1]], -1)
    factor = np.ascontiguousarray(share * factor, np.float32)
    return _Paint(job.alignment, fused.donor, factor, offset.astype(np.float32), blur)


def _in_frame(erased: np.ndarray, target: geometry.Region, paint: _Paint) -> np.ndarray:
    """The face u8[h, w, 3] in its part of the frame, a band of rows after the other."""
    height, width = target.inside.shape
    shown = np.empty((height, width, 3), np.uint8)
    step = max(16, _BAND // max(width, 1))
    margin = int(np.ceil(3 * paint.blur))
    for top in range(0, height, step):
        bottom = min(top + step, height)
        wide = slice(max(top - margin, 0), min(bottom + margin, height))
        part = geometry.Region(target.top + wide.start, target.left, target.inside[wide])
        band = paint.band(np.ascontiguousarray(erased[part.slices]), part)
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


def _missing_blur(erased: np.ndarray, job: Job, donor: Donor) -> float:
    """Standard deviation in frame px by which the surroundings are less sharp than the donor."""
    part, own = blending.neighbourhood(job.target, erased.shape)
    step = max(
        1, round(_BLUR_SCALE / job.alignment.scale)
    )  # of large faces every step-th px will do
    near = cv2.dilate(own[::step, ::step].astype(np.uint8), np.ones((5, 5), np.uint8))
    wanted = surroundings.edge_blur(_luma(erased[part][::step, ::step]), near == 0)
    if wanted is None or wanted < _SHARP:
        return 0.0
    few = geometry.Alignment(job.alignment.a * step, job.alignment.b)
    origin = complex(job.target.left, job.target.top) * (job.alignment.a - few.a)
    few = geometry.Alignment(few.a, few.b + origin)
    size = [max(1, n // step) for n in job.target.inside.shape]
    small = geometry.Region(job.target.top, job.target.left, np.ones(size, bool))
    face = _enlarged(donor.mask, few, small) > 0.5
    there = surroundings.edge_blur(_luma(fusing.donor_in_frame(donor, few, small)), face)
    return step * surroundings.missing_blur(wanted, there)


def _luma(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
