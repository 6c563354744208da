"""Who a key is: limits and ranges that choose among its latents, from w alone and from one rendering.

Nothing here renders or reads a photo: which person a key and classes give must not depend on pixels.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from dp3_jax.replacement import defects, distinctness, identities, light
from dp3_jax.replacement.attributes import Attributes
from dp3_jax.replacement.directions import Directions, logit
from dp3_jax.replacement.identities import Classes, Wishes

_BLOCK = 64  # candidates that are looked at together
_MAX_BLOCKS = 32  # after these the one that fits best is taken

CHOICE = 7  # one more whenever a key's person changes by anything here

# Length of w - mean, at truncation 1, outside of what the regressions tell; the middle half of all latents.
# Those near the mean look like one another, and those far from it melt when they are turned: they are brought
# into these limits, if they are not too far outside.
_DISTINCTNESS, _TOO_FAR = (8.3, 10.5), (7.3, 12.5)
# By the regressions on w, where 1 is with and 0 without. On 750 labelled faces, 5-fold: 99% of those with
# glasses lie above the limit and 14% of those without, of those with something on the head 90 and 13%.
_MAX_GLASSES, _MAX_HAT = 0.4, 0.28
_WITH_GLASSES = 0.65
_LEFT = 0.1  # what a person without glasses or hat is moved to: other moves bring them on
_DARK, _MAX_DARK_HAIR = (
    10.0,
    25.0,
)  # a tone that is wanted below asks for hair below: else it is the shade
# On a candidate's own rendering: hair, a hat or a hard shadow on the forehead comes along with the face.
_MAX_FRINGE = 20.0
_MAX_PREDICTED_FRINGE = 22.0  # by the regression, which spares renderings
_MAX_LIGHT = (
    12.0  # levels of L between the cheeks; the photo's light is seldom that of the rendering
)
TRIES = 4  # candidates that are rendered and looked at; then the best of them is taken
_SURE_SEX = 1.0  # logit of being called a woman or man, in the choice and on the rendering
# How far what is measured on a candidate may lie outside of what is wanted: it can be corrected that far.
# Moved by more, a man of 49 in place of one of 30 became a child.
# Of 900 grown persons those with a logit of less than 2 were looked at: half of the 20 read as the other sex.
_CORRECTED = {"age": 8.0, "female": -1.0, "ita": 15.0, "hair_lightness": 15.0}
_MIN_CONFIDENCE = 0.93  # of YuNet in a rendering; nearly all that are as they should be have more
_MAX_CAST = 12.0  # of coloured light, which `light.balanced` takes out
_CONFIDENCE_COUNTS = 50.0  # what has .86 is no face any more
# What is at a mouth comes along; of 640 renderings of all kinds 8% have more, and of one with a lipstick 20.
_MAX_UNEVENNESS = 13.0
# Of 300 candidates 23% have more mixed hues, of 160 persons 7% a deeper shadow. With 12 for the first a
# yellow nose between violet cheeks came up on the first page of the docs.
_MAX_MIXED_HUES, _MAX_SHADOW = 10.0, 20.0
_MAX_SHOWN_LIGHT = 20.0  # as _MAX_LIGHT, on the rendering
_MAX_OWN_YAW = 20.0  # degrees: who looks away by more by nature is turned back with too much loss
_TONE_SLACK = (
    12.0  # degrees that a candidate's tone may lie outside of its band; it is moved into it
)
_AGE_SLACK = 2.0  # years, likewise
_HAIR_SLACK = 4.0  # of L, likewise
# Years between which persons of each band are drawn: well inside, for toddlers are called 14 at times.
_AGES = {"child": (3.0, 10.0), "young": (20.0, 30.0), "middle": (35.0, 47.0), "old": (54.0, 75.0)}
_WISHED_AGE = 4.0  # years round a wished age
_MAX_MOVES = {"age": 20.0, "female": 4.0, "ita": 50.0, "yaw": 60.0, "pitch": 35.0}
_MAX_MOVES |= {"mouth_opening": 0.4, "mouth_width": 0.3, "hair_lightness": 15.0}
# L above the forehead of persons for each band of hair round the face: it comes along with the face.
_HAIR = {"dark": (0.0, 20.0), "medium": (16.0, 42.0), "light": (40.0, 100.0)}


@dataclasses.dataclass(frozen=True)
class Target:
    """What a person should be: ranges by attribute, each (low, high); and whether glasses are worn."""

    ranges: Mapping[str, tuple[float, float]]
    glasses: bool

    def amounts(self, values: Mapping[str, float]) -> dict[str, float]:
        """The moves that bring attributes into their ranges, as far as moves may go."""
        moves = {}
        for name, (low, high) in self.ranges.items():
            wanted = float(np.clip(values[name], low, high)) - float(values[name])
            if wanted:
                moves[name] = bounded(name, wanted)
        return moves


def bounded(name: str, amount: float) -> float:
    """The amount of a move, as far as that one may go."""
    return float(np.clip(amount, -_MAX_MOVES[name], _MAX_MOVES[name]))


def target(classes: Classes, wishes: Wishes) -> Target:
    """What classes and wishes ask of a person; wishes go first."""
    ranges = {}
    female = classes.female if wishes.female is None else wishes.female
    if female is not None:
        ranges["female"] = (_SURE_SEX, np.inf) if female else (-np.inf, -_SURE_SEX)
    if wishes.age is not None:
        ranges["age"] = (wishes.age - _WISHED_AGE, wishes.age + _WISHED_AGE)
    elif classes.age is not None:
        ranges["age"] = _AGES[classes.age]
    tone = classes.tone if wishes.tone is None else wishes.tone
    if tone is not None:
        ranges["ita"] = inner_range(tone)
    if classes.hair is not None:
        ranges["hair_lightness"] = _HAIR[classes.hair]
    return Target(ranges, bool(wishes.glasses))


def misfit(predicted: Mapping[str, np.ndarray], wanted: Target) -> np.ndarray:
    """f[n]: 0 where a candidate will do, else how far away it is; infinite where it must not be taken.

    Args:
      predicted: attributes f[n] of each candidate, from the regressions.
      wanted: what is asked.
    """
    glasses = predicted["glasses"]
    bad = predicted["hat"] > _MAX_HAT
    bad |= (glasses < _WITH_GLASSES) if wanted.glasses else (glasses > _MAX_GLASSES)
    bad |= np.abs(predicted["yaw"]) > _MAX_OWN_YAW
    bad |= predicted["fringe"] > _MAX_PREDICTED_FRINGE
    distance = np.zeros(len(glasses))
    slack = {"ita": (_TONE_SLACK, 10.0), "age": (_AGE_SLACK, 12.0), "female": (0.0, 2.0)}
    slack["hair_lightness"] = (_HAIR_SLACK, 20.0)
    if wanted.ranges.get("ita", (0.0, np.inf))[1] < _DARK:
        distance += np.maximum(predicted["hair_lightness"] - _MAX_DARK_HAIR, 0) / 20
    for name, (low, high) in wanted.ranges.items():
        away = np.maximum(low - predicted[name], predicted[name] - high)
        allowed, unit = slack[name]
        distance += np.maximum(away - allowed, 0) / unit
    return np.where(bad, np.inf, distance)


def shortcoming(own: Attributes, wanted: Target) -> float:
    """0 where a candidate's rendering will do, else how far it is from that.

    Args:
      own: as measured on it.
      wanted: what is asked.
    """
    lack = max(own.fringe - _MAX_FRINGE, 0) / 10 + max(light.cast(own) - _MAX_CAST, 0) / 10
    lack += max(_MIN_CONFIDENCE - own.confidence, 0) * _CONFIDENCE_COUNTS
    lack += max(abs(own.light) - _MAX_SHOWN_LIGHT, 0) / 10
    lack += max(own.unevenness - _MAX_UNEVENNESS, 0) / 5
    lack += max(own.mixed_hues - _MAX_MIXED_HUES, 0) / 5 + max(own.shadow - _MAX_SHADOW, 0) / 10
    values, units = measured(own), {"age": 10.0, "female": 2.0, "ita": 15.0}
    units["hair_lightness"] = 20.0
    for name, (low, high) in wanted.ranges.items():
        away = max(low - values[name], values[name] - high)
        lack += max(away - _CORRECTED[name], 0) / units[name]
    return lack


def moves(table: Directions, w: np.ndarray, wanted: Target) -> dict[str, float]:
    """The moves by what is predicted: who a candidate is to be, looking ahead and evenly lit.

    Args:
      table: of the directions.
      w: f32[512], of the candidate.
      wanted: what is asked.
    """
    predicted = {name: float(v) for name, v in table.predict(w).items()}
    amounts = wanted.amounts(predicted) | {name: -predicted[name] for name in ("yaw", "pitch")}
    for name in ("hat",) if wanted.glasses else ("hat", "glasses"):
        amounts[name] = min(_LEFT - predicted[name], 0.0)
    side = predicted["light"]
    amounts["light"] = float(np.clip(side, -_MAX_LIGHT, _MAX_LIGHT)) - side
    return amounts


def corrections(own: Attributes, wanted: Target) -> dict[str, float]:
    """The moves by what is measured on a candidate's rendering."""
    amounts = wanted.amounts(measured(own))
    if "age" in amounts:
        most = _CORRECTED["age"]
        amounts["age"] = float(np.clip(amounts["age"], -most, most))
    return amounts


