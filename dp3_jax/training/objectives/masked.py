"""What the objectives of the families that fill a masked region have in common."""

import dataclasses
import math
from collections.abc import Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dp3_jax.common import assets, images
from dp3_jax.data import load_arrays
from dp3_jax.models import perceptual
from dp3_jax.models.projected import Features
from dp3_jax.training.objectives.objective import Samples
from dp3_jax.training.sections import DataSection, ModelSection, Sections
from dp3_jax.vision import masks

_PERCEPTUAL_LOSSES = ("content", "style", "feature_diversity")


def problems(sections: Sections, divisors: Collection[str] = ()) -> Iterator[str]:
    """Of such a config, see Objective; `divisors` are the factors of losses that must not be 0."""
    train, size = sections.train, sections.data.image_size
    if train.accumulation > 0 and train.micro_batch % 2:
        yield "train.batch_size must give micro-batches of an even number of images"
    if "color" in train.augment:
        yield "train.augment may hold translation and cutout with this family, not color"
    for name, weight in dataclasses.asdict(sections.losses).items():
        if not 0 <= weight < float("inf"):
            yield f"losses.{name}={weight} is not a number of 0 or more"
        elif name in divisors and not weight:
            yield f"losses.{name}={weight} is not above 0"
    if sections.model.projected and size < 64:
        yield f"model.projected needs data.image_size=64 or more, not {size}"


def perceptual_features(model: ModelSection, losses: Any, dtype: Any) -> Features | None:
    """The fixed network whose features these losses or the discriminator look at; None if none do.

    It computes in the dtype that the run's own networks compute in, and gives float32. What bfloat16 does
    to MobileNetV2's gradients depends on the picture: the cosine of the content loss's gradient with that of
    float32 is 0.98 where the fake is full of noise, 0.65 where it is the photo, a little blurred.

    Raises:
      UserError: its weights cannot be had.
    """
    wanted = any(getattr(losses, name, 0.0) for name in _PERCEPTUAL_LOSSES)
    if not (wanted or model.projected):
        return None
    if model.perceptual == "vgg19":
        return perceptual.vgg19_features(dtype=dtype)
    return perceptual.mobilenet_features(assets.fetch("mobilenet_v2"), dtype=dtype)


def sample_pictures(samples: Samples, data: DataSection) -> tuple[jax.Array, jax.Array]:
    """Held-out images and one mask for all, each image as often as fits in a row of the run's picture.

    Returns:
      f32[n, S, S, 3] in [-1, 1] and f32[n, S, S, 1]; n is `samples.count`.
    """
    count, columns = samples.count, samples.columns
    rows = math.ceil(count / columns)
    held_out = load_arrays(data, "validation", limit=rows).images
    held_out = images.to_float(held_out)
    repeated = np.repeat(np.resize(held_out, (rows, *held_out.shape[1:])), columns, axis=0)[:count]
    mask = masks.inference_mask(data.image_size)
    return jnp.asarray(repeated), jnp.repeat(mask[None], count, axis=0)
