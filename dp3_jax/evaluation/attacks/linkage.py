"""Linkage: are two releases of one photo or track, with two keys, called one person's?

If so, someone who has both knows that they belong together, and a key gives less of a person than it should.
The floor are two other people's real faces, laid under the mask into the same photo: the scene itself makes
any two faces in it somewhat alike. Where classes are known, they are two of the same sex, age, tone and pose,
as new faces are: this the photo itself shows in both releases. Where a detector finds no face there is no
person to link.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from dp3_jax.evaluation.attacks import impostors, recognition, verify
from dp3_jax.evaluation.attacks.attack import (
    UNKNOWN,
    Anonymize,
    AttackResult,
    FaceSet,
    another_of_each,
)
from dp3_jax.evaluation.attacks.verifiers import DETECTION, FACE_VERIFIERS, TITLES, Embed, FindFaces
from dp3_jax.metrics import identification, resampling

MEASURE = "two releases with two keys are called one person's"
FLOOR = "two other people's faces laid into the same photo"


def linked(cosines: np.ndarray, threshold: float) -> dict[str, Any]:
    """Of f[n] cosines of pairs: how many there are, a `Rate` of those at the threshold, and their mean."""
    rate = identification.Rate(int((cosines >= threshold).sum()), len(cosines))
    return {
        "pairs": len(cosines),
        "linked": rate.as_dict(),
        "cosine": float(cosines.mean()) if len(cosines) else None,
    }


def _two_impostors(faces: FaceSet) -> tuple[np.ndarray, np.ndarray]:
    """i64[n] twice: rows of two other people for each face, of its classes where these are known."""
    people = np.asarray(faces.people)
    n = len(people)
    if faces.classes is not None and len(np.unique(people)) > 2:
        return tuple(impostors.companions(people, faces.classes, 2).T)
    # Two shifts by which two other people come in, in as many rows as can be.
    alone = np.where(people == UNKNOWN, -2 - np.arange(n), people)
    rolled = {shift: np.roll(alone, -shift) for shift in range(1, n)}
    first = max(rolled, key=lambda shift: (rolled[shift] != alone).mean())
    second = max(
        rolled,
        key=lambda shift: ((rolled[shift] != alone) & (rolled[shift] != rolled[first])).mean(),
    )
    return np.roll(np.arange(n), -first), np.roll(np.arange(n), -second)


def _tracks(faces: FaceSet, tracks: bool) -> np.ndarray:
    """i64[n]: which release each face belongs to: its own, or that of its name."""
    if not tracks or not faces.files:
        return np.arange(len(faces))
    return np.unique(faces.files, return_inverse=True)[1]


def _means(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """f[m, D]: unit means of the unit rows of each group."""
    total = np.zeros((groups.max() + 1, rows.shape[1]))
    np.add.at(total, groups, rows)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


@dataclasses.dataclass(frozen=True)
class Linkage:
    """The attack. It learns nothing; it anonymizes the originals twice.

    Attributes:
      anonymize: what is attacked.
      keys: two.
      tracks: take the faces of one name in `FaceSet.files` as a track, known by their mean embedding.
      embed: the verifiers; find: the detector; thresholds: as of `verify.Verify`.
    """

    anonymize: Anonymize
    keys: tuple[bytes, bytes] = (bytes(32), bytes(31) + b"\1")
    tracks: bool = False
    embed: Embed = FACE_VERIFIERS
    find: FindFaces = DETECTION
    thresholds: Callable[[], Mapping[str, float]] = lambda: FACE_VERIFIERS.thresholds

    name: ClassVar[str] = "linkage"
    title: ClassVar[str] = "Two releases with two keys"
    trains: ClassVar[bool] = False
    needs_people: ClassVar[bool] = False

    def fit(self, faces: FaceSet, seed: int) -> "Linkage":
        """See `Attack`."""
        del faces, seed
        return self

    def score(self, faces: FaceSet) -> AttackResult:
        """See `FittedAttack`; `faces.anonymized` is not used."""
        if len(faces) < 3:
            return recognition.unjudged(self, "it takes three faces or more", MEASURE)
        releases = [
            np.stack([self.anonymize(picture, key) for picture in faces.originals])
            for key in self.keys
        ]
        others = [impostors.laid_in(faces, rows) for rows in _two_impostors(faces)]
        groups = _tracks(faces, self.tracks)
        pairs = {
            "anonymized": self._cosines(*releases, groups),
            "strangers": self._cosines(*others, groups),
        }
        people = np.asarray(faces.people)
        other = another_of_each(people)
        if (other >= 0).any():
            have = other >= 0
            pairs["originals"] = self._cosines(
                faces.originals[have], faces.originals[other[have]], np.arange(have.sum())
            )
        owner = people[np.unique(groups, return_index=True)[1]]
        return self._result(pairs, np.where(owner == UNKNOWN, -2 - np.arange(len(owner)), owner))

    def _cosines(
        self, first: np.ndarray, second: np.ndarray, groups: np.ndarray
    ) -> dict[str, np.ndarray]:
        """f[m] by verifier of the m pairs of releases, -1 where either shows no face."""
        faces = np.minimum(
            *(np.bincount(groups, self.find(one), groups.max() + 1) for one in (first, second))
        )
        a, b = self.embed(first), self.embed(second)
        cosines = {name: (_means(a[name], groups) * _means(b[name], groups)).sum(1) for name in a}
        return {name: np.where(faces > 0, row, -1.0) for name, row in cosines.items()}

    def _result(
        self, pairs: Mapping[str, Mapping[str, np.ndarray]], people: np.ndarray
    ) -> AttackResult:
        results, level = {}, 1 - 0.05 / len(pairs["anonymized"])
        for name, cosines in pairs["anonymized"].items():
            threshold = self.thresholds()[name]
            mine = (cosines >= threshold).astype(float)
            base = (pairs["strangers"][name] >= threshold).astype(float)
            span, floor = verify.share(mine, people, level), float(base.mean())
            control = None
            if "originals" in pairs:
                control = float((pairs["originals"][name] >= threshold).mean())
            above = resampling.interval(mine - base, people, level=level)
            works = control is None or control > max(floor, recognition.FAR)
            # With a published threshold some strangers pass even where no scene is shared.
            floor = max(floor, recognition.FAR)
            found = recognition.decide(above, span["low"], floor, len(mine), works)
            sentence = (
                f"{TITLES.get(name, name)} calls {100 * span['value']:.0f}% of {len(mine)} pairs of releases "
                f"of one {'track' if self.tracks else 'photo'} one person's (95%: {100 * span['low']:.0f} to "
                f"{100 * span['high']:.0f}%), and {100 * floor:.0f}% of pairs of strangers laid into it: "
                f"{recognition.verdict(found, len(mine))}."
            )
            details = {kind: linked(one[name], threshold) for kind, one in pairs.items()}
            results[name] = AttackResult(
                self.name, self.title, f"{MEASURE} by {name}", span["value"], span["low"], span["high"],
                floor, FLOOR, control, found, sentence, len(mine), details,
            )  # fmt: skip
        worst = max(results.values(), key=lambda r: (r.found is True, r.low - r.floor))
        verifiers = {name: result.as_dict() for name, result in results.items()}
        return dataclasses.replace(worst, details={"verifiers": verifiers})
