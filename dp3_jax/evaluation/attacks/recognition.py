"""From similarities of faces to an `AttackResult`: what most attacks on people's identity share.

The measure is how often, of two people, the right one is said to be in the picture (the area under the ROC
curve of each picture, ties half). It uses every score, so that it shows a leak that ranks and thresholds
cannot resolve with few people; .5 is chance in a gallery of any size. Rank 1 and the share that is verified
stand in `details`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dp3_jax.evaluation.attacks.attack import Attack, AttackResult
from dp3_jax.metrics import identification
from dp3_jax.metrics.resampling import interval

MIN_FACES = 30  # judged; with fewer nobody can say that nothing was found
FAR = 1e-2
MEASURE = "the right one of two people is picked"
CHANCE = 0.5
# A face shows the class that its surroundings decide better than a grey patch does: without strangers of the
# same class this is in the value and not in the floor.
COARSE = " (sex, age, tone, pose and expression count too, which new faces may share)"
FLOORS = {
    "blanked": "the same from pictures with a blanked masked region",
    "impostors": "the same with the faces of strangers of the same sex, age, tone and pose",
}
_FROM = {"blanked": "from the blanked picture", "impostors": "with a similar stranger's face"}


def rates(scores: np.ndarray, same: np.ndarray) -> dict[str, Any]:
    """How well scores f[P, G] tell bool[P, G] pairs of one person; the threshold is that of these scores."""
    threshold = identification.threshold_at_far(scores[~same], FAR)
    accepted = None
    if threshold is not None:
        accepted = identification.true_accept_rate(scores[same], threshold).as_dict()
    return {
        "true_accept_rate": accepted,
        "rank_1": identification.rank_one(scores, same).as_dict(),
        "area_under_curve": identification.area_under_curve(scores[same], scores[~same]),
    }


def preferred(scores: np.ndarray, same: np.ndarray) -> np.ndarray:
    """f64[P]: the share of other people whom the right one is preferred to, ties half.

    Args:
      scores: f[P, G], at least one of another person in each row.
      same: bool[P, G], one True in each row.
    """
    own = scores[same][:, None]
    credit = (own > scores) + 0.5 * (own == scores)
    return np.where(same, 0, credit).sum(1) / (~same).sum(1)


def fused(probes: Mapping[str, np.ndarray], gallery: Mapping[str, np.ndarray]) -> np.ndarray:
    """f32[P, G]: mean of the verifiers' cosines, each centred and scaled to a deviation of 1.

    Args:
      probes, gallery: for each verifier unit rows f32[P, D] and f32[G, D].
    """
    total = 0.0
    for name, rows in probes.items():
        cosines = rows @ gallery[name].T
        total = total + (cosines - cosines.mean()) / max(float(cosines.std()), 1e-9)
    return total / len(probes)


def decide(
    above: Mapping[str, float | None], low: float, floor: float, count: int, works: bool
) -> bool | None:
    """What `AttackResult.found` is.

    Args:
      above: `interval` of the paired difference to the floor.
      low: of the value's interval.
      floor: the value where nothing leaks.
      count: faces judged.
      works: whether the attack finds people in originals; a leak is one even where it does not.
    """
    if above["low"] is not None and above["low"] > 0 and low > floor:
        return True
    return False if count >= MIN_FACES and works else None


def unjudged(attack: Attack, why: str, measure: str = MEASURE) -> AttackResult:
    """The result where nothing could be tried."""
    nan = float("nan")
    sentence = f"{attack.title}: could not be judged: {why}."
    return AttackResult(
        attack.name, attack.title, measure, nan, nan, nan, nan, "", None, None, sentence, 0
    )


def verdict(found: bool | None, count: int) -> str:
    """How a sentence ends."""
    if found is None:
        few = f"{count} faces are too few" if count < MIN_FACES else "it fails on the originals too"
        return f"this cannot be judged ({few})"
    return "it leaks" if found else "nothing found"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%"


def recognised(
    attack: Attack,
    scores: Mapping[str, np.ndarray],
    same: np.ndarray,
    people: np.ndarray,
    how: str,
) -> AttackResult:
    """The result of an attack from its similarities.

    Args:
      attack: whose.
      scores: f[P, G] from "anonymized" pictures, and if there are such from "originals" (the control), and
        "blanked" and "impostors": the higher of these and of chance is the floor.
      same: bool[P, G], one person of the gallery for each probe.
      people: i[P], whose the probes are.
      how: what the attacker does, for the sentence: "An attacker who ...".
    """
    if not len(people) or same.shape[1] < 3:
        return unjudged(attack, "it takes three people or more with two faces each")
    values = {kind: preferred(one, same) for kind, one in scores.items()}
    mine = values["anonymized"]
    floors = {kind: values[kind] for kind in FLOORS if kind in values}
    # Guessing needs no picture: one that is read worse than that is no floor.
    base = max([np.full(len(mine), CHANCE), *floors.values()], key=lambda one: float(one.mean()))
    floor_is = next((FLOORS[kind] for kind, one in floors.items() if one is base), "chance")
    span, floor = interval(mine, people), float(base.mean())
    control = values.get("originals")
    works = control is None or interval(control - base, people)["low"] > 0
    found = decide(interval(mine - base, people), span["low"], floor, len(mine), works)
    compared = [f"{_FROM[kind]} {_percent(one.mean())}" for kind, one in floors.items()]
    coarse = found and "blanked" in floors and "impostors" not in floors
    sentence = (
        f"An attacker who {how} picks the right one of two people in {_percent(span['value'])} of "
        f"{len(mine)} tries (95%: {_percent(span['low'])} to {_percent(span['high'])}); "
        f"{', '.join(compared) or f'by chance {_percent(floor)}'}"
        + ("" if control is None else f", from the original {_percent(control.mean())}")
        + f": {verdict(found, len(mine))}{COARSE if coarse else ''}."
    )
    return AttackResult(
        name=attack.name,
        title=attack.title,
        measure=MEASURE,
        value=span["value"],
        low=span["low"],
        high=span["high"],
        floor=floor,
        floor_is=floor_is,
        control=None if control is None else float(control.mean()),
        found=found,
        sentence=sentence,
        count=len(mine),
        details={kind: rates(one, same) for kind, one in scores.items()}
        | {"gallery": same.shape[1], "rank_1_by_chance": 1 / same.shape[1]},
    )
