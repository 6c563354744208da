"""What people say of results: one JSON line for each remark, in feedback.jsonl (see docs/cli/review.md).

A line names the original by path and SHA-256 and says where the face lies in it; it holds no pixel. It
holds the key of the new face that was judged, as the sidecar beside the result does: it is not for release.
Whoever learns from it reads the originals again and leaves out what is gone or has changed.
"""

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from dp3_jax.common.errors import UserError
from dp3_jax.media import image_sequences

FORMAT = "dp3 feedback 1"
NAME = "feedback.jsonl"
VERDICTS = ("eyes", "mouth", "boundary", "colour", "age_sex", "recognised")
ACTIONS = (
    "rate", "missed", "not_a_face", "keep", "method", "another_person", "adjust", "split", "merge",
    "extend", "time_range", "same_person", "undo",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feedback:
    """One remark on one face, or on a place where one was missed.

    Attributes:
      action: one of ACTIONS.
      kind: "photo" or "video".
      source: of the original; when written to a file, as seen from that file's folder.
      sha256: of the original's content, hexadecimal; of an image sequence that of all pictures in a row.
      result, sidecar: the files that were looked at; as `source`.
      size: (width, height) in px, upright, that boxes refer to (of videos in square pixels).
      frame: number of the frame that was looked at; None for a photo.
      frames: first and last frame of the track or stretch, both included; None for a photo.
      face: index of the face in the sidecar at that time, or number of the track; None before there is one.
      box: (x, y, width, height) px; of "missed" the drawn one.
      points: five (x, y) px: eyes, nose, corners of the mouth; None if unknown.
      confidence: of the detection, 0 to 1; None if unknown.
      verdicts: of "rate": what looks wrong, of VERDICTS; empty when all looks right.
      method: of "method" the new one; else what the face was treated with.
      key: of the new face that was judged, 64 hexadecimal digits; None if there is none.
      candidate: as in the sidecar.
      vector: pose and expression as in the sidecar, by name.
      done: what was shown: generated, blurred, pixelated, solid, covered, kept; None if unknown.
      identity: the sidecar's object of that name; None if it has none.
      generator: SHA-256 of what drew the faces; None if none was drawn.
      of: of "undo", the `id` of the remark that is taken back.
      id: unique.
      time: UTC, ISO 8601.
    """

    action: str
    kind: str
    source: str
    sha256: str
    result: str | None = None
    sidecar: str | None = None
    size: tuple[int, int] | None = None
    frame: int | None = None
    frames: tuple[int, int] | None = None
    face: int | None = None
    box: tuple[float, float, float, float] | None = None
    points: list | None = None
    confidence: float | None = None
    verdicts: tuple[str, ...] = ()
    method: str | None = None
    key: str | None = None
    candidate: int | None = None
    vector: Mapping[str, float | None] | None = None
    done: str | None = None
    identity: Mapping[str, Any] | None = None
    generator: str | None = None
    of: str | None = None
    id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    time: str = dataclasses.field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    )

    def __post_init__(self):
        if self.action not in ACTIONS:
            raise ValueError(f"action {self.action!r} is not one of {', '.join(ACTIONS)}")
        if strange := set(self.verdicts) - set(VERDICTS):
            raise ValueError(f"verdicts {sorted(strange)} are not of {', '.join(VERDICTS)}")


_FIELDS = tuple(field.name for field in dataclasses.fields(Feedback))


def sha256_of(path: str | os.PathLike) -> str:
    """Of the content of a file or of an image sequence, hexadecimal.

    Raises:
      OSError: it cannot be read.
      UserError: a picture of the sequence is missing.
    """
    digest = hashlib.sha256()
    for file in image_sequences.files_of(pathlib.Path(path)):
        with file.open("rb") as opened:
            hashlib.file_digest(opened, lambda: digest)
    return digest.hexdigest()


def append(path: str | os.PathLike, entry: Feedback) -> None:
    """Adds a line, and does not return before it is on the disk; only its owner may read the file.

    Paths of `entry` are made relative to the file's folder. What a killed process left of a line is ended
    first, so that it does not swallow this one.

    Raises:
      UserError: it cannot be written.
    """
    path = pathlib.Path(path)
    content = {"format": FORMAT, **dataclasses.asdict(entry)}
    for name in ("source", "result", "sidecar"):
        if content[name] is not None:
            content[name] = _seen_from(path.parent, content[name])
    content = {name: value for name, value in content.items() if name != "of" or value is not None}
    line = json.dumps(content).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b") as opened:
            if opened.seek(0, os.SEEK_END):
                opened.seek(-1, os.SEEK_END)
                line = line if opened.read(1) == b"\n" else b"\n" + line
            opened.write(line)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free space") from error


def _seen_from(folder: pathlib.Path, path: str) -> str:
    try:
        return os.path.relpath(os.path.abspath(path), folder.resolve())
    except ValueError:  # another drive of Windows
        return os.path.abspath(path)


def read(path: str | os.PathLike) -> list[Feedback]:
    """The remarks of a file that were not taken back, in their order, with absolute paths.

    A line that is no remark is left out: a kill may have cut it off.

    Raises:
      UserError: the file cannot be read, or holds lines and none of them is a remark.
    """
    path = pathlib.Path(path)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from error
    found = [entry for line in lines if (entry := _parsed(line, path.resolve().parent))]
    if not found and any(line.strip() for line in lines):
        raise UserError(f"{path} is no feedback of dp3 review; name a feedback.jsonl")
    return _standing(found)


def find(path: str | os.PathLike, identifier: str) -> Feedback | None:
    """A remark by its `id`, also one that was taken back; None where there is none."""
    path = pathlib.Path(path)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    parsed = (_parsed(line, path.resolve().parent) for line in lines if identifier in line)
    return next((entry for entry in parsed if entry and entry.id == identifier), None)


def again(entry: Feedback) -> Feedback:
    """The same remark, made now."""
    new = {f.name: getattr(entry, f.name) for f in dataclasses.fields(Feedback)}
    del new["id"], new["time"]
    return Feedback(**new)


def _standing(entries: Iterable[Feedback]) -> list[Feedback]:
    entries = list(entries)
    taken_back = {entry.of for entry in entries if entry.action == "undo"}
    return [e for e in entries if e.action != "undo" and e.id not in taken_back]


def _parsed(line: str, folder: pathlib.Path) -> Feedback | None:
    try:
        content = json.loads(line)
        if content.get("format") != FORMAT:
            return None
        known = {name: content[name] for name in _FIELDS if name in content}
        for name in ("size", "frames", "box", "verdicts"):
            if known.get(name) is not None:
                known[name] = tuple(known[name])
        for name in ("source", "result", "sidecar"):
            if known.get(name) is not None:
                known[name] = os.path.normpath(folder / known[name])
        return Feedback(**known)
    except (ValueError, TypeError, AttributeError):
        return None
