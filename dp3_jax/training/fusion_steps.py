"""The train step of the fusion network: what differs from `steps`, which applies the gradients.

A batch holds a donor for each image. In rows 0, 2, 4, ... the donor is the image's own face with its colours,
contrast and light changed at random (self pairs: the network learns to undo that, and the composite is
known); in rows 1, 3, 5, ... it is another person's (cross pairs: only what the surroundings tell is known).
Either way nothing under the mask reaches the network but the donor.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dp3_jax.common import images
from dp3_jax.models.fusion import FusionGenerator, FusionParts, composite
from dp3_jax.models.projected import Judgement
from dp3_jax.training import steps
from dp3_jax.training.state import GanState
from dp3_jax.vision import augmentation, inpainting_losses, losses, masks

# Lengths in px of pictures of up to 128 px; in larger ones they are as many times longer (`_length`).
BOUNDARY = 4  # width of the seam that the boundary losses look at
_EDGE = 6  # width of the donor's edge where what lies under it is taught as well
_CORE = 3  # from the donor's outline on in which the donor is to be kept
_TONE_SQUARE = 16  # side of the squares whose mean colours the tone loss compares

# How donors are changed at random: largest changes, those of cross pairs times _CROSS.
_CROSS = 0.6
_CHANNEL_GAIN, _GAIN, _GAMMA, _LIGHT = 0.25, 0.3, 0.4, 0.45
# How a donor's oval is changed: factor of its size, and px that it is moved.
_OVAL_SCALE, _OVAL_SHIFT = (0.86, 1.02), 1.0
# Of 128 px: the mean oval of CelebA's faces, near enough.
_OVAL_MIDDLE, _OVAL_AXES = (63.5, 80.0), (31.0, 39.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FusionLosses:
    """Factors of the losses; 0 leaves one out.

    Attributes:
      adversarial: binary cross-entropy; rises from 0 over the first `adversarial_rampup` updates.
      adversarial_rampup: updates; 0 for the full factor from the start.
      pixel: L1 under the mask, of self pairs.
      surroundings: L1 under the mask round the donor, of cross pairs: hair, ears and background are the
        photo's, whoever the donor is. Without it the discriminator alone says what belongs there, and soon
        teaches patterns.
      boundary: L1 on the mask's outermost pixels.
      total_variation: on the same pixels.
      content, style: on the fixed network's features and their Gram matrices, of self pairs; content also of
        cross pairs, round the donor.
      tone: L1 of mean colours over squares under the mask, of cross pairs: exposure, tint and the direction
        of light, of which no detail can be learned.
      keep: mean of 1 - alpha in the inner part of the donor, of cross pairs: the face is the donor's.
      correction: mean square of gain and bias.
      under: L1 of the fill alone under the donor's edge, of self pairs: a share of it shows there. Seen only
        through that share it becomes noise, which another alpha brings out as dots.
    """

    adversarial: float = 1.0
    adversarial_rampup: float = 0.0
    pixel: float = 0.0
    surroundings: float = 0.0
    boundary: float = 0.0
    total_variation: float = 0.0
    content: float = 0.0
    style: float = 0.0
    tone: float = 0.0
    keep: float = 0.0
    correction: float = 0.0
    under: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class FusionInputs:
    """A micro-batch as the networks see it.

    Attributes:
      real: f32[B, S, S, 3] in [-1, 1].
      mask: f32[B, S, S, 1].
      donor: f32[B, S, S, 3] in [-1, 1].
      donor_mask: f32[B, S, S, 1], inside `mask`.
    """

    real: jax.Array
    mask: jax.Array
    donor: jax.Array
    donor_mask: jax.Array


def _length(pixels: int, size: int) -> int:
    """A length in px of a picture of `size` px."""
    return pixels * max(1, size // masks.SIZE)


def _rows(array: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rows of self pairs and of cross pairs."""
    array = array.reshape(-1, 2, *array.shape[1:])
    return array[:, 0], array[:, 1]


