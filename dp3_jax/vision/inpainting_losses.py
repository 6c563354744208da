"""Losses of the anonymizer besides the adversarial ones: pure functions to a float32 scalar.

Images are f32[B, H, W, C]; a region is f32[B, H, W, 1] of 0 and 1. Losses that compare with the one true
image ask every latent for the same, average face; `diversity` speaks against that.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

_TINY = 1e-6  # a share of a pixel, in place of 0 for empty regions


def region_l1(image: jax.Array, target: jax.Array, region: jax.Array) -> jax.Array:
    """Mean |image - target| over the region's pixels and the channels (pixel-to-pixel loss).

    With the hole and with its rim as regions these are the hole term of Liu et al., 2018
    (arXiv:1804.07723, eq. 1) and its restriction to the seam. 0 for an empty region.
    """
    total = (jnp.abs(image - target) * region).sum()
    return total / (image.shape[-1] * region.sum() + _TINY)


def pooled(image: jax.Array, region: jax.Array, factor: int) -> tuple[jax.Array, jax.Array]:
    """The region's mean colours over squares of factor x factor pixels, and each square's share in it."""
    batch, height, width, channels = image.shape
    squares = (batch, height // factor, factor, width // factor, factor)
    share = region.reshape(*squares, 1).mean((2, 4))
    colour = (image * region).reshape(*squares, channels).mean((2, 4))
    return colour / jnp.maximum(share, 1.0 / factor**2), share


def diversity(
    first: jax.Array, second: jax.Array, region: jax.Array, target: float, factor: int = 4
) -> jax.Array:
    """Hinge on how different two images of a pair are: mean of max(0, 1 - distance / target) over the batch.

    A bounded form of mode seeking (Mao et al., 2019, arXiv:1903.05628), whose ratio of distances has no
    largest value. The distance is the mean absolute difference of the two inside the region, of colours
    averaged over squares of `factor` px and without the two images' mean difference, so that neither noise
    nor a colour cast counts as another face. Beside an L1 loss it
    changes what the context leaves open, since there the L1 loss is flat around its median.
    """
    a, share = pooled(first, region, factor)
    b, _ = pooled(second, region, factor)
    area = share.sum((1, 2), keepdims=True) + _TINY
    cast = ((a - b) * share).sum((1, 2), keepdims=True) / area
    distance = (jnp.abs(a - b - cast) * share / area).sum((1, 2)).mean(-1)
    return jax.nn.relu(1.0 - distance / target).mean()


def feature_diversity(
    first: Sequence[jax.Array], second: Sequence[jax.Array], target: float
) -> jax.Array:
    """As `diversity`, of the features of a pair's images: mean of max(0, 1 - distance / target) over pairs.

    The distance of two images is the mean over layers of the mean |a - b|. Coarse layers of a classifier see
    the parts of a face and their shape, so what this asks for is another face and not another light.
    """
    axes = [tuple(range(1, a.ndim)) for a in first]
    layers = zip(first, second, axes, strict=True)
    distance = jnp.stack([jnp.abs(a - b).mean(axis) for a, b, axis in layers]).mean(0)
    return jax.nn.relu(1.0 - distance / target).mean()


def total_variation(image: jax.Array, region: jax.Array) -> jax.Array:
    """Mean |difference| of neighbouring pixels of which at least one lies in the region.

    Anisotropic total variation (Liu et al., 2018, arXiv:1804.07723, eq. 6), there and here restricted to the
    surroundings of the seam; horizontal and vertical means are added. 0 for an empty region.
    """

    def along(axis: int) -> jax.Array:
        count = image.shape[axis]
        here = jax.lax.slice_in_dim(region, 0, count - 1, axis=axis)
        there = jax.lax.slice_in_dim(region, 1, count, axis=axis)
        weight = jnp.maximum(here, there)
        step = jnp.abs(jnp.diff(image, axis=axis)) * weight
        return step.sum() / (image.shape[-1] * weight.sum() + _TINY)

    return along(1) + along(2)


def feature_distance(features: Sequence[jax.Array], targets: Sequence[jax.Array]) -> jax.Array:
    """Mean over layers of the mean |feature - target|.

    On the discriminator's features it is feature matching (Wang et al., 2018, arXiv:1711.11585, eq. 4), on a
    classifier's the content loss (Johnson et al., 2016, arXiv:1603.08155, with L1 as Liu et al., 2018).
    """
    return jnp.stack([jnp.abs(a - b).mean() for a, b in zip(features, targets, strict=True)]).mean()


def region_feature_distance(
    features: Sequence[jax.Array], targets: Sequence[jax.Array], region: jax.Array
) -> jax.Array:
    """As `feature_distance`, over the places that see a region; each counts as much as its share of it.

    Args:
      features, targets: f32[B, h, w, C], of each layer; h and w divide H and W.
      region: f32[B, H, W, 1].
    """
    parts = []
    for found, target in zip(features, targets, strict=True):
        _, share = pooled(region, region, region.shape[1] // found.shape[1])
        parts.append(region_l1(found, target, share))
    return jnp.stack(parts).mean()


def gram(features: jax.Array) -> jax.Array:
    """Gram matrix f32[B, C, C] of f32[B, H, W, C], divided by H W C (Johnson et al., 2016, eq. 3)."""
    batch, height, width, channels = features.shape
    flat = features.reshape(batch, height * width, channels)
    return jnp.einsum("bnc,bnd->bcd", flat, flat) / (height * width * channels)


def style_distance(features: Sequence[jax.Array], targets: Sequence[jax.Array]) -> jax.Array:
    """Mean over layers of the mean |Gram - Gram of the target| (Liu et al., 2018, eq. 4, without its sum)."""
    return feature_distance([gram(f) for f in features], [gram(t) for t in targets])
