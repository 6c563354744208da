"""Measuring the vectors of the faces in the frames of a clip, one thread beside detection."""

import collections
import functools
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.detection.detections import Detection
from dp3_jax.detection.face_vector import FaceVector, measure_raw
from dp3_jax.detection.prediction import moved
from dp3_jax.media.video.lazy_pictures import Image
from dp3_jax.models.iris import Iris
from dp3_jax.models.mesh import FaceMesh

Vectors = tuple[FaceVector | None, ...]

# px, the smaller side of a face's box from which on more is measured than five points tell.
MIN_SIZE = 64
# Looks a second at eyes, which cost twice as much as a mesh, and at meshes: in files, where what lies between
# is interpolated, and live. On six clips of people who speak, at 25 and 30 frames a second, the interpolated
# correlate with what looks at every frame say by .94 to .998 for eyes (a third of the frames: .82 to .995),
# .97 to .999 for the mouth. Blinks last some five frames.
EYES_RATE, MESH_RATE, LIVE_MESH_RATE = 15.0, 15.0, 30.0
# A frame on average: with more faces each is measured in every second, third, ... frame.
MAX_MESHES = 4
# Longer sides of a face's box from its middle: the mesh looks at .75 to all sides, turned.
_REACH = 1.1
_MAX_INTERVAL = 8  # frames between two looks that a high rate leads to
AHEAD = 8  # frames that wait to be measured, at most


class VectorMeter:
    """Measures; what it gives depends on its arguments only, so that a killed job goes on alike.

    A mesh costs some 4 ms, both eyes 8. The networks are loaded when the first face comes. One that cannot be
    had is done without: poses then come from the detector's five points.
    """

    def __init__(self, rate: float, *, live: bool = False):
        """Loads nothing yet.

        Args:
          rate: frames a second.
          live: nothing is known of later frames, so more of them are looked at.
        """
        meshes = LIVE_MESH_RATE if live else MESH_RATE
        self._every = min(max(1, round(rate / meshes)), _MAX_INTERVAL)
        self._eyes_every = max(1, round(meshes / EYES_RATE))

    @functools.cached_property
    def _mesh(self) -> FaceMesh | None:
        try:
            return FaceMesh()
        except UserError:
            return None

    @functools.cached_property
    def _iris(self) -> Iris | None:
        try:
            return Iris()
        except UserError:
            return None

    def __call__(
        self, number: int, image: Image, faces: Sequence[Detection], every: int = 1
    ) -> Vectors:
        """One for each face, None where it is not known or not looked at in this frame.

        Args:
          number: of the frame.
          image: u8[h, w, 3] RGB.
          faces: in it.
          every: frames of which large faces are looked at in one.
        """
        large = sum(min(face.box[2:]) >= MIN_SIZE for face in faces)
        every *= self._every * max(1, -(-large // MAX_MESHES))
        eyes = number // every % self._eyes_every == 0
        return tuple(self._measured(image, face, number % every == 0, eyes) for face in faces)

    def _measured(
        self, image: Image, face: Detection, looked: bool, eyes: bool
    ) -> FaceVector | None:
        if min(face.box[2:]) < MIN_SIZE:
            return measure_raw(image, face, None)
        if not looked:
            return None
        part, face = _close_up(image, face)
        return measure_raw(part, face, self._mesh, self._iris if eyes else None)


def _close_up(image: Image, face: Detection) -> tuple[np.ndarray, Detection]:
    """All of a frame that is looked at to measure a face, and the face in it."""
    x, y, width, height = face.box
    reach = _REACH * max(width, height)
    left, top = max(0, int(x + width / 2 - reach)), max(0, int(y + height / 2 - reach))
    right, bottom = int(x + width / 2 + reach) + 1, int(y + height / 2 + reach) + 1
    part = image[top : max(bottom, top), left : max(right, left)]
    return part, moved(face, np.array([-left, -top]))


def meter_for(method: str, motion: str, rate: float, *, live: bool = False) -> VectorMeter | None:
    """What measures the faces of a command; None where new faces are told nothing, or none are made."""
    return VectorMeter(rate, live=live) if method == "generate" and motion != "none" else None


class BesideMeter:
    """Runs a meter in a thread of its own, a few frames behind; a context manager."""

    def __init__(self, meter: VectorMeter | None):
        """Takes what measures; with None nothing is known of any face."""
        self._meter = meter
        self._pool = ThreadPoolExecutor(1)
        self._waiting: collections.deque[Future] = collections.deque()

    def __enter__(self) -> "BesideMeter":
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(
        self, number: int, image: Image, faces: Sequence[Detection], every: int = 1
    ) -> Future[Vectors] | None:
        """What the meter gives for these arguments, None without one; waits while too many frames do."""
        if self._meter is None or not faces:
            return None
        while len(self._waiting) >= AHEAD:
            self._waiting.popleft().exception()
        future = self._pool.submit(self._meter, number, image, tuple(faces), every)
        self._waiting.append(future)
        return future
