"""How well a face recognizer knows people again: verification at a false accept rate, and rank 1.

Scores are similarities (higher: more alike) of probes f[P, G] with a gallery of one picture a person. The
terms are those of ISO/IEC 19795-1 and of NIST's face recognition tests. Everything here is plain NumPy.
"""

import dataclasses
import math

import numpy as np

from dp3_jax.metrics.resampling import wilson


@dataclasses.dataclass(frozen=True)
class Rate:
    """A share of `count` independent trials.

    Attributes:
      successes: trials that succeeded; not whole where ties are split.
      count: trials; with none the rate is unknown.
    """

    successes: float
    count: int

    @property
    def value(self) -> float | None:
        """The share; None without trials."""
        return self.successes / self.count if self.count else None

    @property
    def standard_error(self) -> float | None:
        """sqrt(p (1 - p) / n), which is 0 where none or all succeeded: there `interval` tells more."""
        if not self.count:
            return None
        p = self.successes / self.count
        return math.sqrt(p * (1 - p) / self.count)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95% interval (1927), sound for rates near 0 and 1 too; None without trials."""
        if not self.count:
            return None
        return wilson(self.successes, self.count)

    def as_dict(self) -> dict[str, float | int | list[float] | None]:
        """For JSON."""
        interval = self.interval
        return {
            "value": self.value,
            "standard_error": self.standard_error,
            "interval_95": None if interval is None else list(interval),
            "n": self.count,
        }


def threshold_at_far(different: np.ndarray, far: float) -> float | None:
    """The lowest threshold at which at most a share `far` of different-person scores is accepted.

    A score is accepted when it is at least the threshold. Equal scores are accepted or refused together, so
    that the share can be smaller than `far`, never larger.

    Args:
      different: scores of pairs of different people, floats, any shape.
      far: false accept rate, 0 <= far < 1.

    Returns:
      The threshold; None where fewer than 1 / far scores make `far` unresolvable.
    """
    # In their own precision: rounded to it, a float64 next to a float32 score would be that score again.
    scores = np.sort(np.asarray(different), axis=None)[::-1]
    if not 0 <= far < 1:
        raise ValueError(f"a false accept rate lies in [0, 1), not {far}")
    allowed = math.floor(far * len(scores) + 1e-9)
    if len(scores) == 0 or (far > 0 and allowed == 0):
        return None
    return float(np.nextafter(scores[allowed], scores.dtype.type(np.inf)))


def true_accept_rate(same: np.ndarray, threshold: float) -> Rate:
    """The share of same-person scores f[n] that are at least `threshold`."""
    same = np.asarray(same)
    return Rate(int((same >= threshold).sum()), same.size)


def same_person(probe_people: np.ndarray, gallery_people: np.ndarray) -> np.ndarray:
    """bool[P, G]: whether probe and gallery picture are of one person, from the people's numbers."""
    return np.asarray(probe_people)[:, None] == np.asarray(gallery_people)[None, :]


def rank_one(scores: np.ndarray, same: np.ndarray) -> Rate:
    """The share of probes whose most similar gallery picture is of the same person.

    Args:
      scores: f[P, G].
      same: bool[P, G]. Probes without a picture of their person in the gallery do not count.

    Returns:
      The rate. Of k pictures that tie for the most similar, each counts 1/k: without this a recognizer
      that gives every pair the same score would identify everyone or no one, by the order of the gallery.
      Guessing gives 1 / G where each person has one picture.
    """
    scores, same = np.asarray(scores), np.asarray(same, bool)
    mated = same.any(1) if same.size else np.zeros(len(same), bool)
    if not mated.any():
        return Rate(0, 0)
    scores, same = scores[mated], same[mated]
    best = scores == scores.max(1, keepdims=True)
    return Rate(float(((best & same).sum(1) / best.sum(1)).sum()), int(mated.sum()))


def area_under_curve(same: np.ndarray, different: np.ndarray) -> float | None:
    """The probability that a same-person score is above a different-person one, ties counting half.

    The area under the ROC curve, as Mann and Whitney's U (1947). 0.5 is a recognizer that knows nothing;
    since it uses all scores and no threshold it shows a leak that rates of 1% cannot resolve. None where
    there are no scores of a kind.
    """
    same, different = np.ravel(same), np.sort(different, axis=None)
    if not same.size or not different.size:
        return None
    below = np.searchsorted(different, same, "left")
    not_above = np.searchsorted(different, same, "right")
    return float((below + not_above).mean() / (2 * different.size))
