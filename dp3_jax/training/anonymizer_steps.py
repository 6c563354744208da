"""The train step of the anonymizer: what differs from `steps`, which applies the gradients.

Images come in pairs: the generator fills each context twice, with two latents, so that one batch shows what
the latent changes. A batch of B images gives B real ones and B / 2 contexts x 2 latents.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dp3_jax.common import images
from dp3_jax.models.projected import Judgement
from dp3_jax.training import steps
from dp3_jax.training.state import GanState
from dp3_jax.vision import augmentation, inpainting_losses, losses, masks

BOUNDARY_WIDTH = 4  # px, width of the mask's boundary that two losses look at
# (the generator's parameters, the batch's fakes) -> (weighted loss of the generator, metrics)
ExtraLoss = Callable[[Any, jax.Array], tuple[jax.Array, steps.Metrics]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Factors of the losses; 0 leaves one out.

    Attributes:
      adversarial: rises from 0 over the first `adversarial_rampup` updates, so that the discriminator meets
        blurred faces and not noise.
      adversarial_rampup: updates; 0 for the full factor from the start.
      hole: L1 under the mask.
      feature_matching: on the discriminator's features.
      fade_floor: share of `hole` and `feature_matching` that is left in the end: they teach quickly where a
        face is, and later only blur.
      fade_halflife: updates in which the way there halves.
      rim: L1 on the boundary of the mask.
      total_variation: on the boundary.
      content, style: on the fixed network's features and their Gram matrices.
      diversity: of a pair; its hinge ends at `diversity_target`, mean absolute difference in [-1, 1].
      feature_diversity: the same on the coarser half of the fixed network's features; its hinge ends at
        `feature_diversity_target`, mean absolute difference of features.
      temporal: between two views of one scene; see `temporal_steps`, whose train step it needs.
    """

    adversarial: float = 1.0
    adversarial_rampup: float = 0.0
    hole: float = 0.0
    feature_matching: float = 0.0
    fade_floor: float = 1.0
    fade_halflife: float = 1.0
    rim: float = 0.0
    total_variation: float = 0.0
    content: float = 0.0
    style: float = 0.0
    diversity: float = 0.0
    diversity_target: float = 0.1
    feature_diversity: float = 0.0
    feature_diversity_target: float = 0.23
    temporal: float = 0.0


