"""What a fit has rendered and measured so far: columns in an .npz file, which a later run goes on with."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from dp3_jax.common import files
from dp3_jax.common.errors import UserError


def read(path: pathlib.Path, names: Sequence[str], what: str) -> dict[str, list]:
    """The rows of each column; none where there is no file yet.

    Raises:
      UserError: the file is something else than a survey of `what`.
    """
    if not path.exists():
        return {name: [] for name in names}
    try:
        with np.load(path) as stored:
            return {name: list(stored[name]) for name in names}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is no survey of {what}; choose another name") from error


def write(path: pathlib.Path, columns: Mapping[str, list]) -> None:
    """Saves columns for `read`, whole or not at all."""
    with files.atomic_target(path) as temporary, temporary.open("wb") as opened:
        np.savez(opened, **{name: np.array(values) for name, values in columns.items()})
