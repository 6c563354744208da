"""Dropout whose mask costs next to nothing and does not depend on the number of devices.

The discriminator drops 31 million elements a step at batch 32. Drawing a cryptographic-strength threefry
number for each, as `nn.Dropout` does, is a seventh of the whole training step on a CPU. A mask needs far
less: draws that are fair, and show no pattern along the array or between keys. So threefry makes two words
per call, and a hash of (words, position in the whole array) makes the draw of each element. That is a
handful of integer operations, which XLA fuses into the multiplication, so no mask is ever stored.

The position is that in the whole array: the mask of an array sharded over devices is, bit for bit, the mask
of the same array on one.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


def _mix(word: jax.Array) -> jax.Array:
    """A bijection of 32-bit words in which every input bit flips every output bit about half of the time.

    Two rounds of xor-shift and multiplication, the finalizer of MurmurHash3 with the constants that search
    found to have the least bias (Wellons, "Prospecting for hash functions", 2018, lowbias32).
    """
    word = word ^ (word >> 16)
    word = word * jnp.uint32(0x7FEB352D)
    word = word ^ (word >> 15)
    word = word * jnp.uint32(0x846CA68B)
    return word ^ (word >> 16)


def _positions(shape: tuple[int, ...]) -> jax.Array:
    """Row-major index of every element as uint32, wrapping around beyond 2**32 elements."""
    position, stride = jnp.zeros(shape, jnp.uint32), 1
    for axis in reversed(range(len(shape))):
        index = lax.broadcasted_iota(jnp.uint32, shape, axis)
        position, stride = position + index * jnp.uint32(stride % 2**32), stride * shape[axis]
    return position


def keep_mask(key: jax.Array, shape: tuple[int, ...], rate: float) -> jax.Array:
    """Independent draws that are True with probability 1 - rate (to 2**-32).

    Args:
      key: a PRNG key.
      shape: of the mask.
      rate: share to drop, 0 < rate < 1.

    Returns:
      bool, `shape`.
    """
    first, second = jax.random.bits(key, (2,), jnp.uint32)
    # The second key word between two mixings: with one alone, two keys would share a shifted sequence.
    draws = _mix(_mix(_positions(shape) + first) ^ second)
    return draws < jnp.uint32(min(round((1 - rate) * 2**32), 2**32 - 1))


def dropout(x: jax.Array, key: jax.Array, rate: float) -> jax.Array:
    """Sets elements of `x` to zero at random and scales the others so that the expectation is `x`.

    Args:
      x: float, any shape.
      key: a PRNG key; the same key drops the same elements.
      rate: share to drop, 0 <= rate <= 1.

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
    scale = jnp.asarray(1 / (1 - rate), x.dtype)
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
        """Applies dropout to `x`, or returns it when deterministic."""
        if nn.merge_param("deterministic", self.deterministic, deterministic) or self.rate == 0:
            return x
        return dropout(x, self.make_rng("dropout"), self.rate)
