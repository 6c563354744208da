"""Fitting what raters like: a logistic regression on the features of `models.preference`.

Rated faces are right or wrong, and of two faces in one place the better one shall score higher (Bradley and
Terry, 1952). With some hundred ratings nothing larger can be learned.
"""

import numpy as np
import scipy.optimize

from dp3_jax.models.preference import Scorer

_EPSILON = 1e-6
_RIDGE = 0.03  # times the mean loss of one rating
_PAIRS_COUNT = 0.5  # of a pair, beside one rating


def pairs(wrong: np.ndarray, context: np.ndarray) -> np.ndarray:
    """i64[p, 2]: rows (better, worse) of one context of which one looks less wrong."""
    found = []
    for place in np.unique(context):
        rows = np.flatnonzero(context == place)
        found += [(a, b) for a in rows for b in rows if wrong[a] < wrong[b]]
    return np.array(found, np.int64).reshape(-1, 2)


def fit(found: np.ndarray, wrong: np.ndarray, context: np.ndarray, ridge: float = _RIDGE) -> Scorer:
    """The scorer of ratings.

    Args:
      found: f32[n, D] features.
      wrong: f32[n]; 0 is right, 0.5 counts half.
      context: i64[n], of which place each is.
      ridge: factor of the squared weights.

    Raises:
      ValueError: all ratings say the same.
    """
    right = 1.0 - np.clip(wrong, 0.0, 1.0)
    if np.ptp(right) == 0:
        raise ValueError("all ratings say the same")
    middle, scale = found.mean(0), found.std(0) + _EPSILON
    x = np.asarray((found - middle) / scale, np.float64)
    both = pairs(wrong, context)
    difference = x[both[:, 0]] - x[both[:, 1]]
    # Right and wrong count alike, however many there are of each.
    share = np.clip(right.mean(), 0.05, 0.95)
    importance = right / (2 * share) + (1 - right) / (2 * (1 - share))

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = theta[:-1], theta[-1]
        z = x @ w + b
        p = 0.5 * (1 + np.tanh(z / 2))
        value = (importance * (np.logaddexp(0, z) - right * z)).mean() + ridge * w @ w
        slope = importance * (p - right) / len(x)
        gradient = np.append(x.T @ slope + 2 * ridge * w, slope.sum())
        if len(both):
            apart = difference @ w
            value += _PAIRS_COUNT * np.logaddexp(0, -apart).mean()
            falling = -0.5 * (1 - np.tanh(apart / 2)) * _PAIRS_COUNT / len(both)
            gradient[:-1] += difference.T @ falling
        return float(value), gradient

    theta = scipy.optimize.minimize(loss, np.zeros(x.shape[1] + 1), jac=True).x.astype(np.float32)
    return Scorer(middle.astype(np.float32), scale.astype(np.float32), theta[:-1], theta[-1])


def agreement(scores: np.ndarray, wrong: np.ndarray) -> float:
    """Area under the curve: how often a right face scores above a wrong one, ties half; NaN without both."""
    good, bad = scores[wrong == 0], scores[wrong > 0]
    if not len(good) or not len(bad):
        return float("nan")
    apart = good[:, None] - bad[None]
    return float((apart > 0).mean() + 0.5 * (apart == 0).mean())
