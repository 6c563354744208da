"""Which pixels of the canonical face frame are to be synthesised.

The canonical frame is the 128x128 view in which faces are trained and generated: CelebA's aligned 178x218
image, cropped to (0, 20, 178, 198), resized to 128. Masks are f32[..., S, S, 1], 1 where the face is to be
synthesised and 0 elsewhere, nothing between. Coordinates are (x, y) in pixels, pixel centres at whole
numbers.
"""

import functools
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import jax  # takes half a second to load, which those who only hide faces need not wait for

SIZE = 128  # px, side of the canonical frame that the constants below refer to

# The five points that YuNet reports: right eye (viewer's left), left eye, tip of the nose, right and left
# corner of the mouth. Means over YuNet's detections on 12,000 aligned CelebA images, mapped into the frame by
# (p + 0.5 - (0, 20)) * 128 / 178 - 0.5; a single face deviates by 1.4 to 1.9 px (nose: 4.6 px in x).
CANONICAL_POINTS = np.array(
    [[49.8, 66.3], [77.6, 66.3], [63.5, 82.5], [51.6, 95.4], [75.7, 95.3]], np.float32
)

# Hairline to below the chin and ear to ear. The size is what decides how much of a person's surroundings is
# left to recognize them by: with half-axes of (34, 45) round (64, 76), SFace verified 2.3% of 1,200 photos
# whose face was replaced, at a threshold where 1.0% of strangers pass; 1.1 times as large 1.6%, 1.2 times
# 1.3% (docs/results/anonymizer.md).
CENTRE = (64.0, 74.0)
HALF_AXES = (43.0, 51.0)
EXPONENT = 2.5  # 2 is an ellipse, infinity a box

# Of a turned head the far cheek's outline lies 0.45 px nearer to the middle for each degree, and the near one
# further away; those of all but 0.2% of 11,300 CelebA faces keep 6 px from the edge on the far side. Of those
# turned by 24 to 32 degrees 39% had more than 1% of the face outside of the upright mask, now 0.7%.
_FAR, _NEAR = 0.45, -0.2  # px that the mask is drawn in for each degree above _TURNED
_TURNED, _MAX_TURN = 9.0, 36.0  # degrees

# How training masks vary round the mask of inference: uniformly within these bounds.
_SHIFT = 6.0  # px each way
_SCALE = (0.85, 1.15)  # factor of each half-axis
_EXPONENTS = (2.0, 5.0)
_BOX_SHARE = 0.2  # of the training masks are axis-aligned boxes


def superellipse(
    centre: "jax.Array", half_axes: "jax.Array", exponent: "jax.Array", size: int
) -> "jax.Array":
    """f32[B, size, size, 1]: 1 where |x/a|^n + |y/b|^n <= 1 (Lame curve), for B curves.

    Args:
      centre: f32[B, 2], (x, y) in px of the output.
      half_axes: f32[B, 2], (a, b) in px, above 0.
      exponent: f32[B], n; infinity gives the box.
      size: side of the output in px.
    """
    import jax.numpy as jnp

    grid = jnp.arange(size, dtype=jnp.float32)
    dx = jnp.abs(grid[None, :] - centre[:, :1]) / half_axes[:, :1]
    dy = jnp.abs(grid[None, :] - centre[:, 1:]) / half_axes[:, 1:]
    n = exponent[:, None]
    # Compared as a maximum for the box, where powers would leave float32's range.
    power = jnp.where(jnp.isinf(n), 1.0, n)
    curve = dx[:, None, :] ** power[..., None] + dy[:, :, None] ** power[..., None] <= 1.0
    box = jnp.maximum(dx[:, None, :], dy[:, :, None]) <= 1.0
    inside = jnp.where(jnp.isinf(n)[..., None], box, curve)
    return inside[..., None].astype(jnp.float32)


@functools.lru_cache(maxsize=4)
def inference_mask(size: int = SIZE) -> np.ndarray:
    """The mask used on photos, f32[size, size, 1], read-only: hairline to chin, ear to ear."""
    # `superellipse` in NumPy: the first operation of JAX in a process takes half a second.
    scale = np.float32(size / SIZE)
    x, y = ((np.float32(c) + np.float32(0.5)) * scale - np.float32(0.5) for c in CENTRE)
    a, b = (np.float32(axis) * scale for axis in HALF_AXES)
    grid = np.arange(size, dtype=np.float32)
    across = (np.abs(grid - x) / a) ** np.float32(EXPONENT)
    down = (np.abs(grid - y) / b) ** np.float32(EXPONENT)
    result = (across[None, :, None] + down[:, None, None] <= 1.0).astype(np.float32)
    result.setflags(write=False)
    return result


