"""Writing files so that a crash, a kill or a full disk never leaves half of one under its final name."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, TextIO

from dp3_jax.errors import UserError


def remove(path: pathlib.Path) -> None:
    """Removes a file or a folder, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # not there, or its folder is not even a folder
            path.unlink()


def same_file(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Whether both names are those of one file that is there."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def check_writable(target: str | os.PathLike) -> None:
    """Raises UserError where there is a file already that may not be written: a rename would replace it."""
    target = pathlib.Path(target)
    if target.is_file() and not (os.access(target, os.W_OK) and target.stat().st_mode & 0o222):
        raise UserError(f"{target} is write-protected; choose another name, or chmod u+w {target}")


def check_place(target: str | os.PathLike) -> None:
    """Makes the folder of a file, if need be, and raises UserError where none can be written there."""
    folder = pathlib.Path(target).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}; choose another place") from error


def standard(stream: TextIO | None, name: str) -> TextIO:
    """`sys.stdin` or `sys.stdout`; its name is for people.

    Raises:
      UserError: the process was started without it.
    """
    if stream is None:
        raise UserError(f"{name} is closed; lead it from or to a pipe or a file")
    return stream


@contextlib.contextmanager
def atomic_target(target: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `target`; what the block wrote there is renamed to `target` at its end.

    The block may create a file or a folder at the yielded path. An existing file is replaced in one
    rename; an existing folder only when it is empty. When the block raises, the temporary is removed and
    `target` is as it was.

    Raises:
      UserError: the operating system refused (disk full, no permission, ...), naming `target`; or that is
        a write-protected file.
    """
    target = pathlib.Path(target)
    check_writable(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(temporary)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        remove(temporary)
        if error.filename and not str(error.filename).startswith(
            (str(temporary), str(target.parent))
        ):
            raise  # The block failed to read something else: not ours to explain.
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write {target}: {reason}; free space or choose another place"
        ) from error
    except BaseException:
        remove(temporary)
        raise


def write_bytes(target: str | os.PathLike, content: bytes) -> None:
    """Writes `content` to `target` atomically (see `atomic_target`)."""
    with atomic_target(target) as temporary:
        temporary.write_bytes(content)


def write_json(target: str | os.PathLike, content: Any) -> None:
    """Writes `content` as indented JSON with a final newline to `target`, atomically."""
    write_bytes(target, (json.dumps(content, indent=2) + "\n").encode())