def fitting(
    candidates: Callable[[int, int], np.ndarray], table: Directions, psi: float, wanted: Target
) -> Iterator[tuple[int, np.ndarray]]:
    """(number, w f32[512]) of the candidates that fit, in their order; then of those that fit best.

    Args:
      candidates: (first, count) -> f32[count, 512], w of a key's latents.
      table: of the directions.
      psi: truncation of these w.
      wanted: what is asked.
    """
    others: list[tuple[float, int, np.ndarray]] = []
    for block in range(_MAX_BLOCKS):
        w = candidates(block * _BLOCK, _BLOCK)
        away = table.distinctness(w) / psi
        w = table.with_distinctness(w, *(psi * limit for limit in _DISTINCTNESS))
        distance = misfit(table.predict(w), wanted)
        apart = distinctness.set_apart(w, table.mean)  # as they would be shown
        distance[defects.flawed(apart, table.mean)] = np.inf
        distance += np.abs(away - np.clip(away, *_TOO_FAR))
        for index in np.flatnonzero(distance == 0):
            yield block * _BLOCK + int(index), w[index]
        near = np.argsort(distance, kind="stable")[:TRIES]
        near = [i for i in near if distance[i] > 0]
        others += [(float(distance[i]), block * _BLOCK + int(i), w[i]) for i in near]
    for _, number, w in sorted(others, key=lambda other: other[:2])[:TRIES]:
        yield number, w


def inner_range(tone: int) -> tuple[float, float]:
    """Degrees within a band of tone, a little away from its ends."""
    low, high = identities.tone_range(tone)
    inner = min(3.0, (high - low) / 4)
    return low + inner, high - inner


def measured(own: Attributes) -> dict[str, float]:
    """A person's attributes in the units of the directions."""
    female = float(logit(own.female))
    return {
        "age": own.age,
        "female": female,
        "ita": own.ita,
        "hair_lightness": own.hair_lightness,
    }
