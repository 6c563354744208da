"""Ridge regression from what an attacker sees to a recogniser's embedding of who it is."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dp3_jax.metrics import identification

# Weights of the penalty that are tried, in mean eigenvalues of the features' scalar products.
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FOLDS = 4


def unit(x: np.ndarray) -> np.ndarray:
    """f[N, D] with rows of length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


@dataclasses.dataclass(frozen=True, eq=False)
class Ridge:
    """An affine map f[N, D] -> f[N, E], fitted by least squares with a penalty.

    Attributes:
      mean_in, mean_out: what is subtracted, f64[D] and f64[E]; faces have much in common.
      weights: f64[D, E].
      penalty: of PENALTIES, the one that was taken.
    """

    mean_in: np.ndarray
    mean_out: np.ndarray
    weights: np.ndarray
    penalty: float

    def predict(self, x: np.ndarray) -> np.ndarray:
        """What the map makes of f[N, D], less mean_out, as unit rows."""
        return unit((x - self.mean_in) @ self.weights)

    def centred(self, y: np.ndarray) -> np.ndarray:
        """f[N, E] of the map's target space, as unit rows to compare predictions with."""
        return unit(y - self.mean_out)


def fit(x: np.ndarray, y: np.ndarray, penalties: Sequence[float]) -> list[Ridge]:
    """Ridge regressions of y f[N, E] on x f[N, D] (Hoerl and Kennard, 1970), in the dual form."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    mean_in, mean_out = x.mean(0), y.mean(0)
    x, y = x - mean_in, y - mean_out
    values, vectors = np.linalg.eigh(x @ x.T)
    turned, ridges = vectors.T @ y, []
    for penalty in penalties:
        shrunk = np.maximum(values, 0) + penalty * values.mean() + 1e-12
        weights = x.T @ (vectors @ (turned / shrunk[:, None]))
        ridges.append(Ridge(mean_in, mean_out, weights, penalty))
    return ridges


def train(x: np.ndarray, y: np.ndarray, people: np.ndarray) -> Ridge:
    """`fit` with the penalty that recognises people best who were left out, in FOLDS parts of the people.

    Args:
      x: f[N, D], features of anonymized pictures.
      y: f[N, E], embeddings of other, original pictures of the same people.
      people: i[N].
    """
    _, fold = np.unique(people, return_inverse=True)
    fold = fold % FOLDS
    areas = np.zeros((FOLDS, len(PENALTIES)))
    for part in range(FOLDS):
        learned, tried = fold != part, fold == part
        same = identification.same_person(people[tried], people[tried])
        for number, ridge in enumerate(fit(x[learned], y[learned], PENALTIES)):
            scores = ridge.predict(x[tried]) @ ridge.centred(y[tried]).T
            area = identification.area_under_curve(scores[same], scores[~same])
            areas[part, number] = 0.5 if area is None else area
    return fit(x, y, [PENALTIES[int(np.argmax(areas.mean(0)))]])[0]
