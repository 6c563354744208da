"""A small network that sees licence plates: where they are and how large, without reading them.

Fully convolutional: plates of SMALLEST to LARGEST px across at one cell in STRIDE px; larger ones are seen in
the image made smaller. 0.1 M parameters, trained on drawn plates only (`benchmarks/train_plates.py`).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

STRIDE = 8  # px between two cells
SMALLEST, LARGEST = 16, 48  # px, across the plates that it is trained on
SIZE = (28.0, 11.0)  # px: a plate of this width and height has both logarithms 0

# (input channels, output channels, stride, whether its input is added to its output)
LAYERS = (
    (3, 16, 2, False),
    (16, 32, 2, False),
    (32, 32, 1, True),
    (32, 48, 2, False),
    (48, 48, 1, True),
    (48, 48, 1, True),
    (48, 48, 1, True),
)
OUTPUTS = 5  # logit, middle's x and y in cells from the cell's, logarithms of width and height

Params = Mapping[str, jax.Array]


def init(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Fresh parameters, f32: `kernel0`, `bias0` ... of `LAYERS`, then `head` and `head_bias`."""
    params = {}
    for i, (inputs, outputs, _, _) in enumerate(LAYERS):
        scale = np.sqrt(2 / (9 * inputs))
        params[f"kernel{i}"] = rng.normal(0, scale, (3, 3, inputs, outputs)).astype(np.float32)
        params[f"bias{i}"] = np.zeros(outputs, np.float32)
    last = LAYERS[-1][1]
    params["head"] = rng.normal(0, 0.01, (1, 1, last, OUTPUTS)).astype(np.float32)
    params["head_bias"] = np.array([-4.0, 0, 0, 0, 0], np.float32)  # plates are rare
    return params


def _convolved(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def apply(params: Params, images: jax.Array) -> jax.Array:
    """f32[n, H / STRIDE, W / STRIDE, OUTPUTS] of images u8 or f32[n, H, W, 3], 0 to 255.

    Sides are multiples of STRIDE.
    """
    x = images.astype(jnp.float32) / 127.5 - 1
    for i, (_, _, stride, residual) in enumerate(LAYERS):
        y = _convolved(x, params[f"kernel{i}"], stride) + params[f"bias{i}"]
        x = jax.nn.relu(y + x) if residual else jax.nn.relu(y)
    return _convolved(x, params["head"], 1) + params["head_bias"]


def targets(boxes: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """What the network is to say of crops that have one plate each, or none.

    Args:
      boxes: f32[n, 4], (x, y, width, height) px of the plate; width 0 where there is none.
      side: of the crops, px.

    Returns:
      f32[n, c, c, OUTPUTS]: 1 at cells of a plate, 0 elsewhere, and its place as seen from there; and
      f32[n, c, c] with 0 at cells that are neither, on a plate's edge, else 1.
    """
    cells = (np.arange(side // STRIDE) + 0.5) * STRIDE
    middle = boxes[:, :2] + boxes[:, 2:] / 2
    x = (middle[:, 0, None, None] - cells[None, None, :]) / STRIDE
    y = (middle[:, 1, None, None] - cells[None, :, None]) / STRIDE
    x, y = np.broadcast_arrays(x, y)
    half = np.maximum(boxes[:, 2:] / 2 / STRIDE, 1e-3)[:, :, None, None]
    there = (boxes[:, 2] > 0)[:, None, None]
    # The middle third, and at least the cell of the middle.
    inside = (np.abs(x) <= np.maximum(half[:, 0] / 3, 0.51)) & (
        np.abs(y) <= np.maximum(half[:, 1] / 3, 0.51)
    )
    near = (np.abs(x) <= half[:, 0] + 0.5) & (np.abs(y) <= half[:, 1] + 0.5)
    inside, near = inside & there, near & there
    sizes = np.log(np.maximum(boxes[:, 2:], 1) / np.array(SIZE))[:, None, None, :]
    sizes = np.broadcast_to(sizes, (*x.shape, 2))
    wanted = np.concatenate([np.stack([inside, x, y], -1), sizes], -1)
    return wanted.astype(np.float32), np.where(near & ~inside, 0.0, 1.0).astype(np.float32)
