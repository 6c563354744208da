"""Pictures of 128 to 1024 px from the prior: the small ones through heads of our own.

The prior has one head, behind its last layer; a picture of 128 px would cost as much as one of 1024 px. A
head here draws it from the features of a lower layer: one modulated 1x1 convolution, two separable ones of
few channels, 12 Haar coefficients for each pixel, with a linear path around the convolutions. Trained against
the full picture reduced by area (`training.prior_heads`).

A picture without a head of its own is one of the next larger size reduced. That is so for 512 px, and with
the package's weights for 128 px: a head for it was not good enough yet (weights/README.md).
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import lax

from dp3_jax.models import modulated, prior
from dp3_jax.models.modulated import Params

LEVELS = {
    128: 3,
    256: 4,
}  # size of the picture in px -> the layer of the prior whose features it is made of
SIZES = (*LEVELS, 512, prior.SIZE)  # px
COEFFICIENTS = 12  # Haar bands of RGB
MARGIN = 2  # px: how far a pixel of the features reaches
WEIGHTS = pathlib.Path(__file__).resolve().parents[1] / "weights" / "prior_heads.safetensors"


def load_renderer() -> dict[str, jax.Array]:
    """Parameters for `render`: the prior's, and those of the heads, which the package has.

    Raises:
      UserError: the prior cannot be fetched.
    """
    heads = safetensors.numpy.load_file(WEIGHTS)
    heads = {name: value.astype(np.float32) for name, value in heads.items()}
    return prior.load_prior() | jax.device_put(heads)


def head(params: Params, size: int, x: jax.Array, w: jax.Array) -> jax.Array:
    """RGB f32[B, 2 S, 2 S, 3] of the head for `size` px (a key of LEVELS), not clipped.

    Args:
      x: f32[B, S, S, C], features of layer LEVELS[size], or crops of them.
      w: f32[B, 512], the row of the layer behind.
    """
    name = f"heads.{size}"
    y = _modulated_1x1(params, f"{name}.entry", x, w)
    y, around = y[..., :-COEFFICIENTS], y[..., -COEFFICIENTS:]
    y = modulated.leaky(y)
    for part in ("conv1", "conv2"):
        y = modulated.separable(params, f"{name}.{part}", y, w)
    return modulated.inverse_haar(around + _modulated_1x1(params, f"{name}.exit", y, w))


def _modulated_1x1(params: Params, name: str, x: jax.Array, w: jax.Array) -> jax.Array:
    factors = modulated.style(params, f"{name}.style", w)
    # The style multiplies the small kernel instead of the image.
    kernel = factors[:, :, None] * params[f"{name}.kernel"]
    return jnp.einsum("bhwc,bco->bhwo", x, kernel) + params[f"{name}.bias"]


def reduce(image: jax.Array, size: int) -> jax.Array:
    """[B, S, S, C] to [B, size, size, C] by the mean of each area; `size` divides S."""
    factor = image.shape[1] // size
    area = (1, factor, factor, 1)
    return lax.reduce_window(image, 0.0, lax.add, area, area, "VALID") / factor**2


def render(params: Params, w: jax.Array, size: int) -> jax.Array:
    """RGB f32[B, size, size, 3] in [-1, 1], framed as in FFHQ; the same face at each of SIZES.

    Args:
      params: of `load_renderer`.
      w: f32[B, 512] or f32[B, 8, 512], see `prior.synthesis`.
      size: px, one of SIZES.

    Raises:
      ValueError: another size.
    """
    if size not in SIZES:
        raise ValueError(f"no picture of {size} px; there are: {SIZES}")
    w = prior.per_layer(w)
    drawn = min(
        (s for s in LEVELS if s >= size and f"heads.{s}.exit.kernel" in params), default=None
    )
    if drawn is None:
        image = prior.synthesis(params, w)
    else:
        level = LEVELS[drawn]
        image = head(params, drawn, prior.features(params, w, level), w[:, level + 2])
    return reduce(jnp.clip(image, -1, 1), size)
