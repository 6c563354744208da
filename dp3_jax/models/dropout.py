"""Dropout whose mask costs a quarter of the random bits and does not depend on the number of devices.

`nn.Dropout` draws 32 random bits per element to decide a single yes or no. The discriminator drops 31
million elements a step at batch 32, and on CPU those draws take a noticeable share of the step. Eight bits
decide just as well: one 32-bit word serves four elements.

The price is that the probability of keeping is a multiple of 1/256. The values kept are scaled by the
inverse of that true probability, so the expectation is exactly the input; only the rate itself moves, by
1/512 at most (0.3 becomes 77/256 = 0.3008).

The words come from JAX's threefry, whose every word is a function of the key and of its position in the
whole array alone (`jax_threefry_partitionable`, on by default). So the mask of an array that is sharded
over devices is, bit for bit, the mask of the same array on one.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

_LEVELS = 256
_DRAWS_PER_WORD = 4


def keep_levels(rate: float) -> int:
    """How many of the 256 equally likely draws keep an element at this `rate`, for 0 < rate < 1.

    At least one and at most 255: a rate that is neither 0 nor 1 never becomes one of them.
    """
    return min(max(round((1 - rate) * _LEVELS), 1), _LEVELS - 1)


def keep_mask(key: jax.Array, shape: tuple[int, ...], rate: float) -> jax.Array:
    """Independent draws that are True with probability `keep_levels(rate) / 256`.

    Args:
      key: a PRNG key.
      shape: of the mask, at least one axis. Four neighbours along the last axis share a random word,
        so that axis is not to be sharded (the batch axis is).
      rate: share to drop, 0 < rate < 1.

    Returns:
      bool, `shape`.
    """
    *leading, channels = shape
    words = -(-channels // _DRAWS_PER_WORD)
    bits = jax.random.bits(key, (*leading, words), jnp.uint32)
    draws = lax.bitcast_convert_type(bits, jnp.uint8).reshape(*leading, words * _DRAWS_PER_WORD)
    return draws[..., :channels] < jnp.uint8(keep_levels(rate))


def dropout(x: jax.Array, key: jax.Array, rate: float) -> jax.Array:
    """Sets elements of `x` to zero at random and scales the others so that the expectation is `x`.

    Args:
      x: float, any shape but a scalar.
      key: a PRNG key; the same key drops the same elements.
      rate: share to drop, 0 <= rate <= 1, rounded to 1/256 (see the module's docstring).

    Returns:
      The shape and dtype of `x`.

    Raises:
      ValueError: `rate` is outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"a dropout rate lies in [0, 1], got {rate}")
    if rate == 0:
        return x
    if rate == 1:
        return jnp.zeros_like(x)
    scale = jnp.asarray(_LEVELS / keep_levels(rate), x.dtype)
    return jnp.where(keep_mask(key, x.shape, rate), x * scale, jnp.zeros((), x.dtype))


class Dropout(nn.Module):
    """`dropout` as a layer, used as `nn.Dropout` is: `rngs={"dropout": key}`, `deterministic`.

    Attributes:
      rate: share to drop, in [0, 1].
      deterministic: True passes the input through and needs no key; here or in the call.
    """

    rate: float
    deterministic: bool | None = None

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool | None = None) -> jax.Array:
        """Applies dropout to `x` (any shape but a scalar), or returns it when deterministic."""
        if nn.merge_param("deterministic", self.deterministic, deterministic) or self.rate == 0:
            return x
        return dropout(x, self.make_rng("dropout"), self.rate)
