"""SFace (Zhong et al., 2021, arXiv:2205.12010) in JAX: a MobileNetV1, read from the file that OpenCV runs.

For many faces at once: pointwise convolutions as matrix products and depthwise ones as sums of shifted
products are the fast forms on CPUs, where OpenCV takes half as long again; and it runs on accelerators.
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.models import onnx_file

SIDE = 112  # px, of the picture
WIDTH = 128  # numbers in an embedding
_FEATURES = (1024, 7, 7)  # channels, rows, columns before the last layer

Parameters = dict[str, Any]


def _scale_and_shift(weights: dict[str, np.ndarray], node: onnx_file.Node) -> tuple:
    """A batch normalization as x * scale + shift."""
    gamma, beta, mean, variance = (weights[name] for name in node.inputs[1:])
    scale = gamma / np.sqrt(variance + node.attributes["epsilon"])
    return scale, beta - mean * scale


def load_parameters(path: pathlib.Path) -> Parameters:
    """The weights, each batch normalization folded into what stands before it.

    Returns:
      "layers": for each convolution kernel (HWIO; of a depthwise one [3, 3, C]), bias and slope of PReLU;
      "matrix" [50176, 128] and "bias" of the embedding; "mean" and "scale" of the picture.

    Raises:
      UserError: it is no ONNX file, or of another network.
    """
    nodes, weights = onnx_file.read(path)
    try:
        return _folded(nodes, weights)
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"{path} holds another network than SFace; fetch it again") from error


def _folded(nodes: list[onnx_file.Node], weights: dict[str, np.ndarray]) -> Parameters:
    layers: list[dict[str, np.ndarray]] = []
    last, after = {}, {}
    for node in nodes:
        if node.kind == "Conv":
            kernel = weights[node.inputs[1]].transpose(2, 3, 1, 0)
            depthwise = node.attributes["group"] > 1
            layers.append({"kernel": kernel[:, :, 0] if depthwise else kernel})
        elif node.kind == "PRelu":
            layers[-1]["slope"] = weights[node.inputs[1]].ravel()
        elif node.kind == "Gemm":
            last = {"matrix": weights[node.inputs[1]].T, "bias": weights[node.inputs[2]]}
        elif node.kind == "BatchNormalization":
            scale, shift = _scale_and_shift(weights, node)
            if last:
                last = {"matrix": last["matrix"] * scale, "bias": last["bias"] * scale + shift}
            elif "slope" in layers[-1]:  # the one before the last layer
                after = {"scale": scale, "shift": shift}
            else:
                layers[-1] |= {"kernel": layers[-1]["kernel"] * scale, "bias": shift}
    # The last layer takes channels first, and normalized ones.
    matrix = last["matrix"].reshape(*_FEATURES, WIDTH)
    bias = last["bias"] + np.einsum("chwo,c->o", matrix, after["shift"])
    matrix = (matrix * after["scale"][:, None, None, None]).transpose(1, 2, 0, 3).reshape(-1, WIDTH)
    mean, scale = (float(weights[nodes[i].inputs[1]].ravel()[0]) for i in (0, 1))
    made = {"layers": layers, "matrix": matrix, "bias": bias, "mean": mean, "scale": scale}
    return jax.tree.map(lambda x: np.ascontiguousarray(x, np.float32), made)


def _depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """3x3 with a margin of one, as a sum of shifted products, which XLA fuses into one loop."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        padded[:, i : i + height : stride, j : j + width : stride] * kernel[i, j]
        for i in range(3)
        for j in range(3)
    )


def features(parameters: Parameters, images: jax.Array) -> jax.Array:
    """f32[B, 112, 112, 3] RGB in [0, 255] -> f32[B, 50176], what the last layer takes."""
    x = (images - parameters["mean"]) * parameters["scale"]
    width = 0  # channels of the last pointwise convolution
    for number, layer in enumerate(parameters["layers"]):
        kernel = layer["kernel"]
        if kernel.ndim == 3:
            # Halved where the next layer widens, but for the first of these.
            wider = parameters["layers"][number + 1]["kernel"].shape[-1] > width
            y = _depthwise(x, kernel, 2 if wider and number > 1 else 1)
        elif kernel.shape[0] == 1:
            y = (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:3], -1)
            width = kernel.shape[-1]
        else:
            y = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        y = y + layer["bias"]
        x = jnp.where(y >= 0, y, y * layer["slope"])
    return x.reshape(len(x), -1)


def head(parameters: Parameters, features_: jax.Array) -> jax.Array:
    """The last layer, f32[B, 50176] -> f32[B, 128]: its weights are 25 MB, so best for many faces at once."""
    return features_ @ parameters["matrix"] + parameters["bias"]


def apply(parameters: Parameters, images: jax.Array) -> jax.Array:
    """f32[B, 112, 112, 3] RGB in [0, 255] -> f32[B, 128] embeddings, not normalized; differentiable."""
    return head(parameters, features(parameters, images))
