"""The least confidence of a detection, set by what people corrected: missed faces, and things that are none.

The cost of a missed face is a shown face, that of a thing that is none is a smudge: a missed one counts
_MISSED_COUNTS times as much.

Results show no detection below the usual threshold, so nobody can say of one that it is no face. A photo in
which somebody corrected detection is therefore taken as looked through: what is found there below that
threshold, and was not drawn as missed, is none. Otherwise low thresholds would cost nothing.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dp3_jax.data.feedback import Feedback
from dp3_jax.detection.detections import Detection, overlap

LOWEST, HIGHEST = 0.3, 0.9  # what a threshold may become
CORRECTIONS = ("missed", "not_a_face")  # what is said of detection
_MISSED_COUNTS = 4.0
_SAME = 0.3  # intersection over union of two boxes that show one thing


@dataclasses.dataclass(frozen=True)
class Example:
    """A place that somebody spoke of.

    Attributes:
      is_face: what was said.
      confidence: of the surest detection there, 0 where there is none at all.
      source: of which original it is.
    """

    is_face: bool
    confidence: float
    source: str


def examples(
    entries: Iterable[Feedback], found: Sequence[Detection], usual: float
) -> list[Example]:
    """What the remarks on one original say of detection.

    Args:
      entries: of one original; its missed faces and things that are none, and faces that were rated.
      found: its detections from a confidence of LOWEST on.
      usual: the least confidence of detections that were shown.
    """
    entries = [e for e in entries if e.box is not None]
    said = []
    for entry in entries:
        if entry.action not in (*CORRECTIONS, "rate"):
            continue
        near = [face.confidence for face in found if overlap(face.box, entry.box) >= _SAME]
        is_face = entry.action != "not_a_face"
        said.append(Example(is_face, float(max(near, default=0.0)), entry.sha256))
    looked_through = [e for e in entries if e.action in CORRECTIONS and e.kind == "photo"]
    if looked_through:
        known = [e.box for e in entries] + [f.box for f in found if f.confidence >= usual]
        said += [
            Example(False, float(face.confidence), looked_through[0].sha256)
            for face in found
            if face.confidence < usual and all(overlap(face.box, box) < _SAME for box in known)
        ]
    return said


def rates(known: Sequence[Example], threshold: float) -> dict[str, Any]:
    """Recall, share of false positives and their counts; None where there is nothing to count."""
    faces = [e.confidence >= threshold for e in known if e.is_face]
    others = [e.confidence >= threshold for e in known if not e.is_face]
    return {
        "recall": float(np.mean(faces)) if faces else None,
        "false_positives": float(np.mean(others)) if others else None,
        "faces": len(faces),
        "others": len(others),
    }


def choose(known: Sequence[Example], usual: float) -> float:
    """The threshold in [LOWEST, HIGHEST] that costs least, the nearest to the usual one of several."""

    def cost(threshold: float) -> tuple[float, float]:
        missed = sum(e.is_face and e.confidence < threshold for e in known)
        wrong = sum(not e.is_face and e.confidence >= threshold for e in known)
        return _MISSED_COUNTS * missed + wrong, abs(threshold - usual)

    steps = np.round(np.arange(LOWEST, HIGHEST + 0.001, 0.01), 2)
    return min((usual, *map(float, steps)), key=cost)


def report(known: Sequence[Example], usual: float, seed: int = 0) -> dict[str, Any]:
    """A threshold from half of the originals, and what it does on the other half, beside the usual one."""
    sources = sorted({example.source for example in known})
    order = np.random.default_rng(seed).permutation(len(sources))
    teaching = {sources[i] for i in order[: (len(sources) + 1) // 2]}
    threshold = choose([e for e in known if e.source in teaching], usual)
    held_out = [e for e in known if e.source not in teaching]
    before, after = rates(held_out, usual), rates(held_out, threshold)
    return {"threshold": threshold, "usual": usual, "before": before, "after": after}
