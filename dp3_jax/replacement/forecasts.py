"""What a candidate's rendering will show: told from w and the moves that it gets, so that few are rendered.

The table (weights/forecasts.safetensors) comes from `python -m dp3_jax.replacement.fit_forecasts`: a ridge
regression of each measure on w and on how far w is moved, and by how much that errs.
"""

import functools
import json
import math
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from dp3_jax.replacement import distinctness

TABLE = pathlib.Path(__file__).parents[1] / "weights" / "forecasts.safetensors"
# What is measured on a rendering, in the order of the table; `Attributes`, but `female` is a logit.
MEASURES = (
    "fringe", "redness", "yellowness", "confidence", "light", "unevenness", "mixed_hues", "shadow",
    "age", "female", "ita", "hair_lightness",
)  # fmt: skip
# The moves that candidates get, in the order of the table.
MOVES = (
    "age", "female", "ita", "hair_lightness", "yaw", "pitch", "hat", "glasses", "light", "fringe",
)  # fmt: skip
# What is made better where it lacks, and which way that is: of these no class asks anything.
BETTERED = {"fringe": -1, "confidence": 1, "unevenness": -1, "mixed_hues": -1}
# Those are distances: their logarithms are nearer to normal ones. Below 1 they say nothing more.
_DISTANCES = "fringe", "unevenness", "mixed_hues", "shadow"
_SUREST = 0.985  # of confidence, likewise
_RIDGE, _FREE_RIDGE, _FOLDS = 600.0, 100.0, 5
# How far on the good side of the middle everybody is brought, standard deviations of what w tells. Of 60
# first candidates of two classes 48% do, of those left as they are 42%; SFace's mean cosine within a class is
# .166 and .174. Shadows bettered too, and what tells persons apart not kept: .20. With 1.5 skin grows dull.
_BETTER = 0.7


