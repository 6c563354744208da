"""The objective of the family `anonymizer`: `anonymizer_steps`, with a temporal loss `temporal_steps`."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from dp3_jax.data.clips import ClipPairs
from dp3_jax.training import anonymizer_steps, temporal_steps
from dp3_jax.training.objectives import masked
from dp3_jax.training.objectives.objective import Objective, sample_latents
from dp3_jax.training.options import step_options

_DIVISORS = ("fade_halflife", "diversity_target", "feature_diversity_target")
_IMAGES_FOR_A_PAIR = 8  # one pair of video frames for so many images of a batch


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
    """Pairs of video frames, one for every _IMAGES_FOR_A_PAIR images; None without `data.clips`.

    Raises:
      UserError: the file cannot be read or does not fit.
    """
    path = config.data.get("clips", "")
    if not path:
        return None
    devices, micro = jax.device_count(), config.train.batch_size // config.train.accumulation
    return ClipPairs(
        path,
        image_size=config.data.image_size,
        batch_size=max(1, micro // _IMAGES_FOR_A_PAIR // devices) * devices,
        seed=config.seed,
        flip=config.data.flip,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


OBJECTIVE = Objective(
    train_step=train_step,
    sample_inputs=sample_inputs,
    check=check,
    perceptual_features=masked.perceptual_features,
    companions=companions,
)
