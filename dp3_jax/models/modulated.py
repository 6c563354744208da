"""What the prior and its heads are made of: styles, separable convolutions, the inverse Haar transform.

Pure functions on NHWC arrays. Parameters are a flat dictionary by dotted name; a function that needs several
gets the dictionary and the prefix of their names.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax

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


def depthwise(padded: jax.Array, kernel: jax.Array) -> jax.Array:
    """Each channel filtered with its own 3x3 kernel of [B or 1, 3, 3, C].

    Maps [B, H + 2, W + 2, C], the image with its border, to [B, H, W, C].
    """
    height, width = padded.shape[1] - 2, padded.shape[2] - 2
    taps = [
        padded[:, i : i + height, j : j + width] * kernel[:, i, j, None, None]
        for i in range(3)
        for j in range(3)
    ]
    return sum(taps[1:], taps[0])


def separable(
    params: Params, name: str, x: jax.Array, w: jax.Array, noise: jax.Array | None = None
) -> jax.Array:
    """Modulated 3x3 convolution: style on the input, depthwise filter, 1x1, noise constant, bias, LeakyReLU.

    Maps [B, H, W, C] and w [B, D] to [B, H, W, F]. The style multiplies the filter instead of the input:
    the same to rounding, and one pass over the image less.

    Args:
      noise: f32[H - 2, W] for a strip of an image: `x` has a row more above and below than the result.
        None for a whole image, which gets zeros around it, and the noise in `params` if there is any.
    """
    kernel = params[f"{name}.depthwise"] * style(params, f"{name}.style", w)[:, None, None]
    border = 1 if noise is None else 0
    padded = jnp.pad(x, ((0, 0), (border, border), (1, 1), (0, 0)))
    # Without the barrier XLA's CPU compiler computes what leads to `padded` again for each of the nine taps:
    # 1.4 times the time of a whole layer.
    y = depthwise(lax.optimization_barrier(padded), kernel) @ params[f"{name}.kernel"]
    noise = params.get(f"{name}.noise") if noise is None else noise
    y = y + params[f"{name}.bias"]
    return leaky(y if noise is None else y + noise[..., None])


def in_strips(function: Callable[[jax.Array], jax.Array], height: int, rows: int) -> jax.Array:
    """The picture that `function` gives strip by strip: first row i32[] -> [B, r, W, C], `rows` lie between.

    What a strip needs stays in a core's own cache, which a large image does not.
    """
    strips = lax.map(function, jnp.arange(0, height, rows))
    count, batch, *shape = strips.shape
    return jnp.moveaxis(strips, 0, 1).reshape(batch, count * shape[0], *shape[1:])
