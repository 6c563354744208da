"""Pictures of 128 to 1024 px from the prior: the small ones through heads of our own."""

import jax
import jax.numpy as jnp

from dp3_jax.models import prior
from dp3_jax.models.modulated import Params

SIZES = (128, 256, 512, 1024)  # px


def load_renderer() -> dict[str, jax.Array]:
    """Parameters for `render`.

    Raises:
      UserError: the prior cannot be fetched.
    """
    return prior.load_prior()


def reduce(image: jax.Array, size: int) -> jax.Array:
    """[B, S, S, C] to [B, size, size, C] by the mean of each area; `size` divides S."""
    batch, side, _, channels = image.shape
    factor = side // size
    return image.reshape(batch, size, factor, size, factor, channels).mean((2, 4))


def render(params: Params, w: jax.Array, size: int) -> jax.Array:
    """RGB f32[B, size, size, 3] in [-1, 1], framed as in FFHQ, the same face at each of SIZES."""
    return jnp.clip(reduce(prior.synthesis(params, w), size), -1, 1)
