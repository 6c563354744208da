"""Is the person of the original recognised in the result? By each verifier, with what it must be compared.

What counts is built on the attack `verify`: each result against another original of its person where there
is one, else against its own. A picture whose masked region is blanked shows what the surroundings tell, which
no anonymizer of faces changes; strangers show what chance gives. Where people are known, rank 1 and the area
under the curve in a gallery of one original a person stand beside it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dp3_jax.evaluation.attacks import FaceSet
from dp3_jax.evaluation.attacks.attack import AttackResult, another_of_each, gallery_and_probes
from dp3_jax.evaluation.attacks.recognition import MIN_FACES, preferred
from dp3_jax.evaluation.attacks.verifiers import TITLES, Embed
from dp3_jax.evaluation.attacks.verify import Verify, share
from dp3_jax.evaluation.audit.calibration import FARS, Calibration
from dp3_jax.metrics import identification
from dp3_jax.metrics.resampling import interval

_MIN_GALLERY = 3  # people


@dataclasses.dataclass(frozen=True)
class Span:
    """A share with its 95% interval, and the same of blanked pictures and of originals (the control)."""

    value: float
    low: float
    high: float
    blanked: float
    control: float | None


@dataclasses.dataclass(frozen=True)
class Recognised:
    """What one verifier says.

    Attributes:
      name, title: of the verifier.
      threshold: least cosine of one person.
      verified: results taken for the person of the original; its floor is in `floor`.
      floor, floor_is: the share where nothing leaks, and what that is.
      rank_1: results whose person is the most similar of `gallery` people; None where they are not known.
      area: how often, of two people, the right one is more similar; None as rank_1.
      gallery: people.
      count: faces judged, the pictures of a track of a clip as one.
      found: True: recognised above the floor; False: not; None: it could not be judged.
      sentence: with its evidence.
    """

    name: str
    title: str
    threshold: float
    verified: Span
    floor: float
    floor_is: str
    rank_1: Span | None
    area: Span | None
    gallery: int
    count: int
    found: bool | None
    sentence: str


def _span(kinds: Mapping[str, np.ndarray], people: np.ndarray, spread: Callable) -> Span:
    mine = spread(kinds["anonymized"], people, level=0.95)
    return Span(
        value=mine["value"],
        low=mine["low"],
        high=mine["high"],
        blanked=float(kinds["blanked"].mean()),
        control=float(kinds["originals"].mean()),
    )


def _hits(scores: np.ndarray, same: np.ndarray) -> np.ndarray:
    """f[P]: whether the right person is the most similar one, ties shared."""
    best = scores == scores.max(1, keepdims=True)
    return (best & same).sum(1) / best.sum(1)


def _ranked(faces: FaceSet, embed: Embed) -> dict[str, tuple[Span, Span, bool, bool]]:
    """By verifier (rank 1, area, whether rank 1 is above its floor, whether the control is)."""
    gallery, probes = gallery_and_probes(faces.people)
    if len(gallery) < _MIN_GALLERY:
        return {}
    people = faces.people[probes]
    same = identification.same_person(people, faces.people[gallery])
    shown = faces.select(probes)
    kinds = {"originals": shown.originals, "anonymized": shown.anonymized, "blanked": shown.blanked}
    whose = embed(faces.originals[gallery])
    rows = {kind: embed(pictures) for kind, pictures in kinds.items()}
    found = {}
    for name in whose:
        scores = {kind: one[name] @ whose[name].T for kind, one in rows.items()}
        hits = {kind: _hits(one, same) for kind, one in scores.items()}
        areas = {kind: preferred(one, same) for kind, one in scores.items()}
        rank = _span(hits, people, share)
        floor = np.maximum(hits["blanked"], 1 / len(gallery))
        low = interval(hits["anonymized"] - floor, people)["low"]
        works = interval(hits["originals"] - floor, people)["low"] > 0
        above = low > 0 and rank.low > max(rank.blanked, 1 / len(gallery))
        found[name] = (rank, _span(areas, people, interval), bool(above), bool(works))
    return found


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%" if value < 0.1 else f"{100 * value:.0f}%"


def _sentence(
    title: str, result: AttackResult, ranked: tuple[Span | None, int], verdict: str
) -> str:
    rank, gallery = ranked
    text = (
        f"{title} takes {_percent(result.value)} of the anonymized faces for the person of the original "
        f"(95%: {_percent(result.low)} to {_percent(result.high)}); the floor is {_percent(result.floor)}"
    )
    if result.control is not None:
        text += f", of originals it knows {_percent(result.control)}"
    if rank is not None:
        text += f"; the right one of {gallery} people comes first for {_percent(rank.value)}"
        text += f" (blanked pictures: {_percent(rank.blanked)})"
    return f"{text}: {verdict}."


def _verdict(found: bool | None, count: int) -> str:
    if found is not None:
        return "recognised above the floor" if found else "not recognised above the floor"
    if count < MIN_FACES:
        return f"this cannot be judged, {count} different faces are too few"
    return "this cannot be judged, it does not know the originals either"


def distinct(faces: FaceSet, tracked: np.ndarray) -> int:
    """Faces of photos, and tracks of clips, each as one; `tracked` bool[n], which belong to tracks."""
    return int((~tracked).sum()) + len(np.unique(faces.people[tracked]))


def recognise(
    faces: FaceSet, tracked: np.ndarray, embed: Embed, calibration: Calibration
) -> list[Recognised]:
    """Every verifier's word on the faces.

    Args:
      faces: at least one.
      tracked: bool[n], which are pictures of tracks, of which `faces.people` has the numbers.
      embed: the verifiers.
      calibration: thresholds.
    """
    verify = Verify(embed, lambda: calibration.by_far[FARS[0]], own=not calibration.is_given)
    ranked, count = _ranked(faces, embed), distinct(faces, tracked)
    gallery = len(gallery_and_probes(faces.people)[0])
    results = []
    for name, result in verify.by_verifier(faces).items():
        rank, area, above, works = ranked.get(name, (None, None, False, True))
        found = result.found
        if above:
            found = True
        elif found is False and (count < MIN_FACES or not works):
            found = None
        results.append(
            Recognised(
                name=name,
                title=TITLES[name],
                threshold=float(result.details["threshold"]),
                verified=Span(
                    result.value, result.low, result.high, _blanked(faces, name, embed, result),
                    result.control,
                ),
                floor=result.floor,
                floor_is=result.floor_is,
                rank_1=rank,
                area=area,
                gallery=gallery,
                count=count,
                found=found,
                sentence=_sentence(TITLES[name], result, (rank, gallery), _verdict(found, count)),
            )
        )  # fmt: skip
    return results


def reference(faces: FaceSet) -> np.ndarray:
    """i[n]: the row of the original that each result is compared with."""
    other = another_of_each(faces.people)
    return np.where(other >= 0, other, np.arange(len(faces)))


def _blanked(faces: FaceSet, name: str, embed: Embed, result: AttackResult) -> float:
    """The share of blanked pictures that pass."""
    whose = embed(faces.originals[reference(faces)])[name]
    passed = (embed(faces.blanked)[name] * whose).sum(1) >= result.details["threshold"]
    return float(passed.mean())


def recognised_by(
    faces: FaceSet, results: Sequence[Recognised], embed: Embed, calibration: Calibration
) -> dict[str, Any]:
    """By verifier f[n] cosines, and bool[n] which single results surely show the person.

    These pass where one in a thousand strangers does, and their blanked pictures do not come near.
    """
    surely = calibration.by_far[FARS[1]]
    whose, rows = embed(faces.originals[reference(faces)]), embed(faces.anonymized)
    blanked = embed(faces.blanked)
    told: dict[str, Any] = {"cosines": {}, "passed": {}}
    for result in results:
        name = result.name
        cosine = (rows[name] * whose[name]).sum(1)
        alone = (blanked[name] * whose[name]).sum(1)
        told["cosines"][name] = cosine
        told["passed"][name] = (cosine >= surely[name]) & (alone < result.threshold)
    return told
