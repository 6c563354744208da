"""The sidecar: one JSON file beside a photo with its faces and what was done with them.

It can be edited and passed back; unchanged it gives the same picture to the last bit. Its form is described
in sidecar.schema.json. It holds the keys of the new faces but not the secret they come from, and neither the
photo's name nor any of its pixels.
"""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import dp3_jax
from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.detection.kinds import FACE, HEAD, KINDS, TargetKind
from dp3_jax.replacement import key_derivation
from dp3_jax.replacement.face_actions import FaceAction, FaceResult, Settings
from dp3_jax.replacement.identities import Wishes
from dp3_jax.replacement.options import IdentityOptions

FORMAT = "dp3 faces 1"
SUFFIX = ".faces.json"
_FIVE = 5
SCHEMA = pathlib.Path(__file__).with_name("sidecar.schema.json")


def _numbers(values: Any) -> list:
    """Exact decimal forms: reading them back gives the same floats."""
    return np.asarray(values, np.float64).tolist()


def _face(face_result: FaceResult) -> dict[str, Any]:
    action = face_result.action
    face = action.face
    more = {} if face.kind is FACE else {"kind": face.kind.name}
    if action.vector is not None:
        more["vector"] = action.vector._asdict()
    if face_result.person is not None:
        more["person"] = face_result.person
    return {
        "box": _numbers(face.box),
        "points": None if face.keypoints is None else _numbers(face.keypoints),
        "confidence": face.confidence,
        "source": face.source,
        "keep": action.keep,
        "method": action.method,
        "key": action.key.hex(),
        "candidate": face_result.candidate,
        "done": face_result.done,
        "reason": face_result.reason,
        **more,
    }


def identity_entry(options: IdentityOptions) -> dict[str, Any]:
    """As `parse_identity` reads it."""
    return {**dataclasses.asdict(options), "wishes": options.wishes._asdict()}


def parse_identity(content: Any, where: str) -> IdentityOptions | None:
    """Where the new faces of a sidecar's content come from; None where it does not say.

    Raises:
      UserError: what it says is no such thing; `where` names the file.
    """
    found = content.get("identity") if isinstance(content, dict) else None
    if found is None:
        return None
    try:
        return IdentityOptions(**{**found, "wishes": Wishes(**found.get("wishes", {}))})
    except (TypeError, AttributeError) as error:
        raise UserError(f"cannot use {where}: identity {found!r} is not one") from error