def _strength(count: int) -> jax.Array:
    """f32[count, 1, 1, 1]: 1 for self pairs, less for cross pairs."""
    return jnp.tile(jnp.array([1.0, _CROSS]), count // 2)[:, None, None, None]


def change_donor(key: jax.Array, donor: jax.Array) -> jax.Array:
    """Donors f32[B, S, S, 3] with random gain of each channel and of all, gamma, and light from a side."""
    count, size = donor.shape[:2]
    keys = jax.random.split(key, 5)
    strength = _strength(count)

    def uniform(key: jax.Array, most: float, channels: int = 1) -> jax.Array:
        shape = (count, 1, 1, channels)
        return strength * jax.random.uniform(key, shape, minval=-most, maxval=most)

    gain = 1.0 + uniform(keys[0], _CHANNEL_GAIN, 3) + uniform(keys[1], _GAIN)
    angle = jax.random.uniform(keys[3], (count, 1, 1, 1), maxval=2 * jnp.pi)
    grid = jnp.linspace(-1.0, 1.0, size)
    ramp = jnp.cos(angle) * grid[None, None, :, None] + jnp.sin(angle) * grid[None, :, None, None]
    light = 1.0 + jnp.abs(uniform(keys[4], _LIGHT)) * ramp
    shade = jnp.clip((donor + 1.0) / 2.0, 1e-3, 1.0)
    shade = shade ** jnp.exp(uniform(keys[2], _GAMMA)) * gain * light
    return jnp.clip(shade, 0.0, 1.0) * 2.0 - 1.0


def donor_masks(key: jax.Array, oval: jax.Array, size: int) -> jax.Array:
    """f32[B, S, S, 1] from ovals f32[B, 36, 2] in px, each a little larger or smaller and moved at random."""
    keys = jax.random.split(key, 2)
    low, high = _OVAL_SCALE
    scale = jax.random.uniform(keys[0], (len(oval), 1, 2), minval=low, maxval=high)
    shift = jax.random.uniform(keys[1], (len(oval), 1, 2), minval=-1.0, maxval=1.0)
    shift = shift * _OVAL_SHIFT * max(1.0, size / masks.SIZE)
    middle = oval.mean(1, keepdims=True)
    return masks.polygon(middle + scale * (oval - middle) + shift, size)


def mean_oval(count: int, size: int) -> jax.Array:
    """f32[count, 36, 2] px: where a face's oval is, near enough."""
    angle = jnp.linspace(0.0, 2 * jnp.pi, 36, endpoint=False)
    outline = jnp.stack([_OVAL_AXES[0] * jnp.cos(angle), _OVAL_AXES[1] * jnp.sin(angle)], -1)
    outline = (outline + jnp.array(_OVAL_MIDDLE)) * (size / masks.SIZE)
    return jnp.broadcast_to(outline, (count, *outline.shape))


def _donors(batch: steps.Batch) -> tuple[jax.Array, jax.Array]:
    """Donors u8[B, S, S, 3] and their ovals f32[B, 36, 2] px of a batch.

    Of a batch without any, rows 1, 3, 5, ... get the image before them, and all one oval: for tests and for
    synthetic shapes, which have no mesh.
    """
    if "donor" in batch:
        return batch["donor"], batch["donor_oval"]
    image = batch["image"]
    count, size = image.shape[:2]
    return _rows(image)[0].repeat(2, axis=0), mean_oval(count, size)


def draw(state: GanState, batch: steps.Batch) -> tuple[FusionInputs, dict[str, jax.Array]]:
    """The inputs of the micro-batch that is `state`'s turn, and the keys of `fusion_gradients`."""
    key = jax.random.fold_in(state.rng, state.step)
    names = ("mask", "oval", "colour", "augment")
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    real = images.to_float(batch["image"])
    count, size = real.shape[:2]
    mask = masks.random_masks(keys["mask"], count, size)
    donor, oval = _donors(batch)
    donor_mask = donor_masks(keys["oval"], oval, size) * mask
    donor = change_donor(keys["colour"], images.to_float(donor))
    return FusionInputs(real, mask, donor, donor_mask), keys


def fuse_core(donor_mask: jax.Array, width: int = _CORE) -> jax.Array:
    """The donor's mask without its outermost `width` px."""
    side = 2 * _length(width, donor_mask.shape[1]) + 1
    window = (1, side, side, 1)
    return jax.lax.reduce_window(donor_mask, jnp.inf, jax.lax.min, window, (1, 1, 1, 1), "SAME")


def _taught(donor_mask: jax.Array) -> jax.Array:
    """f32[B, S, S, 1]: where the discriminator teaches the generator; not inside the donor.

    It knows renderings from photos by their texture, and photos whose light was changed by that, which gain
    and bias can do nothing about; asked to, they and the fill grow spots and scratches. There the other
    losses say what is right.
    """
    return 1.0 - fuse_core(donor_mask)


def _tone_loss(fake: jax.Array, real: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean |difference| of mean colours over squares, weighted by each square's share of the mask."""
    side = _length(_TONE_SQUARE, fake.shape[1])
    a, share = inpainting_losses.pooled(fake, mask, side)
    b, _ = inpainting_losses.pooled(real, mask, side)
    return (jnp.abs(a - b) * share).sum() / (3.0 * share.sum() + 1e-6)


def generator_losses(
    fake: jax.Array, parts: FusionParts, inputs: FusionInputs, options: FusionLosses
) -> tuple[jax.Array, steps.Metrics]:
    """The weighted sum of the losses on pixels, and each by name without its factor.

    Args:
      fake: f32[B, S, S, 3], the composites.
      parts: what they were made of.
      inputs: of the network.
      options: see FusionLosses.
    """
    own, crossed = zip(*(_rows(x) for x in (fake, inputs.real, inputs.mask)), strict=True)
    boundary = masks.boundary(inputs.mask, _length(BOUNDARY, fake.shape[1]))
    core = _rows(fuse_core(inputs.donor_mask))[1]
    ring = crossed[2] * (1.0 - _rows(inputs.donor_mask)[1])
    edge = _rows(inputs.donor_mask - fuse_core(inputs.donor_mask, _EDGE))[0]
    under = inpainting_losses.region_l1(_rows(parts.fill)[0], own[1], edge)
    correction = jnp.square(parts.gain).mean() + jnp.square(parts.bias).mean()
    lost = ((1.0 - _rows(parts.alpha)[1]) * core).sum() / (core.sum() + 1.0)
    terms = {
        "pixel": (options.pixel, inpainting_losses.region_l1(*own)),
        "surroundings": (options.surroundings, inpainting_losses.region_l1(*crossed[:2], ring)),
        "boundary": (
            options.boundary,
            inpainting_losses.region_l1(fake, inputs.real, boundary),
        ),
        "total_variation": (
            options.total_variation,
            inpainting_losses.total_variation(fake, boundary),
        ),
        "tone": (options.tone, _tone_loss(*crossed)),
        "keep": (options.keep, lost),
        "correction": (options.correction, correction),
        "under": (options.under, under),
    }
    total = sum((factor * value for factor, value in terms.values()), jnp.zeros(()))
    return total, {name: value for name, (_, value) in terms.items()}


def _judgement_losses(
    real: Judgement,
    fake: Judgement,
    ring: jax.Array,
    updates: jax.Array,
    options: FusionLosses,
) -> tuple[jax.Array, steps.Metrics]:
    """All that the generator learns from what the discriminator, and the network in it, saw.

    `ring` f32[B, S, S, 1] is what lies round the donor in the images that they saw.
    """
    factor = options.adversarial
    if options.adversarial_rampup:
        factor = factor * jnp.minimum(1.0, updates / options.adversarial_rampup)
    total = factor * losses.generator_bce(fake.logits)
    if not fake.perceptual:
        return total, {}
    known = [jax.lax.stop_gradient(feature) for feature in real.perceptual]
    targets, around = zip(*map(_rows, known), strict=True)
    found, crossed = zip(*map(_rows, fake.perceptual), strict=True)
    content = inpainting_losses.feature_distance(found, targets)
    content += inpainting_losses.region_feature_distance(crossed, around, _rows(ring)[1])
    style = inpainting_losses.style_distance(found, targets)
    total += options.content * content + options.style * style
    return total, {"content": content, "style": style}


def _augment(
    key: jax.Array, arrays: tuple[jax.Array, ...], policies: tuple[str, ...]
) -> tuple[jax.Array, ...]:
    """The same geometric augmentation for a real image, its fake and their masks."""
    if not policies:
        return arrays
    ends = np.cumsum([array.shape[-1] for array in arrays])[:-1]
    stacked = augmentation.augment(key, jnp.concatenate(arrays, -1), policies)
    return tuple(jnp.split(stacked, ends, axis=-1))


def fusion_gradients(
    state: GanState,
    inputs: FusionInputs,
    keys: dict[str, jax.Array],
    *,
    options: steps.StepOptions,
    weights: FusionLosses,
) -> tuple[Any, Any, steps.Metrics]:
    """Both networks' gradients at the same parameters, from one forward pass through each.

    Args:
      state: the current state.
      inputs: B even.
      keys: "augment".
      options, weights: see StepOptions and FusionLosses.

    Returns:
      (generator gradients, discriminator gradients, metrics).
    """
    g_state, d_state = state.generator, state.discriminator
    real, mask = inputs.real, inputs.mask
    donor = jnp.where(inputs.donor_mask > 0, inputs.donor, 0.0)
    updates = g_state.opt_state.gradient_step
    ring = mask * (1.0 - inputs.donor_mask)
    (ring,) = _augment(keys["augment"], (ring,), options.augment)

    def generate(params: Any) -> tuple[jax.Array, FusionParts]:
        given = (real, mask, donor, inputs.donor_mask)
        parts = g_state.apply_fn({"params": params}, *given, method=FusionGenerator.parts)
        return jnp.where(mask > 0, composite(parts, donor), real), parts

    def judge(params: Any, fake: jax.Array) -> list[Judgement]:
        *seen, moved = _augment(keys["augment"], (real, fake, mask), options.augment)
        return [d_state.apply_fn({"params": params}, image, moved, train=True) for image in seen]

    def discriminator_loss(judged: list[Judgement]) -> jax.Array:
        return losses.discriminator_bce(*(one.logits for one in judged), options.label_smoothing)

    def generator_loss(judged: list[Judgement], made: Any) -> tuple[jax.Array, steps.Metrics]:
        pixel, by_pixel = generator_losses(*made, inputs, weights)
        other, by_judge = _judgement_losses(*judged, ring, updates, weights)
        return pixel + other, by_pixel | by_judge

    (fake, parts), g_backward = jax.vjp(generate, g_state.params)
    judged, d_backward = jax.vjp(judge, d_state.params, fake)
    d_loss, cotangent = jax.value_and_grad(discriminator_loss)(judged)
    d_grads, _ = d_backward(cotangent)
    (on_judged, (on_fake, on_parts)), metrics = jax.grad(generator_loss, (0, 1), has_aux=True)(
        judged, (fake, parts)
    )
    _, through_judge = d_backward(on_judged)
    through_judge = through_judge * _taught(inputs.donor_mask)
    (g_grads,) = g_backward((on_fake + through_judge, on_parts))
    metrics |= {"loss_d": d_loss, **steps.judgement_metrics(*(one.logits for one in judged))}
    if options.r1_weight:
        logits = functools.partial(steps.own_logits, d_state, mask)
        d_grads, metrics["r1"] = steps.add_r1(d_grads, d_state, logits, real, options)
    return g_grads, d_grads, metrics


def train_step(
    state: GanState,
    batch: steps.Batch,
    *,
    options: steps.StepOptions,
    weights: FusionLosses,
) -> tuple[GanState, steps.Metrics]:
    """One micro-batch, as `steps.train_step`.

    Args:
      state: the current state.
      batch: {"image": u8[B, S, S, 3], "donor": the same, "donor_oval": f32[B, 36, 2] px}, B even;
        without donors see `_donors`.
      options, weights: see `fusion_gradients`.

    Returns:
      The next state and the scalars of `steps.train_step`, and each loss by its name in FusionLosses.
    """
    g_grads, d_grads, metrics = fusion_gradients(
        state, *draw(state, batch), options=options, weights=weights
    )
    return steps.apply_gradients(state, g_grads, d_grads, metrics, options)
