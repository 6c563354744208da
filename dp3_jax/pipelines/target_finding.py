"""Finds what is anonymized besides faces: persons, with their outlines, and licence plates."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dp3_jax.detection import body_outline
from dp3_jax.detection.body_outline import MIN_OUTLINED, Outline
from dp3_jax.detection.detections import Detection

if TYPE_CHECKING:  # they load JAX, which takes a command that finds faces only a second
    from dp3_jax.detection.person_detection import PersonDetector
    from dp3_jax.models.body_pose import PoseNetwork


class TargetFinder:
    """Finds targets; its networks are loaded when first needed."""

    def __init__(self, names: Sequence[str]):
        """`names` of `choices.TARGETS`; "face" and "head" are found elsewhere."""
        self._names = tuple(names)

    @functools.cached_property
    def persons(self) -> "PersonDetector":
        """Raises UserError when its network cannot be had."""
        from dp3_jax.detection.person_detection import PersonDetector

        return PersonDetector()

    @functools.cached_property
    def _poses(self) -> "PoseNetwork":
        from dp3_jax.models.body_pose import PoseNetwork

        return PoseNetwork()

    def load(self) -> None:
        """Loads what will be needed, so that what is missing is said before the first file.

        Raises:
          UserError: a network cannot be had.
        """
        if "body" in self._names:
            _ = self.persons, self._poses

    def __call__(self, frame: np.ndarray, *, fine: bool = True) -> list[Detection]:
        """The targets in u8[h, w, 3]; `fine` as of `PersonDetector.detect`."""
        found: list[Detection] = []
        if "body" in self._names:
            found += self.persons.detect(frame, fine=fine)
        if "plate" in self._names:
            from dp3_jax.detection.plates import find_plates

            found += find_plates(frame)
        return found

    def outline(self, frame: np.ndarray, box: Sequence[float], *, loose: bool = False) -> Outline:
        """The outline of the body in a box of u8[h, w, 3]; `loose` as of `body_outline.outline`."""
        pose = self._poses(frame, box) if box[3] >= MIN_OUTLINED else None
        return body_outline.outline(box, pose, frame.shape, loose=loose)
