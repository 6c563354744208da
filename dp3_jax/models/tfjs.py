"""Reads TensorFlow.js models: quantised weights, and graphs of the few operations that our networks have.

A graph model is a JSON file (TensorFlow's GraphDef, its strings in base64) and a file of weights. What its
manifest says of a weight: name, shape, dtype and, where it is stored smaller, how. Both formats are
described in the TensorFlow.js converter's documentation (`weights_manifest`, `GraphDef`).
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dp3_jax.common.errors import UserError

Weights = dict[str, np.ndarray]
Node = Mapping[str, Any]

_STORED = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "uint8": "u1", "uint16": "<u2"}
_KEPT = {"float32": np.float32, "int32": np.int32}


def read_weights(manifest: Sequence[Mapping[str, Any]], content: bytes) -> Weights:
    """The arrays that `manifest` (groups of weights) says lie in `content`, by name; f32 or i32.

    Weights of 8 and 16 bits are scaled back: stored * scale + min.

    Raises:
      UserError: a dtype is not known, or `content` has another length than the manifest says.
    """
    weights, offset = {}, 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        smaller = entry.get("quantization", {})
        stored = smaller.get("dtype", entry["dtype"])
        if stored not in _STORED or entry["dtype"] not in _KEPT:
            raise UserError(f"TensorFlow.js weight {entry['name']}: dtype {stored} is not known")
        dtype, count = np.dtype(_STORED[stored]), int(np.prod(entry["shape"], dtype=int))
        if offset + count * dtype.itemsize > len(content):
            raise UserError(f"TensorFlow.js weights end within {entry['name']}; fetch them again")
        array = np.frombuffer(content, dtype, count, offset).reshape(entry["shape"])
        offset += array.nbytes
        if "scale" in smaller:
            array = array.astype(np.float32) * smaller["scale"] + smaller["min"]
        weights[entry["name"]] = np.ascontiguousarray(array, _KEPT[entry["dtype"]])
    if offset != len(content):
        raise UserError(f"TensorFlow.js weights: {len(content) - offset} bytes are left over")
    return weights


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()


def _attribute(node: Node, name: str, default: Any = None) -> Any:
    """A node's attribute as str, int, float, bool or list of str or int."""
    value = node.get("attr", {}).get(name)
    if value is None:
        return default
    if "list" in value:
        listed = value["list"]
        return [int(i) for i in listed.get("i", [])] or [_text(s) for s in listed.get("s", [])]
    if "s" in value:
        return _text(value["s"])
    if "f" in value:
        return float(value["f"])
    return int(value["i"]) if "i" in value else bool(value.get("b", False))


def _convolution(node: Node, x: jax.Array, kernel: jax.Array) -> jax.Array:
    if kernel.shape[:2] == (1, 1) and _attribute(node, "strides")[1:3] == [1, 1]:
        # A matrix product, which takes XLA a tenth less time on CPUs.
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:3], -1)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        _attribute(node, "strides")[1:3],
        _attribute(node, "padding"),
        rhs_dilation=_attribute(node, "dilations", [1] * 4)[1:3],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _depthwise(node: Node, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A depthwise convolution as a sum of shifted products: XLA's grouped one is many times slower on CPU."""
    height, width, _, multiplier = kernel.shape
    if multiplier != 1 or _attribute(node, "dilations", [1] * 4) != [1] * 4:
        raise UserError("TensorFlow.js: a depthwise convolution of this kind is not known here")
    strides, padding = _attribute(node, "strides")[1:3], _attribute(node, "padding")
    pads = jax.lax.padtype_to_pads(x.shape[1:3], (height, width), strides, padding)
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = (
        (size + sum(pad) - k) // stride + 1
        for size, pad, k, stride in zip(x.shape[1:3], pads, (height, width), strides, strict=True)
    )
    total = 0.0
    for i in range(height):
        for j in range(width):
            down = slice(i, i + (rows - 1) * strides[0] + 1, strides[0])
            right = slice(j, j + (columns - 1) * strides[1] + 1, strides[1])
            total = total + padded[:, down, right] * kernel[i, j, :, 0]
    return total


_FUSED: dict[str, Callable[[jax.Array], jax.Array]] = {"Relu": jax.nn.relu}


def _matrix_product(node: Node, a: jax.Array, b: jax.Array, *more: jax.Array) -> jax.Array:
    """A product and what is fused to it: a bias, and functions of _FUSED."""
    product = a @ b
    for name in _attribute(node, "fused_ops", []):
        if name == "BiasAdd":
            product = product + more[0]
        elif name in _FUSED:
            product = _FUSED[name](product)
        else:
            raise UserError(f"TensorFlow.js: {name} after a matrix product is not known here")
    return product


def _mean(node: Node, x: jax.Array, axes: np.ndarray) -> jax.Array:
    return x.mean(
        tuple(int(a) for a in axes.ravel()), keepdims=_attribute(node, "keep_dims", False)
    )


def _pad(node: Node, x: jax.Array, pads: np.ndarray, value: jax.Array | float = 0.0) -> jax.Array:
    widths = [tuple(map(int, pair)) for pair in pads]
    return jnp.pad(x, widths, constant_values=jnp.asarray(value).reshape(()))


def _largest(node: Node, x: jax.Array) -> jax.Array:
    window, strides = _attribute(node, "ksize"), _attribute(node, "strides")
    padding = _attribute(node, "padding")
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, padding)


