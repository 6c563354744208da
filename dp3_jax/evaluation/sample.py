"""`--mode=sample`: pictures from a trained generator, without the data it was trained on."""

import math
import os
import pathlib

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from dp3_jax.common import images
from dp3_jax.common.errors import UserError
from dp3_jax.training.export import Decoder, latents, open_decoder

GRID_IMAGES = 100  # at most so many of the samples are in grid.png
INTERPOLATIONS = 6  # rows of interpolation.png
INTERPOLATION_STEPS = 9  # pictures in a row, both ends included


def spherical_interpolation(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Latents f32[steps, Z] from `start` to `end` (f32[Z]) on the great circle between them.

    Normal latents of many dimensions lie near a sphere; straight lines cut through its inside, where
    the generator never was trained (White, 2016, arXiv:1609.04468). Length goes linearly.
    """
    lengths = np.linalg.norm(start), np.linalg.norm(end)
    if min(lengths) == 0:
        raise ValueError("spherical interpolation needs latents of non-zero length")
    a, b = start / lengths[0], end / lengths[1]
    angle = math.acos(float(np.clip(a @ b, -1.0, 1.0)))
    t = np.linspace(0.0, 1.0, steps, dtype=np.float32)[:, None]
    if math.sin(angle) < 1e-6:  # the same or opposite directions: the circle is not defined
        return ((1.0 - t) * start + t * end).astype(np.float32)
    direction = (np.sin((1.0 - t) * angle) * a + np.sin(t * angle) * b) / math.sin(angle)
    return (direction * ((1.0 - t) * lengths[0] + t * lengths[1])).astype(np.float32)


def _interpolations(decoder: Decoder, rng: jax.Array) -> np.ndarray:
    """Picture of INTERPOLATIONS rows, each from one latent to another."""
    ends = latents(rng, 0, 2 * INTERPOLATIONS, decoder.latent_dim)
    rows = [
        spherical_interpolation(a, b, INTERPOLATION_STEPS)
        for a, b in zip(ends[::2], ends[1::2], strict=True)
    ]
    pictures = images.to_uint8(decoder.decode(np.concatenate(rows)))
    return images.make_grid(pictures, INTERPOLATION_STEPS)


def sample(
    workdir_or_file: str | os.PathLike,
    config: ConfigDict,
    num_samples: int,
    seed: int,
    step: int | str = "latest",
) -> pathlib.Path:
    """Writes `num_samples` pictures of a trained generator; the same seed gives the same bytes.

    Into WORKDIR/samples/seedSEED/ (for an exported file: samples/ beside it): 00000.png, ...,
    grid.png (the first GRID_IMAGES), interpolation.png (between the first pairs of samples).

    Args:
      workdir_or_file: a training run's folder or an exported generator.
      config: of which only evaluate.batch_size is read; another one may change a pixel by rounding.
      num_samples: pictures, at least 1. Picture i of a seed does not depend on it.
      seed: 0 or more.
      step: of a run: which checkpoint, a number, "latest" or "best" (by SSIM).

    Returns:
      The folder.

    Raises:
      UserError: no generator there, impossible numbers, or the pictures cannot be written.
    """
    if num_samples < 1:
        raise UserError(f"--num_samples={num_samples}: ask for at least 1 picture")
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed={seed}: choose a number from 0 to {2**32 - 1}")
    decoder = open_decoder(workdir_or_file, config.evaluate.batch_size, step)
    source = pathlib.Path(workdir_or_file)
    folder = (source if source.is_dir() else source.parent) / "samples" / f"seed{seed}"
    rng = jax.random.key(seed)
    shown = []
    for start in range(0, num_samples, GRID_IMAGES):
        count = min(GRID_IMAGES, num_samples - start)
        z = latents(rng, start, count, decoder.latent_dim)
        pictures = images.to_uint8(decoder.decode(z))
        for number, picture in enumerate(pictures, start):
            images.write_png(folder / f"{number:05d}.png", picture)
        if start == 0:
            shown = pictures
    _remove_from(folder, num_samples)
    images.write_png(folder / "grid.png", images.make_grid(shown, math.ceil(math.sqrt(len(shown)))))
    images.write_png(folder / "interpolation.png", _interpolations(decoder, rng))
    logging.info("%d pictures, grid.png and interpolation.png in %s", num_samples, folder)
    return folder


def _remove_from(folder: pathlib.Path, number: int) -> None:
    """Removes the pictures from `number` on that an earlier, larger call left in `folder`."""
    for path in folder.glob("*.png"):
        if path.stem.isdigit() and int(path.stem) >= number:
            path.unlink()
