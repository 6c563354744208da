"""Renders faces of the prior and measures them: what directions are fitted on.

  python -m dp3_jax.replacement.survey runs/survey.npz --count 6000

Goes on where it was interrupted; about a tenth of a second a face on two idle cores.
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Iterator

import numpy as np

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.replacement.attributes import NAMES, AttributeReader

SEEDS = 7, 8  # of the latents and of their truncation: labels.json numbers these faces
_PSI = 0.5, 1.0  # truncation, uniform: directions are to hold for all that may be chosen
_MEAN_OF = 20_000  # latents whose mean is that of w
_SIZE = 256  # px, the size that most faces of photos are rendered at
_BLOCK = 50  # faces between two savings


def latents(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(z f32[count, 512], truncation f32[count, 1]) of the first faces."""
    z = np.random.default_rng(SEEDS[0]).normal(size=(count, 512)).astype(np.float32)
    psi = np.random.default_rng(SEEDS[1]).uniform(*_PSI, size=(count, 1)).astype(np.float32)
    return z, psi


def faces(start: int, count: int) -> tuple[np.ndarray, np.ndarray, Iterator[np.ndarray]]:
    """(mean f32[512] of w, w f32[count, 512], pictures u8[256, 256, 3] of those from `start` on)."""
    import jax

    from dp3_jax.models import prior, prior_heads

    params = prior_heads.load_renderer()
    z, psi = latents(max(count, _MEAN_OF))
    mapping, render = jax.jit(prior.mapping), jax.jit(prior_heads.render, static_argnums=2)
    w = np.concatenate([np.asarray(mapping(params, part)) for part in np.array_split(z, 20)])
    mean = w.mean(0)
    w = (mean + psi * (w - mean))[:count]

    def pictures() -> Iterator[np.ndarray]:
        for i in range(start, count):
            image = np.asarray(render(params, w[i : i + 1], _SIZE))[0]
            yield np.rint((image + 1) * 127.5).clip(0, 255).astype(np.uint8)

    return mean, w, pictures()


def survey(path: pathlib.Path, count: int) -> None:
    """Writes w and attributes of `count` faces to an .npz file: NaN where no face was found."""
    values = np.zeros((0, len(NAMES)), np.float32)
    if path.exists():
        try:
            stored = np.load(path)
            values = np.stack([stored[name] for name in NAMES], 1)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path} is no survey of faces; choose another name") from error
    reader = AttributeReader()
    mean, w, pictures = faces(len(values), count)
    rows = list(values)
    for image in pictures:
        found = reader.read(image)
        rows.append([np.nan if found is None else getattr(found, name) for name in NAMES])
        if len(rows) % _BLOCK == 0 or len(rows) == count:
            _save(path, mean, w[: len(rows)], np.array(rows, np.float32))
            print(f"{len(rows)} of {count} faces", flush=True)


def _save(path: pathlib.Path, mean: np.ndarray, w: np.ndarray, values: np.ndarray) -> None:
    with files.atomic_target(path) as temporary, temporary.open("wb") as opened:
        columns = {name: values[:, i] for i, name in enumerate(NAMES)}
        np.savez(opened, mean=mean, w=w, **columns)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m dp3_jax.replacement.survey", description=__doc__
    )
    parser.add_argument("out", type=pathlib.Path, help="the .npz file")
    parser.add_argument("--count", type=int, default=6000, help="of faces")
    given = parser.parse_args(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    try:
        survey(given.out, given.count)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