class Forecasts(NamedTuple):
    """The table; k measures, m moves.

    Attributes:
      regression: f32[k, 512 + m], on w - mean and on amounts; of the scaled measures.
      offset: f32[k].
      spread: f32[k], standard deviation of what the regression errs by, on held-out candidates.
      moves: f32[len(BETTERED), 512], of w for one unit of each measure of BETTERED.
      good: f32[len(BETTERED)], what w alone should add to each.
    """

    regression: np.ndarray
    offset: np.ndarray
    spread: np.ndarray
    moves: np.ndarray
    good: np.ndarray

    def bettered(self, w: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """f32[512]: w moved until each of BETTERED is forecast to be good; attributes stay.

        Args:
          w: f32[512], set apart.
          mean: f32[512], of w over many latents.
        """
        rows = [MEASURES.index(name) for name in BETTERED]
        lacking = self.good - self.regression[rows, : len(mean)] @ (w - mean)
        lacking = np.where(np.array(list(BETTERED.values())) * lacking > 0, lacking, 0)
        return (w + lacking @ self.moves).astype(np.float32)

    def expected(self, away: np.ndarray, amounts: Mapping[str, float]) -> dict[str, float]:
        """Measures by name, scaled; see `chance`."""
        return dict(zip(MEASURES, self._scaled(away, amounts).tolist(), strict=True))

    def effect(self, name: str) -> float:
        """Of one unit of a move on the measure of its name."""
        moves = self.regression.shape[1] - len(MOVES)
        return float(self.regression[MEASURES.index(name), moves + MOVES.index(name)])

    def _scaled(self, away: np.ndarray, amounts: Mapping[str, float]) -> np.ndarray:
        moved = np.array([amounts.get(name, 0.0) for name in MOVES], np.float32)
        return self.regression @ np.concatenate([away, moved]) + self.offset

    def chance(
        self,
        away: np.ndarray,
        amounts: Mapping[str, float],
        ranges: Mapping[str, tuple[float, float]],
    ) -> float:
        """The probability that a candidate's rendering lies in all ranges, as if they were independent.

        Args:
          away: f32[512], w - mean, set apart.
          amounts: the moves that it gets.
          ranges: (low, high) of measures by name; those that are not in the table do not count.
        """
        expected = self._scaled(away, amounts)
        which = [i for i, name in enumerate(MEASURES) if name in ranges]
        ends = np.array([[scaled(MEASURES[i], e) for e in ranges[MEASURES[i]]] for i in which])
        places = (ends - expected[which, None]) / self.spread[which, None]
        return math.prod(_below(high) - _below(low) for low, high in places.tolist())


def _below(place: float) -> float:
    """The share of a standard normal distribution that lies below a place."""
    return 0.5 * math.erfc(-place / math.sqrt(2))


def scaled(name: str, value: float) -> float:
    """A measure as the table has it: rising with it, and nearly normal round what is expected."""
    if np.isinf(value):
        return value
    if name in _DISTANCES:
        return float(np.log(max(value, 1.0)))
    if name == "confidence":
        return float(-np.log(1.0 - min(value, _SUREST)))
    return value


@functools.cache
def load_forecasts() -> Forecasts:
    """The table that comes with the package; do not change its arrays."""
    from safetensors import safe_open

    with safe_open(TABLE, "np") as stored:
        names = json.loads(stored.metadata()["names"])
        if names != [list(MEASURES), list(MOVES), list(BETTERED)]:
            raise ValueError(f"{TABLE} holds forecasts of other measures")
        return Forecasts(*(stored.get_tensor(f).astype(np.float32) for f in Forecasts._fields))


def fit(
    away: np.ndarray,
    amounts: np.ndarray,
    measures: np.ndarray,
    groups: np.ndarray,
    known: np.ndarray,
) -> tuple[Forecasts, np.ndarray]:
    """(the table, f64[N, k] what each fifth's candidates show by a fit of the other four's).

    Args:
      away: f[N, 512], w - mean of candidates, set apart.
      amounts: f[N, m], the moves that they got.
      measures: f[N, k] of their renderings, scaled.
      groups: i[N]; candidates of one group are held out together.
      known: f[n, 512], regressions of attributes on w: what they tell is fitted more freely.
    """
    along = known / (away @ known.T).std(0)[:, None]
    usual = np.maximum(amounts.std(0), 1e-6)
    features = np.concatenate([away, away @ along.T, amounts / usual], 1)
    penalty = np.full(features.shape[1], _FREE_RIDGE)
    penalty[: away.shape[1]] = _RIDGE * away.var()
    folds = np.asarray(groups) % _FOLDS
    held_out = np.zeros(measures.shape)
    for fold in range(_FOLDS):
        rest = folds != fold
        coefficients, offset = _ridge(features[rest], measures[rest], penalty)
        held_out[~rest] = features[~rest] @ coefficients + offset
    coefficients, offset = _ridge(features, measures, penalty)
    of_w, of_known, of_moves = np.split(coefficients, [away.shape[1], away.shape[1] + len(along)])
    regression = np.concatenate([of_w + along.T @ of_known, of_moves / usual[:, None]]).T
    spread = np.sqrt(((measures - held_out) ** 2).mean(0))
    arrays = regression, offset, spread, *_bettering(away, regression[:, : away.shape[1]], known)
    return Forecasts(*(np.asarray(a, np.float32) for a in arrays)), held_out


def _bettering(
    away: np.ndarray, regression: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`moves` and `good` of the table: the likeliest changes that change nothing else (`directions.fit`)."""
    rows = [MEASURES.index(name) for name in BETTERED]
    kept = [MEASURES.index(name) for name in ("redness", "yellowness")]
    apart = distinctness.load_distinctness()  # what tells persons apart stays
    told = np.concatenate([known, apart, regression[kept], regression[rows]])
    told = told / np.linalg.norm(told, axis=1, keepdims=True)
    c = np.cov(away.T)
    moves = np.linalg.solve(told @ c @ told.T, told @ c)[-len(rows) :]
    values = away @ regression[rows].T
    good = values.mean(0) + _BETTER * np.array(list(BETTERED.values())) * values.std(0)
    return moves / np.linalg.norm(regression[rows], axis=1)[:, None], good


def _ridge(x: np.ndarray, y: np.ndarray, penalty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients f64[d, k] and offsets f64[k] of ridge regression; penalty f64[d]."""
    middle, level = x.mean(0), y.mean(0)
    centred = x - middle
    square = centred.T @ centred + np.diag(penalty)
    coefficients = np.linalg.solve(square, centred.T @ (y - level))
    return coefficients, level - middle @ coefficients
