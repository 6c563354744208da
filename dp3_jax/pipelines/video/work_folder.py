"""What a video job keeps beside its target while it runs, so that a killed one goes on where it was.

The folder .NAME.dp3 holds detections (boxes, no pixels), finished segments of the anonymized video, and until
the job is done the secret that its faces are drawn from. No picture of an original face is ever in it. It is
removed when the job is done, and when it fails before there is anything to go on with.
"""

import contextlib
import errno
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.media import image_sequences
from dp3_jax.media.names import as_one, is_pattern
from dp3_jax.replacement import key_derivation

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None
    import msvcrt

FORMAT = 3
_JOB, _MASTER_KEY_FILE = "job.json", "secret"
_DONE = "done"  # is there when the result has its final name, or is about to get it

_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network drives


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

    def master_key(self) -> bytes:
        """A secret that is the same in every run of this job and gone after it."""
        file = self.path / _MASTER_KEY_FILE
        if not file.is_file():
            with files.atomic_target(file) as temporary:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as opened:
                    opened.write(key_derivation.new_master_key())
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

    def entries(self, name: str) -> Iterator[dict[str, Any]]:
        """The complete lines of a journal; what follows them is cut off the file at the end."""
        file = self.path / name
        if not file.is_file():
            return
        good = 0
        with open(file, "rb") as opened:
            for line in opened:
                try:
                    entry = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    break
                if entry is None:
                    break
                good += len(line)
                yield entry
        if good < file.stat().st_size:
            os.truncate(file, good)

    def rewrite(self, name: str, entries: list[dict[str, Any]]) -> None:
        """Replaces a whole journal."""
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        files.write_bytes(self.path / name, text.encode("ascii"))

    def segment(self, number: int, suffix: str) -> pathlib.Path:
        """Where a segment of the video lies."""
        return self.path / f"segment_{number:06d}{suffix}"

    def clear_segments(self, after: int) -> None:
        """Removes segments from number `after` on, and what belongs to them."""
        for file in self.path.glob("segment_*"):
            if int(file.name[8:14]) >= after:
                file.unlink()

    def clear_halves(self) -> None:
        """Removes what a killed process was writing."""
        for file in self.path.glob(".*.tmp"):
            files.remove(file)

    def release(self, name: str, target: pathlib.Path) -> None:
        """Gives what is called `name` here its final name; nothing is left to be done then."""
        (self.path / _DONE).touch()
        os.replace(self.path / name, target)

    def remove(self) -> None:
        """Removes all of it; last what says that nothing is left to be done."""
        with contextlib.suppress(OSError):
            for file in self.path.iterdir():
                if file.name != _DONE:
                    files.remove(file)
        files.remove(self.path)

    def is_empty(self) -> bool:
        """Whether there is nothing to go on with."""
        return not self.path.is_dir() or {f.name for f in self.path.iterdir()} <= {
            _JOB,
            _MASTER_KEY_FILE,
        }


def _identity_holds(path: pathlib.Path, identity: Mapping[str, Any]) -> bool:
    try:
        return json.loads((path / _JOB).read_text()) == dict(identity)
    except (OSError, ValueError):
        return False


def _lock(descriptor: int) -> bool:
    """Whether an open file is ours now, as it is on a drive that knows no locks; False: another process's."""
    try:
        if fcntl is None:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno not in _NO_LOCKS_HERE:
            raise
    return True


def _locked(path: pathlib.Path) -> int | None:
    """The descriptor of a lock's file; None while another process holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _lock(descriptor):
                os.close(descriptor)
                return None
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # a process that has just ended removed the file: it locks nothing


@contextlib.contextmanager
def only_one(path: pathlib.Path, target: pathlib.Path) -> Iterator[None]:
    """Holds a lock, by a file that is gone afterwards; of a killed process the system lets it go."""
    descriptor = _locked(path)
    if descriptor is None:
        raise UserError(f"another process is at work on {target}; wait for it")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file
            path.unlink()  # while it is locked: afterwards it may be another's
        os.close(descriptor)
        if fcntl is None:
            with contextlib.suppress(OSError):
                path.unlink()


def _places(target: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """The work folder of the job that writes a file or folder, and its lock."""
    path = target.with_name(f".{target.name}.dp3")
    return path, path.with_name(f"{path.name}.lock")


@contextlib.contextmanager
def work_folder(target: pathlib.Path, identity: Mapping[str, Any]) -> Iterator[WorkFolder]:
    """The work folder of the job that writes `target`; removed when the block ends without an exception.

    Args:
      target: the video to be written, or the pattern of pictures.
      identity: JSON values that tell this job from any other: source, settings. What another job left in the
        folder is thrown away.

    Raises:
      UserError: it cannot be made, another process is at work in it, or `target` is write-protected.
    """
    identity = json.loads(json.dumps({"format": FORMAT, **identity}))
    target = as_one(target)
    path, lock = _places(target)
    files.check_writable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with only_one(lock, target):
            folder = WorkFolder(path, _identity_holds(path, identity))
            try:
                if folder.resumed:
                    folder.clear_halves()
                else:
                    shutil.rmtree(path, ignore_errors=True)
                    path.mkdir()
                    files.write_json(path / _JOB, identity)
                yield folder
            except BaseException:
                if folder.is_empty():
                    shutil.rmtree(path, ignore_errors=True)
                raise
            folder.remove()
    except OSError as error:
        raise UserError(
            f"cannot work beside {target}: {error.strerror or error}; free space or choose another place"
        ) from error


def remove_finished(target: pathlib.Path) -> None:
    """Removes what a job left that was stopped just when its pictures had got their place, `target`."""
    target = as_one(target)
    path, lock = _places(target)
    if target.exists() and ((path / _DONE).exists() or (lock.exists() and not path.exists())):
        with contextlib.suppress(OSError, UserError), only_one(lock, target):
            WorkFolder(path, resumed=True).remove()


def source_identity(source: pathlib.Path) -> dict[str, Any]:
    """Tells a source file, or numbered pictures, from changed or other ones, without reading them.

    Raises:
      UserError: it is not there.
    """
    if is_pattern(source):
        return image_sequences.identity(source)
    try:
        status = source.stat()
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}; check the path") from error
    return {"name": source.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def check_unchanged(source: pathlib.Path, identity: Mapping[str, Any]) -> None:
    """Raises UserError where numbered pictures are no longer those that `source_identity` described.

    Faces may have been looked for in others than are shown. A file's frames are held to their times instead.
    """
    if is_pattern(source) and image_sequences.identity(source) != identity:
        raise UserError(f"pictures of {source} have changed meanwhile; run it again")
