"""The conditional generator and its discriminator: fill the hole in a face photo, never having seen the face.

Generator: an encoder of the image with the hole blanked, attention at the coarsest level for context from
all sides, and a decoder whose convolutions are modulated by the latent and the image's global context
together (co-modulation: Zhao et al., 2021, arXiv:2103.10428; modulation and demodulation: Karras et al.,
2020, arXiv:1912.04958). Every level adds its own RGB layer, the last one by depth-to-space.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dp3_jax.models.convolution import StridedConv
from dp3_jax.models.dcgan import depth_to_space
from dp3_jax.models.projected import HEAD, PLACES, Features, Judgement, ProjectedHead

# LeakyReLU(0.2) keeps the variance of a standard normal input with this factor.
_GAIN = math.sqrt(2.0 / (1.0 + 0.2**2))
_HALF = math.sqrt(0.5)  # of the sum of two branches of equal variance
_UNIT = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
_QUARTER = nn.initializers.variance_scaling(0.25, "fan_in", "normal")


def activate(x: jax.Array) -> jax.Array:
    """LeakyReLU, scaled to keep the variance."""
    return nn.leaky_relu(x, 0.2) * _GAIN


def space_to_depth(x: jax.Array) -> jax.Array:
    """[B, 2H, 2W, C] to [B, H, W, 4 * C]; undoes `dcgan.depth_to_space`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)


def double(x: jax.Array) -> jax.Array:
    """Twice the size, bilinear: as `jax.image.resize(..., "linear")`, by shifted sums, which are faster."""
    for axis in (1, 2):
        size = x.shape[axis]
        before = [jax.lax.slice_in_dim(x, 0, 1, axis=axis),
                  jax.lax.slice_in_dim(x, 0, size - 1, axis=axis)]  # fmt: skip
        after = [jax.lax.slice_in_dim(x, 1, size, axis=axis),
                 jax.lax.slice_in_dim(x, size - 1, size, axis=axis)]  # fmt: skip
        even = 0.75 * x + 0.25 * jnp.concatenate(before, axis)
        odd = 0.75 * x + 0.25 * jnp.concatenate(after, axis)
        shape = (*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
        x = jnp.stack([even, odd], axis + 1).reshape(shape)
    return x


def smooth(x: jax.Array) -> jax.Array:
    """[B, H, W, C] convolved with [1, 2, 1] / 4 along both sides, edges repeated.

    Its response at the Nyquist frequency is exactly zero, so what passes it has no 2-pixel grid, which a
    discriminator's strided convolutions otherwise teach a depth-to-space layer (StyleGAN2 blurs there too).
    """
    for axis in (1, 2):
        size = x.shape[axis]
        before = jnp.concatenate([jax.lax.slice_in_dim(x, 0, 1, axis=axis),
                                  jax.lax.slice_in_dim(x, 0, size - 1, axis=axis)], axis)  # fmt: skip
        after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, size, axis=axis),
                                 jax.lax.slice_in_dim(x, size - 1, size, axis=axis)], axis)  # fmt: skip
        x = 0.5 * x + 0.25 * (before + after)
    return x


