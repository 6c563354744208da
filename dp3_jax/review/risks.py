"""Where it is most worth looking: risks of faces and tracks by what their sidecar says."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.second_opinion import MIN_GENERATED_CONFIDENCE
from dp3_jax.replacement.face_actions import Done

SMALL = 40.0  # px, of the shorter side of a box: below, a detector misses and mistakes more
MANY_INTERPOLATED = 0.3  # share of a track's frames in which it was not detected

# How much each weighs in the order of the page, worst first.
WEIGHTS = {
    "covered": 5.0,  # no new face could be made
    "unsure": 4.0,  # it may be no face
    "low_confidence": 3.0,
    "interpolated": 2.0,
    "small": 2.0,
    "kept": 1.0,
    "no_faces": 2.5,  # of a whole file: was one missed?
    "audit": 6.0,  # scaled by what the audit says
}


def face_risks(face: Mapping[str, Any]) -> list[str]:
    """Names of WEIGHTS that hold for a face of a photo's sidecar."""
    found = {
        "covered": face.get("done") == Done.COVERED,
        "unsure": face.get("source") == FaceSource.LOW_CONFIDENCE and face.get("method") is None,
        "low_confidence": (face.get("confidence") or 0.0) < MIN_GENERATED_CONFIDENCE,
        "small": min(face["box"][2:]) < SMALL,
        "kept": bool(face.get("keep")),
    }
    return [name for name, holds in found.items() if holds]


def track_risks(
    confidence: Sequence[float], boxes: Sequence[Sequence[float]], interpolated: float, **known: Any
) -> list[str]:
    """The same of a track.

    Args:
      confidence: where it was seen.
      boxes: (x, y, width, height) px.
      interpolated: share of its frames in which it was not seen.
      known: "keep" and "method" of the track.
    """
    sides = sorted(min(box[2:]) for box in boxes)
    found = {
        "low_confidence": max(confidence, default=0.0) < MIN_GENERATED_CONFIDENCE,
        "interpolated": interpolated > MANY_INTERPOLATED,
        "small": sides[len(sides) // 2] < SMALL,
        "kept": bool(known.get("keep")),
    }
    return [name for name, holds in found.items() if holds]


def score(risks: Iterable[str], audit: float = 0.0) -> float:
    """How much a file is worth looking at: the worst of its risks, and a little for each more."""
    weights = sorted((WEIGHTS[name] for name in risks), reverse=True)
    weights = [*weights, WEIGHTS["audit"] * audit] if audit else weights
    weights.sort(reverse=True)
    return sum(weight * 0.1**place for place, weight in enumerate(weights[:4]))
