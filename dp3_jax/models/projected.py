"""Heads of a discriminator on the features of a fixed, pretrained network.

A discriminator that begins with a classifier's features knows eyes, hair and outlines from the first update
on, and tells the generator about them long before one that begins with pixels could (Projected GAN: Sauer et
al., 2021, arXiv:2111.01007; here without its random mixing of channels and scales).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dp3_jax.models.convolution import StridedConv

Features = Callable[[jax.Array], list[jax.Array]]

HEAD = "head_"  # before the number of a head, in the names of its parameters
PLACES = 16  # logits of a head: one for each of 4x4 places
_SIDE = 4  # px of the last map
_WIDTH = 64  # channels


class Judgement(NamedTuple):
    """What a discriminator says of a batch.

    Attributes:
      logits: f32[B], or f32[B, L] of L opinions that count the same; positive for real.
      features: the discriminator's own hidden layers, for feature matching.
      perceptual: the fixed network's feature maps, fine to coarse; empty without one.
    """

    logits: jax.Array
    features: list[jax.Array]
    perceptual: Sequence[jax.Array] = ()


class ProjectedHead(nn.Module):
    """Judges one feature map of a fixed network, place by place.

    Attributes:
      initializer: of the kernels.
      activate: the activation.
      dtype: of the computation; parameters stay float32.
      form: of the strided convolutions, see `convolution`.
    """

    initializer: Callable[..., jax.Array]
    activate: Callable[[jax.Array], jax.Array]
    dtype: Any = jnp.float32
    form: str | None = None

    @nn.compact
    def __call__(self, feature: jax.Array, mask: jax.Array) -> jax.Array:
        """Maps [B, h, h, C] and the mask f32[B, S, S, 1] to logits f32[B, 16].

        Raises:
          ValueError: h is not 4 times a power of two.
        """
        batch, side = feature.shape[:2]
        if side % _SIDE or (side // _SIDE) & (side // _SIDE - 1):
            raise ValueError(f"a feature map of {side} px cannot be halved down to {_SIDE}")
        factor = mask.shape[1] // side
        share = mask.reshape(batch, side, factor, side, factor, 1).mean((2, 4)) - 0.5
        x = jnp.concatenate([feature, share], -1).astype(self.dtype)
        settings = {"dtype": self.dtype, "kernel_init": self.initializer}
        x = self.activate(nn.Conv(_WIDTH, (1, 1), name="mix", **settings)(x))
        for index in range((side // _SIDE).bit_length() - 1):
            down = StridedConv(_WIDTH, form=self.form, name=f"down_{index}", **settings)
            x = self.activate(down(x))
        logit = nn.Conv(1, (3, 3), name="logit", **settings)(x)
        return logit.reshape(batch, PLACES).astype(jnp.float32)
