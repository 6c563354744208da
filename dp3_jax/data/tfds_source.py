"""CelebA as tensorflow_datasets prepares it (`celeb_a`), with access to any example at any time.

tensorflow_datasets reads its TFRecord files front to back only, so it cannot follow our order. The
files are therefore indexed once when they are opened: a TFRecord is a length (u64), a checksum of it
(u32), the content, and a checksum of that (u32). Reading needs the protocol buffer classes of
TensorFlow and nothing else of it.
"""

import dataclasses
import pathlib
import socket
import struct
import urllib.request
from typing import Any

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.data.catalog import UNKNOWN_IDENTITY, Catalog
from dp3_jax.data.celeba import NoCelebA
from dp3_jax.data.decode import UnreadableImage, load_image
from dp3_jax.data.options import SPLITS, DataOptions
from dp3_jax.data.pipeline import import_tensorflow

_NAME = "celeb_a"
_HEADER = struct.Struct("<Q4x")
_FOOTER_SIZE = 4
_IMAGE, _IDENTITY = "image", "identity/Identity_No"


@dataclasses.dataclass(frozen=True)
class _Record:
    path: str
    offset: int  # Of the content, in bytes.
    size: int


def open_tfds(options: DataOptions) -> Catalog:
    """Opens prepared `celeb_a` data below `options.path` (or a prepared folder itself).

    With `options.download` it is downloaded and prepared first where it is not there.

    Raises:
      NoCelebA: not prepared and not to be had.
      UserError: not readable.
    """
    tf = import_tensorflow()
    builder = _prepared_builder(options)
    records: list[_Record] = []
    names: list[str] = []
    partitions: list[int] = []
    identities: list[int] = []
    for index, split in enumerate(SPLITS):
        if split not in builder.info.splits:
            continue
        first = len(records)
        for path in builder.info.splits[split].filepaths:
            for record, content in _scan(str(path)):
                records.append(record)
                identities.append(_identity(tf.train.Example.FromString(content)))
        count = len(records) - first
        names += [f"{split}/{number:06d}" for number in range(count)]
        partitions += [index] * count

    def load(example: int, options: DataOptions) -> np.ndarray:
        record = records[example]
        try:
            with open(record.path, "rb") as file:
                file.seek(record.offset)
                features = tf.train.Example.FromString(file.read(record.size)).features.feature
            content = features[_IMAGE].bytes_list.value[0]
        except Exception as error:  # The parser's errors have no common base.
            raise UnreadableImage("damaged record") from error
        return load_image(content, options)

    known = np.array(identities, np.int32)
    return Catalog(
        title="celeba (tfds)",
        names=tuple(names),
        partitions=np.array(partitions, np.int8),
        identities=known if (known != UNKNOWN_IDENTITY).any() else None,
        load=load,
        partition_note="official partition",
    )


def _prepared_builder(options: DataOptions) -> Any:
    """Returns the builder of prepared data, downloading them where that is asked for."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"data.source=tfds needs tensorflow_datasets ({error}); install it with "
            "pip install 'dp3_jax[data]'"
        ) from error
    path = pathlib.Path(options.path).expanduser() if options.path else None
    if path and (path / "dataset_info.json").is_file():
        builder = tfds.builder_from_directory(path)
    else:
        builder = _newest(tfds, path)
    if builder is None:
        builder = tfds.builder(_NAME, data_dir=path)
        if not options.download:
            raise NoCelebA(f"no prepared {_NAME} in {builder.data_path} and data.download is false")
        try:
            _check_network()
            builder.download_and_prepare()
        except Exception as error:  # No network, Drive's quota page, full disk: many types.
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise NoCelebA(
                f"{_NAME} could not be downloaded to {builder.data_path} ({reason})"
            ) from error
    if builder.info.file_format.value != "tfrecord":
        raise UserError(
            f"{builder.data_path} is prepared as {builder.info.file_format.value}, tfrecord is "
            "needed; prepare it again with tensorflow_datasets' default format"
        )
    return builder


def _check_network() -> None:
    """Raises OSError at once where Google Drive has no address; tfds would retry for minutes."""
    if not urllib.request.getproxies():
        socket.getaddrinfo("drive.google.com", 443)


def _newest(tfds: Any, data_dir: pathlib.Path | None) -> Any:
    """Returns the builder of the newest version prepared in a data_dir, or None."""
    folder = (data_dir or pathlib.Path(tfds.core.constants.DATA_DIR).expanduser()) / _NAME
    versions = [info.parent for info in folder.glob("*/dataset_info.json")]
    if not versions:
        return None
    return tfds.builder_from_directory(max(versions, key=_version))


def _version(folder: pathlib.Path) -> tuple[int, ...]:
    return tuple(int(part) for part in folder.name.split(".") if part.isdecimal())


def _scan(path: str) -> Any:
    """Yields (_Record, content) of a TFRecord file, front to back."""
    try:
        with open(path, "rb") as file:
            offset = 0
            while header := file.read(_HEADER.size):
                (size,) = _HEADER.unpack(header)
                content = file.read(size)
                if len(content) < size or len(file.read(_FOOTER_SIZE)) < _FOOTER_SIZE:
                    raise EOFError("it ends within a record")
                yield _Record(path, offset + _HEADER.size, size), content
                offset += _HEADER.size + size + _FOOTER_SIZE
    except (OSError, EOFError, struct.error, MemoryError, OverflowError) as error:
        raise UserError(f"cannot read {path}: {error}; prepare {_NAME} again") from error


def _identity(example: Any) -> int:
    values = example.features.feature[_IDENTITY].int64_list.value
    return int(values[0]) if values else UNKNOWN_IDENTITY
