"""The temporal loss: two views of one scene, filled with the same latent, must show the same face, moved.

Mean |G(second) - warp(G(first), flow)| over the pixels that both views see and both masks hide, of
  stills  photos and the same photos moved smoothly at random, whose flow is exact (Eilertsen et al., 2019,
          arXiv:1810.02575, regularise by transformed copies in the same way),
  clips   two frames of a video with estimated flow, where a file of them is given (`dp3_jax.data.clips`).
The first views of the stills are contexts that the step before fills anyway, so stills cost one more
generated image for every EVERY contexts, clips two more for each pair; the discriminator sees none of them.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dp3_jax.common import images
from dp3_jax.training import anonymizer_steps, steps
from dp3_jax.training.state import GanState
from dp3_jax.vision import inpainting_losses, masks, warping

EVERY = 2  # of the contexts that get a second view
_CARRIED_SHARE = (
    0.5  # of the stills' masks move with the face; the others stay, as between aligned frames
)


class Views(NamedTuple):
    """Pairs of views; B rows.

    Attributes:
      second: f32[B, S, S, 3] in [-1, 1].
      mask: f32[B, S, S, 1] of the second view.
      flow: f32[B, S, S, 2]; what is at p in the second view is at p + flow in the first.
      region: f32[B, S, S, 1], pixels of the second view where the two generated images are compared.
    """

    second: jax.Array
    mask: jax.Array
    flow: jax.Array
    region: jax.Array


def _masked_in_both(first: jax.Array, second: jax.Array, flow: jax.Array) -> jax.Array:
    """The pixels of the second view under its mask whose sample of the first lies all under that one's."""
    sampled = warping.warp(first, flow) > 0.999
    return second * sampled * warping.inside(flow)


def move_stills(key: jax.Array, first: jax.Array, mask: jax.Array) -> Views:
    """A second view of each photo: the same, moved smoothly at random.

    Args:
      key: random key.
      first: f32[B, S, S, 3] in [-1, 1].
      mask: f32[B, S, S, 1] of it. In half of the pairs it moves with the face and in the others it does not.
    """
    motion_key, mask_key = jax.random.split(key)
    flow = warping.random_motion(motion_key, first.shape[0], first.shape[1])
    moves = jax.random.uniform(mask_key, (first.shape[0], 1, 1, 1)) < _CARRIED_SHARE
    second_mask = jnp.where(moves, warping.carried(mask, flow), mask)
    region = _masked_in_both(mask, second_mask, flow)
    return Views(warping.warp(first, flow), second_mask, flow, region)


def clip_views(batch: steps.Batch, mask: jax.Array) -> tuple[jax.Array, Views]:
    """(first views, the rest) of the batch's frames, both under `mask`."""
    flow = batch["clip_flow"].astype(jnp.float32)
    region = _masked_in_both(mask, mask, flow) * batch["clip_visible"][..., None]
    first, second = (images.to_float(batch[name]) for name in ("clip_first", "clip_second"))
    return first, Views(second, mask, flow, region)


def difference(first: jax.Array, second: jax.Array, views: Views) -> jax.Array:
    """The loss of two generated images f32[B, S, S, 3]: mean |second - warp(first)| over the region."""
    return inpainting_losses.region_l1(second, warping.warp(first, views.flow), views.region)


def warping_error(first: jax.Array, second: jax.Array, views: Views) -> jax.Array:
    """f32[B]: mean square of second - warp(first) over the region, levels in [0, 1]; 0 of an empty one.

    As `evaluation.video_metrics.warping_error`, by the clip's flow, of images f32[B, S, S, 3] in [-1, 1].
    """
    difference = jnp.square((second - warping.warp(first, views.flow)) / 2) * views.region
    count = views.region.sum((1, 2, 3)) * first.shape[-1]
    return difference.sum((1, 2, 3)) / jnp.maximum(count, 1.0)


def temporal_loss(
    params: Any,
    fake: jax.Array,
    *,
    apply_fn: Any,
    z: jax.Array,
    stills: Views,
    clips: tuple[jax.Array, Views, jax.Array] | None,
    weight: float,
) -> tuple[jax.Array, steps.Metrics]:
    """An `anonymizer_steps.ExtraLoss`; clips are (first views, the rest, latents)."""
    pictures, regions, latents = [stills.second], [stills.mask], [z[:: 2 * EVERY]]
    if clips is not None:
        first, views, clip_z = clips
        pictures += [first, views.second]
        regions += [views.mask, views.mask]
        latents += [clip_z, clip_z]
    inputs = (jnp.concatenate(part) for part in (pictures, regions, latents))
    filled = apply_fn({"params": params}, *inputs, train=True)
    count = len(stills.second)
    found = {"temporal": difference(fake[:: 2 * EVERY], filled[:count], stills)}
    if clips is not None:
        found["temporal_clips"] = difference(*jnp.split(filled[count:], 2), views)
    return weight * jnp.stack(list(found.values())).mean(), found


def train_step(
    state: GanState,
    batch: steps.Batch,
    *,
    options: steps.StepOptions,
    weights: anonymizer_steps.LossOptions,
) -> tuple[GanState, steps.Metrics]:
    """`anonymizer_steps.train_step`, with the temporal loss added to the generator's.

    Args:
      state: the current state.
      batch: {"image": u8[B, S, S, 3]}, B even, and with clips also the rows of `data.clips.ClipPairs`.
      options, weights: see `anonymizer_steps.anonymizer_gradients`.

    Returns:
      As `anonymizer_steps.train_step`; the metrics also hold temporal, and with clips temporal_clips.
    """
    real, mask, z, keys = anonymizer_steps.draw(state, batch, options)
    own = jax.random.split(jax.random.fold_in(keys["mask"], 1), 3)
    stills = move_stills(own[0], real[:: 2 * EVERY], mask[::EVERY])
    clips = None
    if "clip_first" in batch:
        count, size = batch["clip_first"].shape[:2]
        clip_z = jax.random.normal(own[1], (count, options.latent_dim))
        clips = (*clip_views(batch, masks.random_masks(own[2], count, size)), clip_z)
    extra = functools.partial(
        temporal_loss, apply_fn=state.generator.apply_fn, z=z, stills=stills, clips=clips,
        weight=weights.temporal,
    )  # fmt: skip
    g_grads, d_grads, metrics = anonymizer_steps.anonymizer_gradients(
        state, real, mask, z, keys, options=options, weights=weights, extra=extra
    )
    return steps.apply_gradients(state, g_grads, d_grads, metrics, options)
