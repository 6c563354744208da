"""Fits how a face's shape changes when its mouth opens and widens (weights/mouth_shapes.safetensors).

python -m dp3_jax.replacement.fit_mouth

Persons of the prior are rendered looking ahead with several mouths; within each person, points are regressed
on the opening and the width that were measured. What is fitted is made symmetric.
"""

import argparse
import hashlib
import os
import pathlib
import sys

import numpy as np

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.models import mesh as face_mesh
from dp3_jax.models.mesh import Expression, Pose
from dp3_jax.replacement import face_shape
from dp3_jax.replacement.identities import Classes

_SIZE = 256  # px
# (opening, width) in eye distances
_MOUTHS = ((0.0, 0.86), (0.13, 0.86), (0.28, 0.86), (0.05, 1.03), (0.15, 0.74))


def renderings(count: int) -> list[list[np.ndarray]]:
    """Meshes f32[468, 3] of `count` persons, of each with _MOUTHS; those without a face are left out."""
    from dp3_jax.replacement.prior_identities import PriorIdentities

    source, found = PriorIdentities(), []
    for number in range(count):
        key, meshes = hashlib.sha256(f"mouth {number}".encode()).digest(), []
        for opening, width in _MOUTHS:
            mouth = Expression(opening, width, 0.0)
            try:
                shown = source.render(key, Classes(), Pose(0, 0, 0), mouth, _SIZE, mended=False)
            except ValueError:
                continue
            meshes.append(np.column_stack([shown.mesh, shown.depth]))
        if len(meshes) > 1:
            found.append(meshes)
    return found


def fit(persons: list[list[np.ndarray]]) -> np.ndarray:
    """f64[2, 468, 3]: the change of a shape for one eye distance of opening, and of width."""
    shapes, mouths = [], []
    for meshes in persons:
        own = np.stack([face_shape.take_apart(mesh).shape for mesh in meshes])
        shown = np.array([face_mesh.expression(mesh)[:2] for mesh in meshes])
        shapes.append(own - own.mean(0))
        mouths.append(shown - shown.mean(0))
    flat = np.concatenate(shapes).reshape(-1, 3 * face_mesh.POINTS)
    moves = np.linalg.lstsq(np.concatenate(mouths), flat, rcond=None)[0]
    moves = moves.reshape(2, face_mesh.POINTS, 3)
    return (moves + moves[:, _mirrored()] * [-1, 1, 1]) / 2


def _mirrored() -> np.ndarray:
    """The number of each point's counterpart on the other side."""
    mean, _ = face_mesh.mean_shape()
    return np.linalg.norm(mean[:, None] * [-1, 1, 1] - mean[None], axis=2).argmin(1)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m dp3_jax.replacement.fit_mouth", description=__doc__
    )
    parser.add_argument("--persons", type=int, default=60, help="how many are rendered")
    parser.add_argument("--out", type=pathlib.Path, default=face_shape.MOUTH_SHAPES)
    given = parser.parse_args(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from safetensors.numpy import save

    try:
        moves = fit(renderings(given.persons)).astype(np.float16)
    except UserError as error:
        sys.exit(str(error))
    names = ("mouth_opening", "mouth_width")
    arrays = {n: np.ascontiguousarray(m) for n, m in zip(names, moves, strict=True)}
    files.write_bytes(given.out, save(arrays))


if __name__ == "__main__":
    main()
