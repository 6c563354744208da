"""The network that tells sex, age band and band of skin tone from the surroundings of a face."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dp3_jax.models.anonymizer import ContextNetwork

_CELLS = 4  # the coarsest features are averaged over so many parts of each side
_SLOPE = 0.1  # of the head's LeakyReLU


class _Encoder(ContextNetwork):
    """f32[B, N]: the coarsest features of a context, averaged over parts."""

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array) -> jax.Array:
        inside = mask > 0
        x = self._encode(jnp.where(inside, 0.0, image), inside.astype(jnp.float32))[-1]
        batch, side, _, channels = x.shape
        x = x.reshape(batch, _CELLS, side // _CELLS, _CELLS, side // _CELLS, channels)
        return x.mean((2, 4)).reshape(batch, -1)


def guess(
    parameters: dict, widths: tuple[int, ...], image: jax.Array, mask: jax.Array
) -> jax.Array:
    """f32[B, 11]: logits of sex (1), age bands (4) and tones (6); pure.

    Args:
      parameters: {"encoder": of the anonymizer, "head": of the head}.
      widths: of the encoder.
      image: f32[B, 128, 128, 3] in [-1, 1], canonical; what lies under the mask is discarded first of all.
      mask: f32[B, 128, 128, 1].
    """
    head = parameters["head"]
    x = _Encoder(widths).apply(parameters["encoder"], image, mask)
    x = nn.leaky_relu(x @ head["hidden.kernel"] + head["hidden.bias"], _SLOPE)
    return x @ head["out.kernel"] + head["out.bias"]


def guess_both(
    parameters: dict, widths: tuple[int, ...], image: jax.Array, mask: jax.Array
) -> jax.Array:
    """f32[11]: the mean of `guess` over one view and its mirror image."""
    images = jnp.concatenate([image, image[:, :, ::-1]])
    return guess(parameters, widths, images, jnp.concatenate([mask, mask[:, :, ::-1]])).mean(0)
