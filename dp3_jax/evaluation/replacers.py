"""Ways to replace a face that an evaluation compares.

A way takes its source of identities as an argument, so that the same network and the same pasting can be
given a rendering of nobody or the photo of a real person: what the second gives away is the baseline.
"""

import dataclasses
from typing import Protocol

import cv2
import numpy as np

from dp3_jax.detection.detections import Detection
from dp3_jax.models.mesh import FaceMesh, expression, yaw_pitch_roll
from dp3_jax.models.person_mask import PersonMask
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.replacement.fusing import FusionNetwork
from dp3_jax.replacement.identities import Classes, IdentitySource, Rendering
from dp3_jax.replacement.renderers import Classify, FusedRenderer
from dp3_jax.vision import geometry
from dp3_jax.vision.masks import CENTRE, SIZE


@dataclasses.dataclass(frozen=True, eq=False)
class Replaced:
    """A photo with another face.

    Attributes:
      photo: u8[h, w, 3].
      donor: what was put in; None: nothing that is a picture of a face of its own.
    """

    photo: np.ndarray
    donor: Rendering | None


class Replacer(Protocol):
    """A way to replace a face.

    Attributes:
      fingerprint: changes when the same arguments would give another photo.
    """

    fingerprint: str

    def __call__(
        self, photo: np.ndarray, face: Detection, key: bytes, source: IdentitySource | None
    ) -> Replaced:
        """Replaces the face in u8[h, w, 3] `photo` by the person of a key of 32 bytes, who is of `source`."""
        ...


class Inpainting:
    """The anonymizer that invents faces from a latent; it has no other source of identities."""

    def __init__(self, anonymizer: Anonymizer):
        """Takes what `dp3 anonymize` calls for a photo."""
        self._anonymizer = anonymizer
        self.fingerprint = anonymizer.generator.fingerprint

    def __call__(
        self, photo: np.ndarray, face: Detection, key: bytes, source: IdentitySource | None = None
    ) -> Replaced:
        """See `Replacer`."""
        del source
        return Replaced(self._anonymizer(photo, [face], key).frame, None)


_HALF_AXES = (32.0, 39.0)  # canonical px round the masked region's centre, of what is pasted
_SOFT = 3.0  # canonical px, standard deviation of the edge
_LOW = 8.0  # canonical px, standard deviation above which colours are the photo's


def paste(photo: np.ndarray, face: Detection, donor: Rendering) -> np.ndarray:
    """u8[h, w, 3]: a donor laid over a face, with the low frequencies of what was there; nothing is learned.

    Args:
      photo: in which the face was replaced before; with an original, the original's colours come through.
      face: where.
      donor: whose face.
    """
    alignment = face.alignment()
    size = photo.shape[1::-1]
    points = alignment.invert(geometry.align_points(donor.points).apply(donor.points))
    onto = geometry.align_points(donor.points, points)
    shown = cv2.warpAffine(
        donor.image, onto.matrix, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    grid = np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), -1)
    across = np.abs(alignment.apply(grid) - CENTRE) / _HALF_AXES
    inside = ((across**2.5).sum(-1) <= 1).astype(np.float32)

    def blur(x: np.ndarray, canonical: float) -> np.ndarray:
        return cv2.GaussianBlur(x, (0, 0), max(canonical / alignment.scale, 0.3))

    there, new = (
        cv2.cvtColor(x.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for x in (photo, shown)
    )
    # Averages within the pasted part alone: what lies around the donor must not tint it.
    weight = np.maximum(blur(inside, _LOW), 1e-3)[..., None]
    low = blur((there - new) * inside[..., None], _LOW) / weight
    matched = cv2.cvtColor(np.ascontiguousarray(new + low), cv2.COLOR_LAB2RGB) * 255
    alpha = blur(inside, _SOFT)[..., None]
    mixed = alpha * matched + (1 - alpha) * photo
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


class Pasting:
    """A donor laid over what the anonymizer invents: what can be had without any training for it."""

    def __init__(self, below: Inpainting):
        """Pastes onto what `below` gives."""
        self._below, self._mesh = below, FaceMesh()
        self.fingerprint = f"pasted onto {below.fingerprint}"

    def __call__(
        self, photo: np.ndarray, face: Detection, key: bytes, source: IdentitySource | None
    ) -> Replaced:
        """See `Replacer`; asks the source for a person in the face's pose and with its expression."""
        mesh, _ = self._mesh.points(photo, box=face.box, five=face.keypoints)
        pose, mouth = yaw_pitch_roll(mesh), expression(mesh)
        donor = source.render(key, Classes(), pose, mouth, SIZE)
        return Replaced(paste(self._below(photo, face, key).photo, face, donor), donor)


class _Remembering:
    """An identity source that remembers what it rendered for a photo, by person."""

    def __init__(self, source: IdentitySource):
        self._source = source
        self.name, self.fingerprint = source.name, source.fingerprint
        self.seen: dict[str, Rendering] = {}

    def render(self, *arguments, **named) -> Rendering:
        """See `IdentitySource.render`."""
        rendering = self._source.render(*arguments, **named)
        self.seen[rendering.person] = rendering
        return rendering


class Fusing:
    """A person of a source fused into the photo, as `dp3 anonymize` does it by default."""

    def __init__(self, network: FusionNetwork, classify: Classify):
        """`network` is what is under evaluation, `classify` tells classes from the surroundings."""
        self._network, self._classify, self._heads = network, classify, PersonMask()
        self._ready: dict[str, tuple[_Remembering, Anonymizer]] = {}
        self.fingerprint = network.fingerprint + self._heads.fingerprint

    def _with(self, source: IdentitySource) -> tuple[_Remembering, Anonymizer]:
        if source.fingerprint not in self._ready:
            remembering = _Remembering(source)
            anonymizer = Anonymizer()
            renderer = FusedRenderer(remembering, self._network, self._classify, heads=self._heads)
            anonymizer.opened = renderer, ""
            self._ready[source.fingerprint] = remembering, anonymizer
        return self._ready[source.fingerprint]

    def __call__(
        self, photo: np.ndarray, face: Detection, key: bytes, source: IdentitySource | None
    ) -> Replaced:
        """See `Replacer`."""
        remembering, anonymizer = self._with(source)
        remembering.seen.clear()
        result = anonymizer(photo, [face], key)
        (face_result,) = result.face_results
        return Replaced(result.frame, remembering.seen.get(face_result.person))


def donor_view(donor: Rendering) -> np.ndarray:
    """u8[128, 128, 3]: a donor in the canonical frame."""
    return geometry.extract(donor.image, geometry.align_points(donor.points))
