"""The objective of the family `dcgan`: the plain GAN of `steps`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from dp3_jax.training import steps
from dp3_jax.training.objectives.objective import Objective, sample_latents
from dp3_jax.training.options import step_options


def train_step(config: ConfigDict) -> Callable[..., Any]:
    """See Objective."""
    return functools.partial(steps.train_step, options=step_options(config))


def sample_inputs(config: ConfigDict) -> tuple[jax.Array]:
    """See Objective: latents."""
    return (sample_latents(config),)


OBJECTIVE = Objective(train_step=train_step, sample_inputs=sample_inputs)
