"""dlib's face recognition network (King, 2017), a ResNet of 29 convolutions, without dlib.

The weights are dlib's, as the package `face-api` carries them: stored in 8 bits, each convolution with
the scale and bias of its batch normalization (assets `dlib_resnet` and `dlib_resnet_manifest`).
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from dp3_jax.models import tfjs

SIDE = 150  # px, of the picture
WIDTH = 128  # numbers in an embedding
_MEAN = np.array([122.782, 117.001, 104.298], np.float32)  # colour that dlib subtracts

# Residual units by name and whether they halve the picture; as in dlib's example dnn_face_recognition_ex.cpp.
UNITS = (
    *((f"conv32_{i}", False) for i in (1, 2, 3)),
    ("conv64_down", True),
    *((f"conv64_{i}", False) for i in (1, 2, 3)),
    ("conv128_down", True),
    *((f"conv128_{i}", False) for i in (1, 2)),
    ("conv256_down", True),
    *((f"conv256_{i}", False) for i in (1, 2)),
    ("conv256_down_out", True),
)
_UPPER = 10  # of them, from the one that gives 256 channels on: what is trained further for other pictures


def load_parameters(manifest: pathlib.Path, weights: pathlib.Path) -> tfjs.Weights:
    """f32 arrays by name; the scale after each convolution is folded into it.

    Raises:
      UserError: the files do not fit together.
    """
    read = tfjs.read_weights(json.loads(manifest.read_text()), weights.read_bytes())
    folded = {"fc": read["fc"]}
    for name in read:
        if name.endswith("/conv/filters"):
            unit = name.removesuffix("/conv/filters")
            scale = read[f"{unit}/scale/weights"]
            folded[f"{unit}/kernel"] = read[name] * scale
            folded[f"{unit}/bias"] = (
                read[f"{unit}/conv/bias"] * scale + read[f"{unit}/scale/biases"]
            )
    return folded


def _convolution(parameters, x, name: str, stride: int = 1, padding: str = "SAME") -> jax.Array:
    y = jax.lax.conv_general_dilated(
        x,
        parameters[f"{name}/kernel"],
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + parameters[f"{name}/bias"]


def _grown(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`x` with zeros after its end in each dimension, up to `shape`: dlib adds tensors of two sizes so."""
    return jnp.pad(x, [(0, wanted - has) for wanted, has in zip(shape, x.shape, strict=True)])


def _unit(parameters, x: jax.Array, name: str, halve: bool) -> jax.Array:
    if not halve:
        y = jax.nn.relu(_convolution(parameters, x, f"{name}/conv1"))
        return jax.nn.relu(_convolution(parameters, y, f"{name}/conv2") + x)
    y = jax.nn.relu(_convolution(parameters, x, f"{name}/conv1", 2, "VALID"))
    y = _convolution(parameters, y, f"{name}/conv2")
    window = (1, 2, 2, 1)
    shortcut = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID") / 4
    shape = tuple(max(a, b) for a, b in zip(y.shape, shortcut.shape, strict=True))
    return jax.nn.relu(_grown(y, shape) + _grown(shortcut, shape))


def lower(parameters: tfjs.Weights, images: jax.Array) -> jax.Array:
    """f32[B, 150, 150, 3] RGB in [0, 255] -> the maps f32[B, h, w, 128] that `upper` takes."""
    x = (images - _MEAN) / 256
    x = jax.nn.relu(_convolution(parameters, x, "conv32_down", 2, "VALID"))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")
    for name, halve in UNITS[:_UPPER]:
        x = _unit(parameters, x, name, halve)
    return x


def upper(parameters: tfjs.Weights, maps: jax.Array) -> jax.Array:
    """The rest of the network, f32[B, 128]; of `parameters` those that `is_upper`."""
    x = maps
    for name, halve in UNITS[_UPPER:]:
        x = _unit(parameters, x, name, halve)
    return x.mean((1, 2)) @ parameters["fc"]


def is_upper(name: str) -> bool:
    """Whether `upper` uses the parameter called so."""
    return name.split("/", maxsplit=1)[0] in {"fc", *(unit for unit, _ in UNITS[_UPPER:])}


def apply(parameters: tfjs.Weights, images: jax.Array) -> jax.Array:
    """f32[B, 150, 150, 3] RGB in [0, 255] -> f32[B, 128] embeddings; differentiable.

    Two pictures of one person lie within 0.6 of each other (L2), says dlib.
    """
    return upper(parameters, lower(parameters, images))
