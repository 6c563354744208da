"""Model families: what a config's `model.family` can name, and the only place that tells them apart.

A family says how its networks are made from a config's `model` section and what they take. Packages above
this one register their own part under its name: `training.objectives` how it is trained, `evaluation.suites`
how it is measured. To add a family, add it to FAMILIES here and to the tables there.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dp3_jax.models import anonymizer, dcgan, fusion
from dp3_jax.models.projected import Features

Model = Mapping[str, Any]  # a config's `model` section, with `image_size` of its `data` section

# Channels of the inputs that are pictures f32[B, S, S, C]; the only other one is z f32[B, latent_dim].
_CHANNELS = {"image": 3, "mask": 1, "donor": 3, "donor_mask": 1}


@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of model.

    Attributes:
      name: what `model.family` calls it.
      title: what messages call it, with its article.
      takes: inputs of the generator in order: z, or pictures of the names in _CHANNELS.
      judges: inputs of the discriminator in order.
      build_generator: (model, dtype, form) to the network, which computes in dtype. It is applied as
        `network.apply(variables, *inputs, train=False)` and returns f32[B, S, S, 3] in [-1, 1]. `form` is of
        its strided and transposed convolutions, see `convolution`; None takes the backend's.
      build_discriminator: (model, dtype, form, perceptual) to the network. `perceptual` gives the feature
        maps of a fixed network, or is None; a family that does not use it ignores it.
    """

    name: str
    title: str
    takes: tuple[str, ...]
    judges: tuple[str, ...]
    build_generator: Callable[[Model, Any, str | None], nn.Module]
    build_discriminator: Callable[[Model, Any, str | None, Features | None], nn.Module]

    @property
    def fills_region(self) -> bool:
        """Whether the generator fills a masked region, and so must be blind to what was there."""
        return "mask" in self.takes

    @property
    def draws_from_latents(self) -> bool:
        """Whether the generator needs nothing but latents."""
        return self.takes == ("z",)


def _dcgan_generator(model: Model, dtype: Any, form: str | None) -> nn.Module:
    return dcgan.Generator(
        image_size=model["image_size"],
        widths=tuple(model["generator_widths"]),
        upsampling=model["upsampling"],
        negative_slope=model["negative_slope"],
        dtype=dtype,
        form=form,
    )


def _dcgan_discriminator(
    model: Model, dtype: Any, form: str | None, perceptual: Features | None
) -> nn.Module:
    del perceptual
    return dcgan.Discriminator(
        widths=tuple(model["discriminator_widths"]),
        dropout=model["dropout"],
        spectral_norm=model["spectral_norm"],
        negative_slope=model["negative_slope"],
        dtype=dtype,
        form=form,
    )


def _anonymizer_generator(model: Model, dtype: Any, form: str | None) -> nn.Module:
    return anonymizer.AnonymizerGenerator(
        widths=tuple(model["generator_widths"]),
        style_dim=model["style_dim"],
        dtype=dtype,
        form=form,
    )


def _fusion_generator(model: Model, dtype: Any, form: str | None) -> nn.Module:
    return fusion.FusionGenerator(
        widths=tuple(model["generator_widths"]),
        style_dim=model["style_dim"],
        dtype=dtype,
        form=form,
    )


def _context_discriminator(
    model: Model, dtype: Any, form: str | None, perceptual: Features | None
) -> nn.Module:
    """For images with a masked region; without `perceptual` it has no projected heads."""
    return anonymizer.AnonymizerDiscriminator(
        widths=tuple(model["discriminator_widths"]),
        dtype=dtype,
        perceptual=perceptual,
        projected=model.get("projected", False),
        form=form,
    )


DCGAN = Family(
    name="dcgan",
    title="a generator that draws whole pictures",
    takes=("z",),
    judges=("image",),
    build_generator=_dcgan_generator,
    build_discriminator=_dcgan_discriminator,
)
ANONYMIZER = Family(
    name="anonymizer",
    title="an anonymizer",
    takes=("image", "mask", "z"),
    judges=("image", "mask"),
    build_generator=_anonymizer_generator,
    build_discriminator=_context_discriminator,
)
FUSION = Family(
    name="fusion",
    title="a fusion network",
    takes=("image", "mask", "donor", "donor_mask"),
    judges=("image", "mask"),
    build_generator=_fusion_generator,
    build_discriminator=_context_discriminator,
)
FAMILIES = {family.name: family for family in (DCGAN, ANONYMIZER, FUSION)}


def family_of(model: Model) -> Family:
    """The family that a `model` section names.

    Raises:
      ValueError: there is no such family.
    """
    if model["family"] not in FAMILIES:
        raise ValueError(f"unknown model family {model['family']!r}, known: {', '.join(FAMILIES)}")
    return FAMILIES[model["family"]]


def build_generator(model: Model, dtype: Any = jnp.float32, form: str | None = None) -> nn.Module:
    """The generator that `model` describes; see Family."""
    return family_of(model).build_generator(model, dtype, form)


def build_discriminator(
    model: Model,
    dtype: Any = jnp.float32,
    form: str | None = None,
    perceptual: Features | None = None,
) -> nn.Module:
    """The discriminator that `model` describes; see Family."""
    return family_of(model).build_discriminator(model, dtype, form, perceptual)


def generator_inputs(model: Model, batch: int = 1) -> tuple[jax.Array, ...]:
    """Zeros of the shapes that the generator takes, for initialization and shape checks."""
    return _zeros(family_of(model).takes, model, batch)


def discriminator_inputs(model: Model, batch: int = 1) -> tuple[jax.Array, ...]:
    """Zeros of the shapes that the discriminator takes."""
    return _zeros(family_of(model).judges, model, batch)


def _zeros(names: tuple[str, ...], model: Model, batch: int) -> tuple[jax.Array, ...]:
    size = model["image_size"]
    return tuple(
        jnp.zeros((batch, model["latent_dim"]))
        if name == "z"
        else jnp.zeros((batch, size, size, _CHANNELS[name]))
        for name in names
    )
