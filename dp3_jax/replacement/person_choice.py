"""Who a key is: limits and ranges that choose among its latents, from w alone and from one rendering.

Nothing here renders or reads a photo: which person a key and classes give must not depend on pixels.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from dp3_jax.replacement import defects, distinctness, forecasts, identities, light
from dp3_jax.replacement.attributes import Attributes
from dp3_jax.replacement.directions import Directions, logit
from dp3_jax.replacement.identities import Classes, Wishes

_BLOCK = 64  # candidates that are looked at together
_MAX_BLOCKS = 16  # after these the one that fits best is taken
# By the forecasts, which are too low: of those with .25 more than half do.
_LIKELY, _MIN_CHANCE = 0.3, 1e-3
_DISTANCE_COSTS = 3.0  # `misfit` of those that do not fit, beside the logarithm of a chance

CHOICE = 9  # one more whenever a key's person changes by anything here

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
_MAX_PREDICTED_FRINGE = 22.0  # by the regression, which spares renderings
_MIN_EFFECT = 0.5  # that one unit of a move is taken to have
_LEFT_FRINGE = 13.0  # likewise, what those with more are moved to
# Levels of L between the cheeks, by the regression; the photo's light is seldom that of the rendering.
_MAX_LIGHT = 3.0
TRIES = 4  # candidates that are rendered and looked at; then the best of them is taken
_SURE_SEX = 1.0  # logit of being called a woman or man, in the choice and on the rendering
# How far what is measured on a candidate may lie outside of what is wanted: it can be corrected that far.
# Moved by more, a man of 49 in place of one of 30 became a child.
# Of 900 grown persons those with a logit of less than 2 were looked at: half of the 20 read as the other sex.
_CORRECTED = {"age": 8.0, "female": -1.0, "ita": 15.0, "hair_lightness": 15.0}
# What may be measured on a candidate's rendering. Hair, a hat or a hard shadow on the forehead comes along
# with the face; nearly all that are as they should be have more confidence, of YuNet; of 640 renderings of
# all kinds 8% are more uneven at the mouth, and of one with a lipstick 20; of 300 candidates 23% have more
# mixed hues, of 160 persons 7% a deeper shadow. With 12 for the hues a yellow nose between violet cheeks came
# up on the first page of the docs.
_SHOWN = {
    "fringe": (-np.inf, 20.0),
    "confidence": (0.93, np.inf),
    "light": (-20.0, 20.0),
    "unevenness": (-np.inf, 13.0),
    "mixed_hues": (-np.inf, 10.0),
    "shadow": (-np.inf, 20.0),
}
_MAX_CAST = 12.0  # of coloured light, which `light.balanced` takes out
# Of what is beyond, how much counts as 1; a face of a confidence of .86 is none any more.
_UNITS = {"fringe": 10.0, "confidence": 0.02, "light": 10.0, "unevenness": 5.0, "mixed_hues": 5.0}
_UNITS |= {"shadow": 10.0, "age": 10.0, "female": 2.0, "ita": 15.0, "hair_lightness": 20.0}
_MAX_OWN_YAW = 20.0  # degrees: who looks away by more by nature is turned back with too much loss
# How far what is predicted of a candidate may lie outside of its range (it is moved into it), and what of
# more than that counts as 1. Which of those within come out as asked, forecasts tell.
_SLACK = {
    "ita": (12.0, 10.0),
    "age": (5.0, 12.0),
    "female": (0.5, 2.0),
    "hair_lightness": (8.0, 20.0),
}
# How far inside of the ranges predictions are brought: they err by 17 degrees, 10 years and a logit of 2.
_INSIDE = {"ita": 6.0, "age": 3.0, "female": 1.5, "hair_lightness": 3.0}
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

    def inside(self) -> "Target":
        """The same with ranges whose ends lie further inside, but not beyond their middles."""
        ranges = {}
        for name, (low, high) in self.ranges.items():
            margin = min(_INSIDE[name], (high - low) / 2)
            ranges[name] = (low + margin, high - margin)
        return dataclasses.replace(self, ranges=ranges)

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
    elif tone is not None and ranges["ita"][1] < _DARK:
        ranges["hair_lightness"] = (0.0, _MAX_DARK_HAIR)
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
    for name, (low, high) in wanted.ranges.items():
        away = np.maximum(low - predicted[name], predicted[name] - high)
        allowed, unit = _SLACK[name]
        distance += np.maximum(away - allowed, 0) / unit
    return np.where(bad, np.inf, distance)


def shortcoming(own: Attributes, wanted: Target) -> float:
    """0 where a candidate's rendering will do, else how far it is from that.

    Args:
      own: as measured on it.
      wanted: what is asked.
    """
    lack = max(light.cast(own) - _MAX_CAST, 0) / 10
    values = measured(own)
    for name, (low, high) in limits(wanted).items():
        lack += max(low - values[name], values[name] - high, 0) / _UNITS[name]
    return lack


def limits(wanted: Target) -> dict[str, tuple[float, float]]:
    """(least, most) that may be measured on a candidate's rendering, by name; coloured light apart."""
    ranges = dict(_SHOWN)
    for name, (low, high) in wanted.ranges.items():
        ranges[name] = (low - _CORRECTED[name], high + _CORRECTED[name])
    return ranges


