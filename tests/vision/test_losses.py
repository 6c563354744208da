import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.vision import losses

logit = st.floats(-50, 50, width=32)


def test_a_blind_discriminator_pays_two_ln_two():
    logits = jnp.zeros(8)
    assert losses.discriminator_bce(logits, logits) == pytest.approx(2 * np.log(2), rel=1e-6)
    assert losses.generator_bce(logits) == pytest.approx(np.log(2), rel=1e-6)


def test_known_values():
    # ln(1 + e^-2) = 0.126928, ln(1 + e^-1) = 0.313262, ln(1 + e^1) = 1.313262
    real, fake = jnp.array([2.0]), jnp.array([-1.0])
    assert losses.discriminator_bce(real, fake) == pytest.approx(0.126928 + 0.313262, abs=1e-5)
    assert losses.generator_bce(fake) == pytest.approx(1.313262, abs=1e-5)


def test_one_sided_smoothing_moves_only_the_real_label():
    # 0.9 ln(1 + e^-2) + 0.1 ln(1 + e^2) = 0.326928; the fake half stays ln(1 + e^-1).
    smoothed = losses.discriminator_bce(jnp.array([2.0]), jnp.array([-1.0]), label_smoothing=0.1)
    assert smoothed == pytest.approx(0.326928 + 0.313262, abs=1e-5)


@given(logit)
def test_losses_stay_finite_and_positive_far_out(value):
    x = jnp.array([value], jnp.float32)
    for loss in (losses.discriminator_bce(x, x), losses.generator_bce(x)):
        assert np.isfinite(loss) and loss >= 0


@given(st.lists(logit, min_size=1, max_size=6))
def test_the_cotangent_ratio_is_that_of_the_two_derivatives(values):
    x = jnp.array(values, jnp.float32)
    of_g = jax.grad(losses.generator_bce)(x)
    of_d = jax.grad(lambda fake: losses.discriminator_bce(jnp.zeros_like(fake), fake))(x)
    ratio = losses.generator_over_discriminator_cotangent(x)
    np.testing.assert_allclose(of_d * ratio, of_g, rtol=2e-4)


def test_the_cotangent_ratio_does_not_overflow():
    assert np.isfinite(losses.generator_over_discriminator_cotangent(jnp.array([-1e4]))).all()


def test_r1_of_a_linear_judge_is_half_its_squared_slope():
    slope = jnp.arange(12.0).reshape(2, 2, 3)
    real = jax.random.normal(jax.random.key(0), (5, 2, 2, 3))
    penalty = losses.r1_penalty(lambda x: (x * slope).sum(axis=(1, 2, 3)), real)
    assert penalty == pytest.approx(0.5 * float(jnp.square(slope).sum()), rel=1e-6)
