"""The train step and the generate step, as pure functions to be jitted by their callers.

`train_step` reads from top to bottom as the algorithm: draw latents, one forward pass through both networks,
both losses' gradients at the same parameters, optional R1, one (accumulated) update of each network.
A new loss on logits goes into `losses.py` and is added to `gan_gradients`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dp3_jax.common import images
from dp3_jax.training.state import GanState, TrainState
from dp3_jax.vision import augmentation, losses

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepOptions:
    """What the step needs to know besides the state; hashable, so it can be a static argument.

    Attributes:
      latent_dim: length of z.
      label_smoothing: one-sided, in [0, 1).
      augment: names from augmentation.POLICIES, applied to real and generated images alike.
      r1_weight: factor of the R1 penalty; 0 leaves it out.
      r1_every: updates between two R1 penalties, each then scaled by this number (lazy regularization,
        Karras et al., 2020, arXiv:1912.04958).
      ema_halflife: updates in which an old parameter's share of the average falls to half; 0: no average.
    """

    latent_dim: int
    label_smoothing: float = 0.0
    augment: tuple[str, ...] = ()
    r1_weight: float = 0.0
    r1_every: int = 16
    ema_halflife: float = 0.0


def _interleave(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Two [B, ...] to one [2B, ...], r0 f0 r1 f1 ...: so nothing moves when B is spread over devices."""
    return jnp.stack([real, fake], axis=1).reshape(-1, *real.shape[1:])


