"""Folders of a data set: on this machine, or at an address such as s3://bucket/photos.

Names are those below the folder, with "/" between their parts. What is written has its name only when it is
complete. Names that begin with a dot, and all in WORK_FOLDER, are no part of a data set.
"""

import contextlib
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import IO, Any, Protocol

from dp3_jax.common import files
from dp3_jax.common.errors import UserError

WORK_FOLDER = "_dp3"  # readers of Parquet folders leave out what begins with a line
_TEMPORARY = re.compile(r"\..*\.\d+\.tmp")  # as `files.atomic_target` names them
# Where an upload has its name only when it is complete; elsewhere it is renamed then.
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "memory")


class NotWrittenError(UserError):
    """The output took no more: nothing is gained by going on with other records."""


class Storage(Protocol):
    """What both kinds of folders do.

    Attributes:
      address: as the user gave it.
    """

    address: str

    def sizes(self) -> dict[str, int]:
        """Bytes of all files of the data set, by name, sorted."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """A file to read from any place in it; raises UserError."""
        ...

    def target(self, name: str) -> contextlib.AbstractContextManager[pathlib.Path]:
        """A path on this machine; what the block wrote there is the file's content at its end.

        Raises:
          NotWrittenError: it cannot be written.
        """
        ...

    def sync(self, names: list[str]) -> None:
        """Returns when these files would survive that the machine loses its power."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        ...

    def clear_halves(self) -> None:
        """Removes what killed processes were writing, where that can be seen."""
        ...


def is_remote(address: str) -> bool:
    """Whether an address is one of fsspec, such as s3://bucket/photos."""
    return "://" in address


def open_storage(address: str) -> Storage:
    """The folder at an address, which may not be there yet.

    Raises:
      UserError: what reads such addresses is not installed.
    """
    return _Remote(address) if is_remote(address) else _Local(address)


def read(storage: Storage, name: str) -> bytes:
    """A file's content; raises UserError."""
    with storage.open(name) as opened:
        try:
            return opened.read()
        except OSError as error:
            raise UserError(f"cannot read {name}: {error.strerror or error}") from error


def write(storage: Storage, name: str, content: bytes) -> None:
    """Writes a file; raises NotWrittenError."""
    with storage.target(name) as path:
        path.write_bytes(content)


def _is_part_of_the_data(name: str) -> bool:
    parts = name.split("/")
    return parts[0] != WORK_FOLDER and not any(part.startswith(".") for part in parts)


class _Local:
    """See Storage."""

    def __init__(self, address: str):
        self.address = address
        self._root = pathlib.Path(address)

    def sizes(self) -> dict[str, int]:
        if not self._root.is_dir():
            return {}
        tree = files.walk(self._root, (self._root / WORK_FOLDER).resolve(), hidden=False)
        if tree.unread:
            raise UserError(tree.unread[0])
        names = ((path.relative_to(self._root).as_posix(), path) for path in tree.files)
        return {name: path.stat().st_size for name, path in names if _is_part_of_the_data(name)}

    def open(self, name: str) -> IO[bytes]:
        path = self._root / name
        try:
            return path.open("rb")
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}; check the path") from error

    @contextlib.contextmanager
    def target(self, name: str) -> Iterator[pathlib.Path]:
        inside = True
        try:
            with files.atomic_target(self._root / name) as temporary:
                yield temporary
                inside = False
        except OSError as error:
            raise NotWrittenError(f"cannot write {self._root / name}: {error}") from error
        except UserError as error:
            if inside and not str(error).startswith("cannot write "):
                raise
            raise NotWrittenError(str(error)) from error

    def sync(self, names: list[str]) -> None:
        if os.name != "posix":
            return
        paths = {self._root / name for name in names}
        for path in [*sorted(paths), *sorted({path.parent for path in paths})]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def remove(self, name: str) -> None:
        files.remove(self._root / name)

    def clear_halves(self) -> None:
        for path in self._root.rglob(".*.tmp"):
            if _TEMPORARY.fullmatch(path.name):
                files.remove(path)


class _Remote:
    """See Storage; through fsspec, whose own packages (s3fs, gcsfs, adlfs) know each kind of address."""

    def __init__(self, address: str):
        try:
            import fsspec

            self._files, self._root = fsspec.core.url_to_fs(address)
        except ImportError as error:
            raise UserError(f"cannot open {address}: {error}") from error
        except ValueError as error:
            raise UserError(f"cannot open {address}: {error}; check the address") from error
        self.address = address
        self._root = self._root.rstrip("/")
        protocol = self._files.protocol
        self._is_atomic = bool(
            {protocol, *protocol} & set(_OBJECT_STORES)
            if isinstance(protocol, tuple)
            else {protocol} & set(_OBJECT_STORES)
        )

    def _call(self, what: str, name: str, *arguments: Any, **more: Any) -> Any:
        """A call of the file system; whatever it raises is said in one line."""
        try:
            return getattr(self._files, what)(*arguments, **more)
        except Exception as error:  # each store has its own kinds
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{self.address}/{name}: {reason}") from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def sizes(self) -> dict[str, int]:
        self._files.invalidate_cache()
        try:
            found = self._files.find(self._root, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise UserError(f"cannot list {self.address}: {error}") from error
        names = {path[len(self._root) + 1 :]: entry["size"] for path, entry in found.items()}
        return {name: names[name] for name in sorted(names) if _is_part_of_the_data(name)}

    def open(self, name: str) -> IO[bytes]:
        return self._call("open", name, self._path(name), "rb")

    @contextlib.contextmanager
    def target(self, name: str) -> Iterator[pathlib.Path]:
        with tempfile.TemporaryDirectory(prefix="dp3-upload-") as folder:
            made = pathlib.Path(folder) / name.rpartition("/")[2]
            yield made
            path = self._path(name)
            parent, _, last = path.rpartition("/")
            placed = path if self._is_atomic else f"{parent}/.{last}.{os.getpid()}.tmp"
            try:
                if not self._is_atomic:  # object stores have no folders: s3fs would make a bucket
                    self._call("makedirs", name, parent, exist_ok=True)
                self._call("put_file", name, str(made), placed)
                if placed != path:
                    self._call("mv", name, placed, path)
            except UserError as error:
                raise NotWrittenError(f"cannot write {error}") from error

    def sync(self, names: list[str]) -> None:
        """What was uploaded is kept by those who took it."""

    def remove(self, name: str) -> None:
        with contextlib.suppress(UserError):
            self._call("rm_file", name, self._path(name))

    def clear_halves(self) -> None:
        """Object stores drop what was not completed."""
