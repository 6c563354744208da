"""How the prior is steered: attributes of its faces are linear in w, and each has a direction of its own.

The table (weights/directions.safetensors) comes from `python -m dp3_jax.replacement.fit_directions`. For each
attribute it holds a regression, which tells the attribute from w without rendering, and a move, which changes
the attribute by one unit and, by the regressions, none of the others. A move is added to the rows of w that
change what is wanted and little else.
"""

import functools
import json
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

ROWS = 8  # of w: the prior's entry at 4 px, then its layers from 8 to 512 px
WIDTH = 512
# The rows that a move is added to: of pose and mouth where the effect for each bit of lost likeness was
# largest, of the others by eye (docs/directions.jpg).
APPLIED = {
    "yaw": (0, 1, 2),
    "pitch": (0, 1, 2),
    "mouth_opening": (2, 3),
    "mouth_width": (2, 3, 4),
    "gaze_x": (2, 3, 4, 5),
    "age": (0, 1, 2, 3, 4, 5),
    "female": (0, 1, 2, 3, 4, 5),
    "ita": (4, 5, 6, 7),
    "light": (2, 3, 4, 5),
    "fringe": (1, 2, 3),
    "hair_lightness": (4, 5, 6, 7),
    "glasses": (0, 1, 2, 3),
    "hat": (0, 1, 2, 3),
}
# Added to the diagonal of the sum of squares of w; of values around it none is much better or worse.
_RIDGE, _BINARY_RIDGE = 30.0, 100.0
TABLE = pathlib.Path(__file__).parents[1] / "weights" / "directions.safetensors"


