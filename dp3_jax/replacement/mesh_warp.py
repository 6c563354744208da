"""Smooth displacement fields between meshes, and pictures warped by them.

A field is f32[R, R, 2 n], for n pictures at once, on a grid of R x R places spread over a square picture;
it says how far from a place of the target the same place of each picture lies, (x, y) in px. It is an affine
map, which goes on beyond the mesh, and what the mesh moves otherwise, from coarse to fine.
"""

import functools
from typing import NamedTuple

import cv2
import numpy as np

from dp3_jax.models.mesh import LEFT_EYE, RIGHT_EYE

_PLACES = 48, 64  # along a side of a field, of pictures of 128 px and of larger ones
_SMALL = 128  # px
_OCCLUDED = (
    0.18  # distances of the eyes' outer corners behind each of which a point counts less by e
)
_NEARNESS = 0.01, 3.0


class _Level(NamedTuple):
    """One kernel that spreads a mesh's displacements: each adds what those before it left.

    Attributes:
      coarser: how many places of the field one of the kernel's has on each side.
      sigma: standard deviation of the kernel, in places of its own.
      floor: density of points that counts as much as that of the mesh: where less are near, less is added.
    """

    coarser: int
    sigma: float
    floor: float


_LEVELS = (
    _Level(4, 1.5, 2e-3),
    _Level(2, 1.25, 4e-3),
    _Level(1, 1.0, 1e-2),
    _Level(1, 0.8, 1e-2),
)


def places(size: int) -> int:
    """R of a picture of `size` px."""
    return _PLACES[size > _SMALL]


def nearness(mesh: np.ndarray) -> np.ndarray:
    """f32[N]: how much each point counts in a field: where the far cheek hides others, its own count.

    Args:
      mesh: f[468, 3] px, of the target.
    """
    unit = max(float(np.linalg.norm(mesh[LEFT_EYE[0]] - mesh[RIGHT_EYE[0]])), 1e-3)
    depth = (mesh[:, 2] - np.median(mesh[:, 2])) / unit
    return np.exp(-depth / _OCCLUDED).clip(*_NEARNESS).astype(np.float32)


def displacement(
    target: np.ndarray, sources: np.ndarray, size: int, counts: np.ndarray | None = None
) -> np.ndarray:
    """The field f32[R, R, 2 n] that carries points of a target to where they lie in n pictures.

    Args:
      target: f[N, 2] px.
      sources: f[n, N, 2] px.
      size: px, of the pictures.
      counts: f32[N], see `nearness`; all alike by default.
    """
    resolution = places(size)
    target = np.asarray(target, np.float64)
    wanted = np.concatenate([s - target for s in np.asarray(sources, np.float64)], 1)  # [N, 2 n]
    ones = np.column_stack([target / size, np.ones(len(target))])
    affine = np.linalg.solve(ones.T @ ones, ones.T @ wanted)
    field = (_grid(resolution, size) @ affine).astype(np.float32)
    left = (wanted - ones @ affine).astype(np.float32)
    for level in _LEVELS:
        own = resolution // level.coarser
        index, weights = bilinear(target, own, size)
        counted = weights if counts is None else weights * counts
        part = _spread(index, counted, left, own, level)
        if level is not _LEVELS[-1]:
            left = left - gathered(index, weights, part)
        if own != resolution:
            part = cv2.resize(part, (resolution, resolution), interpolation=cv2.INTER_LINEAR)
        field += part
    return field


@functools.lru_cache(maxsize=8)
def _grid(resolution: int, size: int) -> np.ndarray:
    """f64[R, R, 3]: x and y in sides of the picture, and one, of each place."""
    along = ((np.arange(resolution) + 0.5) / resolution) - 0.5 / size
    x, y = np.meshgrid(along, along)
    return np.dstack([x, y, np.ones_like(x)])


def bilinear(target: np.ndarray, resolution: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(i[4, N] flat indices of the places round each point, f32[4, N] their weights)."""
    at = np.clip((target + 0.5) * (resolution / size) - 0.5, 0, resolution - 1.001)
    low = at.astype(np.int64)
    x, y = (at - low).T
    first = low[:, 1] * resolution + low[:, 0]
    index = np.stack([first, first + 1, first + resolution, first + resolution + 1])
    weights = np.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y])
    return index, weights.astype(np.float32)


def _spread(
    index: np.ndarray, weights: np.ndarray, values: np.ndarray, resolution: int, level: _Level
) -> np.ndarray:
    """f32[R, R, C]: the mean of f32[N, C] values near each place, zero where there are none."""
    flat, count = index.ravel(), resolution * resolution
    columns = [np.bincount(flat, (weights * v).ravel(), count) for v in values.T]
    columns.append(np.bincount(flat, weights.ravel(), count))
    splat = np.stack(columns, 1).astype(np.float32).reshape(resolution, resolution, -1)
    spread = cv2.GaussianBlur(splat, (0, 0), level.sigma, borderType=cv2.BORDER_REPLICATE)
    return spread[..., :-1] * (1 / (spread[..., -1:] + np.float32(level.floor)))


def gathered(index: np.ndarray, weights: np.ndarray, field: np.ndarray) -> np.ndarray:
    """f32[N, C] of a field at points."""
    flat = field.reshape(-1, field.shape[-1])
    return sum(w[:, None] * flat[i] for i, w in zip(index, weights, strict=True))


@functools.lru_cache(maxsize=8)
def _positions(resolution: int, size: int) -> np.ndarray:
    """f32[R, R, 2] px of each place."""
    return (_grid(resolution, size)[..., :2] * size).astype(np.float32)


def warped(image: np.ndarray, field: np.ndarray) -> np.ndarray:
    """u8[S, S, C]: a picture as its field f32[R, R, 2] carries it into the target; its rim repeats."""
    size, resolution = image.shape[0], field.shape[0]
    at = _positions(resolution, size) + field
    # Enlarged by halves of places less at the rim, where there is no face.
    at = cv2.resize(at, (size, size), interpolation=cv2.INTER_LINEAR)
    whole, fraction = cv2.convertMaps(at, None, cv2.CV_16SC2)
    return cv2.remap(image, whole, fraction, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
