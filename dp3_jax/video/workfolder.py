"""What a video job keeps beside its target while it runs, so that a killed one goes on where it was.

The folder .NAME.dp3 holds detections (boxes, no pixels), finished segments of the anonymized video, and until
the job is done the secret that its faces are drawn from. No picture of an original face is ever in it. It is
removed when the job is done.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from dp3_jax import files
from dp3_jax.anonymization import secrets
from dp3_jax.errors import UserError

FORMAT = 1


class WorkFolder:
    """The folder of one job; opened by `work_folder`.

    Attributes:
      path: the folder.
      resumed: whether an earlier run of the same job had left something.
    """

    def __init__(self, path: pathlib.Path, resumed: bool):
        """Takes a folder that exists and belongs to this job."""
        self.path = path
        self.resumed = resumed

    def secret(self) -> bytes:
        """A secret that is the same in every run of this job and gone after it."""
        file = self.path / "secret"
        if not file.is_file():
            with files.atomic_target(file) as temporary:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as opened:
                    opened.write(secrets.fresh_secret())
        return file.read_bytes()

    def append(self, name: str, entry: Mapping[str, Any]) -> None:
        """Adds one line to a journal; a line cut off by a kill is not read back."""
        try:
            with open(self.path / name, "a", encoding="ascii") as opened:
                opened.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise UserError(
                f"cannot write {self.path / name}: {error.strerror}; free space"
            ) from error

    def entries(self, name: str) -> list[dict[str, Any]]:
        """The complete lines of a journal; what follows them is cut off the file."""
        file = self.path / name
        if not file.is_file():
            return []
        found, good = [], 0
        with open(file, "rb") as opened:
            for line in opened:
                try:
                    if not line.endswith(b"\n"):
                        break
                    found.append(json.loads(line))
                except ValueError:
                    break
                good += len(line)
        if good < file.stat().st_size:
            os.truncate(file, good)
        return found

    def segment(self, number: int, suffix: str) -> pathlib.Path:
        """Where a segment of the video lies."""
        return self.path / f"segment_{number:06d}{suffix}"

    def clear_segments(self, after: int) -> None:
        """Removes segments from number `after` on, and what belongs to them."""
        for file in self.path.glob("segment_*"):
            if int(file.name[8:14]) >= after:
                file.unlink()


def _identity_holds(path: pathlib.Path, identity: Mapping[str, Any]) -> bool:
    try:
        return json.loads((path / "job.json").read_text()) == dict(identity)
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def work_folder(target: pathlib.Path, identity: Mapping[str, Any]) -> Iterator[WorkFolder]:
    """The work folder of the job that writes `target`; removed when the block ends without an exception.

    Args:
      target: the video to be written.
      identity: JSON values that tell this job from any other: source, settings. What another job left in the
        folder is thrown away.

    Raises:
      UserError: it cannot be made, or another process is at work in it.
    """
    identity = json.loads(json.dumps({"format": FORMAT, **identity}))
    path = target.with_name(f".{target.name}.dp3")
    lock_path = target.with_name(f".{target.name}.dp3.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(lock_path, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"another process is at work on {target}; wait for it") from error
            resumed = _identity_holds(path, identity)
            if not resumed:
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir()
                files.write_json(path / "job.json", identity)
            yield WorkFolder(path, resumed)
            shutil.rmtree(path, ignore_errors=True)
            lock_path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot work beside {target}: {error.strerror or error}; free space or choose another place"
        ) from error


def source_identity(source: pathlib.Path) -> dict[str, Any]:
    """Tells a source file from a changed or another one, without reading it."""
    status = source.stat()
    return {"name": source.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
