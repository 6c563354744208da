"""The prototype's networks: a DCGAN (Radford et al., 2016, arXiv:1511.06434) for square images.

Generator: dense, batch normalization, LeakyReLU, then one stride-2 upsampling per doubling of the side.
Discriminator: one strided convolution per halving, LeakyReLU, dropout, and a dense layer to one logit.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dp3_jax.models.convolution import StridedConv, TransposedConv
from dp3_jax.models.dropout import Dropout

# DCGAN section 3: all weights start from a normal distribution of standard deviation 0.02.
KERNEL_INIT = nn.initializers.normal(0.02)


def _scale_init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)


def depth_to_space(x: jax.Array) -> jax.Array:
    """[B, H, W, 4 * C] to [B, 2H, 2W, C]; channel r * C + c goes to row r // 2, column r % 2."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)


def _icnr_init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Starts the four sub-pixels equal: no grid (Aitken et al., arXiv:1707.02937)."""
    kernel = KERNEL_INIT(key, (*shape[:-1], shape[-1] // 4), dtype)
    return jnp.tile(kernel, 4)


class PixelShuffleConv(nn.Module):
    """3x3 convolution to 4 * features channels, then depth to space: upsampling without checkerboards."""

    features: int
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, 2H, 2W, features]."""
        x = nn.Conv(
            4 * self.features,
            (3, 3),
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=_icnr_init,
        )(x)
        return depth_to_space(x)


class Generator(nn.Module):
    """Latent vector to image.

    Attributes:
      image_size: side of the square output in pixels; a power of two.
      widths: channels after the dense layer and after each hidden upsampling. The last upsampling goes to
        RGB, so the dense layer makes a map of side image_size / 2 ** len(widths).
      upsampling: "transposed" (4x4, stride 2) or "pixel_shuffle" (3x3 and depth to space).
      negative_slope: of the LeakyReLU.
      dtype: of the computation; parameters and batch statistics stay float32.
      form: of the convolutions, see `convolution`.
    """

    image_size: int
    widths: Sequence[int]
    upsampling: str = "transposed"
    negative_slope: float = 0.2
    dtype: Any = jnp.float32
    form: str | None = None

    def _upsample(self, features: int, *, use_bias: bool, name: str) -> nn.Module:
        if self.upsampling == "pixel_shuffle":
            return PixelShuffleConv(features, use_bias=use_bias, dtype=self.dtype, name=name)
        return TransposedConv(
            features,
            use_bias=use_bias,
            dtype=self.dtype,
            kernel_init=KERNEL_INIT,
            form=self.form,
            name=name,
        )

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool) -> jax.Array:
        """Maps z f32[B, Z] to images f32[B, S, S, 3] in [-1, 1].

        With train=True batch statistics are used and `batch_stats` must be mutable.
        """

        def normalize(x: jax.Array, name: str) -> jax.Array:
            # Momentum and epsilon of the DCGAN authors' code (PyTorch's 0.1 is Flax's 0.9).
            x = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                epsilon=1e-5,
                dtype=self.dtype,
                scale_init=_scale_init,
                name=name,
            )(x)
            return nn.leaky_relu(x, self.negative_slope)

        side = self.image_size // 2 ** len(self.widths)
        x = nn.Dense(
            side * side * self.widths[0],
            use_bias=False,
            dtype=self.dtype,
            kernel_init=KERNEL_INIT,
            name="dense",
        )(z)
        x = normalize(x.reshape(-1, side, side, self.widths[0]), "norm_0")
        for index, features in enumerate(self.widths[1:], start=1):
            x = self._upsample(features, use_bias=False, name=f"up_{index}")(x)
            x = normalize(x, f"norm_{index}")
        x = self._upsample(3, use_bias=True, name="to_rgb")(x)
        return jnp.tanh(x.astype(jnp.float32))


class Discriminator(nn.Module):
    """Image to one logit per image; no layer mixes images, so a batch may hold real and generated ones.

    Attributes:
      widths: channels of the stride-2 4x4 convolutions, one per halving of the side.
      dropout: share of activations dropped after each LeakyReLU, in [0, 1).
      spectral_norm: divide each kernel by its largest singular value (Miyato et al., 2018, arXiv:1802.05957).
      negative_slope: of the LeakyReLU.
      dtype: of the computation; parameters stay float32.
      form: of the convolutions, see `convolution`.
    """

    widths: Sequence[int]
    dropout: float = 0.3
    spectral_norm: bool = False
    negative_slope: float = 0.2
    dtype: Any = jnp.float32
    form: str | None = None

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps f32[B, S, S, 3] in [-1, 1] to logits f32[B] (positive: real).

        With train=True it needs the `dropout` rng and, with spectral_norm, mutable `batch_stats`.
        """

        def apply(layer: nn.Module, x: jax.Array) -> jax.Array:
            if self.spectral_norm:
                return nn.SpectralNorm(layer, name=f"{layer.name}_norm")(x, update_stats=train)
            return layer(x)

        x = image.astype(self.dtype)
        for index, features in enumerate(self.widths):
            layer = StridedConv(
                features,
                dtype=self.dtype,
                kernel_init=KERNEL_INIT,
                form=self.form,
                name=f"down_{index}",
            )
            x = nn.leaky_relu(apply(layer, x), self.negative_slope)
            x = Dropout(self.dropout)(x, deterministic=not train)
        layer = nn.Dense(1, dtype=self.dtype, kernel_init=KERNEL_INIT, name="logit")
        return apply(layer, x.reshape(x.shape[0], -1))[:, 0].astype(jnp.float32)
