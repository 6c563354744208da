"""Networks, and the registry that makes them from a config's `model` section."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from dp3_jax.models import dcgan

FAMILIES = ("dcgan",)


def build_generator(model: Mapping[str, Any], dtype: Any = jnp.float32) -> nn.Module:
    """The generator that `model` (a config's `model` section) describes, computing in `dtype`.

    It is applied as `generator.apply(variables, z, train=False)` with z f32[B, model["latent_dim"]] and
    returns f32[B, S, S, 3] in [-1, 1].

    Raises:
      ValueError: the family is not one of FAMILIES.
    """
    _check_family(model)
    return dcgan.Generator(
        image_size=model["image_size"],
        widths=tuple(model["generator_widths"]),
        upsampling=model["upsampling"],
        negative_slope=model["negative_slope"],
        dtype=dtype,
    )


def build_discriminator(model: Mapping[str, Any], dtype: Any = jnp.float32) -> nn.Module:
    """The discriminator that `model` (a config's `model` section) describes, computing in `dtype`."""
    _check_family(model)
    return dcgan.Discriminator(
        widths=tuple(model["discriminator_widths"]),
        dropout=model["dropout"],
        spectral_norm=model["spectral_norm"],
        negative_slope=model["negative_slope"],
        dtype=dtype,
    )


def _check_family(model: Mapping[str, Any]) -> None:
    if model["family"] not in FAMILIES:
        raise ValueError(f"unknown model family {model['family']!r}, known: {', '.join(FAMILIES)}")
