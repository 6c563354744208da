"""What a run over many files has done: one JSON line for each, so that a killed run goes on where it was.

A line says which file was read and which was written (size, time, SHA-256), under which settings, and how
many faces were treated how; or why the file was skipped. It names no face and holds no key; but it tells
which original belongs to which result, so it lies beside the results' folder and is not for release.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

from dp3_jax.common import files
from dp3_jax.common.errors import UserError

FORMAT = "dp3 manifest 1"
ENDING = ".manifest.jsonl"


@dataclasses.dataclass(frozen=True)
class FilePrint:
    """What a file is known by.

    Attributes:
      bytes: its size.
      modified_ns: its time, ns.
      sha256: of its content, hexadecimal; empty where it was not computed.
    """

    bytes: int
    modified_ns: int
    sha256: str = ""

    def matches(self, path: pathlib.Path) -> bool:
        """Whether the file is there and the same; it is read only when its time alone has changed."""
        try:
            status = path.stat()
            if status.st_size != self.bytes:
                return False
            if status.st_mtime_ns == self.modified_ns:
                return True
            return bool(self.sha256) and _digest(path) == self.sha256
        except OSError:
            return False


def print_of(path: pathlib.Path, content: bytes | None = None) -> FilePrint:
    """A file's print; with its SHA-256 where the content is given.

    Raises:
      OSError: the file is not there.
    """
    status = path.stat()
    digest = "" if content is None else hashlib.sha256(content).hexdigest()
    return FilePrint(status.st_size, status.st_mtime_ns, digest)


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def default_path(output: str | None, inputs: list[str], to_file: bool) -> pathlib.Path | None:
    """Beside the folder that results go to, or that one folder of inputs is; None where there is none."""
    if output is not None:
        folder = None if to_file else pathlib.Path(output).resolve()
    else:
        one = len(inputs) == 1 and os.path.isdir(inputs[0])
        folder = pathlib.Path(inputs[0]).resolve() if one else None
    if folder is None or not folder.name:
        return None
    return folder.with_name(files.fitting(folder.name, ENDING))


class Manifest:
    """The manifest of a run; opened by its path, written line by line."""

    def __init__(self, path: pathlib.Path):
        """Reads what earlier runs have written; of several lines on one result the last one counts.

        Raises:
          UserError: the file cannot be read or written, or is something else.
        """
        self.path = path
        self._done: dict[str, dict[str, Any]] = {}
        try:
            if path.exists():
                self._read()
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115, it is open for the run
        except OSError as error:
            raise UserError(
                f"cannot write the manifest {path}: {error.strerror}; name another with --manifest"
            ) from error

    def _read(self) -> None:
        content = self.path.read_text(encoding="utf-8", errors="replace")
        if content.strip() and FORMAT not in content[: content.find("\n") + 1]:
            raise UserError(f"{self.path} is no manifest of dp3; name another with --manifest")
        for line in content.splitlines():
            try:
                entry = json.loads(line)
                self._done[entry["target"]] = entry
            except (ValueError, TypeError, KeyError):
                continue  # a line cut off by a kill
        if content and not content.endswith("\n"):
            with self.path.open("a", encoding="utf-8") as opened:
                opened.write("\n")

    def _name(self, path: pathlib.Path) -> str:
        """A path as seen from the manifest, so that all can be moved together."""
        try:
            return os.path.relpath(os.path.abspath(path), self.path.parent.resolve())
        except ValueError:  # another drive of Windows
            return os.path.abspath(path)

    def done(
        self, source: pathlib.Path, target: pathlib.Path, settings: str
    ) -> dict[str, Any] | None:
        """The line of a result that is there, of this source as it is, under these settings; else None."""
        entry = self._done.get(self._name(target))
        if entry is None or entry.get("error") or entry.get("settings") != settings:
            return None
        try:
            before, after = FilePrint(**entry["input"]), FilePrint(**entry["output"])
        except (KeyError, TypeError):
            return None
        if self._name(source) != entry.get("source") or not after.matches(target):
            return None
        in_place = source.resolve() == target.resolve()
        return entry if in_place or before.matches(source) else None

    def add(
        self, source: pathlib.Path, target: pathlib.Path, settings: str, entry: dict[str, Any]
    ) -> None:
        """Writes the line of a result, or of a file that was skipped (`entry` has an "error").

        Raises:
          UserError: it cannot be written.
        """
        names = {"source": self._name(source), "target": self._name(target)}
        line = json.dumps({"format": FORMAT, **names, "settings": settings, **entry})
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"cannot write the manifest {self.path}: {error.strerror}; free space"
            ) from error

    def close(self) -> None:
        """Ends writing; removes the file where there is nothing in it."""
        self._file.close()
        if not self.path.stat().st_size:
            self.path.unlink()
