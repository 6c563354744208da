"""What makes the new faces of live video, loaded and used once before the first frame."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.replacement.clip_rendering import Renderer
from dp3_jax.replacement.coherence import Coherence
from dp3_jax.replacement.face_actions import Settings
from dp3_jax.replacement.options import IdentityOptions


@dataclasses.dataclass(frozen=True, eq=False)
class LiveRendering:
    """What treats the frames of a run.

    Attributes:
      new_renderer: makes renderers that remember nothing; all of them have the same persons.
      motion: what new faces are told of others, as of `vectors.limited_to`.
      identity: where the persons come from, as `FaceRenderer.identity`; empty where no new faces are made.
      instead: why that is not the prior, where "auto" was asked for and it could not be had.
      close: lets go of what is still rendered in the background.
    """

    new_renderer: Callable[[], Renderer]
    motion: str
    identity: str
    instead: str
    close: Callable[[], None]


def open_rendering(
    settings: Settings,
    identity: IdentityOptions,
    keys: Mapping[int, bytes],
    *,
    motion: str,
    weights: str | None = None,
    wait: bool = False,
) -> LiveRendering:
    """Loads and compiles what draws, and draws a first face.

    Args:
      settings: for all faces.
      identity: who the new faces are.
      keys: by number of person (`track_keys.Keys`).
      motion: what is asked for.
      weights: file of a generator; None for that in the package.
      wait: for renderings, and show no face blurred until they are there.

    Raises:
      UserError: a source that was named cannot be had.
    """
    face_renderer = is_face = None
    instead = ""
    if settings.method == "generate":
        from dp3_jax.detection.face_detection import Detector
        from dp3_jax.pipelines.anonymize import Anonymizer
        from dp3_jax.replacement.generator import BATCHES

        face_renderer, instead = Anonymizer(weights=weights, identity=identity).opened
        face_renderer.warm(max(BATCHES))
        is_face = Detector(rotations=False, threads=1).are_faces
    use = Coherence(transfer_motion=motion == "grid")
    new = functools.partial(
        Renderer, settings, face_renderer, keys, use, is_face, motion=motion, causal=True
    )
    _render_nothing(new(wait=True))
    return LiveRendering(
        new_renderer=functools.partial(new, wait=wait),
        motion=motion if face_renderer is not None and face_renderer.takes_vector else "none",
        identity="" if face_renderer is None else face_renderer.identity,
        instead=instead,
        close=getattr(face_renderer, "close", lambda: None),
    )


def _render_nothing(renderer: Renderer) -> None:
    """Draws a face where there is none, as track 0, which no true one has: the first time is slow."""
    nobody = Observation(0, (100.0, 100.0, 80.0, 100.0), None, 1.0)
    renderer.render(np.zeros((300, 300, 3), np.uint8), [(Track(0, (nobody,)), nobody)])
