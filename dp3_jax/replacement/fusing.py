"""The fusion network at work: a rendering of a person and a background-filled photo become a face in that
photo.

The network says at 128 px how the rendering's colours must change and what lies round it; the rendering
itself is resampled at the face's own size, so a face is as sharp as the photo round it.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from dp3_jax.common.compilations import KeptProgram
from dp3_jax.common.errors import UserError
from dp3_jax.models import mesh
from dp3_jax.models.weights import nested
from dp3_jax.replacement import silhouette
from dp3_jax.replacement.identities import Rendering
from dp3_jax.replacement.surroundings import Exposure
from dp3_jax.vision import geometry
from dp3_jax.vision.geometry import Alignment, Region
from dp3_jax.vision.masks import CANONICAL_POINTS, SIZE, inside_of

WEIGHTS = pathlib.Path(__file__).parents[1] / "weights" / "fusion128.safetensors"
# What configs/fusion128.py trains; a weights file says it in its header.
DEFAULT_MODEL = {
    "family": "fusion",
    "image_size": SIZE,
    "style_dim": 128,
    "generator_widths": (32, 64, 128, 256),
}
_HEADER = "dp3_jax"  # of a file's metadata, see `dp3_jax.models.generator_file`

# Frame px for each canonical px up to which a rendering of that size does: in one of 512 px the canonical
# frame, 128 px, spans about 593 px, and a fifth too few is not seen.
_SIZES = ((1.4, 128), (2.8, 256), (5.6, 512))
_LARGEST = 1024
# The five points of a turned face lie close together; the donor is at most this much smaller or larger than
# the mean face would have it.
_SCALES = (0.85, 1.18)
# Canonical px: standard deviation over which a correction is averaged within the donor, and the depth in it
# from which on it is that average. With 8 for the first, blotches were still seen.
_EVENNESS, _GUESSED_FROM = 14.0, 10.0


@dataclasses.dataclass(frozen=True, eq=False)
class Donor:
    """A rendering placed in the canonical frame.

    Attributes:
      rendering: the person's picture.
      alignment: from its pixels to the canonical frame.
      view: u8[128, 128, 3], the canonical view of it.
      mask: f32[128, 128, 1], 1 on its face, and on what of its head is shown.
    """

    rendering: Rendering
    alignment: Alignment
    view: np.ndarray
    mask: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """What the network says of one face, f32, NumPy; see `models.fusion.FusionParts`.

    Attributes:
      fill: [S, S, 3].
      alpha: [S, S, 1].
      gain, bias: [S, S, 3].
    """

    fill: np.ndarray
    alpha: np.ndarray
    gain: np.ndarray
    bias: np.ndarray

    def composite(self, donor: np.ndarray) -> np.ndarray:
        """u8[S, S, 3] of the donor's view u8[S, S, 3]."""
        return to_levels(mixed(to_floats(donor), self.fill, self.alpha, self.gain, self.bias))

    def exposed(self, seen: Exposure) -> "Parts":
        """What gives the composite with the photo's tones, of parts for the normalised photo."""
        scale = 1 / seen.scale
        # x / scale + shift in levels is this in [-1, 1].
        moved = np.float32(scale + seen.shift / 127.5 - 1)
        return Parts(
            self.fill * scale + moved,
            self.alpha,
            (1 + self.gain) * scale - 1,
            self.bias * scale + moved,
        )


