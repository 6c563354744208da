"""Bilinear warping that can be differentiated, and random smooth motion whose flow is exactly known (JAX).

Flow is f32[B, H, W, 2], (x, y) in px with pixel centres at whole numbers: the pixel p of the warped image
comes from p + flow[p] of the image that is warped. `dp3_jax.vision.flow` estimates flow between real frames.
"""

import jax
import jax.numpy as jnp

# Largest motion between two views, in px and degrees at 128 px: a head between neighbouring frames as it is
# left after its alignment, and the alignment's own error.
SHIFT = 3.0  # px each way
TURN = 3.0  # degrees each way
STRETCH = 0.03  # of each side, and of shear
BEND = 0.7  # px, standard deviation of the elastic part at the nodes of its grid
_NODES = 5  # nodes of that grid along each side


def _positions(flow: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(x, y) of p + flow, each f32[B, H, W]."""
    height, width = flow.shape[1:3]
    x = jnp.arange(width, dtype=flow.dtype)[None, None, :] + flow[..., 0]
    y = jnp.arange(height, dtype=flow.dtype)[None, :, None] + flow[..., 1]
    return x, y


def inside(flow: jax.Array) -> jax.Array:
    """f32[B, H, W, 1]: 1 where p + flow lies in the image, between its outermost pixel centres."""
    height, width = flow.shape[1:3]
    x, y = _positions(flow)
    within = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return within[..., None].astype(flow.dtype)


def _axis(position: jax.Array, length: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The two neighbours of a position along an axis, clamped to it, and the second one's weight."""
    position = jnp.clip(position, 0.0, length - 1.0)
    low = jnp.clip(jnp.floor(position), 0.0, max(length - 2.0, 0.0))
    first = low.astype(jnp.int32)
    return first, jnp.minimum(first + 1, length - 1), position - jax.lax.stop_gradient(low)


def warp(image: jax.Array, flow: jax.Array) -> jax.Array:
    """`image` sampled bilinearly at p + flow; outside, its rim repeats.

    Differentiable in both; in the flow from one side where p + flow is a pixel centre. Whole shifts give
    the image's own bits.

    Args:
      image: f32[B, H, W, C], finite.
      flow: f32[B, H, W, 2].

    Returns:
      f32[B, H, W, C].
    """
    batch, height, width, channels = image.shape
    x, y = _positions(flow)
    left, right, along = _axis(x, width)
    top, bottom, down = _axis(y, height)
    flat = image.reshape(batch, height * width, channels)

    def at(row: jax.Array, column: jax.Array) -> jax.Array:
        index = (row * width + column).reshape(batch, height * width, 1)
        return jnp.take_along_axis(flat, index, axis=1).reshape(image.shape)

    along, down = along[..., None], down[..., None]
    upper = (1.0 - along) * at(top, left) + along * at(top, right)
    lower = (1.0 - along) * at(bottom, left) + along * at(bottom, right)
    return (1.0 - down) * upper + down * lower


def affine_flow(matrix: jax.Array, shift: jax.Array, size: int) -> jax.Array:
    """Flow of p -> centre + matrix (p - centre) + shift, about the image's centre.

    Args:
      matrix: f32[B, 2, 2], acting on (x, y).
      shift: f32[B, 2] px.
      size: side of the image in px.

    Returns:
      f32[B, size, size, 2].
    """
    grid = jnp.arange(size, dtype=jnp.float32) - (size - 1) / 2
    offsets = jnp.stack(jnp.meshgrid(grid, grid, indexing="xy"), -1)
    turned = jnp.einsum("bij,hwj->bhwi", matrix - jnp.eye(2), offsets, precision="highest")
    return turned + shift[:, None, None]


def random_motion(key: jax.Array, batch: int, size: int, strength: float = 1.0) -> jax.Array:
    """Smooth motion of a head between two frames: a random affine map and an elastic displacement.

    Bounded by SHIFT, TURN, STRETCH and BEND (a normal distribution cut at 2), all times `strength` and, the
    lengths, times size / 128. At a strength of 1 it never folds. With `second = warp(first, flow)` the flow
    between the two views is exact: what is at p in `second` is at p + flow in `first`.

    Args:
      key: random key.
      batch: B.
      size: S, side of the images in px.
      strength: factor of all amplitudes.

    Returns:
      f32[batch, size, size, 2].
    """
    shift_key, turn_key, stretch_key, bend_key = jax.random.split(key, 4)
    pixel = strength * size / 128
    shift = SHIFT * pixel * jax.random.uniform(shift_key, (batch, 2), minval=-1.0)
    angle = jnp.radians(TURN) * strength * jax.random.uniform(turn_key, (batch,), minval=-1.0)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)
    stretch = STRETCH * strength * jax.random.uniform(stretch_key, (batch, 2, 2), minval=-1.0)
    matrix = jnp.einsum("bij,bjk->bik", turn, jnp.eye(2) + stretch, precision="highest")
    nodes = jax.random.truncated_normal(bend_key, -2.0, 2.0, (batch, _NODES, _NODES, 2))
    bend = jax.image.resize(BEND * pixel * nodes, (batch, size, size, 2), "cubic")
    return affine_flow(matrix, shift, size) + bend


def carried(mask: jax.Array, flow: jax.Array) -> jax.Array:
    """A mask f32[B, H, W, 1] of 0 and 1 moved with the scene, and again of 0 and 1."""
    return (warp(mask, flow) >= 0.5).astype(mask.dtype)
