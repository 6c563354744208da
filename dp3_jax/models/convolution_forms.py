"""Three ways to compute a 4x4 stride-2 convolution, its transpose and its kernel gradient.

The three maps are defined in `convolution`, whose functions choose among the forms; nothing else calls this
module. All forms agree to rounding; they differ in speed.

  lax        what XLA makes of the plain convolutions: the reference, and the best where a vendor's library
             (cuDNN) computes them.
  subpixel   as `lax`, but the transpose is one stride-1 convolution and a depth-to-space.
  winograd   nine matrix products with 9/16 of the multiplications.

The last two rest on the same view. Pad the image by one pixel and cut it into 2x2 blocks: between the
pixels of the feature map lie (h + 1) x (w + 1) "corners", each owning one 2x2 block of the image, and the
4x4 stride-2 convolution of the image is a 2x2 stride-1 convolution of these blocks, of 4 C channels.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

KERNEL_SIZE = 4
STRIDE = 2
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# Below this the nine products are too thin to pay for their transforms (measured for RGB).
_MIN_CHANNELS = 16


class Form(NamedTuple):
    """The three maps, with x (B, H, W, C), y (B, ceil(H/2), ceil(W/2), F), kernel (4, 4, C, F).

    Attributes:
      convolve: (x, kernel) -> y.
      transpose: (y, kernel, (H, W)) -> x.
      kernel_gradient: (x, y) -> kernel.
    """

    convolve: Callable[[jax.Array, jax.Array], jax.Array]
    transpose: Callable[[jax.Array, jax.Array, tuple[int, int]], jax.Array]
    kernel_gradient: Callable[[jax.Array, jax.Array], jax.Array]


def _lax_convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    strides = (STRIDE, STRIDE)
    return lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=_DIMENSIONS)


def _lax_transpose(y: jax.Array, kernel: jax.Array, size: tuple[int, int]) -> jax.Array:
    strides = (STRIDE, STRIDE)
    full = lax.conv_transpose(y, kernel, strides, "SAME", transpose_kernel=True)
    return full[:, : size[0], : size[1]]


def _lax_kernel_gradient(x: jax.Array, y: jax.Array) -> jax.Array:
    shape = (KERNEL_SIZE, KERNEL_SIZE, x.shape[-1], y.shape[-1])
    kernel = jax.ShapeDtypeStruct(shape, x.dtype)
    return jax.linear_transpose(functools.partial(_lax_convolve, x), kernel)(y)[0]


def _to_blocks(x: jax.Array) -> jax.Array:
    """Image (B, 2 h, 2 w, C) to the blocks of its corners (B, h + 1, w + 1, 4 C), row-major in each."""
    batch, height, width, channels = x.shape
    rows, columns = height // 2 + 1, width // 2 + 1
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = x.reshape(batch, rows, 2, columns, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, rows, columns, 4 * channels)


def _from_blocks(blocks: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Undoes `_to_blocks`, cut to `size`."""
    batch, rows, columns, channels = blocks.shape
    x = blocks.reshape(batch, rows, columns, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, 2 * rows, 2 * columns, channels // 4)
    return x[:, 1 : 1 + size[0], 1 : 1 + size[1]]


def _block_kernel(kernel: jax.Array) -> jax.Array:
    """Kernel (4, 4, C, F) to that of the 2x2 convolution of blocks, (2, 2, 4 C, F)."""
    channels, features = kernel.shape[2:]
    kernel = kernel.reshape(2, 2, 2, 2, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return kernel.reshape(2, 2, 4 * channels, features)


def _from_block_kernel(kernel: jax.Array) -> jax.Array:
    """Undoes `_block_kernel`."""
    channels, features = kernel.shape[2] // 4, kernel.shape[3]
    kernel = kernel.reshape(2, 2, 2, 2, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return kernel.reshape(KERNEL_SIZE, KERNEL_SIZE, channels, features)


def _subpixel_transpose(y: jax.Array, kernel: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The transpose as one stride-1 convolution (Shi et al., 2016, arXiv:1609.07009).

    The transpose of a 2x2 convolution is the full convolution with the flipped kernel; it gives the block of
    output pixels at each corner.
    """
    kernel = _block_kernel(kernel)[::-1, ::-1].transpose(0, 1, 3, 2)
    padding = ((1, 1), (1, 1))
    blocks = lax.conv_general_dilated(y, kernel, (1, 1), padding, dimension_numbers=_DIMENSIONS)
    return _from_blocks(blocks, size)


# Winograd's F(2x2, 2x2): two neighbouring outputs of a two-tap filter, y0 = d0 g0 + d1 g1 and
# y1 = d1 g0 + d2 g1, take three products instead of four:
#   p = (d0 - d1) g0,  q = d1 (g0 + g1),  r = (d1 - d2) g1,  y0 = p + q,  y1 = q - r,
# in rows and columns nine instead of sixteen (Winograd, 1980; Lavin and Gray, 2016, arXiv:1509.09308; their
# F(2x2, 3x3) is its big sister). Only sums and differences occur, so the rounding stays that of an ordinary
# sum. Here d are blocks, g (4 C, F) matrices, and each product is a matrix product over all pairs of
# outputs in the batch. The transpose and the kernel gradient are the same nine products, transposed:
#   outputs:  (y0, y1) -> (y0, y0 + y1, -y1),  kernel: (g0, g1) -> (g0, g0 + g1, g1).


def _along(axis: int, array: jax.Array, start: int, stop: int | None, step: int) -> jax.Array:
    return array[(slice(None),) * axis + (slice(start, stop, step),)]


def _rows_then_columns(
    transform: Callable[[int, jax.Array], Sequence[jax.Array]], array: jax.Array, first_axis: int
) -> list[jax.Array]:
    """Nine arrays from one: `transform` gives three along an axis; it is applied to two axes in turn."""
    threes = transform(first_axis, array)
    return [nine for three in threes for nine in transform(first_axis + 1, three)]


def _spread_blocks(axis: int, blocks: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    size = blocks.shape[axis]
    d0, d1 = _along(axis, blocks, 0, size - 2, 2), _along(axis, blocks, 1, None, 2)
    d2 = _along(axis, blocks, 2, None, 2)
    return d0 - d1, d1, d1 - d2


def _spread_outputs(axis: int, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    y0, y1 = _along(axis, y, 0, None, 2), _along(axis, y, 1, None, 2)
    return y0, y0 + y1, -y1


def _spread_kernel(axis: int, kernel: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    g0, g1 = (lax.index_in_dim(kernel, i, axis, keepdims=True) for i in range(2))
    return g0, g0 + g1, g1


def _interleave(axis: int, even: jax.Array, odd: jax.Array) -> jax.Array:
    shape = (*even.shape[:axis], 2 * even.shape[axis], *even.shape[axis + 1 :])
    return jnp.stack([even, odd], axis + 1).reshape(shape)


def _gather_outputs(axis: int, p: jax.Array, q: jax.Array, r: jax.Array) -> jax.Array:
    return _interleave(axis, p + q, q - r)


def _gather_kernel(axis: int, p: jax.Array, q: jax.Array, r: jax.Array) -> jax.Array:
    return jnp.concatenate([p + q, q + r], axis)


def _gather_blocks(axis: int, p: jax.Array, q: jax.Array, r: jax.Array) -> jax.Array:
    """Transpose of `_spread_blocks`: neighbouring pairs share a block, to which both add."""

    def padded(array: jax.Array, before: int, after: int) -> jax.Array:
        widths = [(0, 0)] * array.ndim
        widths[axis] = (before, after)
        return jnp.pad(array, widths)

    blocks = _interleave(axis, padded(p, 0, 1) - padded(r, 1, 0), padded(q + r - p, 0, 1))
    return lax.slice_in_dim(blocks, 0, blocks.shape[axis] - 1, axis=axis)


def _columns_then_rows(
    gather: Callable[..., jax.Array], nine: Sequence[jax.Array], first_axis: int
) -> jax.Array:
    """One array from nine: the way back of `_rows_then_columns`."""
    threes = [gather(first_axis + 1, *nine[i : i + 3]) for i in (0, 3, 6)]
    return gather(first_axis, *threes)


def _matrix(array: jax.Array) -> jax.Array:
    return array.reshape(-1, array.shape[-1])


def _winograd_convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    blocks = _rows_then_columns(_spread_blocks, _to_blocks(x), 1)
    kernels = _rows_then_columns(_spread_kernel, _block_kernel(kernel), 0)
    shape = (*blocks[0].shape[:3], kernel.shape[3])
    products = [(_matrix(d) @ g[0, 0]).reshape(shape) for d, g in zip(blocks, kernels, strict=True)]
    return _columns_then_rows(_gather_outputs, products, 1)


def _winograd_transpose(y: jax.Array, kernel: jax.Array, size: tuple[int, int]) -> jax.Array:
    outputs = _rows_then_columns(_spread_outputs, y, 1)
    kernels = _rows_then_columns(_spread_kernel, _block_kernel(kernel), 0)
    shape = (*outputs[0].shape[:3], 4 * kernel.shape[2])
    products = [
        (_matrix(o) @ g[0, 0].T).reshape(shape) for o, g in zip(outputs, kernels, strict=True)
    ]
    return _from_blocks(_columns_then_rows(_gather_blocks, products, 1), size)


def _winograd_kernel_gradient(x: jax.Array, y: jax.Array) -> jax.Array:
    blocks = _rows_then_columns(_spread_blocks, _to_blocks(x), 1)
    outputs = _rows_then_columns(_spread_outputs, y, 1)
    products = [
        (_matrix(d).T @ _matrix(o))[None, None] for d, o in zip(blocks, outputs, strict=True)
    ]
    return _from_block_kernel(_columns_then_rows(_gather_kernel, products, 0))


def _patches_kernel_gradient(x: jax.Array, y: jax.Array) -> jax.Array:
    """A matrix product of the 4x4 patches with `y` per image: for few channels, whose patches are small.

    (Over the whole batch at once, a sum over 131,072 rows into 48 x 64 numbers, XLA's product is slower.)
    """
    batch, height, width, features = y.shape
    blocks = _to_blocks(x)
    taps = [blocks[:, i : i + height, j : j + width] for i in (0, 1) for j in (0, 1)]
    patches = jnp.concatenate(taps, -1).reshape(batch, height * width, -1)
    product = jnp.einsum("bpk,bpf->bkf", patches, y.reshape(batch, -1, features)).sum(0)
    return _from_block_kernel(product.reshape(2, 2, -1, features))


def _pairs(size: tuple[int, int], *channels: int) -> bool:
    """Whether the winograd form applies: outputs come in pairs, and the products are not too thin."""
    return size[0] % 4 == 0 and size[1] % 4 == 0 and min(channels) >= _MIN_CHANNELS


def _in_float32(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Computes in float32 at least: sums of bfloat16 inputs would lose bits that the products need."""

    def computed(a: jax.Array, b: jax.Array, *rest: tuple[int, int]) -> jax.Array:
        wide = jnp.promote_types(a.dtype, jnp.float32)
        return function(a.astype(wide), b.astype(wide), *rest).astype(a.dtype)

    return computed


def _fast_convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    fits = _pairs(x.shape[1:3], *kernel.shape[2:])
    return _in_float32(_winograd_convolve if fits else _lax_convolve)(x, kernel)


def _fast_transpose(y: jax.Array, kernel: jax.Array, size: tuple[int, int]) -> jax.Array:
    fits = _pairs(size, *kernel.shape[2:])
    return _in_float32(_winograd_transpose if fits else _subpixel_transpose)(y, kernel, size)


def _fast_kernel_gradient(x: jax.Array, y: jax.Array) -> jax.Array:
    if _pairs(x.shape[1:3], x.shape[-1], y.shape[-1]):
        return _in_float32(_winograd_kernel_gradient)(x, y)
    even = x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0
    return _in_float32(_patches_kernel_gradient if even else _lax_kernel_gradient)(x, y)


FORMS = {
    "lax": Form(_lax_convolve, _lax_transpose, _lax_kernel_gradient),
    "subpixel": Form(_lax_convolve, _subpixel_transpose, _lax_kernel_gradient),
    "winograd": Form(_fast_convolve, _fast_transpose, _fast_kernel_gradient),
}
