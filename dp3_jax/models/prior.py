"""The face prior: MobileStyleGAN (Belousov, 2021, arXiv:2104.04767), distilled from StyleGAN2 on FFHQ.

  z f32[B, 512], N(0, 1) --mapping--> w f32[B, 512] --synthesis--> RGB f32[B, 1024, 1024, 3]

A learned constant of 4 x 4 px and one modulated convolution (the entry), then seven layers, each an inverse
Haar transform, which doubles the size, and two separable convolutions; at the end 12 Haar coefficients for
each pixel of 512 px, from which one more transform makes the picture. Noise is a constant of the file: the
same w gives the same picture. There is no truncation inside; the caller draws w towards its mean.

Faces are framed as in FFHQ. Pure functions of the parameters that `load_prior` gives.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import safetensors.numpy
from jax import lax

from dp3_jax.common import assets
from dp3_jax.common.errors import UserError
from dp3_jax.common.prior_file import LAYERS
from dp3_jax.models import modulated
from dp3_jax.models.modulated import Params

LATENT_DIM = 512  # of z and of w
STYLES = (
    1 + LAYERS
)  # rows of a w for each layer: the entry, then layers 0 to 6 (8, 16, ..., 512 px)
SIZE = 1024  # px, of the picture
MAPPING_LAYERS = 8
# On CPU, layers of this size (px) and more are computed in strips of rows. Measured on two cores with 2 MB of
# L2 each; 16 and 32 rows are about as fast.
STRIPS_FROM = 128
STRIP_ROWS = 8
_EPSILON = 1e-8  # in the normalization of z


def load_prior() -> dict[str, jax.Array]:
    """Parameters of `mapping` and `synthesis`, from the asset "prior", fetched once.

    Raises:
      UserError: it cannot be fetched, or the cache cannot be read.
    """
    path = assets.fetch("prior")
    try:
        tensors = safetensors.numpy.load_file(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; make it readable") from error
    return jax.device_put(tensors)


def mapping(params: Params, z: jax.Array) -> jax.Array:
    """z f32[B, 512], drawn from N(0, 1), to w f32[B, 512]."""
    x = z * jax.lax.rsqrt(jnp.mean(z**2, -1, keepdims=True) + _EPSILON)
    for i in range(MAPPING_LAYERS):
        x = modulated.leaky(modulated.style(params, f"mapping.{i}", x))
    return x


def per_layer(w: jax.Array) -> jax.Array:
    """f32[B, 8, 512], a row for the entry and each layer, of a `w` that is so already or f32[B, 512]."""
    return w if w.ndim == 3 else jnp.repeat(w[:, None], STYLES, 1)


def features(params: Params, w: jax.Array, level: int) -> jax.Array:
    """What layer `level` (0 to 6) gives: f32[B, S, S, C], S = 8 * 2 ** level px.

    C is 512 up to level 3 (64 px), then 256, 128, 64.

    Args:
      w: f32[B, 512], or f32[B, 8, 512] as `per_layer` gives it. Rows after level + 1 are not used.
    """
    w = per_layer(w)
    x = _entry(params, w[:, 0])
    for i in range(level + 1):
        x = layer(params, i, x, w[:, i + 1])
    return x


def _entry(params: Params, w: jax.Array) -> jax.Array:
    x = params["input"] * modulated.style(params, "entry.style", w)[:, None, None]
    x = jax.lax.conv_general_dilated(
        x, params["entry.kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return modulated.leaky(x + params["entry.noise"][..., None] + params["entry.bias"])


def layer(
    params: Params,
    index: int,
    x: jax.Array,
    w: jax.Array,
    finish: Callable[[jax.Array], jax.Array] = lambda x: x,
) -> jax.Array:
    """Layer `index`: [B, S, S, C] of the layer before and its row of w, f32[B, 512], to twice the size.

    Args:
      finish: applied to the result; what it gives for some rows must depend on these rows only.
    """
    name, size = f"layers.{index}", 2 * x.shape[1]
    up = modulated.style(params, f"{name}.up", w)[:, None, None]
    if size < STRIPS_FROM or jax.default_backend() != "cpu":
        y = modulated.separable(params, f"{name}.conv1", modulated.inverse_haar(x * up), w)
        return finish(modulated.separable(params, f"{name}.conv2", y, w))
    # A strip of the result needs a row more above and below of conv1's output, and two of conv1's input,
    # which is one row of x. Outside of the image these are zero.
    x = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    noise = jnp.pad(params[f"{name}.conv1.noise"], ((1, 1), (0, 0)))

    def strip(first: jax.Array) -> jax.Array:
        y = lax.dynamic_slice_in_dim(x, first // 2, STRIP_ROWS // 2 + 2, 1)
        y = modulated.inverse_haar(y * up)
        rows = lax.dynamic_slice_in_dim(noise, first, STRIP_ROWS + 2)
        y = modulated.separable(params, f"{name}.conv1", y, w, rows)
        row = first - 1 + jnp.arange(STRIP_ROWS + 2)
        y = jnp.where(((row >= 0) & (row < size))[:, None, None], y, 0)
        rows = lax.dynamic_slice_in_dim(params[f"{name}.conv2.noise"], first, STRIP_ROWS)
        return finish(modulated.separable(params, f"{name}.conv2", y, w, rows))

    return modulated.in_strips(strip, size, STRIP_ROWS)


def synthesis(params: Params, w: jax.Array) -> jax.Array:
    """RGB f32[B, 1024, 1024, 3], nominally in [-1, 1]: not clipped, a few values lie beyond.

    Args:
      w: f32[B, 512], or f32[B, 8, 512]: a row for the entry and for each layer (`per_layer`). Rows 0 to 3
        (up to 32 px) carry pose, head shape and hair, later ones colour and texture.
    """
    w = per_layer(w)
    return picture(params, features(params, w, LAYERS - 2), w[:, -1])


def picture(params: Params, x: jax.Array, w: jax.Array) -> jax.Array:
    """RGB, as `synthesis`, from the features of layer 5 and the last row of w, f32[B, 512]."""
    # The style multiplies the kernel of 64 x 12 instead of the image.
    factors = modulated.style(params, "head.style", w)
    kernel = factors[:, :, None] * params["head.kernel"]

    def head(x: jax.Array) -> jax.Array:
        return modulated.inverse_haar(jnp.einsum("bhwc,bco->bhwo", x, kernel) + params["head.bias"])

    return layer(params, LAYERS - 1, x, w, head)
