"""Writing files so that a crash, a kill or a full disk never leaves half of one under its final name."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from dp3_jax.errors import UserError


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # not there, or its folder is not even a folder
            path.unlink()


@contextlib.contextmanager
def atomic_target(target: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `target`; what the block wrote there is renamed to `target` at its end.

    The block may create a file or a folder at the yielded path. An existing file is replaced in one
    rename; an existing folder only when it is empty. When the block raises, the temporary is removed and
    `target` is as it was.

    Raises:
      UserError: the operating system refused (disk full, no permission, ...), naming `target`.
    """
    target = pathlib.Path(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        _remove(temporary)
        if error.filename and not str(error.filename).startswith(
            (str(temporary), str(target.parent))
        ):
            raise  # The block failed to read something else: not ours to explain.
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write {target}: {reason}; free space or choose another place"
        ) from error
    except BaseException:
        _remove(temporary)
        raise


def write_bytes(target: str | os.PathLike, content: bytes) -> None:
    """Writes `content` to `target` atomically (see `atomic_target`)."""
    with atomic_target(target) as temporary:
        temporary.write_bytes(content)


def write_json(target: str | os.PathLike, content: Any) -> None:
    """Writes `content` as indented JSON with a final newline to `target`, atomically."""
    write_bytes(target, (json.dumps(content, indent=2) + "\n").encode())