class Directions(NamedTuple):
    """The table. Units: degrees for yaw, pitch and ita; `dp3_jax.replacement.attributes` for the others,
    but `female` is the logit of the probability, and glasses and hat are 1 with and 0 without.

    Attributes:
      names: of the attributes, n of them.
      mean: f32[512], of w over many latents.
      offset: f32[n], the attributes at the mean.
      regression: f32[n, 512]: attributes = offset + (w - mean) regression^T.
      moves: f32[n, 512], of w for one unit of each attribute.
      r2: f32[n], of the regression on held-out faces.
      spread: f32[n], standard deviation of the attribute over the prior's faces.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    offset: np.ndarray
    regression: np.ndarray
    moves: np.ndarray
    r2: np.ndarray
    spread: np.ndarray

    def predict(self, w: np.ndarray) -> dict[str, np.ndarray]:
        """Attributes f32[...] by name, of f32[..., 512] w."""
        values = self.offset + (w - self.mean) @ self.regression.T
        return {name: values[..., i] for i, name in enumerate(self.names)}

    def distinctness(self, w: np.ndarray) -> np.ndarray:
        """f32[...]: how far f32[..., 512] w lie from the mean in all that no attribute tells."""
        return np.linalg.norm(self._untold(w), axis=-1)

    def _untold(self, w: np.ndarray) -> np.ndarray:
        """f32[..., 512]: w less the mean and what attributes tell."""
        apart = w - self.mean
        known, _ = np.linalg.qr(self.regression.T)
        return apart - (apart @ known) @ known.T

    def with_distinctness(self, w: np.ndarray, low: float, high: float) -> np.ndarray:
        """f32[n, 512]: w f32[n, 512] nearer to the mean or further from it, with a `distinctness` between two
        values; what attributes tell stays.
        """
        untold = self._untold(w)
        away = np.maximum(np.linalg.norm(untold, axis=-1, keepdims=True), 1e-6)
        return w + (np.clip(away, low, high) / away - 1) * untold

    def move(self, w: np.ndarray, amounts: Mapping[str, float]) -> np.ndarray:
        """f32[8, 512]: w after moves, the amount of each in its unit.

        Args:
          w: f32[512], or f32[8, 512] as from an earlier move.
        """
        rows = np.array(np.broadcast_to(w, (ROWS, WIDTH)), np.float32)
        for name, amount in amounts.items():
            rows[list(APPLIED[name])] += np.float32(amount) * self.moves[self.names.index(name)]
        return rows


def logit(probability: np.ndarray) -> np.ndarray:
    """Of a probability, which counts as .02 at least and .98 at most: beyond it says nothing more."""
    p = np.clip(probability, 0.02, 0.98)
    return np.log(p / (1 - p))


@functools.cache
def load_directions() -> Directions:
    """The table that comes with the package; do not change its arrays."""
    from safetensors import safe_open

    with safe_open(TABLE, "np") as stored:
        names = tuple(json.loads(stored.metadata()["names"]))
        return Directions(names, *(stored.get_tensor(key) for key in Directions._fields[1:]))


def save_directions(table: Directions, path: pathlib.Path = TABLE) -> None:
    """Writes a table, atomically."""
    from safetensors.numpy import save

    from dp3_jax.common import files

    arrays = {
        key: np.ascontiguousarray(value, np.float32)
        for key, value in table._asdict().items()
        if key != "names"
    }
    files.write_bytes(path, save(arrays, {"names": json.dumps(table.names)}))


def fit(w: np.ndarray, values: Mapping[str, np.ndarray], mean: np.ndarray) -> Directions:
    """Directions from faces whose attributes were measured.

    Ridge regression of every attribute on w (Hoerl and Kennard, 1970); the move of attribute j is
    C K (K^T C K)^-1 e_j, with C the covariance of w and K all regressions: of all changes of w that change
    j by one and no other attribute, the likeliest under a normal distribution of w.

    Args:
      w: f[N, 512].
      values: f[N] by name; NaN where it is not known. Of those that are 0 or 1, both weigh the same.
      mean: f[512], of w over many latents.
    """
    mean = np.asarray(mean, np.float64)
    x = np.asarray(w, np.float64) - mean
    names = tuple(values)
    columns = [_regress(x, np.asarray(values[name], np.float64)) for name in names]
    k = np.stack([column[0] for column in columns], 1)
    c = np.cov(x.T)
    moves = np.linalg.solve(k.T @ c @ k, (c @ k).T)
    spread = np.array([np.nanstd(values[name]) for name in names])
    offset, r2 = (np.array([column[i] for column in columns]) for i in (1, 2))
    arrays = (mean, offset, k.T, moves, r2, spread)
    return Directions(names, *(np.asarray(a, np.float32) for a in arrays))


def _regress(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Coefficients f64[d], the value at x = 0, and R^2 on a fifth held out (coefficients are from all)."""
    known = np.flatnonzero(np.isfinite(y))
    binary = set(np.unique(y[known])) <= {0.0, 1.0}
    weights = np.ones(len(y))
    if binary:
        share = y[known].mean()
        weights = np.where(y > 0.5, 0.5 / share, 0.5 / (1 - share))

    def solve(rows: np.ndarray) -> tuple[np.ndarray, float]:
        share = weights[rows] / weights[rows].sum()
        middle, level = share @ x[rows], share @ y[rows]
        centred = x[rows] - middle
        weighted = centred * weights[rows, None]
        square = weighted.T @ centred + (_BINARY_RIDGE if binary else _RIDGE) * np.eye(x.shape[1])
        coefficients = np.linalg.solve(square, weighted.T @ (y[rows] - level))
        return coefficients, float(level - middle @ coefficients)

    order = np.random.default_rng(0).permutation(known)
    kept, held = order[: len(order) * 4 // 5], order[len(order) * 4 // 5 :]
    coefficients, offset = solve(kept)
    share = weights[held] / weights[held].sum()
    errors = share @ (y[held] - offset - x[held] @ coefficients) ** 2
    r2 = 1.0 - errors / max(share @ (y[held] - share @ y[held]) ** 2, 1e-12)
    return *solve(known), float(r2)
