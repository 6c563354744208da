"""Reads what an ONNX file holds of a network, its nodes and weights, without the package `onnx`.

ONNX files are protocol buffers (onnx.proto of the ONNX project; the encoding is described in the Protocol
Buffers documentation). Only what a plain network of float32 weights uses is read.
"""

import dataclasses
import pathlib
import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from dp3_jax.common.errors import UserError

_FLOAT = 1  # TensorProto.DataType
_Fields = dict[int, list[Any]]


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation: its kind, the names of what goes in and comes out, and its numbers.

    `attributes` holds single floats and integers, and lists of integers.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """(value, place after it) of a number in base 128."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _each_field(content: memoryview) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field of a message; a value is an integer or bytes."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(content, at)
        else:
            if kind == 2:
                length, at = _varint(content, at)
            elif kind in (1, 5):
                length = 8 if kind == 1 else 4
            else:
                raise ValueError(f"a field of kind {kind}")
            value, at = content[at : at + length], at + length
            if len(value) != length:
                raise ValueError("it ends within a field")
        yield number, value


def _fields(content: memoryview) -> _Fields:
    found: _Fields = defaultdict(list)
    for number, value in _each_field(content):
        found[number].append(value)
    return found


def _texts(values: list[memoryview]) -> tuple[str, ...]:
    return tuple(bytes(value).decode() for value in values)


def _attribute(fields: _Fields) -> Any:
    """AttributeProto: 2 is a float, 3 an integer, 8 integers."""
    if 2 in fields:
        return struct.unpack("<f", fields[2][0])[0]
    return fields[3][0] if 3 in fields else fields.get(8, [])


def _node(content: memoryview) -> Node:
    """NodeProto: 1 inputs, 2 outputs, 4 the operation, 5 attributes."""
    fields = _fields(content)
    attributes = [_fields(one) for one in fields[5]]
    named = {_texts(one[1])[0]: _attribute(one) for one in attributes}
    return Node(_texts(fields[4])[0], _texts(fields[1]), _texts(fields[2]), named)


def _tensor(content: memoryview) -> tuple[str, np.ndarray | None]:
    """TensorProto: 1 shape, 2 type, 4 numbers packed, 8 name, 9 raw bytes; None where not float32."""
    fields = _fields(content)
    (name,) = _texts(fields[8])
    if fields[2] != [_FLOAT]:
        return name, None
    raw = b"".join(bytes(part) for part in (fields.get(9) or fields[4]))
    return name, np.frombuffer(raw, "<f4").reshape(fields[1]).astype(np.float32)


def read(path: pathlib.Path) -> tuple[list[Node], dict[str, np.ndarray]]:
    """(nodes in their order, weights f32 by name) of an ONNX file.

    Raises:
      UserError: it is no such file.
    """
    try:
        model = _fields(memoryview(path.read_bytes()))
        graph = _fields(model[7][0])  # ModelProto.graph; GraphProto: 1 nodes, 5 weights
        weights = dict(_tensor(one) for one in graph[5])
        nodes = [_node(one) for one in graph[1]]
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise UserError(f"{path} is no ONNX file that can be read; fetch it again") from error
    return nodes, {name: value for name, value in weights.items() if value is not None}
