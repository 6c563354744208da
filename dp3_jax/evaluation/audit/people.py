"""Who is in which photo or clip: from a CSV file, or from the names of folders."""

import csv
import os
import pathlib
from collections.abc import Mapping, Sequence

from dp3_jax.common.errors import UserError

FOLDERS = "folders"  # as --people: each folder is a person


def _read(path: pathlib.Path) -> dict[str, str]:
    """{file: person} of a CSV file with the columns `file` and `person`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read --people {path}; give a CSV file, or folders") from error
    rows = csv.DictReader(text.splitlines())
    if not {"file", "person"} <= set(rows.fieldnames or ()):
        raise UserError(f"--people {path} needs a first line with the columns file and person")
    found = {}
    for number, row in enumerate(rows, 2):
        if not row["file"] or not row["person"]:
            raise UserError(f"--people {path}, line {number}: file or person is empty")
        found[pathlib.PurePath(row["file"]).as_posix()] = row["person"]
    return found


def read_people(given: str | os.PathLike | None, names: Sequence[str]) -> Mapping[str, int]:
    """{name of a pair: number of its person}; names whose person is not known are left out.

    Args:
      given: a CSV file with lines `file,person`, `folders` for the folder that each file lies in, or None.
      names: of the pairs, relative and with /.

    Raises:
      UserError: the file cannot be used, or names nobody.
    """
    if given is None:
        return {}
    if str(given) == FOLDERS and not os.path.isfile(FOLDERS):
        who = {name: str(pathlib.PurePosixPath(name).parent) for name in names}
        who = {name: person for name, person in who.items() if person != "."}
        if not who:
            raise UserError("--people folders needs originals in a folder for each person")
    else:
        listed = _read(pathlib.Path(given))
        who = {name: listed[name] for name in names if name in listed}
        if not who:
            raise UserError(f"--people {given} names none of the originals, such as {names[0]}")
    numbers = {person: i for i, person in enumerate(sorted(set(who.values())))}
    return {name: numbers[person] for name, person in who.items()}