def moves(table: Directions, w: np.ndarray, wanted: Target) -> dict[str, float]:
    """The moves by what is predicted: who a candidate is to be, looking ahead and evenly lit.

    Args:
      table: of the directions.
      w: f32[512], of the candidate.
      wanted: what is asked.
    """
    predicted = {name: float(v) for name, v in table.predict(w).items()}
    amounts = wanted.inside().amounts(predicted)
    amounts |= {name: -predicted[name] for name in ("yaw", "pitch")}
    for name in ("hat",) if wanted.glasses else ("hat", "glasses"):
        amounts[name] = min(_LEFT - predicted[name], 0.0)
    amounts["fringe"] = min(_LEFT_FRINGE - predicted["fringe"], 0.0)
    side = predicted["light"]
    amounts["light"] = float(np.clip(side, -_MAX_LIGHT, _MAX_LIGHT)) - side
    return amounts


def aimed(table: Directions, w: np.ndarray, wanted: Target) -> dict[str, float]:
    """`moves`, and more where those would not do by the forecasts: of what is asked of tone they reach half.

    Args:
      table: of the directions.
      w: f32[512], of the candidate as `shown`.
      wanted: what is asked.
    """
    forecast, amounts = forecasts.load_forecasts(), moves(table, w, wanted)
    expected = forecast.expected(w - table.mean, amounts)
    for name, (low, high) in wanted.inside().ranges.items():
        lack = float(np.clip(expected[name], low, high)) - expected[name]
        more = lack / max(forecast.effect(name), _MIN_EFFECT)
        amounts[name] = bounded(name, amounts.get(name, 0.0) + more)
    return amounts


def corrections(own: Attributes, wanted: Target) -> dict[str, float]:
    """The moves by what is measured on a candidate's rendering."""
    amounts = wanted.amounts(measured(own))
    if "age" in amounts:
        most = _CORRECTED["age"]
        amounts["age"] = float(np.clip(amounts["age"], -most, most))
    return amounts


def chance(table: Directions, w: np.ndarray, wanted: Target) -> float:
    """How likely the rendering of a candidate will do, told from f32[512] of w as `shown`."""
    ranges = limits(wanted) | light.hues(_MAX_CAST)
    return forecasts.load_forecasts().chance(w - table.mean, aimed(table, w, wanted), ranges)


def fitting(
    candidates: Callable[[int, int], np.ndarray],
    table: Directions,
    psi: float,
    wanted: Target,
    likely: float = _LIKELY,
) -> Iterator[tuple[int, np.ndarray]]:
    """(number, w f32[512]) of candidates: those that fit and will likely do, in their order; then others.

    Args:
      candidates: (first, count) -> f32[count, 512], w of a key's latents.
      table: of the directions.
      psi: truncation of these w.
      wanted: what is asked.
      likely: the `chance` from which on a candidate that fits is not weighed against others.
    """
    others: list[tuple[float, int, np.ndarray]] = []
    for block in range(_MAX_BLOCKS):
        w = candidates(block * _BLOCK, _BLOCK)
        away = table.distinctness(w) / psi
        w = table.with_distinctness(w, *(psi * limit for limit in _DISTINCTNESS))
        distance = misfit(table.predict(w), wanted)
        distance += np.abs(away - np.clip(away, *_TOO_FAR))
        nearest = np.argsort(distance, kind="stable")
        for index in nearest[: max(TRIES, np.count_nonzero(distance == 0))]:
            number = block * _BLOCK + int(index)
            if np.isinf(distance[index]):
                continue
            own = shown(table, w[index])
            if defects.flawed(own, table.mean):
                continue
            probability = chance(table, own, wanted)
            if distance[index] == 0 and probability >= likely:
                yield number, w[index]
            else:
                cost = _DISTANCE_COSTS * float(distance[index])
                cost -= math.log(max(probability, _MIN_CHANCE))
                others.append((cost, number, w[index]))
    for _, number, w in sorted(others, key=lambda other: other[:2])[:TRIES]:
        yield number, w


def shown(table: Directions, w: np.ndarray) -> np.ndarray:
    """f32[512]: w of a candidate as it is shown, before anything is asked of it: apart from others, and such
    that its rendering will likely do."""
    return forecasts.load_forecasts().bettered(distinctness.set_apart(w, table.mean), table.mean)


def inner_range(tone: int) -> tuple[float, float]:
    """Degrees within a band of tone, a little away from its ends."""
    low, high = identities.tone_range(tone)
    inner = min(3.0, (high - low) / 4)
    return low + inner, high - inner


def measured(own: Attributes) -> dict[str, float]:
    """A person's attributes in the units of the directions."""
    values = {name: getattr(own, name) for name in forecasts.MEASURES}
    return values | {"female": float(logit(own.female))}
