"""Reading tensors from PyTorch's original file format without PyTorch and without running pickled code."""

import collections
import io
import os
import pickle
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization's mark of the format before version 1.6
_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class _Storage(NamedTuple):
    key: str
    dtype: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _TensorUnpickler(pickle.Unpickler):
    """Knows only the names that a dictionary of float and integer tensors needs; refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            **{("torch", kind): kind for kind in _DTYPES},
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"refused: the file asks for {module}.{name}")
        return allowed[module, name]

    def persistent_load(self, reference: Any) -> _Storage:
        kind, dtype, key, *_ = reference
        if kind != "storage" or dtype not in _DTYPES:
            raise pickle.UnpicklingError(f"refused: the file asks for {kind} of {dtype}")
        return _Storage(str(key), _DTYPES[dtype])


def _read_storage(file: BinaryIO, dtype: np.dtype) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little")
    return np.frombuffer(file.read(count * dtype.itemsize), dtype, count)


def read_tensors(path: str | os.PathLike | bytes) -> dict[str, np.ndarray]:
    """Name -> array for a file written by `torch.save(state_dict)` in the format before PyTorch 1.6.

    Args:
      path: of the file, or its content.

    Raises:
      ValueError: another format, damaged, or it asks for anything but plain tensors; nothing was run.
    """
    try:
        with io.BytesIO(path) if isinstance(path, bytes) else open(path, "rb") as file:
            if _TensorUnpickler(file).load() != _MAGIC:
                raise ValueError("no PyTorch magic number")
            for _ in range(2):  # protocol version and machine description
                _TensorUnpickler(file).load()
            tensors = _TensorUnpickler(file).load()
            keys = _TensorUnpickler(file).load()
            dtypes = {t.storage.key: np.dtype(t.storage.dtype) for t in tensors.values()}
            storages = {key: _read_storage(file, dtypes[key]) for key in keys}
        return {name: _as_array(tensor, storages) for name, tensor in tensors.items()}
    except (
        pickle.UnpicklingError,
        ValueError,
        EOFError,
        KeyError,
        AttributeError,
        TypeError,
    ) as error:
        name = "this" if isinstance(path, bytes) else path
        raise ValueError(f"{name} is not a readable PyTorch tensor file: {error}") from error


def _as_array(tensor: _Tensor, storages: dict[str, np.ndarray]) -> np.ndarray:
    count = int(np.prod(tensor.shape))
    contiguous = np.cumprod((1, *tensor.shape[:0:-1]))[::-1] if tensor.shape else ()
    if tuple(contiguous) != tensor.strides:
        raise ValueError("a tensor that is not contiguous")
    values = storages[tensor.storage.key][tensor.offset : tensor.offset + count]
    return values.reshape(tensor.shape)
