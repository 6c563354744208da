"""The objective of the family `anonymizer`: `anonymizer_steps`, with a temporal loss `temporal_steps`."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dp3_jax.data.clips import ClipPairs
from dp3_jax.training import anonymizer_steps, temporal_steps
from dp3_jax.training.objectives import masked
from dp3_jax.training.objectives.objective import Generate, Objective, sample_latents
from dp3_jax.training.options import step_options
from dp3_jax.vision import masks

_DIVISORS = ("fade_halflife", "diversity_target", "feature_diversity_target")
_IMAGES_FOR_A_PAIR = 8  # one pair of video frames for so many images of a batch
_MEASURED = 64  # held-out pairs that are measured at a checkpoint
_AT_ONCE = 16  # of them


def check(config: ConfigDict) -> Iterator[str]:
    """See Objective."""
    yield from masked.check(config, _DIVISORS)
    if config.data.get("clips", "") and not config.losses.get("temporal", 0.0):
        yield "data.clips is used by losses.temporal alone, which is 0; set both or neither"


def train_step(config: ConfigDict) -> Callable[..., Any]:
    """See Objective."""
    weights = anonymizer_steps.LossOptions(**config.losses)
    step = temporal_steps.train_step if weights.temporal else anonymizer_steps.train_step
    return functools.partial(step, options=step_options(config), weights=weights)


def sample_inputs(config: ConfigDict) -> tuple[jax.Array, ...]:
    """See Objective: held-out images, the mask, latents."""
    return *masked.sample_pictures(config), sample_latents(config)


def companions(config: ConfigDict) -> ClipPairs | None:
    """Pairs of video frames, one for every _IMAGES_FOR_A_PAIR images; None without clips.

    Those of `data.clips`, or where the images come from clips too, of these; see `data.clips`.

    Raises:
      UserError: the file cannot be read or does not fit.
    """
    path = config.data.get("clips", "")
    if config.data.source == "clips" and config.losses.get("temporal", 0.0):
        path = path or config.data.path
    if not path:
        return None
    devices, micro = jax.device_count(), config.train.batch_size // config.train.accumulation
    return ClipPairs(
        path,
        image_size=config.data.image_size,
        batch_size=max(1, micro // _IMAGES_FOR_A_PAIR // devices) * devices,
        seed=config.seed,
        flip=config.data.flip,
        held_out=config.data.get("clips_held_out", 0.0),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def measure(config: ConfigDict, pairs: ClipPairs | None, generate: Generate) -> dict[str, float]:
    """See Objective: `temporal_steps.warping_error` of pairs of frames of people who are held out."""
    if pairs is None or not len(pairs.heldout["clip_first"]):
        return {}
    count = len(pairs.heldout["clip_first"])
    chosen = np.linspace(0, count - 1, min(count, _MEASURED)).round().astype(int)
    size = pairs.heldout["clip_first"].shape[1]
    key = jax.random.fold_in(jax.random.key(config.seed), 2)
    latents = jax.random.normal(key, (_AT_ONCE, config.model.latent_dim))
    errors = []
    for start in range(0, len(chosen), _AT_ONCE):
        rows = np.resize(chosen[start : start + _AT_ONCE], _AT_ONCE)  # the last ones repeat
        batch = {name: array[rows] for name, array in pairs.heldout.items()}
        mask = jnp.repeat(masks.inference_mask(size)[None], _AT_ONCE, axis=0)
        first, views = temporal_steps.clip_views(batch, mask)
        drawn = [generate((view, mask, latents)) for view in (first, views.second)]
        pair = (temporal_steps.warping_error(*two, views) for two in (drawn, (first, views.second)))
        left = min(_AT_ONCE, len(chosen) - start)
        errors.append(np.stack([np.asarray(each)[:left] for each in pair], 1))
    own, source = np.concatenate(errors).mean(0)
    return {"warping_error": float(own), "warping_error_ratio": float(own / max(source, 1e-12))}


OBJECTIVE = Objective(
    train_step=train_step,
    measure=measure,
    sample_inputs=sample_inputs,
    check=check,
    perceptual_features=masked.perceptual_features,
    companions=companions,
)