def _pairs(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[B, ...] to rows 0, 2, 4, ... and rows 1, 3, 5, ..."""
    image = image.reshape(-1, 2, *image.shape[1:])
    return image[:, 0], image[:, 1]


def _twice(image: jax.Array) -> jax.Array:
    """[B, ...] to [2B, ...], each row twice."""
    return jnp.repeat(image, 2, axis=0)


def augment_pairs(
    key: jax.Array, real: jax.Array, fake: jax.Array, mask: jax.Array, policies: tuple[str, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The same geometric augmentation for both real and both fake images of a pair and their mask."""
    if not policies:
        return real, fake, _twice(mask)
    stacked = jnp.concatenate([*_pairs(real), *_pairs(fake), mask], -1)
    stacked = augmentation.augment(key, stacked, policies)
    a, b, c, d, mask = jnp.split(stacked, (3, 6, 9, 12), axis=-1)
    shape = real.shape
    return (
        jnp.stack([a, b], 1).reshape(shape),
        jnp.stack([c, d], 1).reshape(shape),
        _twice(mask),
    )


def _fade(updates: jax.Array, options: LossOptions) -> jax.Array:
    """The share of the fading losses' factors after so many updates: from 1 to `fade_floor`."""
    left = 0.5 ** (updates.astype(jnp.float32) / options.fade_halflife)
    return options.fade_floor + (1.0 - options.fade_floor) * left


def generator_losses(
    fake: jax.Array, real: jax.Array, mask: jax.Array, updates: jax.Array, options: LossOptions
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The weighted sum of the losses on pixels, and each by name without its factor.

    Args:
      fake: f32[2C, S, S, 3], two for each context.
      real: f32[C, S, S, 3], the contexts' true images.
      mask: f32[C, S, S, 1].
      updates: i32, number of the update.
      options: see LossOptions.
    """
    first, second = _pairs(fake)
    target, boundary = _twice(real), _twice(masks.boundary(mask, BOUNDARY_WIDTH))
    terms = {
        "hole": (
            options.hole * _fade(updates, options),
            inpainting_losses.region_l1(fake, target, _twice(mask)),
        ),
        "rim": (options.rim, inpainting_losses.region_l1(fake, target, boundary)),
        "total_variation": (
            options.total_variation,
            inpainting_losses.total_variation(fake, boundary),
        ),
        "diversity": (
            options.diversity,
            inpainting_losses.diversity(first, second, mask, options.diversity_target),
        ),
    }
    total = sum((factor * value for factor, value in terms.values()), jnp.zeros(()))
    return total, {name: value for name, (_, value) in terms.items()}


def _perceptual(
    of_real: Sequence[jax.Array], of_fake: Sequence[jax.Array], options: LossOptions
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Weighted sum of what looks at perceptual features, and each by name.

    The features are those of the real batch and of the fakes; 0 without any.
    """
    if not of_fake:
        return jnp.zeros(()), {}
    targets = _targets(of_real)
    content = inpainting_losses.feature_distance(of_fake, targets)
    style = inpainting_losses.style_distance(of_fake, targets)
    coarse = [_pairs(feature) for feature in of_fake[len(of_fake) // 2 :]]
    diversity = inpainting_losses.feature_diversity(
        *zip(*coarse, strict=True), options.feature_diversity_target
    )
    total = options.content * content + options.style * style
    total += options.feature_diversity * diversity
    return total, {"content": content, "style": style, "feature_diversity": diversity}


def _targets(of_real: Sequence[jax.Array]) -> list[jax.Array]:
    """Features of the contexts' true images, twice each as there are two fakes of each, and constant."""
    return [jax.lax.stop_gradient(_twice(_pairs(feature)[0])) for feature in of_real]


def _judgement_losses(
    real: Judgement, fake: Judgement, updates: jax.Array, options: LossOptions
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """All that the generator learns from what the discriminator, and the network in it, saw."""
    adversarial = losses.generator_bce(fake.logits)
    matching = inpainting_losses.feature_distance(fake.features, _targets(real.features))
    factor = options.adversarial
    if options.adversarial_rampup:
        factor = factor * jnp.minimum(1.0, updates / options.adversarial_rampup)
    total = factor * adversarial + options.feature_matching * _fade(updates, options) * matching
    perceptual, found = _perceptual(real.perceptual, fake.perceptual, options)
    return total + perceptual, {"feature_matching": matching, **found}


def _backward(
    g_backward: Callable[[jax.Array], tuple[Any]],
    cotangent: jax.Array,
    extra: ExtraLoss | None,
    params: Any,
    fake: jax.Array,
) -> tuple[Any, steps.Metrics]:
    """The generator's gradients from those at its images, and from an extra loss with its metrics."""
    if extra is None:
        return g_backward(cotangent)[0], {}
    (direct, at_fake), metrics = jax.grad(extra, (0, 1), has_aux=True)(params, fake)
    (g_grads,) = g_backward(cotangent + at_fake)
    return jax.tree.map(jnp.add, g_grads, direct), metrics


def anonymizer_gradients(
    state: GanState,
    real: jax.Array,
    mask: jax.Array,
    z: jax.Array,
    keys: dict[str, jax.Array],
    *,
    options: steps.StepOptions,
    weights: LossOptions,
    extra: ExtraLoss | None = None,
) -> tuple[Any, Any, steps.Metrics]:
    """Both networks' gradients at the same parameters, from one forward pass through each.

    Args:
      state: the current state.
      real: f32[B, S, S, 3] in [-1, 1], B even; rows 0, 2, 4, ... are the contexts.
      mask: f32[B / 2, S, S, 1].
      z: f32[B, Z].
      keys: "augment".
      options, weights: see StepOptions and LossOptions.
      extra: a further loss of the generator, which may apply it to other images.

    Returns:
      (generator gradients, discriminator gradients, metrics).
    """
    g_state, d_state = state.generator, state.discriminator
    updates = g_state.opt_state.gradient_step
    target, region = _pairs(real)[0], _twice(mask)

    def generate(params: Any) -> jax.Array:
        return g_state.apply_fn({"params": params}, _twice(target), region, z, train=True)

    def judge(params: Any, fake: jax.Array) -> list[Judgement]:
        *seen, region = augment_pairs(keys["augment"], real, fake, mask, options.augment)
        return [d_state.apply_fn({"params": params}, image, region, train=True) for image in seen]

    def discriminator_loss(judged: list[Judgement]) -> jax.Array:
        logits = (one.logits for one in judged)
        return losses.discriminator_bce(*logits, options.label_smoothing)

    def generator_loss(judged: list[Judgement], fake: jax.Array) -> tuple[jax.Array, steps.Metrics]:
        pixel, by_pixel = generator_losses(fake, target, mask, updates, weights)
        other, by_judge = _judgement_losses(*judged, updates, weights)
        return pixel + other, by_pixel | by_judge

    fake, g_backward = jax.vjp(generate, g_state.params)
    judged, d_backward = jax.vjp(judge, d_state.params, fake)
    d_loss, cotangent = jax.value_and_grad(discriminator_loss)(judged)
    d_grads, _ = d_backward(cotangent)
    (on_judged, on_fake), metrics = jax.grad(generator_loss, (0, 1), has_aux=True)(judged, fake)
    _, through_judge = d_backward(on_judged)
    g_grads, found = _backward(g_backward, on_fake + through_judge, extra, g_state.params, fake)
    metrics |= found | {
        "loss_d": d_loss,
        **steps.judgement_metrics(*(one.logits for one in judged)),
    }
    if options.r1_weight:
        logits = functools.partial(steps.own_logits, d_state, region)
        d_grads, metrics["r1"] = steps.add_r1(d_grads, d_state, logits, real, options)
    return g_grads, d_grads, metrics


def draw(
    state: GanState, batch: steps.Batch, options: steps.StepOptions
) -> tuple[jax.Array, jax.Array, jax.Array, dict[str, jax.Array]]:
    """(real, mask, z, keys) of `anonymizer_gradients` for the micro-batch that is `state`'s turn."""
    key = jax.random.fold_in(state.rng, state.step)
    names = ("z", "mask", "augment")
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    real = images.to_float(batch["image"])
    count, size = real.shape[:2]
    z = jax.random.normal(keys["z"], (count, options.latent_dim))
    mask = masks.random_masks(keys["mask"], count // 2, size)
    return real, mask, z, keys


def train_step(
    state: GanState,
    batch: steps.Batch,
    *,
    options: steps.StepOptions,
    weights: LossOptions,
) -> tuple[GanState, steps.Metrics]:
    """One micro-batch, as `steps.train_step`, with random masks and two latents for each context.

    Args:
      state: the current state.
      batch: {"image": u8[B, S, S, 3]}, B even.
      options, weights: see `anonymizer_gradients`.

    Returns:
      The next state and the scalars of `steps.train_step`, and each loss by its name in LossOptions.
    """
    g_grads, d_grads, metrics = anonymizer_gradients(
        state, *draw(state, batch, options), options=options, weights=weights
    )
    return steps.apply_gradients(state, g_grads, d_grads, metrics, options)
