"""Face verifiers as they are: is the person of the original recognised in the result?"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from dp3_jax.evaluation.attacks import recognition
from dp3_jax.evaluation.attacks.attack import (
    UNKNOWN,
    AttackResult,
    FaceSet,
    another_of_each,
    gallery_and_probes,
)
from dp3_jax.evaluation.attacks.verifiers import FACE_VERIFIERS, TITLES, Embed
from dp3_jax.metrics import identification, resampling

FARS = {"far_1e-2": 1e-2, "far_1e-3": 1e-3}
FALSE_NAMES = 20
MIN_PAIRS = 1000  # of strangers, for a threshold that one in a hundred of them passes
MEASURE = "verified as the person of the original"
_FLOORS = {
    "blanked": "what the blanked picture gives",
    "impostors": "what faces of strangers of the same sex, age, tone and pose give",
}


def _scores(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines f[n, m] of unit rows; of none the width may be another."""
    return a @ b.T if len(a) and len(b) else np.zeros((len(a), len(b)), np.float32)


def _row(
    scores: np.ndarray, mates: np.ndarray, thresholds: Mapping[str, float | None]
) -> dict[str, Any]:
    """All rates of the probes whose f[n, G] scores with the gallery these are; `mates` as for rank_one."""
    return {
        "true_accept_rate": {
            key: None
            if threshold is None
            else identification.true_accept_rate(scores[mates], threshold).as_dict()
            for key, threshold in thresholds.items()
        },
        "rank_1": identification.rank_one(scores, mates).as_dict(),
        "area_under_curve": identification.area_under_curve(scores[mates], scores[~mates]),
        "mean_cosine": float(scores[mates].mean()) if mates.any() else None,
    }


