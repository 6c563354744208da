"""Writing files so that a crash, a kill or a full disk never leaves half of one under its final name."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple, TextIO

from dp3_jax.common.errors import UserError

_MAX_NAME = 255  # bytes of a name, in the usual file systems


def fitting(name: str, ending: str = "") -> str:
    """`name` with an ending; cut and told apart by a digest where a file system takes no name so long."""
    if len(os.fsencode(name + ending)) <= _MAX_NAME:
        return name + ending
    raw = os.fsencode(name)
    ending = f"~{hashlib.sha256(raw).hexdigest()[:8]}{ending}"
    cut = raw[: _MAX_NAME - len(os.fsencode(ending))]
    return cut.decode(errors="ignore") + ending  # not in the middle of a character


def remove(path: pathlib.Path) -> None:
    """Removes a file or a folder, as far as that can be done."""
    if os.path.isdir(path) and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # not there, or its folder is not even a folder
            path.unlink()


def same_file(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Whether both names are those of one file that is there."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def begins_with(path: pathlib.Path, mark: str) -> bool:
    """Whether a file names `mark` in its first 4 KiB: how files that we wrote are known again.

    False where it cannot be read.
    """
    try:
        with path.open("rb") as opened:
            return mark.encode() in opened.read(4096)
    except OSError:
        return False


def check_writable(target: str | os.PathLike) -> None:
    """Raises UserError where there is a file already that may not be written: a rename would replace it."""
    target = pathlib.Path(target)
    if os.path.isfile(target) and not (
        os.access(target, os.W_OK) and target.stat().st_mode & 0o222
    ):
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
    temporary = target.with_name(fitting(f".{target.name}", f".{os.getpid()}.tmp"))
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


class Tree(NamedTuple):
    """What lies below a folder, each list sorted.

    Attributes:
      files: a file that can be reached by several names is there by each of them.
      dangling: links to nothing.
      circles: a line for each folder that leads back to one that it lies in, and is therefore left out.
      unread: a line for each folder that cannot be read.
    """

    files: list[pathlib.Path]
    dangling: list[pathlib.Path]
    circles: list[str]
    unread: list[str]


def walk(root: pathlib.Path, without: pathlib.Path | None = None, *, hidden: bool = True) -> Tree:
    """All files below a folder; links to folders and to files are followed.

    Args:
      root: the folder.
      without: a folder, without links in its path, that is left out with all below it.
      hidden: whether to look into folders whose names begin with a dot.
    """
    tree = Tree([], [], [], [])

    def visit(folder: pathlib.Path, above: frozenset[tuple[int, int]]) -> None:
        if without is not None and folder.resolve() == without:
            return
        try:
            status = folder.stat()
            with os.scandir(folder) as opened:
                entries = list(opened)
        except OSError as error:
            tree.unread.append(f"cannot read the folder {folder}: {error.strerror}")
            return
        own = status.st_dev, status.st_ino
        if own in above:
            line = f"{folder} leads back to a folder that it lies in; it is not followed"
            tree.circles.append(line)
            return
        for entry in entries:
            path = folder / entry.name
            if entry.is_dir():
                if hidden or not entry.name.startswith("."):
                    visit(path, above | {own})
            elif entry.is_file():
                tree.files.append(path)
            elif entry.is_symlink() and not path.exists():
                tree.dangling.append(path)

    visit(root, frozenset())
    return Tree(
        sorted(tree.files), sorted(tree.dangling), sorted(tree.circles), sorted(tree.unread)
    )
