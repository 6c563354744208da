"""Faces and other targets in a video that someone else has found: --boxes FILE, as JSON or CSV.

CSV: a header with x, y, w, h and either `frame` (one row for each face in a frame) or `first` and `last` (the
box stays in place over these frames). JSON: a list of objects with `box`, perhaps `points`, and `frame` or
`frames` ([first, last]). Frames count from 0. Boxes of neighbouring frames are joined to tracks and the gaps
between them are filled, as if they had been detected. `kind` is as in `pipelines.boxes`. Numbers are pixels
of the upright picture as it is stored, also where these are not square.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_detection import Detection
from dp3_jax.pipelines.boxes import face_of, read_rows
from dp3_jax.pipelines.sidecar import read_json

Spanning = tuple[int, int, Detection]  # first frame, last frame, the face in all of them


def _time_range(first: Any, last: Any, where: str) -> tuple[int, int]:
    try:
        time_range = int(first), int(last)
    except (TypeError, ValueError):
        time_range = (-1, -1)
    if not 0 <= time_range[0] <= time_range[1]:
        raise UserError(f"{where}: it must name a frame, or a first and a last one, from 0")
    return time_range


def _read_csv(path: str | os.PathLike) -> Iterator[Spanning]:
    for row, face, where in read_rows(path):
        frame = row.get("frame")
        first, last = (frame, frame) if frame else (row.get("first"), row.get("last"))
        yield *_time_range(first, last, where), face


def _read_json(path: str | os.PathLike) -> Iterator[Spanning]:
    content = read_json(path)
    if not isinstance(content, list):
        raise UserError(f'{path}: expected a list of {{"frame": 0, "box": [x, y, w, h]}}')
    for number, entry in enumerate(content):
        where = f"{path}, entry {number}"
        if not isinstance(entry, dict):
            raise UserError(f"{where}: expected an object with box and frame or frames")
        frames = entry.get("frames", [entry.get("frame")] * 2)
        if not isinstance(frames, list) or len(frames) != 2:
            raise UserError(f"{where}: frames is [first, last]")
        yield *_time_range(*frames, where), face_of(entry, where)


def _stretched(face: Detection, x: float, y: float) -> Detection:
    if x == y == 1:
        return face
    left, top, width, height = face.box
    points = None if face.keypoints is None else face.keypoints * np.array([x, y], np.float32)
    return dataclasses.replace(
        face, box=(x * left, y * top, x * width, y * height), keypoints=points
    )


def read(
    path: str | os.PathLike, frames: int, scale: tuple[float, float] = (1.0, 1.0)
) -> dict[int, list[Detection]]:
    """The faces in a boxes file, by frame.

    Args:
      path: ends in .csv for CSV.
      frames: number of frames in the video.
      scale: by which boxes and points are stretched along x and y.

    Raises:
      UserError: it cannot be read, is not in one of the forms, or names a frame that the video does not have.
    """
    is_csv = pathlib.Path(path).suffix.lower() == ".csv"
    found: dict[int, list[Detection]] = {}
    for first, last, face in _read_csv(path) if is_csv else _read_json(path):
        if last >= frames:
            raise UserError(f"{path} names frame {last}; the video's last one is {frames - 1}")
        for number in range(first, last + 1):
            found.setdefault(number, []).append(_stretched(face, *scale))
    return found
