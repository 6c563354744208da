"""What is known of each pair of files while an audit runs, so that an interrupted one goes on where it was.

Views of original faces are among it. It lies in a folder that only its owner can read and that is gone when
the report is written.
"""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

import dp3_jax
from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.evaluation.audit.coverage import Change
from dp3_jax.evaluation.audit.faces import AuditedFace
from dp3_jax.evaluation.audit.pairing import Pair
from dp3_jax.pipelines import sidecar
from dp3_jax.pipelines.video import job

FOLDER = ".audit"
_FORMAT = "dp3 audit part 1"
_SHAPE = (2, 128, 128, 3)


def _print(path: pathlib.Path) -> list[Any]:
    """What a file is known by: its place, size and time; empty where there is none."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [os.path.abspath(path), status.st_size, status.st_mtime_ns]


def _key(pair: Pair) -> str:
    """Names the part of a pair as its files are now."""
    beside = (
        job.sidecar_path(pair.anonymized)
        if pair.is_video
        else pair.anonymized.with_name(pair.anonymized.name + sidecar.SUFFIX)
    )
    known = [_print(path) for path in (pair.original, pair.anonymized, beside)]
    text = json.dumps([_FORMAT, dp3_jax.__version__, known])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _to_json(face: AuditedFace) -> dict[str, Any]:
    plain = dataclasses.asdict(dataclasses.replace(face, views=None, mask=None, vector=None))
    return plain | {"vector": None if face.vector is None else list(face.vector)}


def _from_json(entry: dict[str, Any], views: Any, mask: Any) -> AuditedFace:
    change = None if entry["change"] is None else Change(**entry["change"])
    vector = None if entry["vector"] is None else FaceVector(*entry["vector"])
    box = tuple(entry["box"])
    return AuditedFace(
        **entry | {"box": box, "change": change, "vector": vector, "views": views, "mask": mask}
    )


class Store:
    """The parts of an audit, one file for each pair."""

    def __init__(self, report: pathlib.Path):
        """Makes the folder in that of the report.

        Raises:
          UserError: it cannot be made.
        """
        self._folder = report / FOLDER
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write {report}: {error.strerror}; choose another -o"
            ) from error

    def _path(self, pair: Pair) -> pathlib.Path:
        return self._folder / f"{_key(pair)}.npz"

    def __contains__(self, pair: Pair) -> bool:
        """Whether a pair was looked at, as its files are now."""
        return self._path(pair).is_file()

    def write(self, pair: Pair, faces: Sequence[AuditedFace], error: str = "") -> None:
        """Keeps the faces of a pair, or why there are none.

        Raises:
          UserError: it cannot be written.
        """
        shown = [i for i, face in enumerate(faces) if face.views is not None]
        said = {"faces": [_to_json(face) for face in faces], "error": error, "shown": shown}
        views = np.array([faces[i].views for i in shown], np.uint8).reshape(-1, *_SHAPE)
        masks = np.array([faces[i].mask for i in shown], bool).reshape(-1, *_SHAPE[1:3])
        content = io.BytesIO()
        np.savez(content, said=json.dumps(said), views=views, masks=np.packbits(masks, axis=-1))
        files.write_bytes(self._path(pair), content.getvalue())

    def read(self, pair: Pair, *, views: bool = False) -> tuple[list[AuditedFace], str]:
        """(faces of a pair, why there are none), with pictures or without."""
        with np.load(self._path(pair)) as part:
            said = json.loads(str(part["said"]))
            pictures: dict[int, tuple[Any, Any]] = {}
            if views:
                masks = np.unpackbits(part["masks"], axis=-1).astype(bool)
                pictures = dict(
                    zip(said["shown"], zip(part["views"], masks, strict=True), strict=True)
                )
        faces = [
            _from_json(entry, *pictures.get(i, (None, None)))
            for i, entry in enumerate(said["faces"])
        ]
        return faces, said["error"]

    def remove(self) -> None:
        """Removes all parts."""
        shutil.rmtree(self._folder, ignore_errors=True)
