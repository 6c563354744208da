"""Networks, and the registry that makes them from a config's `model` section."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dp3_jax.models import anonymizer, dcgan
from dp3_jax.models.projected import Features

FAMILIES = ("dcgan", "anonymizer")
# Families whose generator fills a hole in an image; every one of them must be blind to what was there.
CONDITIONAL = ("anonymizer",)


def build_generator(model: Mapping[str, Any], dtype: Any = jnp.float32) -> nn.Module:
    """The generator that `model` (a config's `model` section) describes, computing in `dtype`.

    It is applied as `generator.apply(variables, *inputs, train=False)` and returns f32[B, S, S, 3] in
    [-1, 1]. `inputs` is z f32[B, model["latent_dim"]], or for the CONDITIONAL families image
    f32[B, S, S, 3], mask f32[B, S, S, 1] and z.

    Raises:
      ValueError: the family is not one of FAMILIES.
    """
    _check_family(model)
    if model["family"] == "anonymizer":
        return anonymizer.AnonymizerGenerator(
            widths=tuple(model["generator_widths"]), style_dim=model["style_dim"], dtype=dtype
        )
    return dcgan.Generator(
        image_size=model["image_size"],
        widths=tuple(model["generator_widths"]),
        upsampling=model["upsampling"],
        negative_slope=model["negative_slope"],
        dtype=dtype,
    )


def build_discriminator(
    model: Mapping[str, Any], dtype: Any = jnp.float32, perceptual: Features | None = None
) -> nn.Module:
    """The discriminator that `model` (a config's `model` section) describes, computing in `dtype`.

    `perceptual` gives the feature maps of a fixed network, for the CONDITIONAL families; without it
    they have no projected heads, whatever `model` says.
    """
    _check_family(model)
    if model["family"] == "anonymizer":
        return anonymizer.AnonymizerDiscriminator(
            widths=tuple(model["discriminator_widths"]),
            dtype=dtype,
            perceptual=perceptual,
            projected=model.get("projected", False),
        )
    return dcgan.Discriminator(
        widths=tuple(model["discriminator_widths"]),
        dropout=model["dropout"],
        spectral_norm=model["spectral_norm"],
        negative_slope=model["negative_slope"],
        dtype=dtype,
    )


def is_conditional(model: Mapping[str, Any]) -> bool:
    """Whether the generator that `model` describes fills a hole in an image."""
    _check_family(model)
    return model["family"] in CONDITIONAL


def generator_inputs(model: Mapping[str, Any], batch: int = 1) -> tuple[jax.Array, ...]:
    """Zeros of the shapes that the generator takes, for initialization and shape checks."""
    z = jnp.zeros((batch, model["latent_dim"]))
    return (*_picture(model, batch), z) if is_conditional(model) else (z,)


def discriminator_inputs(model: Mapping[str, Any], batch: int = 1) -> tuple[jax.Array, ...]:
    """Zeros of the shapes that the discriminator takes."""
    picture = _picture(model, batch)
    return picture if is_conditional(model) else picture[:1]


def _picture(model: Mapping[str, Any], batch: int) -> tuple[jax.Array, jax.Array]:
    size = model["image_size"]
    return jnp.zeros((batch, size, size, 3)), jnp.zeros((batch, size, size, 1))


def _check_family(model: Mapping[str, Any]) -> None:
    if model["family"] not in FAMILIES:
        raise ValueError(f"unknown model family {model['family']!r}, known: {', '.join(FAMILIES)}")
