"""Training losses: pure functions of logits or images to a float32 scalar."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

# Below this logit exp(-logit) is frozen: 1e26 times a float32 cotangent is still finite.
_LOWEST_LOGIT = -60.0


def discriminator_bce(
    real_logits: jax.Array, fake_logits: jax.Array, label_smoothing: float = 0.0
) -> jax.Array:
    """Binary cross-entropy of the discriminator, real plus fake (Goodfellow et al., 2014, arXiv:1406.2661).

    Args:
      real_logits: f32[B], wanted at 1 - label_smoothing (one-sided smoothing, Salimans et al., 2016,
        arXiv:1606.03498; the fake label stays 0).
      fake_logits: f32[B], wanted at 0.
      label_smoothing: in [0, 1).

    Returns:
      f32 scalar: mean over the real ones plus mean over the fake ones; 2 ln 2 = 1.386 for a blind judge.
    """
    real = optax.losses.sigmoid_binary_cross_entropy(real_logits, 1.0 - label_smoothing)
    fake = optax.losses.sigmoid_binary_cross_entropy(fake_logits, 0.0)
    return real.mean() + fake.mean()


def generator_bce(fake_logits: jax.Array) -> jax.Array:
    """Non-saturating generator loss: binary cross-entropy of f32[B] fake logits against the label "real"."""
    return optax.losses.sigmoid_binary_cross_entropy(fake_logits, 1.0).mean()


def generator_over_discriminator_cotangent(fake_logits: jax.Array) -> jax.Array:
    """Ratio of d generator_bce / d logit to d discriminator_bce / d logit for each fake logit, f32[B].

    -(1 - s) / s with s = sigmoid(logit) is -exp(-logit). A discriminator that treats each image alone maps
    a cotangent on a logit linearly to a cotangent on that image, so one backward pass for the
    discriminator's loss, scaled by this ratio at the images, is the generator's too. Exact down to a
    logit of -60, where the generator's share starts to fade instead of overflowing.
    """
    return -jnp.exp(-jnp.maximum(fake_logits, _LOWEST_LOGIT))


def r1_penalty(logits_of: Callable[[jax.Array], jax.Array], real: jax.Array) -> jax.Array:
    """R1: half the squared gradient of the logit at real images (Mescheder et al., 2018, arXiv:1801.04406).

    Args:
      logits_of: maps f32[B, H, W, 3] to f32[B], each image alone.
      real: f32[B, H, W, 3].

    Returns:
      f32 scalar, mean over the batch.
    """
    gradient = jax.grad(lambda image: logits_of(image).sum())(real)
    return 0.5 * jnp.square(gradient).sum(axis=(1, 2, 3)).mean()
