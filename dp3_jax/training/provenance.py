"""Which images a run is trained on: `data.json` in its folder, so that no others are taken for them later."""

import json
import pathlib
from typing import Any

from dp3_jax.common import files
from dp3_jax.common.errors import UserError

DATA_FILE = "data.json"


def _described(fingerprint: str, count: int) -> dict[str, Any]:
    return {"train": {"images": count, "sha256_of_names": fingerprint}}


def record(workdir: pathlib.Path, fingerprint: str, count: int) -> None:
    """Writes down the images of the run in `workdir`, if that is not done yet.

    Args:
      workdir: of the run.
      fingerprint: of their names, see `data.Feed`.
      count: how many there are.
    """
    if not (workdir / DATA_FILE).exists():
        files.write_json(workdir / DATA_FILE, _described(fingerprint, count))


def check(workdir: pathlib.Path, fingerprint: str, count: int, place: str) -> None:
    """Raises UserError where the run in `workdir` was trained on other images than those in `place`.

    Runs of versions that did not write them down, and exported files, are taken to be right.
    """
    path = workdir / DATA_FILE
    if not path.is_file():
        return
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; remove it to go on without it") from error
    if before != _described(fingerprint, count):
        images = before.get("train", {}).get("images")
        raise UserError(
            f"the run in {workdir} is trained on {images} images that are not the {count} in {place}, or "
            "have other names there; name the place of the same images with --config.data.path"
        )
