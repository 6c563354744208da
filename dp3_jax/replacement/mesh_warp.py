"""Smooth displacement fields between meshes, and pictures warped by them.

A field is f32[R, R, 2 n], for n pictures at once, on a grid of R x R places spread over a square picture; it
says how far from a place of the target the same place of each picture lies, (x, y) in px.
"""

import functools

import cv2
import numpy as np

from dp3_jax.flow import pixels

STEP = 4  # px between the places of a field, of pictures up to 256 px
_MAX_PLACES = 64  # along a side
_ROUNDS = 3  # of fitting what the rounds before left
# Standard deviations, in places, of the kernels that spread a mesh's displacements, and how much the wider
# ones count: only where no point is near.
_KERNELS = ((0.8, 1.0), (2.5, 1e-2), (8.0, 1e-5))


def places(size: int) -> int:
    """R of a picture of `size` px."""
    return min(size // STEP, _MAX_PLACES)


def displacement(target: np.ndarray, sources: np.ndarray, size: int) -> np.ndarray:
    """The field f32[R, R, 2 n] that carries points of a target to where they lie in n pictures.

    Args:
      target: f[N, 2] px.
      sources: f[n, N, 2] px.
      size: px, of the pictures.
    """
    count, resolution = len(sources), places(size)
    target = np.asarray(target, np.float64)
    wanted = np.concatenate([s - target for s in np.asarray(sources, np.float64)], 1)  # [N, 2 n]
    ones = np.column_stack([target / size, np.ones(len(target))])
    affine = np.linalg.lstsq(ones, wanted, rcond=None)[0]
    at = _grid(resolution, size)
    field = (at @ affine).astype(np.float32)
    left = (wanted - ones @ affine).astype(np.float32)
    index, weights = _bilinear(target, resolution, size)
    for _ in range(_ROUNDS):
        part = _spread(index, weights, left, resolution)
        field += part.reshape(resolution, resolution, 2 * count)
        left = left - np.einsum("ka,akc->kc", weights, part.reshape(-1, 2 * count)[index.T])
    return field


@functools.lru_cache(maxsize=8)
def _grid(resolution: int, size: int) -> np.ndarray:
    """f64[R, R, 3]: x and y in sides of the picture, and one, of each place."""
    along = ((np.arange(resolution) + 0.5) / resolution) - 0.5 / size
    x, y = np.meshgrid(along, along)
    return np.dstack([x, y, np.ones_like(x)])


def _bilinear(target: np.ndarray, resolution: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(i[N, 4] flat indices of the places round each point, f32[N, 4] their weights)."""
    at = ((target + 0.5) * (resolution / size) - 0.5).clip(0, resolution - 1.001)
    low = np.floor(at).astype(np.int64)
    x, y = (at - low).T
    first = low[:, 1] * resolution + low[:, 0]
    index = np.stack([first, first + 1, first + resolution, first + resolution + 1], 1)
    weights = np.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], 1)
    return index, weights.astype(np.float32)


def _spread(
    index: np.ndarray, weights: np.ndarray, values: np.ndarray, resolution: int
) -> np.ndarray:
    """f32[R, R, C]: the mean of f32[N, C] values near each place, normalised by the points' density."""
    channels = values.shape[1]
    carried = np.concatenate([values, np.ones((len(values), 1), np.float32)], 1)
    flat = np.zeros((resolution * resolution, channels + 1), np.float32)
    np.add.at(
        flat, index.ravel(), (weights[..., None] * carried[:, None]).reshape(-1, channels + 1)
    )
    splat = flat.reshape(resolution, resolution, channels + 1)
    total = 0.0
    for sigma, share in _KERNELS:
        blurred = cv2.GaussianBlur(splat, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        total = total + share * blurred
    return total[..., :-1] / np.maximum(total[..., -1:], 1e-12)


def warped(image: np.ndarray, field: np.ndarray) -> np.ndarray:
    """u8[S, S, 3]: a picture as its field f32[R, R, 2] carries it into the target; its rim repeats."""
    size = image.shape[0]
    full = cv2.resize(field, (size, size), interpolation=cv2.INTER_LINEAR)
    at = pixels(size, size) + full
    return cv2.remap(image, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
