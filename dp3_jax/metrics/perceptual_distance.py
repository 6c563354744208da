"""How different two pictures look, by the features of a network trained to name objects.

LPIPS without its learned weights (Zhang et al., 2018, arXiv:1801.03924, the "baseline"), on MobileNetV2's
features, which can be had anywhere: values cannot be compared with published ones, only with each other.
The anonymizer's content loss uses the same network, so that its own distance is flattered; KID uses it too.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dp3_jax.common import assets, images
from dp3_jax.models import perceptual

NAME = "MobileNetV2, ImageNet, at 1/2 to 1/16 of the side"

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def between(a: list[jax.Array], b: list[jax.Array]) -> jax.Array:
    """f32[B]: mean over layers and positions of |x - y|^2 for unit feature vectors x and y, 0 to 4.

    Args:
      a, b: feature maps f32[B, h, w, C] of each layer.
    """

    def unit(x: jax.Array) -> jax.Array:
        return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-8)

    layers = [((unit(x) - unit(y)) ** 2).sum(-1).mean((1, 2)) for x, y in zip(a, b, strict=True)]
    return jnp.stack(layers).mean(0)


def load_distance(batch_size: int = 32) -> Distance:
    """A function of a, b u8[N, S, S, 3], any N, that gives f32[N]: the distance of a[i] and b[i].

    Args:
      batch_size: pairs computed at a time.

    Raises:
      UserError: the weights cannot be fetched.
    """
    features = perceptual.mobilenet_features(assets.fetch("mobilenet_v2"))

    @jax.jit
    def apply(a: jax.Array, b: jax.Array) -> jax.Array:
        return between(features(images.to_float(a)), features(images.to_float(b)))

    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.shape != b.shape or a.dtype != np.uint8 or b.dtype != np.uint8:
            raise ValueError(
                f"expected pairs u8[N, S, S, 3], got {a.dtype}{a.shape}, {b.dtype}{b.shape}"
            )
        found = np.zeros(len(a), np.float32)
        for start in range(0, len(a), batch_size):
            count = min(batch_size, len(a) - start)
            fill = ((0, batch_size - count), (0, 0), (0, 0), (0, 0))
            pair = (np.pad(x[start : start + count], fill) for x in (a, b))
            found[start : start + count] = np.asarray(apply(*pair))[:count]
        return found

    return distance
