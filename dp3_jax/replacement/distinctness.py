"""Makes the prior's persons less alike: what tells them apart is enlarged, as a caricature does.

Faces that a prior draws lie nearer to their mean than people do, so that a face verifier takes two of one
sex, age and tone for one person too often, and two releases of one photo could be linked. The table
(weights/distinctness.safetensors) comes from `python -m dp3_jax.replacement.fit_distinctness`.
"""

import functools
import pathlib

import numpy as np

TABLE = pathlib.Path(__file__).parents[1] / "weights" / "distinctness.safetensors"
# Share by which a person's distance from the mean grows. SFace takes two persons of one sex, age band and
# tone, cut by their silhouettes, for one in 21% with 0, 12% with 0.35 and 9% with 0.7 (2,280 pairs of 240
# persons); with 0.7 some eyes close.
AMOUNT = 0.5
_PARTS = 48  # dimensions that are kept; a network's embedding has 128
_RIDGE = 100.0


@functools.cache
def load_distinctness() -> np.ndarray:
    """f32[n, 512], orthonormal: the dimensions of w that tell persons apart; do not change it."""
    from safetensors.numpy import load_file

    return load_file(TABLE)["basis"].astype(np.float32)


def set_apart(w: np.ndarray, mean: np.ndarray, amount: float = AMOUNT) -> np.ndarray:
    """f32[..., 512]: w moved away from the mean, f32[512], where persons differ.

    What the regressions of `replacement.directions` tell stays: age, sex, tone, pose.
    """
    basis = load_distinctness()
    return (w + np.float32(amount) * ((w - mean) @ basis.T) @ basis).astype(np.float32)


def fit(
    w: np.ndarray, embeddings: np.ndarray, groups: np.ndarray, kept: np.ndarray, mean: np.ndarray
) -> np.ndarray:
    """f64[_PARTS, 512], orthonormal, orthogonal to `kept`: where w says how a face differs from its group.

    Ridge regression of the embeddings, less their group's mean, on w; then the singular vectors of the
    coefficients that explain most.

    Args:
      w: f[N, 512].
      embeddings: f[N, D] of length 1.
      groups: i[N].
      kept: f[m, 512], regressions whose values must not change.
      mean: f[512], of w.
    """
    apart = np.array(embeddings, np.float64)
    for group in np.unique(groups):
        apart[groups == group] -= apart[groups == group].mean(0)
    x = np.asarray(w, np.float64) - mean
    x -= x.mean(0)
    coefficients = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ apart)
    found = np.linalg.svd(coefficients, full_matrices=False)[0][:, :_PARTS]
    known, _ = np.linalg.qr(np.asarray(kept, np.float64).T)
    basis, _ = np.linalg.qr(found - known @ (known.T @ found))
    return basis.T
