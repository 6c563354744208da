"""The training state: everything that a run needs to go on, as one pytree."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.training import train_state


class TrainState(train_state.TrainState):
    """One network: parameters, optimizer state, batch statistics; `step` counts accepted micro-batches."""

    batch_stats: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `apply_fn` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


class GanState(struct.PyTreeNode):
    """Both networks and what belongs to neither.

    Attributes:
      generator: TrainState.
      discriminator: TrainState.
      ema_params: running average of the generator's parameters; None when the run keeps none.
      rng: the run's key; never changes, each step folds its number in.
      step: i32, micro-batches taken from the data, which is also the position in it.
      skipped: i32, micro-batches whose gradients were not finite and were thrown away.
      skipped_in_a_row: i32, of those, the ones since the last good one.
    """

    generator: TrainState
    discriminator: TrainState
    ema_params: Any
    rng: jax.Array
    step: jax.Array
    skipped: jax.Array
    skipped_in_a_row: jax.Array

    @property
    def sampling_variables(self) -> dict[str, Any]:
        """The variables to sample with: averaged parameters if there are any, and the batch statistics."""
        params = self.generator.params if self.ema_params is None else self.ema_params
        return {"params": params, "batch_stats": self.generator.batch_stats}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """Adam for both networks, behind gradient accumulation.

    Attributes:
      generator_learning_rate, discriminator_learning_rate: per update.
      b1, b2: Adam's decay rates.
      accumulation: micro-batches per update.
      clip_norm: gradients of a network whose norm is larger are scaled down to it; 0 leaves all alone.
    """

    generator_learning_rate: float
    discriminator_learning_rate: float
    b1: float
    b2: float
    accumulation: int
    clip_norm: float = 0.0


def _optimizer(learning_rate: float, options: OptimizerOptions) -> optax.MultiSteps:
    adam = optax.adam(learning_rate, b1=options.b1, b2=options.b2)
    if options.clip_norm:
        adam = optax.chain(optax.clip_by_global_norm(options.clip_norm), adam)
    return optax.MultiSteps(adam, every_k_schedule=options.accumulation)


def _train_state(
    module: nn.Module, variables: dict[str, Any], optimizer: optax.MultiSteps
) -> TrainState:
    params = variables["params"]
    return TrainState(
        # A strong int32: TrainState.create's Python int would retrace after a restore.
        step=jnp.zeros((), jnp.int32),
        apply_fn=module.apply,
        params=params,
        tx=optimizer,
        opt_state=optimizer.init(params),
        batch_stats=variables.get("batch_stats", {}),
    )


def create_state(
    generator: nn.Module,
    discriminator: nn.Module,
    options: OptimizerOptions,
    *,
    generator_inputs: tuple[jax.Array, ...],
    discriminator_inputs: tuple[jax.Array, ...],
    seed: int,
    ema: bool,
) -> GanState:
    """A fresh state; a pure function of its arguments, to be called once under `jit`.

    `generator_inputs` and `discriminator_inputs` are arrays of the shapes that the networks take.

    (`tx` and `apply_fn` are compared by identity, so the states of two calls do not share a compiled step.
    Under `jit` the averaged parameters get buffers of their own, which donation needs.)
    """
    g_key, d_key, run_key = jax.random.split(jax.random.key(seed), 3)
    g_variables = generator.init(g_key, *generator_inputs, train=False)
    d_variables = discriminator.init(d_key, *discriminator_inputs, train=False)
    g_state = _train_state(
        generator, g_variables, _optimizer(options.generator_learning_rate, options)
    )
    d_state = _train_state(
        discriminator, d_variables, _optimizer(options.discriminator_learning_rate, options)
    )
    return GanState(
        generator=g_state,
        discriminator=d_state,
        ema_params=jax.tree.map(jnp.copy, g_state.params) if ema else None,
        rng=run_key,
        step=jnp.zeros((), jnp.int32),
        skipped=jnp.zeros((), jnp.int32),
        skipped_in_a_row=jnp.zeros((), jnp.int32),
    )
