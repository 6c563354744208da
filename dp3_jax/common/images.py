"""Pictures as arrays: value ranges, grids and PNG files."""

import os

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from dp3_jax.common.files import atomic_target

Array = np.ndarray | jax.Array


def to_float(image: Array) -> Array:
    """u8 pixels in 0..255 -> f32 in [-1, 1], any shape; NumPy in, NumPy out, JAX in, JAX out.

    `to_uint8(to_float(x)) == x` for every u8 value.
    """
    if image.dtype != np.uint8:
        raise TypeError(f"to_float takes uint8 pixels, got {image.dtype}")
    xp = jnp if isinstance(image, jax.Array) else np
    return image.astype(xp.float32) / 127.5 - 1.0


def to_uint8(image: Array) -> Array:
    """Float pixels in [-1, 1], any shape -> u8: rounded to the nearest level, clipped to 0..255.

    NaN becomes 0 (a cast of NaN to an integer is undefined and differs between machines).
    """
    xp = jnp if isinstance(image, jax.Array) else np
    levels = xp.round((image.astype(xp.float32) + 1.0) * 127.5)
    return xp.nan_to_num(xp.clip(levels, 0.0, 255.0), nan=0.0).astype(xp.uint8)


def make_grid(images: np.ndarray, columns: int, padding: int = 2) -> np.ndarray:
    """Lays pictures out in rows of `columns`, left to right, top to bottom.

    Args:
      images: u8[N, H, W, 3], N >= 1. A last row that is not full is filled with white.
      columns: pictures in a row, >= 1; more columns than pictures makes a narrower grid.
      padding: white pixels between pictures and around them, >= 0.

    Returns:
      u8[h, w, 3], h = rows * (H + padding) + padding, w likewise.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) == 0:
        raise ValueError(f"make_grid takes u8[N>=1, H, W, 3], got {images.dtype}{images.shape}")
    if columns < 1 or padding < 0:
        raise ValueError(f"make_grid: columns {columns} must be >= 1, padding {padding} >= 0")
    count, height, width, channels = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    grid = np.full(
        (rows * (height + padding) + padding, columns * (width + padding) + padding, channels),
        255,
        np.uint8,
    )
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top = padding + row * (height + padding)
        left = padding + column * (width + padding)
        grid[top : top + height, left : left + width] = image
    return grid


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes u8[h, w, 3] as PNG, atomically; equal pixels give equal bytes (no time stamp or metadata).

    Raises:
      UserError: the file cannot be written.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"write_png takes u8[h, w, 3], got {image.dtype}{image.shape}")
    with atomic_target(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG", compress_level=6)