def _resized(node: Node, x: jax.Array, size: np.ndarray) -> jax.Array:
    """Bilinear, without a wider kernel where it shrinks, as TensorFlow's with half_pixel_centers."""
    if not _attribute(node, "half_pixel_centers", False):
        raise UserError("TensorFlow.js: resizing of this kind is not known here")
    shape = (x.shape[0], *map(int, size), x.shape[3])
    return jax.image.resize(x, shape, "linear", antialias=False)


def _leaky_relu(node: Node, x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, x * _attribute(node, "alpha", 0.2))


def _joined(node: Node, *parts: Any) -> jax.Array:
    return jnp.concatenate(parts[:-1], int(parts[-1].item()))  # read as an array of one


_OPERATIONS: dict[str, Callable[..., jax.Array]] = {
    "Conv2D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "_FusedMatMul": _matrix_product,
    "Mean": _mean,
    "Pad": _pad,
    "PadV2": _pad,
    "MaxPool": _largest,
    "ResizeBilinear": _resized,
    "LeakyRelu": _leaky_relu,
    "ConcatV2": _joined,
    "Transpose": lambda node, x, axes: x.transpose(tuple(map(int, axes))),
    "Add": lambda node, a, b: a + b,
    "Mul": lambda node, a, b: a * b,
    "Minimum": lambda node, a, b: jnp.minimum(a, b),
    "Maximum": lambda node, a, b: jnp.maximum(a, b),
    "Relu": lambda node, x: jax.nn.relu(x),
    "Sigmoid": lambda node, x: jax.nn.sigmoid(x),
    "Softmax": lambda node, x: jax.nn.softmax(x, -1),
}


def _order(nodes: Mapping[str, Node], outputs: Sequence[str]) -> list[str]:
    """Names of the nodes that `outputs` need, each after its inputs."""
    order: dict[str, None] = {}
    open_nodes = list(reversed(outputs))
    while open_nodes:
        name = open_nodes[-1]
        waiting = [i for i in nodes[name].get("input", []) if i not in order]
        if not waiting:
            order[name] = None
            open_nodes.pop()
        else:
            open_nodes += reversed(waiting)
    return list(order)


def build(
    topology: Mapping[str, Any], weights: Weights, outputs: Sequence[str]
) -> tuple[Callable[[Weights, jax.Array], list[jax.Array]], Weights]:
    """The graph as a function, and its parameters: those of `weights` that `outputs` need.

    Args:
      topology: `modelTopology` of the model's JSON file.
      weights: as `read_weights` gives them.
      outputs: names of nodes.

    Returns:
      (apply(parameters, the graph's one input) -> `outputs` in turn; parameters, f32 by name).

    Raises:
      UserError: the graph has an operation that is not among _OPERATIONS.
    """
    nodes = {node["name"]: node for node in topology["node"]}
    order = _order(nodes, outputs)
    kinds = {nodes[name]["op"] for name in order}
    if unknown := kinds - set(_OPERATIONS) - {"Const", "Placeholder"}:
        raise UserError(f"TensorFlow.js operations not known here: {', '.join(sorted(unknown))}")
    constants = {name: weights[name] for name in order if nodes[name]["op"] == "Const"}
    # Integers are axes and shapes, which tracing must know.
    fixed = {name: value for name, value in constants.items() if value.dtype != np.float32}
    parameters = {name: value for name, value in constants.items() if name not in fixed}

    def apply(parameters: Weights, x: jax.Array) -> list[jax.Array]:
        values: dict[str, Any] = {**fixed, **parameters}
        for name in order:
            node = nodes[name]
            if node["op"] == "Placeholder":
                values[name] = x
            elif node["op"] != "Const":
                inputs = (values[i] for i in node["input"])
                values[name] = _OPERATIONS[node["op"]](node, *inputs)
        return [values[name] for name in outputs]

    return apply, parameters