def _impostors(same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probes under false names: (i64[n] rows, bool[n, G] whom each is said to be), several names each."""
    names = [
        np.roll(same, shift, axis=0) for shift in range(1, min(FALSE_NAMES, len(same) - 1) + 1)
    ]
    rows = np.tile(np.arange(len(same)), len(names))
    claimed = np.concatenate([np.zeros((0, same.shape[1]), bool), *names])
    false = ~(claimed & same[rows]).any(1)
    return rows[false], claimed[false]


def recognize(
    gallery: tuple[np.ndarray, np.ndarray],
    probes: Mapping[str, tuple[np.ndarray, np.ndarray]],
    gallery_people: np.ndarray,
    probe_people: np.ndarray,
) -> dict[str, Any]:
    """Verification and identification of each kind of probe against the gallery.

    The threshold at a false accept rate comes from the pairs of different people among `probes["original"]`
    and the gallery, where nothing is anonymized: it is the one that a recogniser in use has. Probes and
    gallery pictures in which no face is found are counted and leave all rates, in either direction. The row
    "another_person" is the floor: originals said to show each of FALSE_NAMES others. It lies at the false
    accept rate but for chance.

    Args:
      gallery: (embeddings f[G, D], found bool[G]) as from `Verifier.embed`.
      probes: the same for each kind of probe, f[P, D] and bool[P].
      gallery_people, probe_people: i32[G], i32[P].
    """
    known = gallery[1]
    same = identification.same_person(probe_people, gallery_people[known])
    embeddings, found = probes["original"]
    reference, mates = _scores(embeddings[found], gallery[0][known]), same[found]
    thresholds = {
        name: identification.threshold_at_far(reference[~mates], far) for name, far in FARS.items()
    }
    rows = {}
    for name, (embeddings, found) in probes.items():
        rows[name] = {
            "probes": len(found),
            "face_not_found": int((~found).sum()),
            "found": identification.Rate(int(found.sum()), len(found)).as_dict(),
            **_row(_scores(embeddings[found], gallery[0][known]), same[found], thresholds),
        }
    chosen, claimed = _impostors(mates)
    counts = {key: rows["original"][key] for key in ("probes", "face_not_found", "found")}
    rows["another_person"] = {**counts, **_row(reference[chosen], claimed, thresholds)}
    return {
        "gallery": int(known.sum()),
        "gallery_face_not_found": int((~known).sum()),
        "different_pairs": int((~mates).sum()),
        "thresholds": thresholds,
        "rank_1_by_chance": 1 / int(known.sum()) if known.any() else None,
        "rows": rows,
    }


def _kinds(faces: FaceSet, rows: np.ndarray, embed: Embed) -> dict[str, Mapping[str, np.ndarray]]:
    """Embeddings of the faces `rows` by kind of picture and verifier."""
    return {
        "original": embed(faces.originals[rows]),
        "anonymized": embed(faces.anonymized[rows]),
        **{kind: embed(pictures[rows]) for kind, pictures in faces.floors.items()},
    }


def different_people(people: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """bool[n, n]: pairs known to show two people; `reference` are the rows that each is compared with."""
    people = np.asarray(people)
    known = people != UNKNOWN
    return (people[:, None] != people[reference]) & known[:, None] & known[reference]


@dataclasses.dataclass(frozen=True, eq=False)
class Compared:
    """Embeddings of one verifier and what is compared with what.

    Attributes:
      kinds: unit rows f[n, D] by kind of picture.
      whose: f[n, D], of the original that each is compared with.
      impostors: bool[n, n], pairs of `kinds` and `whose` that show two people.
      controlled: bool[n], whether `whose` is of another picture of the person.
      owners: i[n], people.
    """

    kinds: Mapping[str, np.ndarray]
    whose: np.ndarray
    impostors: np.ndarray
    controlled: np.ndarray
    owners: np.ndarray

    def threshold(self, published: Callable[[], Mapping[str, float]], name: str) -> float:
        """At which one in a hundred strangers passes; the published one where they are too few."""
        scores = (self.kinds["original"] @ self.whose.T)[self.impostors]
        if scores.size < MIN_PAIRS:
            return published()[name]
        return identification.threshold_at_far(scores, recognition.FAR)

    def passed(self, kind: str, threshold: float) -> np.ndarray:
        """f[n], 1 where the person is verified."""
        return ((self.kinds[kind] * self.whose).sum(1) >= threshold).astype(float)

    def nothing(self, threshold: float) -> str:
        """The kind of pictures that tell nothing of the person and pass most often."""
        kinds = [kind for kind in _FLOORS if kind in self.kinds]
        return max(kinds, key=lambda kind: float(self.passed(kind, threshold).mean()))

    def floor(self, threshold: float) -> tuple[str, float]:
        """What it is, and the share: of strangers, or of pictures without the person, that pass."""
        false = (self.kinds["anonymized"] @ self.whose.T)[self.impostors] >= threshold
        impostors = max(recognition.FAR, float(false.mean()) if false.size else 0.0)
        kind = self.nothing(threshold)
        share_ = float(self.passed(kind, threshold).mean())
        if share_ > impostors:
            return _FLOORS[kind], share_
        return f"strangers, at a threshold that lets {recognition.FAR:.0%} of them pass", impostors


def _verdict(
    attack: "Verify", verifier: str, compared: Compared, threshold: float, level: float
) -> AttackResult:
    """The result of one verifier, with intervals of `level`."""
    mine, owners = compared.passed("anonymized", threshold), compared.owners
    floor_is, floor = compared.floor(threshold)
    span, count = share(mine, owners, level), len(mine)
    works, control = True, None
    if compared.controlled.any():
        seen = compared.passed("original", threshold)[compared.controlled]
        control = float(seen.mean())
        works = share(seen, owners[compared.controlled], 0.95)["low"] > floor
    base = compared.passed(compared.nothing(threshold), threshold)
    above = resampling.interval(mine - base, owners, level=level)
    found = recognition.decide(above, span["low"], floor, count, works)
    sentence = (
        f"{TITLES.get(verifier, verifier)} takes {100 * span['value']:.1f}% of {count} anonymized faces "
        f"for the person of the original (95%: {100 * span['low']:.1f} to {100 * span['high']:.1f}%), "
        f"where the floor is {100 * floor:.1f}% ({floor_is})"
        + ("" if control is None else f" and {100 * control:.0f}% of originals are verified")
        + f": {recognition.verdict(found, count)}."
    )
    return AttackResult(
        attack.name, attack.title, f"{MEASURE} by {verifier}", span["value"], span["low"], span["high"],
        floor, floor_is, control, found, sentence, count, {"threshold": threshold},
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Verify:
    """The attack: each result with its person's original, by every verifier; the worst one counts.

    It is compared with another original of the person where there is one, else with its own. Attributes:
      embed: the verifiers.
      thresholds: opens by verifier the least cosine at which one in a hundred strangers passes; used where
        the faces themselves are too few, or their people not known, to set it.
      own: whether the faces themselves may set it.
    """

    embed: Embed = FACE_VERIFIERS
    thresholds: Callable[[], Mapping[str, float]] = lambda: FACE_VERIFIERS.thresholds
    own: bool = True

    name: ClassVar[str] = "verify"
    title: ClassVar[str] = "Face verifiers"
    trains: ClassVar[bool] = False
    needs_people: ClassVar[bool] = False

    def fit(self, faces: FaceSet, seed: int) -> "Verify":
        """See `Attack`."""
        del faces, seed
        return self

    def by_verifier(self, faces: FaceSet) -> dict[str, AttackResult]:
        """The result of each verifier; intervals are those of 95% for all of them together."""
        people, rows = np.asarray(faces.people), np.arange(len(faces))
        other = another_of_each(people)
        reference = np.where(other >= 0, other, rows)
        embedded = _kinds(faces, rows, self.embed)
        impostors = different_people(people, reference)
        results = {}
        for name, originals in embedded["original"].items():
            compared = Compared(
                kinds={kind: one[name] for kind, one in embedded.items()},
                whose=originals[reference],
                impostors=impostors,
                controlled=other >= 0,
                # Those who are not known count for themselves.
                owners=np.where(people == UNKNOWN, -2 - rows, people),
            )
            given = self.thresholds
            threshold = compared.threshold(given, name) if self.own else given()[name]
            level = 1 - 0.05 / len(embedded["original"])
            results[name] = _verdict(self, name, compared, threshold, level)
        return results

    def identified(self, faces: FaceSet) -> dict[str, Any]:
        """`recognize` by verifier where people are known, without a detector; else nothing."""
        gallery, probes = gallery_and_probes(faces.people)
        if len(gallery) < 3:
            return {}
        whose, embedded = self.embed(faces.originals[gallery]), _kinds(faces, probes, self.embed)
        seen = np.ones(len(probes), bool)
        return {
            name: recognize(
                (whose[name], np.ones(len(gallery), bool)),
                {kind: (one[name], seen) for kind, one in embedded.items()},
                faces.people[gallery],
                faces.people[probes],
            )
            for name in whose
        }

    def score(self, faces: FaceSet) -> AttackResult:
        """See `FittedAttack`; `details` has every verifier's result, and rank 1 where people are known."""
        if not len(faces):
            return recognition.unjudged(self, "there are no faces", MEASURE)
        results = self.by_verifier(faces)
        worst = max(results.values(), key=lambda r: (r.found is True, r.low - r.floor))
        details = {"verifiers": {name: r.as_dict() for name, r in results.items()}}
        return dataclasses.replace(
            worst, details=details | {"identification": self.identified(faces)}
        )


def share(passed: np.ndarray, people: np.ndarray, level: float) -> dict[str, float]:
    """The mean of f[n] of 0 and 1 with its interval: the wider of Wilson's and the bootstrap over people.

    The bootstrap knows that pictures of a person are alike, but has no width where all agree.
    """
    drawn = resampling.interval(passed, people, level=level)
    low, high = resampling.wilson(float(np.sum(passed)), len(passed), level)
    return {**drawn, "low": min(drawn["low"], low), "high": max(drawn["high"], high)}
