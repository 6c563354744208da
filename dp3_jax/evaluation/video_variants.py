"""The ways to anonymize a clip that `dp3 evaluate-video` compares, rendered frame by frame without a file."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dp3_jax.anonymization import methods, secrets
from dp3_jax.anonymization.generation import FaceCheck, Generator
from dp3_jax.anonymization.plans import Settings
from dp3_jax.evaluation.video_clip import Faces, Render
from dp3_jax.video import coherence
from dp3_jax.video.coherence import Coherence
from dp3_jax.video.rendering import Renderer
from dp3_jax.video.tracks import Tracking

GENERATE = "generate"
OTHER_SECRET = "generate, other secret"  # against GENERATE: can two clips of a person be linked?
PER_FRAME = "per frame"
LINKS = ((GENERATE, OTHER_SECRET),)

# What is aimed at: at most so much of the source's warping error and of PER_FRAME's, and at least so much of
# the source's steadiness of identity.
MOST_WARPING, MOST_OF_PER_FRAME, LEAST_IDENTITY = 1.3, 0.5, 0.9

_SWITCHES = tuple(field.name for field in dataclasses.fields(Coherence))
_NOTHING = Coherence(**dict.fromkeys(_SWITCHES, False))


def _keys(tracking: Tracking, secret: bytes) -> Mapping[int, bytes]:
    return {track.number: secrets.face_key(secret, track.number) for track in tracking.tracks}


def _rendered(renderer: Renderer) -> Render:
    def render(image: np.ndarray, faces: Faces, cut: bool) -> np.ndarray:
        return renderer.render(image, faces, cut=cut)[0]

    return render


def _secrets(seed: int | None) -> Iterator[bytes]:
    """Ever other ones; the same for the same seed."""
    if seed is None:
        return iter(secrets.fresh_secret, None)
    return map(secrets.secret_from_seed, itertools.count(seed))


def _per_frame(
    tracking: Tracking, generator: Generator, is_face: FaceCheck | None, drawn: Iterator[bytes]
) -> Render:
    """Every frame as if it were a photo: nothing is known of the frame before, not even the latent."""

    def render(image: np.ndarray, faces: Faces, cut: bool) -> np.ndarray:
        keys = _keys(tracking, next(drawn))
        renderer = Renderer(Settings(), generator, keys, _NOTHING, is_face)
        return renderer.render(image, faces, cut=cut)[0]

    return render


def standard(
    tracking: Tracking,
    generator: Generator,
    is_face: FaceCheck | None = None,
    *,
    seed: int | None = None,
    ablations: bool = True,
) -> dict[str, Render]:
    """Functions for `evaluate_video.evaluate`, each with a memory of its own and good for one clip.

    Args:
      tracking: of the clip.
      generator: makes the new faces.
      is_face: verdict on new faces, see `Renderer`.
      seed: of GENERATE's faces; those of OTHER_SECRET have the next one, those of PER_FRAME all that follow.
        None for fresh secrets.
      ablations: also without each single switch of `Coherence`, and with one latent for each track only.

    Returns:
      By name: GENERATE with all that is done for coherence, the same with other faces, PER_FRAME without
      any of it, the classic covers, and the ablations.
    """
    drawn = _secrets(seed)
    secret, other = next(drawn), next(drawn)

    def generated(key: bytes, use: Coherence) -> Render:
        renderer = Renderer(
            Settings(), generator, _keys(tracking, key), use, is_face, cuts=tracking.cuts
        )
        return _rendered(renderer)

    variants = {
        GENERATE: generated(secret, coherence.ALL),
        OTHER_SECRET: generated(other, coherence.ALL),
        PER_FRAME: _per_frame(tracking, generator, is_face, drawn),
    }
    for method in methods.CLASSIC:
        settings = Settings(method=method)
        renderer = Renderer(settings, None, _keys(tracking, secret), cuts=tracking.cuts)
        variants[method] = _rendered(renderer)
    if ablations:
        variants["one latent only"] = generated(secret, _NOTHING)
        for switch in _SWITCHES:
            use = dataclasses.replace(coherence.ALL, **{switch: False})
            variants[f"no {switch.replace('_', ' ')}"] = generated(secret, use)
    return variants


def targets(result: dict[str, Any], name: str = GENERATE) -> dict[str, dict[str, Any]]:
    """How the variant `name` of `evaluate_video.evaluate`'s result stands to what is aimed at.

    Returns:
      By measure: value (None where unknown), limit, and met. No known face may be shown.
    """
    variants = result["variants"]
    row = variants[name]
    half = (variants.get(PER_FRAME) or {"warping_error": {"value": None}})["warping_error"]["value"]
    warping, shown = row["warping_error"], row["coverage"]["shown_faces"]
    share = None if warping["value"] is None or not half else warping["value"] / half
    upper = {
        "warping error / source's": (warping["ratio"], MOST_WARPING),
        "warping error / per frame's": (share, MOST_OF_PER_FRAME),
        "faces shown": (shown, 0),
    }
    lower = {
        f"identity {kind} / source's": (row[f"identity_{kind}"]["ratio"], LEAST_IDENTITY)
        for kind in ("adjacent", "all_pairs")
    }
    return {
        measure: {"value": value, "limit": limit, "met": None if value is None else value <= limit}
        for measure, (value, limit) in upper.items()
    } | {
        measure: {"value": value, "limit": limit, "met": None if value is None else value >= limit}
        for measure, (value, limit) in lower.items()
    }
