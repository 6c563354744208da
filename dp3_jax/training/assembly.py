"""What a run computes with, put together from the sections of its config."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from dp3_jax import models
from dp3_jax.data.feed import Companions
from dp3_jax.models.projected import Features
from dp3_jax.training.objectives import OBJECTIVES
from dp3_jax.training.objectives.objective import TrainStep
from dp3_jax.training.options import compute_dtype, optimizer_options, step_options
from dp3_jax.training.sections import Sections
from dp3_jax.training.sharding import Layout
from dp3_jax.training.state import GanState, OptimizerOptions, create_state


@dataclasses.dataclass(frozen=True)
class Networks:
    """Both networks of a run, with zeros of the shapes that they take.

    Attributes:
      generator, discriminator: they compute in `dtype`.
      generator_inputs, discriminator_inputs: for initialization.
      dtype: of the computations; parameters are f32.
      reason: why that one, for the log.
    """

    generator: nn.Module
    discriminator: nn.Module
    generator_inputs: tuple[jax.Array, ...]
    discriminator_inputs: tuple[jax.Array, ...]
    dtype: Any
    reason: str


@dataclasses.dataclass(frozen=True)
class Assembly:
    """What an update is made of.

    Attributes:
      networks: see there.
      optimizer: of both networks.
      train_step: the pure function (GanState, batch) -> (GanState, metrics).
      seed: of the fresh parameters and of the run's random numbers.
      averaged: whether the run keeps a running average of the generator.
    """

    networks: Networks
    optimizer: OptimizerOptions
    train_step: TrainStep
    seed: int
    averaged: bool


def assemble(sections: Sections, features: Features | None = None) -> Assembly:
    """The parts of a run's updates.

    Args:
      sections: of its config.
      features: taken in place of the fixed network that its losses or its discriminator look at.

    Raises:
      UserError: the weights of that network cannot be had.
    """
    train, objective = sections.train, OBJECTIVES[sections.model.family]
    dtype, reason = compute_dtype(train.compute_dtype)
    if features is None:
        features = objective.perceptual_features(sections.model, sections.losses, dtype)
    model = sections.model.description(sections.data.image_size)
    networks = Networks(
        models.build_generator(model, dtype, train.form),
        models.build_discriminator(model, dtype, train.form, features),
        models.generator_inputs(model),
        models.discriminator_inputs(model),
        dtype,
        reason,
    )
    options = step_options(train, sections.model.latent_dim)
    step = objective.train_step(options, sections.losses)
    return Assembly(networks, optimizer_options(train), step, sections.seed, train.ema_halflife > 0)


def fresh(parts: Assembly) -> GanState:
    """A state before its first step; can be traced."""
    networks = parts.networks
    return create_state(
        networks.generator,
        networks.discriminator,
        parts.optimizer,
        generator_inputs=networks.generator_inputs,
        discriminator_inputs=networks.discriminator_inputs,
        seed=parts.seed,
        ema=parts.averaged,
    )


def build(parts: Assembly, layout: Layout) -> GanState:
    """A fresh state on `layout`'s devices."""
    make = functools.partial(fresh, parts)
    # It runs once. Random numbers for so many arrays took the CPU's compiler 23 s to optimize fully (jaxlib
    # 0.10, the fusion network), 5 s like this, for the same bits.
    options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}
    return jax.jit(make, out_shardings=layout.replicated, compiler_options=options)()


def compile_step(
    train_step: TrainStep,
    state: GanState,
    layout: Layout,
    images: tuple[int, int],
    companions: Companions | None = None,
) -> TrainStep:
    """`train_step` compiled for `state`, which is donated in each call.

    Args:
      train_step: see Assembly.
      state: whose shapes it takes.
      layout: of the devices.
      images: how many there are in a micro-batch, and their side in px.
      companions: of the images.
    """
    count, size = images
    shapes = {
        "image": ((count, size, size, 3), np.uint8),
        **(companions.shapes if companions else {}),
    }
    batch = {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=layout.split)
        for name, (shape, dtype) in shapes.items()
    }
    jitted = jax.jit(
        train_step,
        in_shardings=(layout.replicated, layout.split),
        out_shardings=layout.replicated,
        donate_argnums=0,
    )
    return jitted.lower(state, batch).compile()
