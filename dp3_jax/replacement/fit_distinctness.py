"""Fits what tells the prior's persons apart (weights/distinctness.safetensors).

  python -m dp3_jax.replacement.fit_distinctness runs/persons.npz --count 3000

renders persons of several classes looking ahead, cuts them by their silhouettes as photos show them, and
embeds them with dlib's network (`models.dlib_resnet`), which is trained on thereby and no judge of it. Goes
on where it was interrupted; about .2 s a person on two idle cores.
"""

import argparse
import hashlib
import os
import pathlib
import sys

import numpy as np

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.replacement import distinctness, fusing, survey_file
from dp3_jax.replacement.directions import load_directions
from dp3_jax.replacement.identities import Classes, Rendering
from dp3_jax.vision.masks import CANONICAL_POINTS, SIZE

CLASSES = tuple(
    Classes(female, age, tone)
    for female in (True, False)
    for age in ("young", "middle")
    for tone in (1, 3, 4)
)
_SIZE = 256  # px, of a rendering
_GROUND = 120, 110, 105  # colour round a face
_BLOCK = 50  # persons between two savings


def survey(path: pathlib.Path, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(w f32[n, 512], embeddings f32[n, 128], class i64[n]) of persons; saved to .npz as it goes."""
    from dp3_jax.models import embedders
    from dp3_jax.replacement.prior_identities import PriorIdentities

    found = survey_file.read(path, ("number", "w", "embedding"), "persons")
    source, embedder = PriorIdentities(), embedders.DlibResNet()
    first = int(found["number"][-1]) + 1 if found["number"] else 0
    for number in range(first, count):
        key = hashlib.sha256(f"dist{number}".encode()).digest()
        w, image, mesh = source.plain(key, CLASSES[number % len(CLASSES)], _SIZE)
        if mesh is not None:
            face = embedders.align(_cut(image, mesh), CANONICAL_POINTS, embedder)
            for name, value in zip(found, (number, w, embedder(face[None])[0]), strict=True):
                found[name].append(value)
        if number % _BLOCK == _BLOCK - 1 or number == count - 1:
            survey_file.write(path, found)
            print(f"{number + 1} of {count} persons", flush=True)
    numbers, w, embeddings = (np.array(found[name]) for name in found)
    return w, embedders.unit(embeddings), numbers % len(CLASSES)


def _cut(image: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """u8[128, 128, 3]: the canonical view of a face alone."""
    shown = Rendering.of_mesh(image, mesh, clamped=False, person="")
    donor = fusing.place_donor(shown, None, np.ones((SIZE, SIZE, 1), np.float32))
    return np.where(donor.mask > 0, donor.view, np.uint8(_GROUND)).astype(np.uint8)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m dp3_jax.replacement.fit_distinctness", description=__doc__
    )
    parser.add_argument("survey", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=3000, help="persons")
    parser.add_argument("--out", type=pathlib.Path, default=distinctness.TABLE)
    given = parser.parse_args(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from safetensors.numpy import save

    try:
        w, embeddings, groups = survey(given.survey, given.count)
        if len(w) < 2 * w.shape[1]:
            raise UserError(f"{len(w)} persons are too few for a fit; --count 1100 or more")
        table = load_directions()
        basis = distinctness.fit(w, embeddings, groups, table.regression, table.mean)
    except UserError as error:
        sys.exit(f"error: {error}")
    files.write_bytes(given.out, save({"basis": np.ascontiguousarray(basis, np.float16)}))
    print(f"{given.out}: from {len(w)} persons")


if __name__ == "__main__":
    main()