def describe(
    shape: Sequence[int],
    face_results: Sequence[FaceResult],
    settings: Settings,
    generator: str | None,
    identity: IdentityOptions | None = None,
) -> dict[str, Any]:
    """The sidecar's content.

    Args:
      shape: of the photo, (height, width, ...).
      face_results: of its faces.
      settings: that were used.
      generator: fingerprint of the weights; None when no face was drawn.
      identity: where the new faces come from; None when no face was drawn.
    """
    content = {
        "format": FORMAT,
        "version": dp3_jax.__version__,
        "photo": {"width": int(shape[1]), "height": int(shape[0])},
        "settings": {
            "method": settings.method,
            "cover": settings.cover,
            "candidates": settings.candidates,
        },
        "generator": generator,
        **({} if identity is None else {"identity": identity_entry(identity)}),
        "faces": [_face(face_result) for face_result in face_results],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return {**content, "fingerprint": digest}


def is_sidecar(path: pathlib.Path) -> bool:
    """Whether a file looks like one that `write` has written."""
    return files.begins_with(path, FORMAT)


def write(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Writes what `describe` gave, atomically.

    Raises:
      UserError: the file cannot be written.
    """
    files.write_json(path, dict(content))


class _Wrong(Exception):
    """What is wrong with the content, for one line to the user."""


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise _Wrong(message)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_box(value: Any, where: str) -> tuple[float, float, float, float]:
    """Four finite numbers with a positive size.

    Raises:
      UserError: it is not that; `where` says of what.
    """
    ok = isinstance(value, list | tuple) and len(value) == 4 and all(map(_is_number, value))
    if not ok or value[2] <= 0 or value[3] <= 0:
        raise UserError(
            f"{where}: a box is x, y, width, height in px with a positive size, not {value!r}"
        )
    return tuple(float(v) for v in value)


def read_points(value: Any, where: str, kind: TargetKind = FACE) -> np.ndarray | None:
    """The points f32[n, 2] of a target, of a face five, or None.

    Raises:
      UserError: it is neither; `where` says of what.
    """
    if value is None:
        return None
    ok = isinstance(value, list | tuple) and len(value) == kind.points
    for point in value if ok else ():
        ok = (
            ok
            and isinstance(point, list | tuple)
            and len(point) == 2
            and all(map(_is_number, point))
        )
    if not ok:
        count = "five" if kind.points == _FIVE else kind.points
        raise UserError(f"{where}: points are {count} pairs x, y in px, not {value!r}")
    return np.array(value, np.float32)


def _vector(value: Any, number: int) -> FaceVector | None:
    if value is None:
        return None
    names = FaceVector._fields
    ok = isinstance(value, dict) and set(value) <= set(names)
    ok = ok and all(v is None or _is_number(v) for v in value.values())
    ok = ok and None not in (value.get("yaw"), value.get("pitch"))
    _check(ok, f"face {number}: vector {value!r} does not have the numbers {', '.join(names)}")
    return FaceVector(**{k: None if v is None else float(v) for k, v in value.items()})


def read_kind(name: Any, where: str) -> TargetKind:
    """The kind of target of this name.

    Raises:
      UserError: there is none; `where` says of what.
    """
    if name not in tuple(KINDS):
        raise UserError(f"{where}: kind {name!r} is not one of {', '.join(KINDS)}")
    return KINDS[name]


def _action(entry: Any, number: int, master_key: bytes, where: str) -> FaceAction:
    where = f"{where}, face {number}"
    _check(isinstance(entry, dict), f"face {number} is not an object")
    kind = read_kind(entry.get("kind", FACE.name), f"face {number}")
    box, points = read_box(entry.get("box"), where), read_points(entry.get("points"), where, kind)
    confidence, keep = entry.get("confidence", 1.0), entry.get("keep", False)
    _check(_is_number(confidence), f"face {number}: confidence {confidence!r} is not a number")
    _check(isinstance(keep, bool), f"face {number}: keep is true or false, not {keep!r}")
    method, candidate = entry.get("method"), entry.get("candidate")
    methods = kind.methods
    _check(method in (None, *methods), f"face {number}: method {method!r} is not one of {methods}")
    settled = candidate is None or (type(candidate) is int and candidate >= 0)
    _check(settled, f"face {number}: candidate {candidate!r} is not a whole number from 0")
    key = entry.get("key")
    try:
        key = key_derivation.track_key(master_key, number) if key is None else bytes.fromhex(key)
    except (TypeError, ValueError):
        key = b""
    _check(len(key) == key_derivation.KEY_BYTES, f"face {number}: key is not 64 hexadecimal digits")
    source = str(entry.get("source", FaceSource.USER))
    face = Detection(box, points, float(confidence), source, kind)
    if method is None and kind not in (FACE, HEAD):
        method = kind.default
    vector = _vector(entry.get("vector"), number)
    # Kept because a person has written so, not a rule that would have to be applied again.
    return FaceAction(
        face, key, keep, method, candidate, "by the faces file" if keep else "", vector
    )


def parse(
    content: Any, shape: Sequence[int], master_key: bytes, where: str
) -> tuple[list[FaceAction], Settings, str | None]:
    """Plans, settings and the generator's fingerprint from a sidecar's content.

    Args:
      content: decoded JSON.
      shape: of the photo that it is used for.
      master_key: gives a key to faces that have none.
      where: name of the file, for messages.

    Raises:
      UserError: it is not a sidecar, or of a photo of another size.
    """
    try:
        _check(isinstance(content, dict), "it is not a JSON object")
        found = content.get("format")
        _check(found == FORMAT, f"its format is {found!r} and not {FORMAT!r}")
        size, settings, entries = (content.get(k) for k in ("photo", "settings", "faces"))
        _check(isinstance(size, dict), "photo is missing")
        _check(isinstance(settings, dict), "settings is missing")
        _check(isinstance(entries, list), "faces is missing")
        given = (size.get("height"), size.get("width"))
        _check(
            given == tuple(shape[:2]),
            f"it is of a photo of {given[1]}x{given[0]} px, this one has {shape[1]}x{shape[0]}",
        )
        actions = [_action(entry, i, master_key, where) for i, entry in enumerate(entries)]
        known = {k: settings[k] for k in ("method", "cover", "candidates") if k in settings}
        return actions, Settings(**known), content.get("generator")
    except _Wrong as error:
        raise UserError(f"cannot use {where}: {error}") from error


def read(
    path: str | os.PathLike, shape: Sequence[int], master_key: bytes
) -> tuple[list[FaceAction], Settings, str | None]:
    """`parse` of a file.

    Raises:
      UserError: also when the file cannot be read or is not JSON.
    """
    return parse(read_json(path), shape, master_key, str(path))


def read_json(path: str | os.PathLike) -> Any:
    """Decoded JSON of a file.

    Raises:
      UserError: it cannot be read or is not JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from error
    except ValueError as error:
        raise UserError(
            f"{path} is not JSON: {' '.join(str(error).split())}; is it the right one?"
        ) from error