def _separate(both: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Undoes `_interleave`."""
    both = both.reshape(-1, 2, *both.shape[1:])
    return both[:, 0], both[:, 1]


def own_logits(d_state: TrainState, mask: jax.Array, params: Any, image: jax.Array) -> jax.Array:
    """Logits f32[B] by a context discriminator's own layers, for `add_r1`.

    Twice backwards through the fixed network beside them would cost more than all else.
    """
    return d_state.apply_fn({"params": params}, image, mask, train=True, own_only=True).logits


def add_r1(
    d_grads: Any,
    d_state: TrainState,
    logits_of: Callable[[Any, jax.Array], jax.Array],
    real: jax.Array,
    options: StepOptions,
) -> tuple[Any, jax.Array]:
    """Adds the lazy R1 gradient to `d_grads` in the updates whose turn it is.

    Args:
      d_grads: the discriminator's gradients so far.
      d_state: the discriminator.
      logits_of: (parameters, f32[B, S, S, 3]) -> f32[B].
      real: f32[B, S, S, 3].
      options: see StepOptions.

    Returns:
      The gradients, and the penalty (0 when it is not its turn).
    """

    def penalty(params: Any) -> jax.Array:
        return losses.r1_penalty(functools.partial(logits_of, params), real)

    def with_penalty(grads: Any) -> tuple[Any, jax.Array]:
        value, extra = jax.value_and_grad(penalty)(d_state.params)
        scale = options.r1_weight * options.r1_every
        return jax.tree.map(lambda g, e: g + scale * e, grads, extra), value

    due = d_state.opt_state.gradient_step % options.r1_every == 0
    return jax.lax.cond(due, with_penalty, lambda grads: (grads, jnp.zeros(())), d_grads)


def judgement_metrics(real_logits: jax.Array, fake_logits: jax.Array) -> Metrics:
    """loss_g, d_real and d_fake (see `train_step`) of logits f32[B]."""
    return {
        "loss_g": losses.generator_bce(fake_logits),
        "d_real": jax.nn.sigmoid(real_logits).mean(),
        "d_fake": jax.nn.sigmoid(fake_logits).mean(),
    }


def _augmented_logits(
    d_state: TrainState, key: jax.Array, options: StepOptions, params: Any, image: jax.Array
) -> jax.Array:
    """The discriminator's logits f32[B] of augmented images, with its running statistics."""
    image = augmentation.augment(key, image, options.augment)
    variables = {"params": params, "batch_stats": d_state.batch_stats}
    return d_state.apply_fn(variables, image, train=False)


def gan_gradients(
    state: GanState, real: jax.Array, z: jax.Array, keys: dict[str, jax.Array], options: StepOptions
) -> tuple[Any, Any, Any, Any, Metrics]:
    """Both networks' gradients at the same parameters, from one forward and one backward pass.

    The backward pass through the discriminator carries its own loss. Because it treats each image alone,
    the generator's cotangent at a generated image is that one times a scalar
    (`losses.generator_over_discriminator_cotangent`), so no second pass is needed.

    Args:
      state: the current state.
      real: f32[B, S, S, 3] in [-1, 1].
      z: f32[B, Z].
      keys: "augment", "dropout", "r1_augment".
      options: see StepOptions.

    Returns:
      (generator gradients, discriminator gradients, new generator batch_stats, new discriminator
      batch_stats, metrics).
    """
    g_state, d_state = state.generator, state.discriminator

    def generate(params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": g_state.batch_stats}
        fake, changed = g_state.apply_fn(variables, z, train=True, mutable=["batch_stats"])
        return fake, changed["batch_stats"]

    def judge(params: Any, both: jax.Array) -> tuple[jax.Array, Any]:
        both = augmentation.augment(keys["augment"], both, options.augment)
        variables = {"params": params, "batch_stats": d_state.batch_stats}
        rngs = {"dropout": keys["dropout"]}
        logits, changed = d_state.apply_fn(
            variables, both, train=True, rngs=rngs, mutable=["batch_stats"]
        )
        return logits, changed.get("batch_stats", {})

    fake, g_backward, g_stats = jax.vjp(generate, g_state.params, has_aux=True)
    logits, d_backward, d_stats = jax.vjp(
        judge, d_state.params, _interleave(real, fake), has_aux=True
    )

    def discriminator_loss(logits: jax.Array) -> jax.Array:
        return losses.discriminator_bce(*_separate(logits), options.label_smoothing)

    d_loss, cotangent = jax.value_and_grad(discriminator_loss)(logits)
    d_grads, image_cotangent = d_backward(cotangent)
    real_logits, fake_logits = _separate(logits)
    ratio = losses.generator_over_discriminator_cotangent(fake_logits)
    _, fake_cotangent = _separate(image_cotangent)
    (g_grads,) = g_backward(fake_cotangent * ratio[:, None, None, None])

    metrics = {"loss_d": d_loss, **judgement_metrics(real_logits, fake_logits)}
    if options.r1_weight:
        logits = functools.partial(_augmented_logits, d_state, keys["r1_augment"], options)
        d_grads, metrics["r1"] = add_r1(d_grads, d_state, logits, real, options)
    return g_grads, d_grads, g_stats, d_stats, metrics


def _update_average(average: Any, g_state: TrainState, halflife: float) -> Any:
    """Moves the averaged parameters one update, if the last micro-batch completed one."""
    decay = 0.5 ** (1.0 / halflife)
    # The first updates are averaged over what there is, or the average would remember the random start.
    updates = g_state.opt_state.gradient_step.astype(jnp.float32)
    decay = jnp.minimum(decay, (1.0 + updates) / (10.0 + updates))
    rate = jnp.where(g_state.tx.has_updated(g_state.opt_state), 1.0 - decay, 0.0)
    return optax.incremental_update(g_state.params, average, rate)


def update(
    state: GanState, real: jax.Array, z: jax.Array, keys: dict[str, jax.Array], options: StepOptions
) -> tuple[GanState, Metrics]:
    """`train_step` after its random draws; arguments as in `gan_gradients`, results as in `train_step`."""
    g_grads, d_grads, g_stats, d_stats, metrics = gan_gradients(state, real, z, keys, options)
    statistics = (g_stats, d_stats)
    return apply_gradients(state, g_grads, d_grads, metrics, options, statistics=statistics)


def apply_gradients(
    state: GanState,
    g_grads: Any,
    d_grads: Any,
    metrics: Metrics,
    options: StepOptions,
    *,
    statistics: tuple[Any, Any] = ({}, {}),
) -> tuple[GanState, Metrics]:
    """Takes one micro-batch's gradients and batch `statistics` of both networks, if all are finite.

    Returns:
      The next state, and `metrics` with the gradients' norms and the counts of skipped micro-batches.
    """
    metrics["grad_norm_g"] = optax.tree.norm(g_grads)
    metrics["grad_norm_d"] = optax.tree.norm(d_grads)
    # A norm is finite exactly when every entry is (and the square does not overflow: as bad).
    finite = jnp.isfinite(metrics["grad_norm_g"]) & jnp.isfinite(metrics["grad_norm_d"])

    def accept(state: GanState) -> GanState:
        g_state = state.generator.apply_gradients(grads=g_grads, batch_stats=statistics[0])
        d_state = state.discriminator.apply_gradients(grads=d_grads, batch_stats=statistics[1])
        average = state.ema_params
        if average is not None:
            average = _update_average(average, g_state, options.ema_halflife)
        return state.replace(
            generator=g_state,
            discriminator=d_state,
            ema_params=average,
            skipped_in_a_row=jnp.zeros((), jnp.int32),
        )

    def reject(state: GanState) -> GanState:
        return state.replace(skipped=state.skipped + 1, skipped_in_a_row=state.skipped_in_a_row + 1)

    state = jax.lax.cond(finite, accept, reject, state.replace(step=state.step + 1))
    metrics["skipped"] = state.skipped.astype(jnp.float32)
    metrics["skipped_in_a_row"] = state.skipped_in_a_row.astype(jnp.float32)
    return state, metrics


def train_step(state: GanState, batch: Batch, *, options: StepOptions) -> tuple[GanState, Metrics]:
    """One micro-batch: gradients, and an update of both networks once enough of them are accumulated.

    Simultaneous gradients make accumulation exact: k micro-batches of b give the same update as one batch
    of k * b (batch statistics aside). A micro-batch with a non-finite gradient changes nothing but the
    counters.

    Args:
      state: the current state.
      batch: {"image": u8[B, S, S, 3]}.
      options: see StepOptions.

    Returns:
      The next state and f32 scalars: loss_g, loss_d (real + fake), d_real and d_fake (mean probability of
      "real"), grad_norm_g, grad_norm_d, skipped (total so far), skipped_in_a_row, and r1 if it is on.
    """
    key = jax.random.fold_in(state.rng, state.step)
    names = ("z", "augment", "dropout", "r1_augment")
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    real = images.to_float(batch["image"])
    z = jax.random.normal(keys["z"], (real.shape[0], options.latent_dim))
    return update(state, real, z, keys, options)


def generate(apply_fn: Any, variables: Any, inputs: tuple[jax.Array, ...]) -> jax.Array:
    """Images f32[B, S, S, 3] in [-1, 1] for the generator's inputs, with the running batch statistics."""
    return apply_fn(variables, *inputs, train=False)
