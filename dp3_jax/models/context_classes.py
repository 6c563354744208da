"""The network that tells sex, age band and band of skin tone from the surroundings of a face."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dp3_jax.models import mobilenet
from dp3_jax.models.anonymizer import ContextNetwork

_CELLS = 4  # the coarsest features are averaged over so many parts of each side
_SLOPE = 0.1  # of the head's LeakyReLU
_LAYER, _PARTS = 13, 2  # of MobileNetV2, whose outputs are averaged over so many parts of each side


class _Encoder(ContextNetwork):
    """f32[B, N]: the coarsest features of a context, averaged over parts."""

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array) -> jax.Array:
        inside = mask > 0
        x = self._encode(jnp.where(inside, 0.0, image), inside.astype(jnp.float32))[-1]
        batch, side, _, channels = x.shape
        x = x.reshape(batch, _CELLS, side // _CELLS, _CELLS, side // _CELLS, channels)
        return x.mean((2, 4)).reshape(batch, -1)


def _classes(head: dict, x: jax.Array) -> jax.Array:
    """f32[..., 11]: logits of sex (1), age bands (4) and tones (6), of an encoder's features."""
    x = nn.leaky_relu(x @ head["hidden.kernel"] + head["hidden.bias"], _SLOPE)
    return x @ head["out.kernel"] + head["out.bias"]


def _encoded(
    parameters: dict, widths: tuple[int, ...], image: jax.Array, mask: jax.Array
) -> jax.Array:
    """f32[2, N]: the encoder's features of one view and of its mirror image."""
    images = jnp.concatenate([image, image[:, :, ::-1]])
    masks = jnp.concatenate([mask, mask[:, :, ::-1]])
    return _Encoder(widths).apply(parameters["encoder"], images, masks)


def guess_both(
    parameters: dict, widths: tuple[int, ...], image: jax.Array, mask: jax.Array
) -> jax.Array:
    """f32[11]: logits as of `_classes`, the mean over one view and its mirror image; pure.

    Args:
      parameters: {"encoder": of the anonymizer, "head": of the head}.
      widths: of the encoder.
      image: f32[1, 128, 128, 3] in [-1, 1], canonical; what lies under the mask is discarded first of all.
      mask: f32[1, 128, 128, 1].
    """
    return _classes(parameters["head"], _encoded(parameters, widths, image, mask)).mean(0)


def describe(
    parameters: dict,
    widths: tuple[int, ...],
    image: jax.Array,
    mask: jax.Array,
    continued: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """(f32[2, N] as of `_encoded`, f32[1664] of MobileNetV2); pure.

    Args:
      parameters: {"encoder": of the anonymizer, "trunk": of `mobilenet.MobileNetV2`}.
      widths, image, mask: as of `guess_both`.
      continued: f32[1, 128, 128, 3] in [-1, 1], the view with the rest continued smoothly under the mask.
    """
    pooled, layers = mobilenet.MobileNetV2(layers=(_LAYER,)).apply(parameters["trunk"], continued)
    batch, side, _, channels = layers[_LAYER].shape
    parts = layers[_LAYER].reshape(batch, _PARTS, side // _PARTS, _PARTS, side // _PARTS, channels)
    seen = jnp.concatenate([pooled, parts.mean((2, 4)).reshape(batch, -1)], -1)[0]
    return _encoded(parameters, widths, image, mask), seen


def guess_with_trunk(
    parameters: dict,
    widths: tuple[int, ...],
    image: jax.Array,
    mask: jax.Array,
    continued: jax.Array,
) -> jax.Array:
    """f32[15]: as `guess_both`, then a better logit of sex, and CIE Lab of the cheeks (3); pure.

    Args:
      parameters: of `describe`, also {"head": of the head, "linear": of two linear maps}.
      widths, image, mask, continued: as of `describe`.
    """
    linear = parameters["linear"]
    encoded, seen = describe(parameters, widths, image, mask, continued)
    sex = seen @ linear["sex.kernel"] + linear["sex.bias"]
    both = jnp.concatenate([seen, encoded.mean(0)])
    skin = both @ linear["skin.kernel"] + linear["skin.bias"]
    return jnp.concatenate([_classes(parameters["head"], encoded).mean(0), sex, skin])
