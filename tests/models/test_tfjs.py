import base64

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.models import tfjs


def text(value):
    return {"s": base64.b64encode(value.encode()).decode()}


def node(name, op, *inputs, **attributes):
    return {"name": name, "op": op, "input": list(inputs), "attr": attributes}


def ints(*values):
    return {"list": {"i": [str(v) for v in values]}}


def test_weights_come_back_as_they_were_stored():
    whole, half = np.array([[1.5, -2.0]], np.float32), np.array([0.25, 3.0, -1.0], np.float16)
    axes, byte = np.array([1, 2], np.int32), np.array([0, 128, 255], np.uint8)
    manifest = [
        {"weights": [
            {"name": "whole", "shape": [1, 2], "dtype": "float32"},
            {"name": "half", "shape": [3], "dtype": "float32", "quantization": {"dtype": "float16"}},
        ]},
        {"weights": [
            {"name": "axes", "shape": [2], "dtype": "int32"},
            {"name": "byte", "shape": [3], "dtype": "float32",
             "quantization": {"dtype": "uint8", "scale": 0.5, "min": -3.0}},
        ]},
    ]  # fmt: skip
    content = b"".join(a.tobytes() for a in (whole, half, axes, byte))
    read = tfjs.read_weights(manifest, content)
    np.testing.assert_array_equal(read["whole"], whole)
    np.testing.assert_array_equal(read["half"], half.astype(np.float32))
    np.testing.assert_array_equal(read["axes"], axes)
    np.testing.assert_allclose(read["byte"], [-3.0, 61.0, 124.5])
    for wrong in (content[:-1], content + b"x"):
        with pytest.raises(UserError, match="weights"):
            tfjs.read_weights(manifest, wrong)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("side", [6, 7])
def test_a_graph_computes_what_its_nodes_say(stride, padding, side):
    rng = np.random.default_rng(0)
    weights = {
        "depth": rng.normal(size=(3, 3, 2, 1)).astype(np.float32),
        "mix": rng.normal(size=(1, 1, 2, 4)).astype(np.float32),
        "axes": np.array([1, 2], np.int32),
        "matrix": rng.normal(size=(4, 3)).astype(np.float32),
        "bias": rng.normal(size=3).astype(np.float32),
    }
    strides = {"strides": ints(1, stride, stride, 1), "padding": text(padding)}
    fused = {"list": {"s": [text("BiasAdd")["s"], text("Relu")["s"]]}}
    nodes = [
        node("out", "_FusedMatMul", "mean", "matrix", "bias", fused_ops=fused),
        node("mean", "Mean", "mixed", "axes", keep_dims={"b": False}),
        node("mixed", "Conv2D", "deep", "mix", strides=ints(1, 1, 1, 1), padding=text("SAME")),
        node("deep", "DepthwiseConv2dNative", "in", "depth", **strides),
        node("in", "Placeholder"), *(node(name, "Const") for name in weights),
        node("unused", "NonMaxSuppressionV4", "in"),
    ]  # fmt: skip
    apply, parameters = tfjs.build({"node": nodes}, weights, ["out", "mean"])
    assert set(parameters) == {"depth", "mix", "matrix", "bias"}
    x = rng.normal(size=(2, side, side, 2)).astype(np.float32)
    out, mean = jax.jit(apply)(parameters, x)
    grouped = weights["depth"].transpose(0, 1, 3, 2)
    deep = jax.lax.conv_general_dilated(
        x, grouped, (stride, stride), padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2,
    )  # fmt: skip
    expected = (deep @ weights["mix"][0, 0]).mean((1, 2))
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-5)
    expected = jax.nn.relu(expected @ weights["matrix"] + weights["bias"])
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    gradient = jax.grad(lambda p: apply(p, jnp.asarray(x))[1].sum())(parameters)["depth"]
    assert np.abs(gradient).min() > 0


def test_an_unknown_operation_is_named():
    nodes = [node("in", "Placeholder"), node("out", "NonMaxSuppressionV4", "in")]
    with pytest.raises(UserError, match="not known here: NonMaxSuppressionV4"):
        tfjs.build({"node": nodes}, {}, ["out"])
