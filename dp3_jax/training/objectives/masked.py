"""What the objectives of the families that fill a masked region have in common."""

import math
from collections.abc import Collection, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dp3_jax.common import assets, images
from dp3_jax.data import load_arrays
from dp3_jax.models import perceptual
from dp3_jax.models.projected import Features
from dp3_jax.training.objectives.objective import sample_count
from dp3_jax.training.options import compute_dtype, data_options
from dp3_jax.vision import masks

_PERCEPTUAL_LOSSES = ("content", "style", "feature_diversity")


def check(config: ConfigDict, divisors: Collection[str] = ()) -> Iterator[str]:
    """Problems of such a config, see Objective; `divisors` are the keys of `losses` that must not be 0."""
    if config.train.batch_size // config.train.accumulation % 2:
        yield "train.batch_size must give micro-batches of an even number of images"
    if "color" in config.train.augment:
        yield "train.augment may hold translation and cutout with this family, not color"
    for name, weight in config.losses.items():
        if not 0 <= weight < float("inf"):
            yield f"losses.{name}={weight} is not a number of 0 or more"
        elif name in divisors and not weight:
            yield f"losses.{name}={weight} is not above 0"
    if config.model.get("projected") and config.data.image_size < 64:
        yield f"model.projected needs data.image_size=64 or more, not {config.data.image_size}"


def perceptual_features(config: ConfigDict) -> Features | None:
    """The fixed network whose features this config's losses or discriminator look at; None if none do.

    It computes in the dtype that the config's own networks compute in, and gives float32. What bfloat16 does
    to MobileNetV2's gradients depends on the picture: the cosine of the content loss's gradient with that of
    float32 is 0.98 where the fake is full of noise, 0.65 where it is the photo, a little blurred.

    Raises:
      UserError: its weights cannot be had.
    """
    wanted = any(config.losses.get(name) for name in _PERCEPTUAL_LOSSES)
    if not (wanted or config.model.get("projected")):
        return None
    dtype, _ = compute_dtype(config.train.compute_dtype)
    if config.model.perceptual == "vgg19":
        return perceptual.vgg19_features(dtype=dtype)
    return perceptual.mobilenet_features(assets.fetch("mobilenet_v2"), dtype=dtype)


def sample_pictures(config: ConfigDict) -> tuple[jax.Array, jax.Array]:
    """Held-out images and one mask for all, each image as often as fits in a row of the run's picture.

    Returns:
      f32[n, S, S, 3] in [-1, 1] and f32[n, S, S, 1]; n is `sample_count`.
    """
    count, columns = sample_count(config), math.isqrt(config.log.grid_images)
    rows = math.ceil(count / columns)
    held_out = load_arrays(data_options(config.data), "validation", limit=rows).images
    held_out = images.to_float(held_out)
    repeated = np.repeat(np.resize(held_out, (rows, *held_out.shape[1:])), columns, axis=0)[:count]
    mask = masks.inference_mask(config.data.image_size)
    return jnp.asarray(repeated), jnp.repeat(mask[None], count, axis=0)
