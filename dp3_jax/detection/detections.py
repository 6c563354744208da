"""Something to be anonymized in a frame, and which of many detections show the same one."""

import dataclasses
import enum
from collections.abc import Sequence

import numpy as np

from dp3_jax.detection.kinds import FACE, TargetKind
from dp3_jax.vision.geometry import Alignment

_SAME_IOU = 0.3  # two boxes that overlap more show one face
_SAME_SHARE = 0.65  # so do a box and a similarly large one that lies in it to this share
_SAME_POINTS = 0.1  # of the points' extent, between those of two faces that are one


class FaceSource(enum.StrEnum):
    """Where a face in a frame comes from; the values stand in annotation files."""

    DETECTED = "detected"
    ROTATED = "rotated"  # in the frame turned
    LOW_CONFIDENCE = "unsure"  # detected, and not surely a face
    INTERPOLATED = "filled"  # not detected: between detections or around them
    USER = "user"


@dataclasses.dataclass(frozen=True, eq=False)
class Detection:
    """Something to be anonymized in a frame.

    Attributes:
      box: (x, y, width, height) in px; may reach out of the frame.
      keypoints: f32[n, 2] px, of a face n = 5: viewer's left eye, right eye, nose, corners of the mouth; None
        if unknown.
      confidence: 0 to 1.
      source: where it comes from.
      kind: what it is.
      mask: bool[h, w] over the frame, where the detector told its pixels.
    """

    box: tuple[float, float, float, float]
    keypoints: np.ndarray | None
    confidence: float
    source: FaceSource = FaceSource.DETECTED
    kind: TargetKind = FACE
    mask: np.ndarray | None = None

    def alignment(self) -> Alignment:
        """Where it lies: into its kind's canonical frame."""
        return self.kind.frame(self.box, self.keypoints)


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(across, 0.0) * max(down, 0.0)
    whole = a[2] * a[3] + b[2] * b[3] - common
    return common / whole if whole > 0 else 0.0


def merge(faces: Sequence[Detection]) -> list[Detection]:
    """Faces without repetitions: of boxes that show one face, the most confident stays.

    Non-maximum suppression; besides the usual overlap, a box that lies mostly in another of up to
    two and a half times its area counts as the same face, and so does one of a rotated pass that holds
    the centre of a more confident one. Sorted by confidence, highest first.
    """
    kept: list[Detection] = []
    boxes = np.zeros((0, 4))
    for face in sorted(faces, key=lambda f: -f.confidence):
        x, y, w, h = face.box
        right = np.minimum(boxes[:, 0] + boxes[:, 2], x + w) - np.maximum(boxes[:, 0], x)
        down = np.minimum(boxes[:, 1] + boxes[:, 3], y + h) - np.maximum(boxes[:, 1], y)
        common = np.maximum(right, 0) * np.maximum(down, 0)
        areas = boxes[:, 2] * boxes[:, 3]
        small, large = np.minimum(areas, w * h), np.maximum(areas, w * h)
        same = common > _SAME_IOU * (areas + w * h - common)
        same |= (common > _SAME_SHARE * small) & (large < 2.5 * small)
        if face.source != FaceSource.DETECTED:
            centres = boxes[:, :2] + boxes[:, 2:] / 2 - (x, y)
            same |= ((centres > 0) & (centres < (w, h))).all(1)
        if not same.any():
            kept.append(face)
            boxes = np.vstack([boxes, [face.box]])
    return kept


def once_each(faces: Sequence[Detection]) -> list[Detection]:
    """Faces without those whose points are a more confident one's: a part of it, seen by itself."""
    kept: list[Detection] = []
    for face in faces:
        if face.keypoints is None or not any(_same_points(face, other) for other in kept):
            kept.append(face)
    return kept


def _same_points(face: Detection, other: Detection) -> bool:
    if other.keypoints is None:
        return False
    apart = np.hypot(*(face.keypoints - other.keypoints).T).mean()
    return apart < _SAME_POINTS * float(np.hypot(*np.ptp(other.keypoints, axis=0)))
