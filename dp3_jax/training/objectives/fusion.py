"""The objective of the family `fusion`: `fusion_steps`, with donors beside the images."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dp3_jax.common import images
from dp3_jax.data.donors import DonorPairs
from dp3_jax.models.fusion import at_size, from_anonymizer
from dp3_jax.training import fusion_steps
from dp3_jax.training.objectives import masked
from dp3_jax.training.objectives.objective import Objective
from dp3_jax.training.options import step_options
from dp3_jax.vision import masks


def check(config: ConfigDict) -> Iterator[str]:
    """See Objective."""
    yield from masked.check(config)
    if not config.data.get("donors", ""):
        return
    if config.data.source != "packed":
        yield f"data.donors needs data.source=packed, not {config.data.source}"


def train_step(config: ConfigDict) -> Callable[..., Any]:
    """See Objective."""
    weights = fusion_steps.FusionLosses(**config.losses)
    return functools.partial(fusion_steps.train_step, options=step_options(config), weights=weights)


def companions(config: ConfigDict) -> DonorPairs | None:
    """A donor for each image; None without `data.donors`.

    Raises:
      UserError: they cannot be read or do not fit.
    """
    folder = config.data.get("donors", "")
    if not folder:
        return None
    micro = config.train.batch_size // config.train.accumulation
    return DonorPairs(
        folder,
        config.data.path,
        batch_size=micro,
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def sample_inputs(config: ConfigDict) -> tuple[jax.Array, ...]:
    """See Objective: held-out images, the mask, another donor in each column, their masks."""
    image, mask = masked.sample_pictures(config)
    count, columns = len(image), math.isqrt(config.log.grid_images)
    shown = images.to_uint8(np.asarray(image[::columns]))
    pairs = companions(config)
    if pairs is None:
        donor = np.stack([shown[(i // columns + i + 1) % len(shown)] for i in range(count)])
        oval = fusion_steps.mean_oval(count, config.data.image_size)
    else:
        donor, oval = pairs.matched(shown, columns)
        donor, oval = donor[:count], jnp.asarray(oval[:count])
    donor_mask = masks.polygon(oval, config.data.image_size) * mask
    return image, mask, images.to_float(jnp.asarray(donor)), donor_mask


def adopt(
    model: Mapping[str, Any], params: Mapping[str, Any], fresh: Mapping[str, Any]
) -> Mapping[str, Any]:
    """See Objective: an anonymizer's weights can be the beginning, and those of another picture size."""
    if model["family"] == "anonymizer":
        params = from_anonymizer(fresh, params)
    return at_size(fresh, params)


OBJECTIVE = Objective(
    train_step=train_step,
    sample_inputs=sample_inputs,
    check=check,
    perceptual_features=masked.perceptual_features,
    companions=companions,
    adopt=adopt,
)
