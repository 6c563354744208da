"""A generator as one safetensors file that can be given away: variables, and what network they belong to."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np
import safetensors
import safetensors.numpy

from dp3_jax import models
from dp3_jax.common import files
from dp3_jax.common.errors import UserError

FORMAT = "dp3_jax generator 1"
METADATA_KEY = "dp3_jax"  # one key only: safetensors does not write several in a fixed order
_HALF_MAX = float(np.finfo(np.float16).max)


def _half(value: np.ndarray) -> np.ndarray:
    """float16 where that holds all values, else unchanged."""
    fits = value.dtype == np.float32 and np.abs(value).max(initial=0.0) <= _HALF_MAX
    return value.astype(np.float16) if fits else value


def packed(
    variables: Mapping[str, Any],
    model: Mapping[str, Any],
    half: bool = False,
    step: int | None = None,
) -> bytes:
    """The content of the file: all variables, and the model's description as JSON in its header.

    Args:
      variables: {"params": ..., "batch_stats": ...} of the generator.
      model: what `models.build_generator` takes (the config's `model` section with `image_size`).
      half: store parameters as float16, half the size; statistics of batch normalization stay
        float32, because variances leave float16's range.
      step: training step, for reports.
    """
    params = jax.tree.map(np.asarray, dict(variables["params"]))
    tree = {
        "params": jax.tree.map(_half, params) if half else params,
        "batch_stats": jax.tree.map(np.asarray, dict(variables.get("batch_stats", {}))),
    }
    flat = flax.traverse_util.flatten_dict(tree, sep="/")
    flat = {name: np.ascontiguousarray(value) for name, value in flat.items()}
    header = json.dumps({"format": FORMAT, "model": dict(model), "step": step}, sort_keys=True)
    return safetensors.numpy.save(flat, {METADATA_KEY: header})


def save_generator(
    path: str | os.PathLike,
    variables: Mapping[str, Any],
    model: Mapping[str, Any],
    half: bool = False,
    step: int | None = None,
) -> None:
    """Writes what `packed` gives for the other arguments to one safetensors file.

    Raises:
      UserError: the file cannot be written.
    """
    content = packed(variables, model, half=half, step=step)
    with files.atomic_target(path) as temporary:
        temporary.write_bytes(content)


def fingerprint_of(
    variables: Mapping[str, Any], model: Mapping[str, Any], step: int | None = None
) -> str:
    """The SHA-256, in hex, of the file that these would be exported to."""
    return hashlib.sha256(packed(variables, model, step=step)).hexdigest()


def read_generator(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any], int | None]:
    """(model, variables, training step) of a file that `save_generator` wrote.

    Raises:
      UserError: there is no such file, or it is damaged or of another kind.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as opened:
            header = json.loads((opened.metadata() or {}).get(METADATA_KEY, "{}"))
            if header.get("format") != FORMAT:
                raise UserError(
                    f"{path} is not a generator exported by this version of dp3_jax; "
                    "export it again from its run"
                )
            flat = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        variables = {"batch_stats": {}, **flax.traverse_util.unflatten_dict(flat, sep="/")}
        _check_shapes(models.build_generator(header["model"]), header["model"], variables)
        return header["model"], variables, header["step"]
    except FileNotFoundError as error:
        raise UserError(f"there is no generator {path}; check the path") from error
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot read a generator from {path}: {reason}; the file is damaged or of another kind"
        ) from error


def _check_shapes(network: nn.Module, model: Mapping[str, Any], variables: Any) -> None:
    """Raises ValueError unless `variables` are those of `network`, by name and shape."""
    inputs = models.generator_inputs(model)
    wanted = jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs, train=False))
    wanted = {"batch_stats": {}, **wanted}

    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        flat = flax.traverse_util.flatten_dict(dict(tree), sep="/")
        return {name: tuple(value.shape) for name, value in flat.items()}

    if (expected := shapes(wanted)) != (found := shapes(variables)):
        wrong = sorted(n for n in expected | found if expected.get(n) != found.get(n))[0]
        raise ValueError(
            f"{wrong} has shape {found.get(wrong)} where the model has {expected.get(wrong)}"
        )
