"""Differentiable augmentation for GANs on small sets (DiffAugment, Zhao et al., 2020, arXiv:2006.10738).

Each function maps (key, f32[B, H, W, C] in [-1, 1]) to the same shape, draws its parameters for each image
alone, and is differentiable in the image.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

SHIFT = 1 / 8  # largest translation, as a share of the side
CUTOUT = 1 / 2  # side of the removed square, as a share of the side


def color(key: jax.Array, images: jax.Array) -> jax.Array:
    """Brightness +-0.5, saturation x [0, 2), contrast x [0.5, 1.5), as in the paper."""
    brightness, saturation, contrast = jax.random.uniform(key, (3, images.shape[0], 1, 1, 1))
    images = images + (brightness - 0.5)
    grey = images.mean(axis=3, keepdims=True)
    images = grey + (images - grey) * (2.0 * saturation)
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return mean + (images - mean) * (0.5 + contrast)


def translation(key: jax.Array, images: jax.Array) -> jax.Array:
    """Shifts by whole pixels, at most SHIFT of the side each way; zeros come in from outside."""
    batch, height, width, _ = images.shape
    reach = jnp.array([round(height * SHIFT), round(width * SHIFT)])
    shift = jax.random.randint(key, (batch, 2), -reach, reach + 1)

    def move(length: int, offset: jax.Array) -> jax.Array:
        # One row per output pixel with a 1 at its source pixel; a matrix product is fast everywhere and
        # its gradient is a matrix product too, where a per-image gather would scatter.
        source = jnp.arange(length)[None, :, None] - offset[:, None, None]
        return (source == jnp.arange(length)).astype(images.dtype)

    rows, columns = move(height, shift[:, 0]), move(width, shift[:, 1])
    moved = jnp.einsum("bih,bhwc->biwc", rows, images, precision="highest")
    return jnp.einsum("bjw,biwc->bijc", columns, moved, precision="highest")


def cutout(key: jax.Array, images: jax.Array) -> jax.Array:
    """Sets a square of CUTOUT of the side to 0 (mid-grey), its centre anywhere in the image."""
    batch, height, width, _ = images.shape
    centre = (
        jax.random.uniform(key, (2, batch, 1, 1)) * jnp.array([height, width])[:, None, None, None]
    )
    rows = jnp.abs(jnp.arange(height)[:, None] + 0.5 - centre[0]) >= CUTOUT * height / 2
    columns = jnp.abs(jnp.arange(width)[None, :] + 0.5 - centre[1]) >= CUTOUT * width / 2
    return images * (rows | columns)[..., None].astype(images.dtype)


POLICIES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "color": color,
    "translation": translation,
    "cutout": cutout,
}


def augment(key: jax.Array, images: jax.Array, policies: Sequence[str]) -> jax.Array:
    """Applies the named POLICIES in order, each with its own key; no policy returns `images` itself."""
    for index, name in enumerate(policies):
        images = POLICIES[name](jax.random.fold_in(key, index), images)
    return images
