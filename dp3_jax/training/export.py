"""A trained generator as a plain function, from a run or from an exported file."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from dp3_jax import models
from dp3_jax.common.errors import UserError
from dp3_jax.models.generator_file import read_generator, save_generator

BATCH_SIZE = 16  # pictures generated at a time


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
    more pictures does not change the first ones. `dp3_jax.common.images.to_uint8` makes pixels of them.

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
