"""Does a new face move as the old one did? Correlation over time of pose and expression, by the mesh of both.

Pearson's correlation of what the mesh says of the source and of the result in the same frames of a track.
BLANKET and others report it of landmarks; here pose, mouth and eyes have each a number, as `--motion` says
which of them pass. It does not tell how large the motion is: that is what the standard deviations beside it
are for. Of a face that does not move there is no correlation, and none is made up.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dp3_jax.models.mesh import Expression, Pose

MOTIONS = ("yaw", "pitch", "mouth_opening", "eye_opening")
MIN_FRAMES = 8  # of a track in which both faces are found; of fewer nothing is said
MIN_SCORE = 0.5  # of a mesh that is taken for a face
# Standard deviations from which on a face moves: degrees, and eye distances. Of a photo in camera noise, its
# points wrong by half a px (its face is 85 px wide), the mesh's own are .3, .4, .006 and .003.
MIN_DEVIATION = {"yaw": 1.0, "pitch": 1.0, "mouth_opening": 0.01, "eye_opening": 0.01}
STILL, SOURCE_STILL, TOO_SHORT = "no variance", "no variance in the source", "too few frames"


def motions(pose: Pose, shown: Expression) -> tuple[float, ...]:
    """The numbers of MOTIONS of one face: degrees, and eye distances."""
    return pose.yaw, pose.pitch, shown.mouth_opening, shown.eye_opening


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """How one number of the result follows the source's.

    Attributes:
      value: Pearson's correlation; None where `reason` says why there is none.
      reason: "", STILL, SOURCE_STILL or TOO_SHORT.
      source, result: standard deviations over the frames.
      frames: in which both faces are found.
    """

    value: float | None
    reason: str
    source: float | None
    result: float | None
    frames: int


def fidelity(name: str, source: np.ndarray, result: np.ndarray) -> Fidelity:
    """Of one number of MOTIONS over the same frames of a track, f[n] each."""
    if len(source) < MIN_FRAMES:
        return Fidelity(None, TOO_SHORT, None, None, len(source))
    deviations = float(np.std(source)), float(np.std(result))
    for deviation, reason in zip(deviations, (SOURCE_STILL, STILL), strict=True):
        if deviation < MIN_DEVIATION[name]:
            return Fidelity(None, reason, *deviations, len(source))
    value = float(np.corrcoef(source, result)[0, 1])
    return Fidelity(value, "", *deviations, len(source))


class Series:
    """The motion of one face over the frames of a track."""

    def __init__(self):
        """Of no frame yet."""
        self._rows: dict[int, tuple[float, ...] | None] = {}

    def add(self, frame: int, row: Sequence[float] | None) -> None:
        """The numbers of MOTIONS in frame `frame`; None where no face is found, which is counted."""
        self._rows[frame] = None if row is None else tuple(row)

    def _found(self) -> set[int]:
        return {frame for frame, row in self._rows.items() if row is not None}

    def left_out(self, source: "Series") -> int:
        """Frames in which this face or that of `source` was not found."""
        return len(self._rows.keys() | source._rows.keys()) - len(self._found() & source._found())

    def follows(self, source: "Series") -> dict[str, Fidelity]:
        """How this face follows that of `source`, by the names of MOTIONS."""
        common = sorted(self._found() & source._found())
        own, other = (
            np.array([rows[n] for n in common], np.float64).reshape(-1, len(MOTIONS))
            for rows in (self._rows, source._rows)
        )
        return {name: fidelity(name, other[:, i], own[:, i]) for i, name in enumerate(MOTIONS)}


def _mean(pairs: Sequence[tuple[float | None, int]]) -> float | None:
    known = [(value, weight) for value, weight in pairs if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def summary(tracks: Sequence[dict[str, Fidelity]], left_out: int) -> dict[str, Any]:
    """Many tracks' fidelities as one, for JSON: means over tracks by their frames.

    Args:
      tracks: of one variant, as `Series.follows` gives them.
      left_out: frames in which its face, or the source's, was not found.

    Returns:
      By the names of MOTIONS {"value", "reason", "source_deviation", "result_deviation", "frames"}; frames
      are those that the value is of, or if there is none those that were looked at. And "left_out".
    """
    result: dict[str, Any] = {}
    for name in MOTIONS:
        found = [track[name] for track in tracks]
        known = [one for one in found if one.value is not None]
        reasons = [one.reason for one in found if one.reason]
        result[name] = {
            "value": _mean([(one.value, one.frames) for one in known]),
            "reason": "" if known or not reasons else sorted(reasons)[0],
            "source_deviation": _mean([(one.source, one.frames) for one in known or found]),
            "result_deviation": _mean([(one.result, one.frames) for one in known or found]),
            "frames": sum(one.frames for one in known or found),
        }
    return {**result, "left_out": left_out}
