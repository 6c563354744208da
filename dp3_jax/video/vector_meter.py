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

    def __call__(self, number: int, image: np.ndarray, faces: Sequence[Face]) -> Vectors:
        """One for each face, None where it is not known or not looked at in this frame.

        Args:
          number: of the frame.
          image: u8[h, w, 3] RGB.
          faces: in it.
        """
        return tuple(self._measured(number, image, face, len(faces)) for face in faces)

    def _measured(
        self, number: int, image: np.ndarray, face: Face, count: int
    ) -> FaceVector | None:
        if min(face.box[2:]) < MIN_MESH_SIZE:
            return measure_raw(image, face, None)
        if number % -(-count // MAX_MESHES):
            return None
        return measure_raw(
            image, face, self._mesh, self._iris if number % GAZE_EVERY == 0 else None
        )


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

    def submit(self, number: int, image: np.ndarray, faces: Sequence[Face]) -> Future | None:
        """A future of `Vectors`, None where there are none; waits while too many frames do."""
        if self._meter is None or not faces:
            return None
        while len(self._waiting) >= _AHEAD:
            self._waiting.popleft().result()
        future = self._pool.submit(self._meter, number, image, tuple(faces))
        self._waiting.append(future)
        return future
