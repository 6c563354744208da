"""Targets of a clip that are no faces: bodies with their outlines, heads round faces, licence plates."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from dp3_jax.detection import body_outline
from dp3_jax.detection.body_outline import Outline
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.kinds import BODY, FACE, HEAD
from dp3_jax.detection.tracks import Observation, Track, to_face
from dp3_jax.replacement import bodies, obfuscation, targets
from dp3_jax.replacement.face_actions import Done, FaceAction
from dp3_jax.replacement.frame_renderer import FaceTask
from dp3_jax.vision import geometry


class OutlineReader(Protocol):
    """Reads a body's outline; see `body_outline.outline`."""

    def __call__(self, frame: np.ndarray, box: Sequence[float], *, loose: bool = False) -> Outline:
        """The outline of the body in a box of u8[h, w, 3]."""
        ...


# Number of a frame -> u8[h, w, 3] without persons, and bool[h, w], where that is known; None: nobody knows.
BackdropReader = Callable[[int], tuple[np.ndarray, np.ndarray] | None]

_JOINED = 2  # frames over which outlines are joined
_SIMILAR = 1.25  # times that a body may have grown between them


class OtherTargets:
    """Says what is to be done with them, frame by frame."""

    def __init__(self, outlines: OutlineReader | None, backdrops: BackdropReader | None = None):
        """`outlines` and `backdrops` as of `clip_rendering.Renderer`."""
        self._read = outlines
        self._backdrops = backdrops
        self._last: dict[int, tuple[Observation, Outline]] = {}
        self._faces: dict[int, Track] = {}

    def task(
        self, image: np.ndarray, track: Track, observation: Observation, key: bytes
    ) -> FaceTask | None:
        """What is to be done with a body or plate in u8[h, w, 3]; None for faces and heads."""
        kind = observation.kind
        if kind in (FACE, HEAD):
            return None
        action = FaceAction(
            to_face(observation), key, keep=track.keep, method=track.method, reason=track.reason
        )
        if track.keep:
            return FaceTask(action, track.reason, done=Done.KEPT)
        method = track.method or kind.default
        if kind is BODY:
            outline = self._outline(image, track.number, observation)
            behind = None if self._backdrops is None else self._backdrops(observation.frame)
            return targets.body_task(action, method, outline, image.shape, behind)
        alignment = observation.alignment()
        region = obfuscation.extent(alignment, observation.box, "face", image.shape, kind=kind)
        task = obfuscation.ObfuscationTask(method, alignment.scale, region)
        return FaceTask(action, track.reason, to_obfuscate=task)

    def _outline(self, image: np.ndarray, number: int, observation: Observation) -> Outline:
        """A body's outline, joined with that of the frame before, so that no hole flickers."""
        if self._read is None:
            return body_outline.of_box(observation.box, image.shape)
        loose = observation.source == FaceSource.INTERPOLATED
        own = self._read(image, observation.box, loose=loose)
        before = self._last.get(number)
        self._last[number] = observation, own
        if before is None or own.by_box or before[1].by_box:
            return own
        known, outline = before
        ratio = np.log(np.divide(observation.box[2:], known.box[2:]))
        near = 0 < observation.frame - known.frame <= _JOINED
        if not near or np.abs(ratio).max() > np.log(_SIMILAR):
            return own
        across, down = (
            round(
                observation.box[i] - known.box[i] + (observation.box[i + 2] - known.box[i + 2]) / 2
            )
            for i in (0, 1)
        )
        region = geometry.joined(own.region, _shifted(outline.region, across, down, image.shape))
        return dataclasses.replace(own, region=region)

    def as_face(self, track: Track, observation: Observation) -> tuple[Track, Observation]:
        """A head as the face in it; a face as it is."""
        if observation.kind is not HEAD:
            return track, observation
        known = self._faces.get(track.number)
        if known is None or known.observations[-1].frame < observation.frame:
            seen = tuple(dataclasses.replace(one, kind=FACE) for one in track.observations)
            known = self._faces[track.number] = dataclasses.replace(track, observations=seen)
        return known, dataclasses.replace(observation, kind=FACE)

    def joined(
        self,
        faces: Sequence[tuple[Track, Observation]],
        tasks: Sequence[FaceTask],
        shape: Sequence[int],
    ) -> list[FaceTask]:
        """The tasks of a frame, with whole heads where they are wanted, in line with bodies."""
        result = []
        for (_, observation), task in zip(faces, tasks, strict=True):
            result.append(task if observation.kind is not HEAD else _whole_head(task, shape))
        return targets.joined(result, shape)

    def forget(self) -> None:
        """Lets go of what was seen."""
        self._last.clear()


def _shifted(
    region: geometry.Region, across: int, down: int, shape: Sequence[int]
) -> geometry.Region:
    """A region moved by whole px, as far as it stays in a frame of `shape`."""
    top, left = region.top + down, region.left + across
    height, width = region.inside.shape
    low, near = max(-top, 0), max(-left, 0)
    high, far = min(height, shape[0] - top), min(width, shape[1] - left)
    if high <= low or far <= near:
        return geometry.Region(0, 0, np.zeros((0, 0), bool))
    return geometry.Region(top + low, left + near, region.inside[low:high, near:far])


def _whole_head(task: FaceTask, shape: Sequence[int]) -> FaceTask:
    """The task of a face, reaching over its whole head."""
    face = task.action.face
    if task.to_obfuscate is not None:
        alignment = face.alignment()
        whole = obfuscation.extent(alignment, face.box, "head", shape)
        more = dataclasses.replace(
            task.to_obfuscate, target=geometry.joined(task.to_obfuscate.target, whole)
        )
        return dataclasses.replace(task, to_obfuscate=more)
    if task.request is None:
        return task
    alignment = task.request.alignment
    whole = obfuscation.extent(alignment, face.box, "head", shape)
    return dataclasses.replace(
        task, body=bodies.head_task(task.action.key, alignment, whole, shape)
    )
