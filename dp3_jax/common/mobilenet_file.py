"""From torchvision's file of MobileNetV2 to the parameters of `models.mobilenet`, normalization folded."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dp3_jax.common.torch_file import read_tensors

# Table 2 of the paper: expansion, output channels, repetitions, stride of the first.
BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_BATCH_NORM_EPSILON = 1e-5


def fold_normalisation(
    tensors: Mapping[str, np.ndarray], conv: str, norm: str
) -> dict[str, np.ndarray]:
    """Kernel [kh, kw, in, out] and bias of a convolution followed by its batch normalization."""
    scale = tensors[f"{norm}.weight"] / np.sqrt(
        tensors[f"{norm}.running_var"] + _BATCH_NORM_EPSILON
    )
    kernel = tensors[f"{conv}.weight"].transpose(2, 3, 1, 0) * scale
    return {
        "kernel": kernel,
        "bias": tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale,
    }


def convert(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Variables of `MobileNetV2` from torchvision's state dictionary.

    Raises:
      KeyError: a tensor is missing.
    """
    params: dict[str, Any] = {
        "features_0": fold_normalisation(tensors, "features.0.0", "features.0.1")
    }
    for expansion, _, repetitions, _ in BLOCKS:
        for _ in range(repetitions):
            number = len(params)
            prefix, part = f"features.{number}.conv", 0
            block = {}
            if expansion > 1:
                block["expand"] = fold_normalisation(tensors, f"{prefix}.0.0", f"{prefix}.0.1")
                part = 1
            block["depthwise"] = fold_normalisation(
                tensors, f"{prefix}.{part}.0", f"{prefix}.{part}.1"
            )
            block["project"] = fold_normalisation(
                tensors, f"{prefix}.{part + 1}", f"{prefix}.{part + 2}"
            )
            params[f"features_{number}"] = block
    number = len(params)
    params[f"features_{number}"] = fold_normalisation(
        tensors, f"features.{number}.0", f"features.{number}.1"
    )
    return {"params": params}


def load_variables(path: str | os.PathLike) -> dict[str, Any]:
    """Variables of `MobileNetV2` from torchvision's .pth file.

    Raises:
      ValueError: the file is not that; nothing in it was run.
    """
    try:
        return convert(read_tensors(path))
    except KeyError as error:
        raise ValueError(f"{path} holds no MobileNetV2: {error} is missing") from error


def halved(content: bytes) -> dict[str, np.ndarray]:
    """f16 by name ("params/features_0/kernel"): the parameters, from the content of torchvision's file.

    Raises:
      ValueError: it is not that; nothing in it was run.
    """
    try:
        tree = convert(read_tensors(content))
    except KeyError as error:
        raise ValueError(f"no MobileNetV2: {error} is missing") from error
    return {name: leaf.astype(np.float16) for name, leaf in _leaves(tree)}


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}/")
        else:
            yield above + name, value
