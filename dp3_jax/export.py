"""A trained generator as a plain function, and as one safetensors file that can be given away."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from absl import logging

from dp3_jax import files, models
from dp3_jax.errors import UserError

FORMAT = "dp3_jax generator 1"
METADATA_KEY = "dp3_jax"  # one key only: safetensors does not write several in a fixed order
BATCH_SIZE = 16  # pictures generated at a time
_HALF_MAX = float(np.finfo(np.float16).max)


@dataclasses.dataclass(frozen=True)
class Decoder:
    """A restored generator.

    Attributes:
      decode: f32[n, latent_dim] latents -> f32[n, S, S, 3] pictures in [-1, 1], any n; picture i
        depends on latent i alone, bit for bit.
      latent_dim: numbers in a latent; they are standard normal.
      image_size: S, px.
      source: where it came from, for reports.
      step: training step of the checkpoint; None when an exported file does not say.
    """

    decode: Callable[[np.ndarray], np.ndarray]
    latent_dim: int
    image_size: int
    source: str
    step: int | None


def latents(rng: jax.Array, start: int, count: int, latent_dim: int) -> np.ndarray:
    """Latents number start, ..., start + count - 1 of the sequence that `rng` stands for.

    f32[count, latent_dim], standard normal; latent i comes from `jax.random.fold_in(rng, i)`, so it
    depends neither on how many are asked for nor on how they are grouped.
    """
    if count == 0:
        return np.zeros((0, latent_dim), np.float32)
    numbers = jnp.arange(start, start + count, dtype=jnp.uint32)
    return np.asarray(_normal(rng, numbers, latent_dim))


@functools.partial(jax.jit, static_argnames="latent_dim")
def _normal(rng: jax.Array, numbers: jax.Array, latent_dim: int) -> jax.Array:
    def draw(number: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(rng, number), (latent_dim,), jnp.float32)

    return jax.vmap(draw)(numbers)


def open_decoder(
    workdir_or_file: str | os.PathLike, batch_size: int = BATCH_SIZE, step: int | str = "latest"
) -> Decoder:
    """The generator of a run or of an exported file.

    Args:
      workdir_or_file: a training run's folder, or a file written by `save_generator`.
      batch_size: pictures computed at a time. Incomplete batches are filled up, so that results do
        not depend on how many are asked for; another batch size changes them by float32 rounding.
      step: of a run: which checkpoint, as in `checkpoint.restore_generator`.

    Raises:
      UserError: there is no such run or file, or it does not hold a generator.
    """
    path = pathlib.Path(workdir_or_file)
    if path.is_dir():
        model, variables, found = _restore(path, step)
    elif path.is_file():
        model, variables, found = read_generator(path)
    else:
        raise UserError(f"no training run and no exported generator at {path}; check the path")
    family = models.family_of(model)
    if not family.draws_from_latents:
        raise UserError(
            f"{path} holds {family.title}, which draws nothing from latents alone; use dp3 anonymize"
        )
    network = models.build_generator(model)
    variables = jax.device_put(jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), variables))

    @jax.jit
    def apply(variables: Mapping[str, Any], z: jax.Array) -> jax.Array:
        return network.apply(variables, z, train=False)

    def decode(z: np.ndarray) -> np.ndarray:
        size = model["image_size"]
        pictures = np.zeros((len(z), size, size, 3), np.float32)
        for start in range(0, len(z), batch_size):
            part = z[start : start + batch_size]
            padded = np.pad(part, ((0, batch_size - len(part)), (0, 0)))
            pictures[start : start + len(part)] = np.asarray(apply(variables, padded))[: len(part)]
        return pictures

    return Decoder(decode, model["latent_dim"], model["image_size"], str(path), found)


def _restore(
    workdir: pathlib.Path, step: int | str
) -> tuple[dict[str, Any], Mapping[str, Any], int | None]:
    """(model, variables, training step) of a run's checkpoint; arguments and errors as `open_decoder`."""
    # Not at the top: orbax takes a second to import, which those who read exported files need not wait.
    from dp3_jax.training import checkpoint
    from dp3_jax.training.options import model_section

    restored = checkpoint.restore_generator(workdir, step)
    return model_section(restored.config), restored.variables, restored.step


def load_generator(
    workdir_or_file: str | os.PathLike, batch_size: int = BATCH_SIZE, step: int | str = "latest"
) -> Callable[[jax.Array, int], np.ndarray]:
    """A trained generator as a function `generate(rng, n) -> f32[n, S, S, 3]`, values in [-1, 1].

    `rng` is a JAX random key, n any number from 0. Picture i depends on (rng, i) alone: asking for
    more pictures does not change the first ones. `dp3_jax.images.to_uint8` makes pixels of them.

    It is not for use inside jit: it runs a compiled program as often as n asks for and gives NumPy arrays,
    so that memory does not grow with n. There apply the network itself, `models.build_generator(model)`, to
    the variables that `read_generator` gives.

        generate = load_generator("runs/celeba128")
        faces = generate(jax.random.key(0), 8)

    Arguments and errors as in `open_decoder`.
    """
    decoder = open_decoder(workdir_or_file, batch_size, step)

    def generate(rng: jax.Array, n: int) -> np.ndarray:
        """n pictures f32[n, S, S, 3] in [-1, 1]; picture i depends on (rng, i) alone."""
        if n < 0:
            raise ValueError(f"cannot generate {n} pictures")
        return decoder.decode(latents(rng, 0, n, decoder.latent_dim))

    return generate


def _half(value: np.ndarray) -> np.ndarray:
    """float16 where that holds all values, else unchanged."""
    fits = value.dtype == np.float32 and np.abs(value).max(initial=0.0) <= _HALF_MAX
    return value.astype(np.float16) if fits else value


def save_generator(
    path: str | os.PathLike,
    variables: Mapping[str, Any],
    model: Mapping[str, Any],
    half: bool = False,
    step: int | None = None,
) -> None:
    """Writes one safetensors file: all variables, and the model's description as JSON in its header.

    Args:
      path: of the file.
      variables: {"params": ..., "batch_stats": ...} of the generator.
      model: what `models.build_generator` takes (the config's `model` section with `image_size`).
      half: store parameters as float16, half the size; statistics of batch normalization stay
        float32, because variances leave float16's range.
      step: training step, for reports.

    Raises:
      UserError: the file cannot be written.
    """
    params = jax.tree.map(np.asarray, dict(variables["params"]))
    tree = {
        "params": jax.tree.map(_half, params) if half else params,
        "batch_stats": jax.tree.map(np.asarray, dict(variables.get("batch_stats", {}))),
    }
    flat = flax.traverse_util.flatten_dict(tree, sep="/")
    flat = {name: np.ascontiguousarray(value) for name, value in flat.items()}
    header = json.dumps({"format": FORMAT, "model": dict(model), "step": step}, sort_keys=True)
    with files.atomic_target(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(flat, {METADATA_KEY: header}))


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


def export(
    workdir: str | os.PathLike,
    output: str | os.PathLike,
    half: bool = False,
    step: int | str = "latest",
) -> None:
    """Writes the generator of the run in `workdir` to the file `output`; `step` as in `open_decoder`.

    Raises:
      UserError: there is no run, no checkpoint, or the file cannot be written.
    """
    model, variables, found = _restore(pathlib.Path(workdir), step)
    save_generator(output, variables, model, half=half, step=found)
    size = pathlib.Path(output).stat().st_size / 1e6
    precision = "half" if half else "single"
    logging.info(
        "wrote %s: generator of step %d, %s precision, %.1f MB",
        output,
        found,
        precision,
        size,
    )
