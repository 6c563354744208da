"""What training asks a model family for."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from dp3_jax.data.feed import Companions
from dp3_jax.models.projected import Features
from dp3_jax.training.sections import DataSection, LogSection, ModelSection, Sections
from dp3_jax.training.steps import StepOptions

Generate = Callable[[tuple[jax.Array, ...]], np.ndarray]
TrainStep = Callable[..., Any]  # (GanState, batch) -> (GanState, metrics)
Parameters = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Samples:
    """What a run's pictures and its SSIM are made of.

    Attributes:
      count: rows of the generator's inputs.
      columns: of the pictures in one row of a grid.
      latent_dim: numbers in a latent; 0 for a family without any.
      seed: of the latents.
    """

    count: int
    columns: int
    latent_dim: int
    seed: int

    @classmethod
    def of(cls, log: LogSection, model: ModelSection, seed: int) -> "Samples":
        """As many as the larger of the two asks for."""
        count = max(log.grid_images, log.ssim_generated)
        return cls(count, math.isqrt(log.grid_images), model.latent_dim or 0, seed)

    def latents(self) -> jax.Array:
        """Fixed ones, f32[count, Z]."""
        key = jax.random.fold_in(jax.random.key(self.seed), 1)
        return jax.random.normal(key, (self.count, self.latent_dim))


def _no_problem(sections: Sections) -> tuple[()]:
    return ()


def _no_features(model: ModelSection, losses: Any, dtype: Any) -> None:
    return None


def _no_companions(data: DataSection, losses: Any, micro_batch: int, seed: int) -> None:
    return None


def _no_measure(companions: Any, samples: Samples, generate: Generate) -> dict[str, float]:
    return {}


def _as_they_are(model: Mapping, params: Parameters, fresh: Parameters) -> Parameters:
    return params


@dataclasses.dataclass(frozen=True)
class Objective:
    """How the models of one family are trained.

    Attributes:
      train_step: (options, losses) gives the pure function (GanState, batch) -> (GanState, metrics), as
        `steps.train_step`. The batch is {"image": u8[B, S, S, 3]} and what the companions add.
      sample_inputs: (samples, data, companions) gives the fixed inputs of the generator for the run's
        pictures and its SSIM, `samples.count` rows of each.
      losses: the dataclass that the config's `losses` section is made into, its factors; None without any.
      problems: yields one line for each value that is impossible for this family; it begins with the key.
      perceptual_features: (model, losses, dtype) gives the fixed network that losses or discriminator look
        at, or None. Raises UserError where its weights cannot be had.
      companions: (data, losses, images in a micro-batch, seed) gives what the batches hold besides images,
        or None. Raises UserError where it cannot be read.
      measure: (companions, samples, generate) gives what is measured at each checkpoint besides the SSIM, by
        name; `generate` draws images f32[n, S, S, 3] for inputs such as `sample_inputs` gives.
      adopt: (model, params, fresh) gives the generator's parameters for a run that begins with those of
        `train.initial_generator`: `params` of the `model` section found there, where `fresh` are its own.
        Needed only where another family's weights can be the beginning; names and shapes are checked after.
    """

    train_step: Callable[[StepOptions, Any], TrainStep]
    sample_inputs: Callable[[Samples, DataSection, Any], tuple[jax.Array, ...]]
    losses: type[Any] | None = None
    problems: Callable[[Sections], Iterable[str]] = _no_problem
    perceptual_features: Callable[[ModelSection, Any, Any], Features | None] = _no_features
    companions: Callable[[DataSection, Any, int, int], Companions | None] = _no_companions
    measure: Callable[[Any, Samples, Generate], dict[str, float]] = _no_measure
    adopt: Callable[[Mapping, Parameters, Parameters], Parameters] = _as_they_are
