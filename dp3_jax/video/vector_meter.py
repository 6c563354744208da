"""Measuring the vectors of the faces in the frames of a clip, one thread beside detection."""

import collections
import functools
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from dp3_jax.anonymization.faces import Face
from dp3_jax.errors import UserError
from dp3_jax.models.iris import Iris
from dp3_jax.models.mesh import FaceMesh
from dp3_jax.replacement.face_vector import MIN_MESH_SIZE, FaceVector, measure_raw

Vectors = tuple[FaceVector | None, ...]

GAZE_EVERY = 3  # frames between two looks at irises, which cost 8 ms; the eyes' lids are the mesh's
MAX_MESHES = (
    4  # a frame on average: with more faces each is measured in every second, third, ... frame
)
_AHEAD = 8  # frames that wait to be measured, at most


class VectorMeter:
    """Measures; what it gives depends on its arguments only, so that a killed job goes on alike.

    Its networks are loaded when the first face comes. One that cannot be had is done without: poses then
    come from the detector's five points.
    """

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
        self, number: int, image: np.ndarray, faces: Sequence[Face], every: int = 1
    ) -> Vectors:
        """One for each face, None where it is not known or not looked at in this frame.

        Args:
          number: of the frame.
          image: u8[h, w, 3] RGB.
          faces: in it.
          every: frames of which large faces are looked at in one.
        """
        large = sum(min(face.box[2:]) >= MIN_MESH_SIZE for face in faces)
        every *= max(1, -(-large // MAX_MESHES))
        iris = number // every % GAZE_EVERY == 0
        return tuple(self._measured(image, face, number % every == 0, iris) for face in faces)

    def _measured(
        self, image: np.ndarray, face: Face, looked: bool, iris: bool
    ) -> FaceVector | None:
        if min(face.box[2:]) < MIN_MESH_SIZE:
            return measure_raw(image, face, None)
        if not looked:
            return None
        return measure_raw(image, face, self._mesh, self._iris if iris else None)


def meter_for(method: str, motion: str) -> VectorMeter | None:
    """What measures the faces of a command; None where new faces are told nothing, or none are made."""
    return VectorMeter() if method == "generate" and motion != "none" else None


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
        self, number: int, image: np.ndarray, faces: Sequence[Face], every: int = 1
    ) -> Future[Vectors] | None:
        """What the meter gives for these arguments, None without one; waits while too many frames do."""
        if self._meter is None or not faces:
            return None
        while len(self._waiting) >= _AHEAD:
            self._waiting.popleft().exception()
        future = self._pool.submit(self._meter, number, image, tuple(faces), every)
        self._waiting.append(future)
        return future
