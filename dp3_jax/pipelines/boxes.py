"""Faces and other targets that someone else has found: --boxes FILE, as JSON or CSV.

CSV: a header with x, y, w, h (or x, y, width, height), and `file` where there are several photos; one row a
face. JSON: a list of boxes [x, y, w, h] or of objects with `box` and, if known, `points`; for several photos
an object with a list for each file name. An empty list says that the photo has no face. The column or key
`kind` says what is in a box that holds no face: a name of `detection.kinds.KINDS`, as plate.
"""

import csv
import os
import pathlib
from typing import Any

from dp3_jax.common.errors import UserError
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.kinds import FACE, HEAD, KINDS, TargetKind
from dp3_jax.pipelines.sidecar import read_box, read_json, read_points

ANY = ""  # stands for the one photo when the file names none


class Boxes:
    """The faces in a boxes file, by photo."""

    def __init__(self, path: str | os.PathLike):
        """Reads the file.

        Raises:
          UserError: it cannot be read or is not in one of the forms.
        """
        self._path = str(path)
        csv_file = pathlib.Path(path).suffix.lower() == ".csv"
        self._faces = _read_csv(path) if csv_file else _read_json(path)

    @property
    def names_photos(self) -> bool:
        """Whether the file says which photo a face belongs to."""
        return ANY not in self._faces

    def of(self, photo: pathlib.Path) -> list[Detection]:
        """The faces of a photo, found by its path as given or by its name.

        Raises:
          UserError: the file does not list the photo.
        """
        for name in (ANY, str(photo), photo.as_posix(), photo.name):
            if name in self._faces:
                return self._faces[name]
        raise UserError(
            f"{self._path} lists no faces for {photo.name}; an empty list says it has none"
        )


def face_of(entry: Any, where: str) -> Detection:
    """The target of a JSON entry: a box, or an object with `box` and perhaps `points` and `kind`.

    Raises:
      UserError: it is not that; `where` says of what.
    """
    if isinstance(entry, dict):
        kind = _read_kind(entry.get("kind"), where)
        points = entry.get("points")
        if points is not None and kind not in (FACE, HEAD):
            raise UserError(f"{where}: points are read of faces and heads only; leave them out")
        box = read_box(entry.get("box"), where)
        return Detection(box, read_points(points, where), 1.0, FaceSource.USER, kind)
    return Detection(read_box(entry, where), None, 1.0, FaceSource.USER)


def _read_kind(name: Any, where: str) -> TargetKind:
    """The kind of that name; None and an empty cell are a face."""
    if name is None or name == "":
        return FACE
    if not isinstance(name, str) or name not in KINDS:
        raise UserError(f"{where}: kind is one of {', '.join(KINDS)}, not {name!r}")
    return KINDS[name]


def _faces(entries: Any, where: str) -> list[Detection]:
    if isinstance(entries, dict) and "faces" in entries:
        entries = entries["faces"]
    if not isinstance(entries, list):
        raise UserError(
            f"{where}: expected a list of boxes [x, y, w, h], found {type(entries).__name__}"
        )
    return [face_of(entry, f"{where}, face {i}") for i, entry in enumerate(entries)]


def _read_json(path: str | os.PathLike) -> dict[str, list[Detection]]:
    content = read_json(path)
    if isinstance(content, dict) and "faces" not in content:
        return {str(name): _faces(entries, f"{path}, {name}") for name, entries in content.items()}
    return {ANY: _faces(content, str(path))}


def read_rows(path: str | os.PathLike) -> list[tuple[dict[str, str], Detection, str]]:
    """The rows of a CSV file with columns x, y, w, h or x, y, width, height: (row, its box, where it is).

    Raises:
      UserError: the file cannot be read, or a column or number is missing or wrong.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as opened:
            rows = list(csv.DictReader(opened, skipinitialspace=True))
            columns = rows[0].keys() if rows else ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    width, height = ("w", "h") if "w" in columns else ("width", "height")
    if missing := [name for name in ("x", "y", width, height) if name not in columns]:
        raise UserError(f"{path} has no column {missing[0]}; its first line names x, y, w, h")
    found = []
    for line, row in enumerate(rows, 2):
        where = f"{path}, line {line}"
        try:
            box = [float(row[name]) for name in ("x", "y", width, height)]
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: a number is missing or wrong") from error
        found.append((row, face_of({"box": box, "kind": row.get("kind")}, where), where))
    return found


def _read_csv(path: str | os.PathLike) -> dict[str, list[Detection]]:
    faces: dict[str, list[Detection]] = {}
    for row, face, _ in read_rows(path):
        faces.setdefault(row.get("file") or ANY, []).append(face)
    if ANY in faces and len(faces) > 1:
        raise UserError(f"{path}: some lines name no file")
    return faces
