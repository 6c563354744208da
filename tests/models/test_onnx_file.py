"""ONNX files are read without the package onnx; broken ones are said in one line."""

import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.models import onnx_file, sface


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, content):
    """A field of a protocol buffer: an integer, or bytes."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name, values, kind=1):
    shape = b"".join(field(1, size) for size in values.shape)
    return shape + field(2, kind) + field(8, name) + field(9, values.tobytes())


def model(*parts):
    return field(1, 8) + field(7, b"".join(parts))


def test_nodes_and_weights_are_read(tmp_path):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    stride = field(1, b"strides") + field(8, 2) + field(8, 300)
    node = field(1, b"x") + field(1, b"w") + field(2, b"y") + field(4, b"Conv") + field(5, stride)
    parts = field(1, node), field(5, tensor(b"w", weight)), field(5, tensor(b"i", np.arange(2), 7))
    path = tmp_path / "net.onnx"
    path.write_bytes(model(*parts))
    nodes, weights = onnx_file.read(path)
    assert nodes == [onnx_file.Node("Conv", ("x", "w"), ("y",), {"strides": [2, 300]})]
    assert list(weights) == ["w"]
    np.testing.assert_array_equal(weights["w"], weight)


@pytest.mark.parametrize("content", [b"", b"not a network", model()[:1], b"\x3a\xff\xff\x01"])
def test_another_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"net\.onnx"):
        onnx_file.read(path)


def test_another_network_is_not_taken_for_sface(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(model(field(1, field(1, b"x") + field(2, b"y") + field(4, b"Relu"))))
    with pytest.raises(UserError, match="another network"):
        sface.load_parameters(path)
