"""How right a picture of a new face looks to raters: a linear scorer on fixed perceptual features.

The features are channel means and deviations of MobileNetV2's maps over the masked region, and the region's
colours against those round it. `training.preference` fits the scorer; it is differentiable, so that a network
can be trained towards it, and it chooses among candidates.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from dp3_jax.common import assets, files
from dp3_jax.common.errors import UserError
from dp3_jax.models import perceptual

Maps = Callable[[jax.Array], Sequence[jax.Array]]  # as `perceptual.mobilenet_features` gives
_EPSILON = 1e-6
_PARTS = ("middle", "scale", "weights", "bias")


def features(maps: Maps, image: jax.Array, mask: jax.Array) -> jax.Array:
    """f32[B, D] of pictures f32[B, S, S, 3] in [-1, 1] and masks f32[B, S, S, 1] of 0 and 1."""
    parts = []
    for found in (image, *maps(image)):
        inside = jax.image.resize(mask, (*found.shape[:3], 1), "linear")
        parts += _moments(found, inside)
    inner, _ = _moments(image, mask)
    outer, _ = _moments(image, 1.0 - mask)
    return jnp.concatenate([*parts, inner - outer], -1)


def _moments(found: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Means and deviations of f[B, h, w, C] where f[B, h, w, 1] is high: f[B, C] each."""
    whole = weight.sum((1, 2)) + _EPSILON
    mean = (found * weight).sum((1, 2)) / whole
    square = ((found - mean[:, None, None]) ** 2 * weight).sum((1, 2)) / whole
    return mean, jnp.sqrt(square + _EPSILON)


@dataclasses.dataclass(frozen=True, eq=False)
class Scorer:
    """How right a picture looks: the logit that a rater finds nothing wrong.

    Attributes:
      middle, scale: f32[D], of the features that it was fitted on.
      weights: f32[D].
      bias: f32[].
    """

    middle: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    def __call__(self, found: jax.Array) -> jax.Array:
        """f32[B] of features f32[B, D]."""
        return ((found - self.middle) / self.scale) @ self.weights + self.bias


def scorer_beside(weights: str | os.PathLike) -> pathlib.Path:
    """Where the scorer of a refined network lies: beside it."""
    return pathlib.Path(weights).with_suffix(".scorer.safetensors")


def save_scorer(path: str | os.PathLike, scorer: Scorer) -> None:
    """Writes a scorer as a safetensors file."""
    arrays = {name: np.atleast_1d(np.asarray(getattr(scorer, name), np.float32)) for name in _PARTS}
    contiguous = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    files.write_bytes(path, safetensors.numpy.save(contiguous))


def load_scorer(path: str | os.PathLike) -> Scorer:
    """Reads what `save_scorer` wrote.

    Raises:
      UserError: there is no such file, or it is another one.
    """
    try:
        arrays = safetensors.numpy.load_file(path)
        return Scorer(*(arrays[name] for name in _PARTS[:-1]), arrays["bias"][0])
    except (OSError, safetensors.SafetensorError, KeyError) as error:
        raise UserError(f"cannot read a scorer from {path}; refine again") from error


def picture_scorer(path: str | os.PathLike) -> Callable[[np.ndarray, np.ndarray], float]:
    """A scorer's file as a function of u8[S, S, 3] and f32[S, S, 1]; it fetches MobileNetV2 once.

    Raises:
      UserError: it cannot be read, or MobileNetV2 not fetched.
    """
    scorer = load_scorer(path)
    maps = perceptual.mobilenet_features(assets.fetch("mobilenet_v2"))

    @jax.jit
    def scored(image: jax.Array, mask: jax.Array) -> jax.Array:
        return scorer(features(maps, image / 127.5 - 1.0, mask))[0]

    def score(face: np.ndarray, mask: np.ndarray) -> float:
        """How right a face looks; higher is better."""
        shown = face.astype(np.float32)[None], (mask > 0).astype(np.float32)[None]
        return float(scored(*shown))

    return score
