"""Dropout: the right share, no pattern (the same mask on any number of devices: sharded_layers.py)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from dp3_jax.models import dropout as dropout_module
from dp3_jax.models.dropout import Dropout, dropout

SHAPE = (16, 32, 32, 64)  # 1,048,576 draws
COUNT = np.prod(SHAPE)
keep_mask = jax.jit(dropout_module.keep_mask, static_argnums=(1, 2))


@settings(max_examples=10, deadline=None)
@given(rate=st.floats(0.01, 0.99), seed=st.integers(0, 2**31))
def test_share_kept_is_within_five_standard_deviations(rate, seed):
    kept = int(keep_mask(jax.random.key(seed), SHAPE, rate).sum())
    assert abs(kept - COUNT * (1 - rate)) < 5 * np.sqrt(COUNT * rate * (1 - rate))


@pytest.mark.parametrize("seed", range(3))
def test_draws_are_uncorrelated_along_the_array_and_between_keys(seed):
    """Correlations of fair +-1 draws are normal with deviation 1 / sqrt(n): all within five of them."""
    rate, key = 0.5, jax.random.key(seed)
    flat = 2.0 * np.asarray(keep_mask(key, SHAPE, rate), np.float64).ravel() - 1
    bound = 5 / np.sqrt(COUNT)
    for lag in (1, 2, 3, 4, 16, 63, 64, 65, 128, 32 * 64, 32 * 32 * 64):
        assert abs((flat * np.roll(flat, lag)).mean()) < bound, lag
    for other in (*jax.random.split(key, 3), jax.random.fold_in(key, 1), jax.random.key(seed + 1)):
        draws = 2.0 * np.asarray(keep_mask(other, SHAPE, rate), np.float64).ravel() - 1
        for lag in (0, 1, -1, 64):
            assert abs((flat * np.roll(draws, lag)).mean()) < bound, lag


def test_every_row_and_channel_gets_its_share():
    """Means over 65,536 and 16,384 draws each: no axis is treated unevenly."""
    mask = np.asarray(keep_mask(jax.random.key(0), SHAPE, 0.3), np.float64)
    for axis in range(4):
        means = mask.mean(axis=tuple(other for other in range(4) if other != axis))
        deviation = np.sqrt(0.3 * 0.7 / (COUNT / SHAPE[axis]))
        assert np.abs(means - 0.7).max() < 5 * deviation
        assert means.std() < 2 * deviation


def test_expectation_is_the_input_and_gradient_is_the_mask():
    x = jnp.full(SHAPE, 3.0)
    key = jax.random.key(0)
    y, backward = jax.vjp(lambda x: dropout(x, key, 0.3), x)
    assert set(np.unique(y)) == {0.0, np.float32(3 * np.float32(1 / 0.7))}
    np.testing.assert_allclose(y.mean(), 3.0, atol=5 * 3 * np.sqrt(0.3 / 0.7 / COUNT))
    (gradient,) = backward(jnp.ones_like(y))
    np.testing.assert_allclose(gradient * 3, y, rtol=1e-6)


def test_same_key_same_mask_other_key_another():
    one, two = jax.random.key(0), jax.random.key(1)
    np.testing.assert_array_equal(keep_mask(one, (64, 7), 0.5), keep_mask(one, (64, 7), 0.5))
    assert (keep_mask(one, (64, 7), 0.5) != keep_mask(two, (64, 7), 0.5)).any()


def test_limits():
    x, key = jnp.ones((4, 4)), jax.random.key(0)
    np.testing.assert_array_equal(dropout(x, key, 0.0), x)
    np.testing.assert_array_equal(dropout(x, key, 1.0), jnp.zeros_like(x))
    assert dropout(x.astype(jnp.bfloat16), key, 0.5).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="rate"):
        dropout(x, key, 1.5)


def test_layer_is_used_as_flax_dropout_is():
    x, layer = jnp.ones((8, 16)), Dropout(0.5)
    np.testing.assert_array_equal(layer.apply({}, x, deterministic=True), x)
    rngs = {"dropout": jax.random.key(0)}
    np.testing.assert_array_equal(
        layer.apply({}, x, deterministic=False, rngs=rngs),
        Dropout(0.5, deterministic=False).apply({}, x, rngs=rngs),
    )
    with pytest.raises(nn.module.errors.InvalidRngError):
        layer.apply({}, x, deterministic=False)