def _icnr(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Small, with four equal sub-pixels: no grid at the start (Aitken et al., arXiv:1707.02937)."""
    return jnp.tile(0.3 * _UNIT(key, (*shape[:-1], shape[-1] // 4), dtype), 4)


class ModulatedConv(nn.Module):
    """3x3 convolution whose input channels are scaled by the style and whose output is scaled back.

    Equals StyleGAN2's weight modulation and demodulation, with one kernel for the whole batch: the style
    multiplies the input, and the norm of each modulated filter divides the output.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, style: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] and the style f32[B, W] to [B, H, W, features]."""
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", _UNIT, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        scale = 1.0 + nn.Dense(x.shape[-1], kernel_init=_QUARTER, name="style")(style)
        # The filters' norms relative to the plain kernel's, which is 1 at the start.
        energy = jnp.square(scale) @ jnp.square(kernel).sum((0, 1))
        back = jax.lax.rsqrt(energy + 1e-6)
        x = x * scale[:, None, None].astype(self.dtype)
        x = jax.lax.conv_general_dilated(
            x, kernel.astype(self.dtype), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return x * back[:, None, None].astype(self.dtype) + bias.astype(self.dtype)


class Attention(nn.Module):
    """Multi-head self-attention over all positions, added to its input (Vaswani et al., 2017)."""

    heads: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to the same shape."""
        batch, height, width, channels = x.shape
        tokens = x.reshape(batch, height * width, channels)
        split = (batch, height * width, 3, self.heads, channels // self.heads)
        mixed = nn.Dense(3 * channels, use_bias=False, dtype=self.dtype, name="qkv")(
            nn.LayerNorm(dtype=self.dtype, name="norm")(tokens)
        ).reshape(split)
        seen = jax.nn.dot_product_attention(mixed[:, :, 0], mixed[:, :, 1], mixed[:, :, 2])
        seen = nn.Dense(channels, dtype=self.dtype, name="out")(seen.reshape(tokens.shape))
        return ((tokens + seen) * _HALF).reshape(x.shape)


class ContextNetwork(nn.Module):
    """Encoder of an image with a blanked region and decoder back to its size; generators derive from it.

    Attributes:
      widths: channels at S/2, S/4, S/8, ... px; the last is the coarsest level.
      style_dim: length of each half of the style that modulates the decoder.
      dtype: of the computation; parameters stay float32.
      form: of the strided convolutions, see `convolution`.
    """

    widths: Sequence[int] = (32, 64, 128, 256)
    style_dim: int = 128
    dtype: Any = jnp.float32
    form: str | None = None

    def _conv(self, features: int, name: str, size: int = 3) -> nn.Module:
        return nn.Conv(features, (size, size), dtype=self.dtype, kernel_init=_UNIT, name=name)

    def _down(self, features: int, name: str) -> nn.Module:
        settings = {"dtype": self.dtype, "kernel_init": _UNIT, "form": self.form}
        return StridedConv(features, name=name, **settings)

    def _encode(
        self, context: jax.Array, mask: jax.Array, added: jax.Array | float = 0.0
    ) -> list[jax.Array]:
        """Feature maps from S/2 px down to the coarsest; `added` goes into the first one."""
        x = space_to_depth(jnp.concatenate([context, mask - 0.5], -1)).astype(self.dtype)
        x = activate(self._conv(self.widths[0], "stem")(x) + added)
        levels = [x]
        for index, features in enumerate(self.widths[1:], start=1):
            x = activate(self._down(features, f"down_{index}")(x))
            y = activate(self._conv(features, f"encode_{index}a")(x))
            y = self._conv(features, f"encode_{index}b")(y)
            x = (x + y) * _HALF
            levels.append(x)
        return levels

    def _seen(self, coarse: jax.Array) -> jax.Array:
        """f32[B, style_dim]: the half of the style that comes from the image's context."""
        pooled = coarse.mean((1, 2)).astype(jnp.float32)
        return activate(nn.Dense(self.style_dim, kernel_init=_UNIT, name="context")(pooled))

    def _decode(
        self, x: jax.Array, levels: list[jax.Array], style: jax.Array
    ) -> tuple[list[jax.Array], jax.Array | None]:
        """The decoder from the coarsest map: its maps, finest first, and the sum of its coarse RGB layers.

        That sum is f32[B, S/2, S/2, 3], or None when there is only one level above the coarsest.
        """
        x = activate(ModulatedConv(x.shape[-1], self.dtype, name="decode_coarse")(x, style))
        rgb, maps = None, []
        for index in range(len(self.widths) - 2, -1, -1):
            features = self.widths[index]
            x = double(self._conv(features, f"narrow_{index}", 1)(x))
            x = (x + levels[index]) * _HALF
            y = activate(ModulatedConv(features, self.dtype, name=f"decode_{index}a")(x, style))
            y = ModulatedConv(features, self.dtype, name=f"decode_{index}b")(y, style)
            x = activate((x + y) * _HALF)
            maps.insert(0, x)
            if index:
                shade = self._conv(3, f"rgb_{index}", 1)(x).astype(jnp.float32) * 0.3
                rgb = double(shade if rgb is None else rgb + shade)
        return maps, rgb

    def _picture(self, finest: jax.Array, rgb: jax.Array | None) -> jax.Array:
        """f32[B, S, S, 3] from the finest map and the coarse RGB layers."""
        fine = nn.Conv(12, (3, 3), dtype=self.dtype, kernel_init=_icnr, name="rgb_0")(finest)
        fine = smooth(depth_to_space(fine).astype(jnp.float32))
        # Linear, as StyleGAN2's: a saturated tanh would stop learning.
        return fine if rgb is None else fine + double(rgb)


class AnonymizerGenerator(ContextNetwork):
    """(image with a hole, mask, latent) to the image with the hole filled; attributes of ContextNetwork."""

    def _style(self, z: jax.Array, coarse: jax.Array) -> jax.Array:
        """f32[B, 2 * style_dim]: half from the latent alone, half from the image's context."""
        w = z * jax.lax.rsqrt(jnp.square(z).mean(-1, keepdims=True) + 1e-8)
        for index in range(2):
            w = activate(nn.Dense(self.style_dim, kernel_init=_UNIT, name=f"mapping_{index}")(w))
        return jnp.concatenate([w, self._seen(coarse)], -1)

    def _draw(self, levels: list[jax.Array], z: jax.Array) -> jax.Array:
        """RGB [B, S, S, 3] from the encoder's levels and the latent."""
        x = levels[-1]
        style = self._style(z, x)
        x = Attention(dtype=self.dtype, name="attention")(x)
        # The latent also enters as a coarse map, so that it can move things and not only restyle them.
        side = x.shape[1]
        sketch = nn.Dense(side * side * 16, dtype=self.dtype, kernel_init=_UNIT, name="sketch")(z)
        sketch = sketch.reshape(-1, side, side, 16)
        place = self.param("place", nn.initializers.normal(0.5), (1, side, side, 16))
        place = jnp.broadcast_to(place.astype(self.dtype), sketch.shape)
        sketch = self._conv(x.shape[-1], "sketch_in", 1)(jnp.concatenate([sketch, place], -1))
        maps, rgb = self._decode((x + 0.5 * sketch) * _HALF, levels, style)
        return self._picture(maps[0], rgb)

    @nn.compact
    def __call__(
        self, image: jax.Array, mask: jax.Array, z: jax.Array, *, train: bool = False
    ) -> jax.Array:
        """Fills the hole.

        Args:
          image: f32[B, S, S, 3] in [-1, 1]; what lies under the mask is discarded first of all.
          mask: f32[B, S, S, 1]; every pixel where it is above 0 is synthesised.
          z: f32[B, Z], standard normal.
          train: has no effect; there are no batch statistics and no dropout.

        Returns:
          f32[B, S, S, 3]; bit-identical to `image` outside the mask. Under it meant for [-1, 1], but not
          clipped.
        """
        del train
        masked = mask > 0
        # `where`, not a product: not even an infinity or a NaN under the mask passes.
        context = jnp.where(masked, 0.0, image)
        levels = self._encode(context, masked.astype(jnp.float32))
        return jnp.where(masked, self._draw(levels, z), context)


class AnonymizerDiscriminator(nn.Module):
    """(image, mask) to logits; no layer mixes images.

    Attributes:
      widths: channels of the stride-2 4x4 convolutions, one per halving of the side.
      dtype: of the computation; parameters stay float32.
      perceptual: gives feature maps of a fixed network, fine to coarse, which are part of the judgement.
      projected: judge those as well, all but the finest, with a head on each.
      form: of the convolutions, see `convolution`.
    """

    widths: Sequence[int] = (32, 64, 128, 256, 256)
    dtype: Any = jnp.float32
    perceptual: Features | None = None
    projected: bool = False
    form: str | None = None

    @nn.compact
    def __call__(
        self, image: jax.Array, mask: jax.Array, *, train: bool = False, own_only: bool = False
    ) -> Judgement:
        """Judges the image; the mask tells where to look.

        Args:
          image: f32[B, S, S, 3] in [-1, 1].
          mask: f32[B, S, S, 1].
          train: has no effect.
          own_only: leave the fixed network out.

        Returns:
          The logits f32[B] of the pixels; or f32[B, 16 * (1 + heads)], in which they count as much as a head.
        """
        del train
        x = jnp.concatenate([image, mask - 0.5], -1).astype(self.dtype)
        features = []
        settings = {"dtype": self.dtype, "kernel_init": _UNIT, "form": self.form}
        for index, width in enumerate(self.widths):
            x = activate(StridedConv(width, name=f"down_{index}", **settings)(x))
            features.append(x)
        flat = x.reshape(x.shape[0], -1)
        logit = nn.Dense(1, dtype=self.dtype, kernel_init=_UNIT, name="logit")(flat)
        logits = logit[:, 0].astype(jnp.float32)
        if self.perceptual is None or own_only:
            return Judgement(logits, features)
        maps = self.perceptual(image)
        if self.projected:
            heads = [
                ProjectedHead(_UNIT, activate, self.dtype, self.form, name=f"{HEAD}{index}")(
                    feature, mask
                )
                for index, feature in enumerate(maps[1:])
            ]
            logits = jnp.concatenate([jnp.tile(logits[:, None], PLACES), *heads], -1)
        return Judgement(logits, features, maps)