def turned_mask(yaw: float) -> np.ndarray:
    """`inference_mask` of 128 px for a turned head: less beyond its far cheek, more behind the near one.

    Args:
      yaw: degrees, positive where the far side is the viewer's left.
    """
    return _turned_mask(round(max(min(yaw, _MAX_TURN), -_MAX_TURN)))


@functools.lru_cache(maxsize=128)
def _turned_mask(yaw: int) -> np.ndarray:
    turn = abs(yaw) - _TURNED
    if turn <= 0:
        return inference_mask()
    x, y = CENTRE
    x += np.copysign(turn * (_FAR - _NEAR) / 2, yaw)
    a, b = HALF_AXES[0] - turn * (_FAR + _NEAR) / 2, HALF_AXES[1]
    grid = np.arange(SIZE, dtype=np.float32)
    across, down = (np.abs(grid - x) / a) ** EXPONENT, (np.abs(grid - y) / b) ** EXPONENT
    result = (across[None, :, None] + down[:, None, None] <= 1.0).astype(np.float32)
    result.setflags(write=False)
    return result


def inside_of(corners: np.ndarray, size: int) -> np.ndarray:
    """u8[size, size]: 1 inside a polygon f[n, 2] px, to a 16th of a pixel; 0 elsewhere."""
    filled = np.zeros((size, size), np.uint8)
    scaled = np.round(corners.clip(-size, 2 * size) * 16).astype(np.int32)
    return cv2.fillPoly(filled, [scaled], 1, shift=4)


def random_masks(key: "jax.Array", batch: int, size: int = SIZE) -> "jax.Array":
    """Training masks f32[batch, size, size, 1]: varied in position, size and shape, some of them boxes.

    Centres lie within 6 px (of 128) of the inference mask's, half-axes are 0.85 to 1.15 times its, exponents
    2 to 5, and one mask in five is a box, so that a badly placed box still works at inference.
    """
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(key, 4)
    scale = size / SIZE
    shift = jax.random.uniform(keys[0], (batch, 2), minval=-_SHIFT, maxval=_SHIFT)
    factor = jax.random.uniform(keys[1], (batch, 2), minval=_SCALE[0], maxval=_SCALE[1])
    exponent = jax.random.uniform(keys[2], (batch,), minval=_EXPONENTS[0], maxval=_EXPONENTS[1])
    is_box = jax.random.uniform(keys[3], (batch,)) < _BOX_SHARE
    # A box of a curve's half-axes would cover a quarter more.
    factor = jnp.where(is_box[:, None], factor * 0.92, factor)
    centre = (jnp.array(CENTRE) + 0.5 + shift) * scale - 0.5
    half_axes = jnp.array(HALF_AXES) * factor * scale
    return superellipse(centre, half_axes, jnp.where(is_box, jnp.inf, exponent), size)


def boundary(mask: "jax.Array", width: int) -> "jax.Array":
    """The part of the mask within `width` px (Chebyshev distance) of its complement, f32 as `mask`.

    Args:
      mask: f32[B, S, S, 1] of 0 and 1.
      width: px, at least 1. The frame's border counts as inside, so a mask cut by it has no rim there.
    """
    import jax
    import jax.numpy as jnp

    window = (1, 2 * width + 1, 2 * width + 1, 1)
    eroded = jax.lax.reduce_window(mask, jnp.inf, jax.lax.min, window, (1, 1, 1, 1), "SAME")
    return mask - eroded


def polygon(corners: "jax.Array", size: int = SIZE) -> "jax.Array":
    """f32[B, size, size, 1]: 1 at pixels whose centre lies inside a polygon, by the even-odd rule.

    Args:
      corners: f32[B, N, 2], (x, y) in px of the output, in order round the polygon.
      size: side of the output in px.
    """
    import jax.numpy as jnp

    grid = jnp.arange(size, dtype=jnp.float32)
    x, y = grid[None, None, None, :], grid[None, None, :, None]
    here, there = corners, jnp.roll(corners, -1, axis=1)
    x0, y0, x1, y1 = (p[..., i, None, None] for p in (here, there) for i in (0, 1))
    crosses = (y0 > y) != (y1 > y)
    slope = (x1 - x0) / jnp.where(y1 == y0, 1.0, y1 - y0)
    left_of = x < x0 + (y - y0) * slope
    return ((crosses & left_of).sum(1) % 2).astype(jnp.float32)[..., None]
