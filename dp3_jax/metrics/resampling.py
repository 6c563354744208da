"""Intervals of means over pictures of which several show one person."""

import math
import statistics

import numpy as np

RESAMPLES = 2000  # of people, for intervals


def interval(
    values: np.ndarray,
    people: np.ndarray,
    weights: np.ndarray | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, float | None]:
    """Mean of f[n] `values` and its interval by the bootstrap over people (Efron, 1979).

    People are drawn again, not pictures: those of one person are alike. Values that are not numbers are
    left out.

    Args:
      values: of n pictures.
      people: i[n], whose they are.
      weights: f[n], what the sum of the values is divided by, instead of their number: for ratios.
      seed: of the draws.
      level: of confidence.

    Returns:
      value, low, high: None where there is nothing to average.
    """
    known = np.isfinite(values)
    values, people = np.asarray(values, np.float64)[known], np.asarray(people)[known]
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)[known]
    if not len(values) or not weights.sum():
        return {"value": None, "low": None, "high": None}
    _, group = np.unique(people, return_inverse=True)
    sums, parts = np.bincount(group, values), np.bincount(group, weights)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    below = parts[drawn].sum(1)
    ratios = sums[drawn].sum(1)[below > 0] / below[below > 0]
    tail = (1 - level) / 2
    low, high = np.quantile(ratios, (tail, 1 - tail))
    return {"value": float(sums.sum() / parts.sum()), "low": float(low), "high": float(high)}


def wilson(successes: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval (1927) of a share of `count` > 0 independent trials; sound near 0 and 1 too."""
    n, p, z = count, successes / count, statistics.NormalDist().inv_cdf((1 + level) / 2)
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # It holds p in exact arithmetic; here rounding may miss it where p is 0 or 1.
    return min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))
