"""The objective of the family `fusion`: `fusion_steps`, with donors beside the images."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dp3_jax.common import images
from dp3_jax.data.donors import DonorPairs
from dp3_jax.models.fusion import at_size, from_anonymizer
from dp3_jax.training import fusion_steps
from dp3_jax.training.fusion_steps import FusionLosses
from dp3_jax.training.objectives import masked
from dp3_jax.training.objectives.objective import Objective, Parameters, Samples, TrainStep
from dp3_jax.training.sections import DataSection, Sections
from dp3_jax.training.steps import StepOptions
from dp3_jax.vision import masks


def problems(sections: Sections) -> Iterator[str]:
    """See Objective."""
    yield from masked.problems(sections)
    data = sections.data
    if data.donors and data.source != "packed":
        yield f"data.donors needs data.source=packed, not {data.source}"


def train_step(options: StepOptions, losses: FusionLosses) -> TrainStep:
    """See Objective."""
    return functools.partial(fusion_steps.train_step, options=options, weights=losses)


def companions(
    data: DataSection, losses: FusionLosses, micro_batch: int, seed: int
) -> DonorPairs | None:
    """A donor for each image; None without `data.donors`.

    Raises:
      UserError: they cannot be read or do not fit.
    """
    if not data.donors:
        return None
    return DonorPairs(
        data.donors,
        data.path,
        batch_size=micro_batch,
        seed=seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def sample_inputs(
    samples: Samples, data: DataSection, pairs: DonorPairs | None
) -> tuple[jax.Array, ...]:
    """See Objective: held-out images, the mask, another donor in each column, their masks."""
    image, mask = masked.sample_pictures(samples, data)
    count, columns = samples.count, samples.columns
    shown = images.to_uint8(np.asarray(image[::columns]))
    if pairs is None:
        donor = np.stack([shown[(i // columns + i + 1) % len(shown)] for i in range(count)])
        oval = fusion_steps.mean_oval(count, data.image_size)
    else:
        donor, oval = pairs.matched(shown, columns)
        donor, oval = donor[:count], jnp.asarray(oval[:count])
    donor_mask = masks.polygon(oval, data.image_size) * mask
    return image, mask, images.to_float(jnp.asarray(donor)), donor_mask


def adopt(model: Mapping[str, Any], params: Parameters, fresh: Parameters) -> Parameters:
    """See Objective: an anonymizer's weights can be the beginning, and those of another picture size."""
    if model["family"] == "anonymizer":
        params = from_anonymizer(fresh, params)
    return at_size(fresh, params)


OBJECTIVE = Objective(
    train_step=train_step,
    sample_inputs=sample_inputs,
    losses=FusionLosses,
    problems=problems,
    perceptual_features=masked.perceptual_features,
    companions=companions,
    adopt=adopt,
)
