"""What the prior and its heads are made of: styles, separable convolutions, the inverse Haar transform.

Pure functions on NHWC arrays. Parameters are a flat dictionary by dotted name; a function that needs several
gets the dictionary and the prefix of their names.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

Params = Mapping[str, jax.Array]
NEGATIVE_SLOPE = 0.2  # of LeakyReLU


def leaky(x: jax.Array) -> jax.Array:
    """LeakyReLU(.2)."""
    return jnp.maximum(x, NEGATIVE_SLOPE * x)


def style(params: Params, name: str, w: jax.Array) -> jax.Array:
    """Factors f32[B, C] for the channels of an input, an affine function of w f32[B, D]."""
    return w @ params[f"{name}.kernel"] + params[f"{name}.bias"]


def inverse_haar(x: jax.Array) -> jax.Array:
    """One level of the inverse Haar transform, [B, H, W, 4 C] to [B, 2 H, 2 W, C]; orthonormal.

    The first C channels are the low band. The others are three for each channel: differences along H,
    along W, and along both.
    """
    batch, height, width, bands = x.shape
    channels = bands // 4
    low = x[..., :channels]
    along_h, along_w, both = jnp.moveaxis(
        x[..., channels:].reshape(batch, height, width, channels, 3), -1, 0
    )
    upper = jnp.stack([low + along_h + along_w + both, low + along_h - along_w - both], 3)
    lower = jnp.stack([low - along_h + along_w - both, low - along_h - along_w + both], 3)
    y = 0.5 * jnp.stack([upper, lower], 2)  # [B, H, 2, W, 2, C]
    return y.reshape(batch, 2 * height, 2 * width, channels)


def depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Each channel of x [B, H, W, C] filtered with its own 3x3 kernel of [B or 1, 3, 3, C], zero-padded."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [
        padded[:, i : i + height, j : j + width] * kernel[:, i, j, None, None]
        for i in range(3)
        for j in range(3)
    ]
    return sum(taps[1:], taps[0])


def separable(params: Params, name: str, x: jax.Array, w: jax.Array) -> jax.Array:
    """Modulated 3x3 convolution: style on the input, depthwise filter, 1x1, noise constant, bias, LeakyReLU.

    Maps [B, H, W, C] and w [B, D] to [B, H, W, F]. The style multiplies the filter instead of the input:
    the same to rounding, and one pass over the image less.
    """
    kernel = params[f"{name}.depthwise"] * style(params, f"{name}.style", w)[:, None, None]
    y = depthwise(x, kernel) @ params[f"{name}.kernel"]
    return leaky(y + params[f"{name}.noise"][..., None] + params[f"{name}.bias"])
