"""The face verifiers of all attacks: embeddings of faces in the canonical frame, each computed once.

No detector stands before them. It finds no face in most blurred or covered pictures, and someone who wants
to know who it is does not need one: the canonical frame says where the face was.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dp3_jax.metrics import batch_embedding, verification
from dp3_jax.models import embedders

TITLES = {"sface": "SFace", "dlib_resnet": "dlib ResNet", "faceres": "faceres"}  # for people

Embed = Callable[
    [np.ndarray], Mapping[str, np.ndarray]
]  # u8[n, S, S, 3] -> unit f32[n, D] by verifier
FindFaces = Callable[[np.ndarray], np.ndarray]  # u8[n, S, S, 3] -> bool[n], a detector finds a face


class FaceVerifiers:
    """An `Embed` of some verifiers, loaded when first needed, that remembers what it has seen.

    Originals come again in every attack and with every anonymizer that is compared; a face takes 5 kB.
    """

    def __init__(self, names: Sequence[str] = batch_embedding.VERIFIERS):
        """Loads nothing.

        Args:
          names: of `batch_embedding.WIDTHS`.
        """
        self._names = tuple(names)
        self._known: dict[bytes, dict[str, np.ndarray]] = {}

    @property
    def thresholds(self) -> dict[str, float]:
        """The published least cosines of one person, by verifier."""
        return {name: embedders.EMBEDDERS[name].threshold for name in self._names}

    def __call__(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        """See `Embed`.

        Raises:
          UserError: a network cannot be had.
        """
        marks = [hashlib.sha1(picture.tobytes()).digest() for picture in pictures]
        new = {mark: row for row, mark in enumerate(marks) if mark not in self._known}
        if new:
            rows = batch_embedding.embed(pictures[list(new.values())], self._names)
            for place, mark in enumerate(new):
                self._known[mark] = {name: row[place] for name, row in rows.items()}
        return {
            name: np.array([self._known[mark][name] for mark in marks], np.float32)
            for name in self._names
        }


class Detection:
    """A `FindFaces` by YuNet, loaded when first needed."""

    @functools.cached_property
    def _find(self) -> verification.DetectedPoints:
        return verification.DetectedPoints()

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """See `FindFaces`; raises UserError where the network cannot be had."""
        return np.array([points is not None for points in self._find(pictures)], bool)


FACE_VERIFIERS = FaceVerifiers()
FAST = FaceVerifiers(("sface",))  # for choices that are made with many pictures
DETECTION = Detection()
