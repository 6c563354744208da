"""What training asks a model family for."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dp3_jax.data.feed import Companions
from dp3_jax.models.projected import Features

Generate = Callable[[tuple[jax.Array, ...]], np.ndarray]


def _nothing(config: ConfigDict) -> None:
    return None


def _no_measure(config: ConfigDict, companions: Any, generate: Generate) -> dict[str, float]:
    return {}


def _no_problem(config: ConfigDict) -> tuple[()]:
    return ()


def _as_they_are(
    model: Mapping[str, Any], params: Mapping[str, Any], fresh: Mapping[str, Any]
) -> Mapping[str, Any]:
    return params


@dataclasses.dataclass(frozen=True)
class Objective:
    """How the models of one family are trained. Every function takes the whole config.

    Attributes:
      train_step: gives the pure function (GanState, batch) -> (GanState, metrics), as `steps.train_step`.
        The batch is {"image": u8[B, S, S, 3]} and what the companions add.
      sample_inputs: gives the fixed inputs of the generator for the run's pictures and its SSIM, at least
        `sample_count(config)` rows of each.
      check: yields one line for each value that is impossible for this family; it begins with the key.
      perceptual_features: gives the fixed network that losses or discriminator look at, or None. Raises
        UserError where its weights cannot be had.
      companions: gives what the batches hold besides images, or None. Raises UserError where it cannot be
        read.
      measure: (config, companions, generate) gives what is measured at each checkpoint besides the SSIM, by
        name; `generate` draws images f32[n, S, S, 3] for inputs such as `sample_inputs` gives.
      adopt: (model, params, fresh) gives the generator's parameters for a run that begins with those of
        `train.initial_generator`: `params` of the `model` section found there, where `fresh` are its own.
        Needed only where another family's weights can be the beginning; names and shapes are checked after.
    """

    train_step: Callable[[ConfigDict], Callable[..., Any]]
    sample_inputs: Callable[[ConfigDict], tuple[jax.Array, ...]]
    check: Callable[[ConfigDict], Iterable[str]] = _no_problem
    perceptual_features: Callable[[ConfigDict], Features | None] = _nothing
    companions: Callable[[ConfigDict], Companions | None] = _nothing
    measure: Callable[[ConfigDict, Any, Generate], dict[str, float]] = _no_measure
    adopt: Callable[[Mapping, Mapping, Mapping], Mapping[str, Any]] = _as_they_are


def sample_count(config: ConfigDict) -> int:
    """Rows of the inputs that the run's pictures and its SSIM are made of."""
    return max(config.log.grid_images, config.log.ssim_generated)


def sample_latents(config: ConfigDict) -> jax.Array:
    """Fixed latents for the run's pictures, f32[sample_count, Z]."""
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    return jax.random.normal(key, (sample_count(config), config.model.latent_dim))
