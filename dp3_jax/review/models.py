"""What draws new faces for a review, loaded once and used by one thread at a time."""

import dataclasses
import functools
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, TypeVar

import numpy as np

from dp3_jax.common import assets
from dp3_jax.common.errors import UserError
from dp3_jax.detection.detections import Detection, overlap
from dp3_jax.detection.face_detection import Detector
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.replacement.generation import FaceRenderer
from dp3_jax.replacement.options import IdentityOptions
from dp3_jax.review.remembering import RememberingRenderer

T = TypeVar("T")

_ROOM = 1.0  # of a drawn box, that is looked at on each side of it
_MIN_ASSIST = 0.15  # confidence of a face that a drawn box is laid on
_MIN_OVERLAP = 0.4  # of both boxes' union
_MIN_SIDE = 96  # px of what is looked at


class _Remembering(Anonymizer):
    """An anonymizer that does not draw a person again who stays as she is."""

    @functools.cached_property
    def opened(self) -> tuple[FaceRenderer, str]:
        """As of `Anonymizer`; the built-in generator draws all faces at once, so it stays as it is."""
        renderer, instead = super().opened
        if renderer.identity == "builtin":
            return renderer, instead
        return RememberingRenderer(renderer), instead


class Models:
    """Anonymizers by identity, and the thread in which they draw."""

    def __init__(self, options: IdentityOptions | None = None):
        """Loads nothing yet.

        Args:
          options: of new faces; None as each sidecar says, else the best source that is there.
        """
        self._options = options
        self._made: dict[Any, Anonymizer] = {}
        self._lock = threading.Lock()
        self._thread = futures.ThreadPoolExecutor(1, "rendering")
        self._assistant: Detector | None = None

    def anonymizer(self, said: IdentityOptions | None) -> Anonymizer:
        """The one for an identity: as was asked for, else as a sidecar says, else by itself.

        Where a sidecar's source cannot be had, rendering raises UserError rather than taking another.
        """
        identity = self._options or said or IdentityOptions()
        key = dataclasses.astuple(identity)
        with self._lock:
            if key not in self._made:
                self._made[key] = _Remembering(identity=identity)
            return self._made[key]

    def run(self, work: Callable[[], T]) -> T:
        """Does what draws faces in the thread for that, and waits for it; gives what it gives."""
        return self._thread.submit(work).result()

    def later(self, work: Callable[[], Any]) -> None:
        """Does it there when there is time, and tells nobody."""
        self._thread.submit(work)

    def warm(self, said: IdentityOptions | None) -> None:
        """Gets ready for the first new face, so that it does not take longer than others."""
        anonymizer = self.anonymizer(said)

        def load() -> None:
            anonymizer.renderer.warm(1)

        self.later(load)

    def face_near(self, image: np.ndarray, box: Sequence[float]) -> Detection | None:
        """A face in u8[h, w, 3] that a hand-drawn box means, be it far from sure; None: none is found.

        Its box and points are truer than a hand is; without points a new face is upright and looks ahead.
        """
        left, top, right, bottom = _around(image, box)
        part = np.ascontiguousarray(image[top:bottom, left:right])
        if min(part.shape[:2]) < 2 or not assets.is_cached("yunet"):
            return None  # nobody waits for a download in the middle of a change
        try:
            if self._assistant is None:
                self._assistant = Detector(_MIN_ASSIST)
            found = self._assistant.detect(part)
        except UserError:  # there is no detector: the box as it was drawn
            return None
        moved = [_moved(face, left, top) for face in found]
        best = max(moved, key=lambda face: overlap(face.box, box), default=None)
        return best if best is not None and overlap(best.box, box) >= _MIN_OVERLAP else None


def _around(image: np.ndarray, box: Sequence[float]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a box with room round it, in the image."""
    x, y, width, height = box
    room = max(_ROOM * max(width, height), (_MIN_SIDE - min(width, height)) / 2)
    return (
        max(0, int(x - room)),
        max(0, int(y - room)),
        min(image.shape[1], int(x + width + room)),
        min(image.shape[0], int(y + height + room)),
    )


def _moved(face: Detection, left: float, top: float) -> Detection:
    x, y, width, height = face.box
    points = (
        None if face.keypoints is None else np.asarray(face.keypoints) + np.float32([left, top])
    )
    return Detection((x + left, y + top, width, height), points, face.confidence, face.source)
