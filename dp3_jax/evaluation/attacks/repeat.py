"""Anonymized again: does the person come back, and is all covered again that was covered at first?"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from dp3_jax.evaluation.attacks import recognition, verify
from dp3_jax.evaluation.attacks.attack import Anonymize, AttackResult, FaceSet
from dp3_jax.evaluation.attacks.verifiers import DETECTION, FACE_VERIFIERS, Embed, FindFaces

TIMES = 3


def _cosines(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float((a[name] * b[name]).sum(1).mean()) for name in a}


@dataclasses.dataclass(frozen=True)
class Repeat:
    """The attack. It learns nothing; it anonymizes results again, each time with another key.

    Attributes:
      anonymize: what is attacked; it finds the face by itself or takes the canonical place.
      times: how often in all; the first are `FaceSet.anonymized`.
      embed, thresholds: as of `verify.Verify`; find: the detector.
    """

    anonymize: Anonymize
    times: int = TIMES
    embed: Embed = FACE_VERIFIERS
    find: FindFaces = DETECTION
    thresholds: Callable[[], Mapping[str, float]] = lambda: FACE_VERIFIERS.thresholds

    name: ClassVar[str] = "repeat"
    title: ClassVar[str] = "Anonymized again and again"
    trains: ClassVar[bool] = False
    needs_people: ClassVar[bool] = False

    def fit(self, faces: FaceSet, seed: int) -> "Repeat":
        """See `Attack`."""
        del faces, seed
        return self

    def _round(self, number: int, faces: FaceSet, before: np.ndarray, now: np.ndarray) -> dict:
        """What is measured after round `number` (from 1)."""
        whose, shown = self.embed(faces.originals), self.embed(now)
        masked = np.asarray(faces.masks, bool)
        changed = (before != now).any(-1)
        return {
            "round": number,
            "face_found": float(self.find(now).mean()),
            "mask_changed": float((changed & masked).sum() / max(masked.sum(), 1)),
            "cosine_to_the_original": _cosines(shown, whose),
            "cosine_to_the_first": _cosines(shown, self.embed(faces.anonymized)),
        }

    def score(self, faces: FaceSet) -> AttackResult:
        """See `FittedAttack`; `details["rounds"]` has the numbers of every time."""
        if not len(faces):
            return recognition.unjudged(self, "there are no faces", verify.MEASURE)
        shown = faces.anonymized
        rounds = [self._round(1, faces, faces.originals, shown)]
        for number in range(2, self.times + 1):
            key = number.to_bytes(32, "big")
            again = np.stack([self.anonymize(picture, key) for picture in shown])
            rounds.append(self._round(number, faces, shown, again))
            shown = again
        last = dataclasses.replace(faces, anonymized=shown)
        asked = verify.Verify(self.embed, self.thresholds).score(last)
        return dataclasses.replace(
            asked,
            name=self.name,
            title=self.title,
            sentence=self._sentence(rounds, asked),
            details={**asked.details, "rounds": rounds},
        )

    def _sentence(self, rounds: list[dict[str, Any]], asked: AttackResult) -> str:
        first, last = rounds[0], rounds[-1]
        name = asked.measure.rsplit(" ", 1)[-1]
        return (
            f"After {self.times} times a detector finds {100 * last['face_found']:.0f}% of the faces "
            f"({100 * first['face_found']:.0f}% after the first); the last time changed "
            f"{100 * last['mask_changed']:.0f}% of the masked region; likeness to the original "
            f"{first['cosine_to_the_original'][name]:.2f}, then {last['cosine_to_the_original'][name]:.2f}, "
            f"to the first result {last['cosine_to_the_first'][name]:.2f}; "
            f"{asked.sentence}"
        )
