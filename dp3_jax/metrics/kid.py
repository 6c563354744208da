"""Kernel Inception Distance (Binkowski et al., 2018, arXiv:1801.01401) on features that can be had anywhere.

The features are not InceptionV3's, so values cannot be compared with published ones: every report
names the features and shows the distance between two sets of real images next to the value.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dp3_jax.common import assets, images
from dp3_jax.models import embedders, mobilenet
from dp3_jax.vision import masks

FEATURE_NAMES = {
    "mobilenet_v2": "MobileNetV2, ImageNet",
    "random_conv": "untrained random convolutions",
    "faceres": "faceres, of aligned faces",
    "dlib": "dlib ResNet, of aligned faces",
}
_FACE_FEATURES = {
    "faceres": "faceres",
    "dlib": "dlib_resnet",
}  # and their names among the embedders
MOBILENET_SIDE = 128  # px; other sizes are resized to it
BLOCKS = 10  # disjoint blocks for the standard error
_SMALLEST_BLOCK = 5  # images; fewer make the error itself meaningless

Extractor = Callable[[np.ndarray], np.ndarray]


def _kernel_sums(x: np.ndarray, y: np.ndarray) -> float:
    """Sum over all pairs of the cubic polynomial kernel (x.y / d + 1)^3."""
    return float((((x @ y.T) / x.shape[1] + 1.0) ** 3).sum())


def squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy of features [n, d] and [m, d].

    Kernel (x.y / d + 1)^3; n, m >= 2. Near 0, possibly below, when both come from one distribution.
    """
    if len(x) < 2 or len(y) < 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"squared_mmd takes [n>=2, d] and [m>=2, d], got {x.shape} and {y.shape}")
    x, y = x.astype(np.float64), y.astype(np.float64)
    n, m, d = len(x), len(y), x.shape[1]
    # An image compared with itself is left out: that makes the estimate unbiased.
    within_x = _kernel_sums(x, x) - (((x**2).sum(1) / d + 1.0) ** 3).sum()
    within_y = _kernel_sums(y, y) - (((y**2).sum(1) / d + 1.0) ** 3).sum()
    return float(
        within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * _kernel_sums(x, y) / (n * m)
    )


def kid(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """KID of feature sets [n, d] and [m, d]: (value, standard error).

    The value uses all pairs at once. The error is the standard deviation of the estimates on
    disjoint blocks of both sets, divided by the root of their number (up to BLOCKS); nan when the
    sets are too small for two blocks. Both sets must be in random order.
    """
    blocks = min(BLOCKS, min(len(x), len(y)) // _SMALLEST_BLOCK)
    if blocks < 2:
        return squared_mmd(x, y), float("nan")
    pairs = zip(np.array_split(x, blocks), np.array_split(y, blocks), strict=True)
    estimates = [squared_mmd(a, b) for a, b in pairs]
    return squared_mmd(x, y), float(np.std(estimates, ddof=1) / np.sqrt(blocks))


def _batched(apply: Callable[[jax.Array], jax.Array], batch_size: int) -> Extractor:
    """Turns a function of f32[batch_size, S, S, 3] into one of u8[N, S, S, 3], any N >= 1."""

    def extract(pictures: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(pictures), batch_size):
            part = pictures[start : start + batch_size]
            missing = batch_size - len(part)
            padded = np.pad(part, ((0, missing), (0, 0), (0, 0), (0, 0)))
            parts.append(np.asarray(apply(padded))[: len(part)])
        return np.concatenate(parts)

    return extract


def mobilenet_features(batch_size: int = 32) -> Extractor:
    """u8[N, S, S, 3] -> f32[N, 1280]: MobileNetV2's pooled features at 128x128 px.

    Raises:
      UserError: the weights cannot be fetched.
    """
    variables = jax.device_put(mobilenet.load_variables(assets.fetch("mobilenet_v2")))
    network = mobilenet.MobileNetV2()

    @jax.jit
    def apply(pictures: jax.Array) -> jax.Array:
        batch = images.to_float(pictures)
        shape = (len(pictures), MOBILENET_SIDE, MOBILENET_SIDE, 3)
        if batch.shape != shape:
            batch = jax.image.resize(batch, shape, "bilinear", antialias=True)
        return network.apply(variables, batch)[0]

    return _batched(apply, batch_size)


def random_conv_features(batch_size: int = 32) -> Extractor:
    """u8[N, S, S, 3] -> f32[N, 256]: three strided 4x4 convolutions with fixed random weights.

    The means and standard deviations over the picture of their last 128 channels. It needs no file and tells
    gross differences only: made for runs without a network connection.
    """
    widths = (3, 32, 64, 128)
    keys = jax.random.split(jax.random.key(0), len(widths) - 1)
    kernels = [
        jax.random.normal(key, (4, 4, a, b)) * np.sqrt(2.0 / (16 * a))
        for key, a, b in zip(keys, widths[:-1], widths[1:], strict=True)
    ]

    @jax.jit
    def apply(pictures: jax.Array) -> jax.Array:
        x = images.to_float(pictures)
        for kernel in kernels:
            x = jax.lax.conv_general_dilated(
                x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x)
        return jnp.concatenate([x.mean((1, 2)), x.std((1, 2))], axis=1)

    return _batched(apply, batch_size)


def face_features(name: str) -> Extractor:
    """u8[N, S, S, 3] in the canonical frame -> f32[N, d]: a face recognizer's embeddings.

    Faces are taken to be where the canonical frame has them. Rows have the length sqrt(d), so that the kernel
    is (cosine + 1)^3: what a recognizer tells people apart by lies in the direction alone.

    Args:
      name: of _FACE_FEATURES.

    Raises:
      UserError: the weights cannot be fetched.
    """
    embedder = embedders.EMBEDDERS[_FACE_FEATURES[name]]()

    def extract(pictures: np.ndarray) -> np.ndarray:
        points = (masks.CANONICAL_POINTS + 0.5) * (pictures.shape[1] / masks.SIZE) - 0.5
        rows = embedders.embed(embedder, pictures, [points] * len(pictures))
        return embedders.unit(rows) * np.sqrt(np.float32(rows.shape[1]))

    return extract


def feature_extractor(name: str, batch_size: int = 32) -> Extractor:
    """The extractor called `name` (a key of FEATURE_NAMES): u8[N, S, S, 3] -> f32[N, d].

    Raises:
      UserError: its weights cannot be fetched.
    """
    if name in _FACE_FEATURES:
        return face_features(name)
    makers = {"mobilenet_v2": mobilenet_features, "random_conv": random_conv_features}
    return makers[name](batch_size)