def evened(parts: Parts, donor_mask: np.ndarray) -> Parts:
    """Parts whose colour correction is smooth within the face, where the network saw nothing of the photo.

    There it guesses: the colours of walls came up as green noses and yellow foreheads. At the donor's edge,
    which must meet what is beside it, its word stands.

    Args:
      parts: as the network says.
      donor_mask: f32[S, S, 1], 1 on the donor.
    """
    shown = (donor_mask[..., 0] > 0).astype(np.uint8)
    if not shown.any():
        return parts
    depth = cv2.distanceTransform(shown, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    inner = cv2.merge([np.clip(depth / _GUESSED_FROM, 0, 1)] * 3)
    weight = shown.astype(np.float32)
    near = cv2.merge([np.maximum(_smooth(weight), 1e-3)] * 3)

    def even(layer: np.ndarray) -> np.ndarray:
        mean = _smooth(cv2.multiply(layer, cv2.merge([weight] * 3))) / near
        mean = cv2.resize(mean, layer.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return layer + cv2.multiply(inner, mean - layer)

    return dataclasses.replace(parts, gain=even(parts.gain), bias=even(parts.bias))


def _smooth(layer: np.ndarray) -> np.ndarray:
    """A layer averaged over _EVENNESS, at a quarter of its size."""
    small = cv2.resize(layer, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (0, 0), _EVENNESS / 4)


def mixed(
    donor: np.ndarray, fill: np.ndarray, alpha: np.ndarray, gain: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """The composite in [-1, 1], f32 like its arguments; see `models.fusion.composite`."""
    change = cv2.multiply(donor, gain + np.float32(1)) + bias - fill
    # NumPy would go through three channels at a time.
    return fill + cv2.multiply(cv2.merge([alpha] * 3), change)


def to_floats(image: np.ndarray) -> np.ndarray:
    """u8 to f32 in [-1, 1]."""
    return image.astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)


def to_levels(image: np.ndarray) -> np.ndarray:
    """f32 in [-1, 1] to u8."""
    return np.rint((image + 1.0) * 127.5).clip(0, 255).astype(np.uint8)


def rendering_size(alignment: Alignment) -> int:
    """The px of the rendering that a face of this size needs."""
    scale = 1 / alignment.scale
    return next((size for most, size in _SIZES if scale <= most), _LARGEST)


def place_donor(
    rendering: Rendering, points: np.ndarray | None, mask: np.ndarray, *, quick: bool = False
) -> Donor:
    """A rendering where a face lies in its canonical view.

    Args:
      rendering: any size.
      points: f[5, 2], the face's five points in the canonical frame; None for the mean face's.
      mask: f32[128, 128, 1], the masked region.
      quick: as of `geometry.project`, for video.
    """
    aligned = _onto(rendering.points, CANONICAL_POINTS if points is None else points)
    back = Alignment(1 / aligned.a, -aligned.b / aligned.a)
    whole = Region(0, 0, np.ones((SIZE, SIZE), bool))
    view = geometry.project(rendering.image, back, whole, quick=quick)
    shown = _oval(rendering, aligned)
    if rendering.head is not None:
        head = cv2.warpAffine(rendering.head, aligned.matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
        shown = silhouette.with_head(shown, head, mask)
    return Donor(rendering, aligned, view, shown[..., None] * (mask > 0))


def face_of(donor: Donor) -> np.ndarray:
    """f32[128, 128, 1], 1 on a donor's face without its hair."""
    return _oval(donor.rendering, donor.alignment)[..., None] * donor.mask


def _oval(rendering: Rendering, aligned: Alignment) -> np.ndarray:
    """f32[128, 128]: 1 inside a rendering's outline, drawn in a little."""
    corners = aligned.apply(silhouette.rendered_in(mesh.outline(rendering.mesh)))
    return inside_of(corners, SIZE).astype(np.float32)


def _onto(points: np.ndarray, target: np.ndarray) -> Alignment:
    """The alignment of a rendering's points to a face's, with a size that a face can have."""
    usual = geometry.align_points(points)
    try:
        aligned = geometry.align_points(points, target)
    except ValueError:
        return usual
    ratio = aligned.scale / usual.scale
    a = aligned.a * (float(np.clip(ratio, *_SCALES)) / ratio)
    middle = complex(*np.asarray(points, np.float64).mean(0))
    return Alignment(a, complex(*np.asarray(target, np.float64).mean(0)) - a * middle)


def donor_in_view(donor: Donor, times: int) -> np.ndarray:
    """u8[S, S, 3], S = 128 * times: the donor's canonical view, larger; for video."""
    d = donor.alignment
    # Pixel centres lie at whole numbers: z -> times * z + half is the larger view.
    half = (times - 1) / 2 * complex(1, 1)
    larger = Alignment(1 / (times * d.a), (-half / times - d.b) / d.a)
    whole = Region(0, 0, np.ones((times * SIZE, times * SIZE), bool))
    return geometry.project(donor.rendering.image, larger, whole, quick=True)


def donor_in_frame(donor: Donor, alignment: Alignment, target: Region) -> np.ndarray:
    """u8[h, w, 3]: the rendering seen from a part of the frame, resampled once.

    Args:
      donor: placed.
      alignment: of the face, frame to canonical.
      target: the part; its `inside` does not matter.
    """
    d = donor.alignment
    through = Alignment(alignment.a / d.a, (alignment.b - d.b) / d.a)
    return geometry.project(donor.rendering.image, through, target)


class FusionNetwork:
    """The network with its weights, compiled at its first use; a face a call: none depends on others."""

    def __init__(self, fingerprint: str, load: Callable[[], tuple[Callable, Any]]):
        """`load` gives the compiled function and its variables."""
        self.fingerprint = fingerprint
        self._load = load

    @functools.cached_property
    def _network(self) -> tuple[Callable, Any]:
        return self._load()

    def warm(self) -> None:
        """Gets ready for the first face: compiles the network, or loads what once was compiled."""
        nothing = np.zeros((SIZE, SIZE, 3), np.uint8)
        apply, variables = self._network
        np.asarray(apply(variables, *(nothing[None], nothing[None, ..., :1] > 0) * 2))

    def parts(self, context: np.ndarray, mask: np.ndarray, donor: Donor) -> Parts:
        """What the network says.

        Args:
          context: u8[S, S, 3]; what lies under the mask is set to zero before anything else.
          mask: f32[S, S, 1].
          donor: placed in the same view; so is what lies outside of its mask.
        """
        apply, variables = self._network
        masked, shown = mask > 0, donor.mask > 0
        arrays = (
            np.where(masked, np.uint8(0), context),
            masked,
            np.where(shown, donor.view, np.uint8(0)),
            shown,
        )
        found = np.asarray(apply(variables, *(array[None] for array in arrays)))[0]
        return Parts(found[..., :3], found[..., 3:4], found[..., 4:7], found[..., 7:10])


def _compiled(model: dict[str, Any], variables: Any) -> tuple[Callable, Any]:
    import jax

    widths = tuple(model["generator_widths"])

    def apply(variables, image, mask, donor, donor_mask):
        # Late: they load Flax, which a program that was kept does not need.
        import jax.numpy as jnp

        from dp3_jax.common import images
        from dp3_jax.models.fusion import FusionGenerator

        network = FusionGenerator(widths=widths, style_dim=model["style_dim"])
        given = images.to_float(image), mask.astype(jnp.float32), images.to_float(donor)
        parts = network.apply(
            variables, *given, donor_mask.astype(jnp.float32), method=FusionGenerator.parts
        )
        return jnp.concatenate(parts, -1)

    variables = jax.tree.map(lambda x: np.asarray(x, np.float32), dict(variables))
    name = f"fusion-{'-'.join(map(str, (*widths, model['style_dim'])))}"
    return KeptProgram(apply, name), jax.device_put(variables)


def load_fusion(path: str | os.PathLike | None = None) -> FusionNetwork:
    """The network in a weights file; without `path` the one that comes with the package.

    Raises:
      UserError: the file is missing, damaged, or of another kind.
    """
    source = WEIGHTS if path is None else pathlib.Path(path)
    try:
        content = source.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the fusion weights {source}: {error.strerror}") from error
    model = _model(source)

    def load() -> tuple[Callable, Any]:
        import safetensors.numpy

        return _compiled(model, nested(safetensors.numpy.load(content)))

    return FusionNetwork(hashlib.sha256(content).hexdigest(), load)


def is_fusion(path: str | os.PathLike) -> bool:
    """Whether a weights file says that it holds a fusion network; False also where it cannot be read."""
    try:
        _model(pathlib.Path(path))
    except UserError:
        return False
    return True


def _model(path: pathlib.Path) -> dict[str, Any]:
    """The description of the network in a weights file."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as opened:
            model = json.loads((opened.metadata() or {})[_HEADER])["model"]
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no generator of dp3_jax; is it the right file?") from error
    if model.get("family") != "fusion":
        raise UserError(f"{path} holds no fusion network but a {model.get('family')!r}")
    return model


def fusion_of(model: Mapping[str, Any], variables: Any, fingerprint: str) -> FusionNetwork:
    """The network that a `model` section describes, with given variables (as of its `init`).

    Args:
      fingerprint: tells networks apart; of files it is the SHA-256 of their content.
    """
    return FusionNetwork(fingerprint, lambda: _compiled(model, variables))
