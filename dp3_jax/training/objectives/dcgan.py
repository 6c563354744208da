"""The objective of the family `dcgan`: the plain GAN of `steps`."""

import functools

import jax

from dp3_jax.training import steps
from dp3_jax.training.objectives.objective import Objective, Samples, TrainStep
from dp3_jax.training.sections import DataSection


def train_step(options: steps.StepOptions, losses: None) -> TrainStep:
    """See Objective."""
    return functools.partial(steps.train_step, options=options)


def sample_inputs(samples: Samples, data: DataSection, companions: None) -> tuple[jax.Array]:
    """See Objective: latents."""
    return (samples.latents(),)


OBJECTIVE = Objective(train_step=train_step, sample_inputs=sample_inputs)
