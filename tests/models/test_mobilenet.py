import pathlib
import pickle
import pickletools

import jax
import numpy as np
import pytest
import skimage.data
from jax import lax

from dp3_jax.common import assets, mobilenet_file
from dp3_jax.common.torch_file import read_tensors
from dp3_jax.metrics import kid
from dp3_jax.models import mobilenet


@pytest.mark.parametrize(("stride", "size"), [(1, (7, 5)), (2, (7, 5)), (2, (8, 8))])
def test_the_depthwise_sum_is_a_grouped_convolution(stride, size):
    layer = mobilenet.DepthwiseConv(stride)
    x = jax.random.normal(jax.random.key(0), (2, *size, 6))
    variables = jax.jit(layer.init)(jax.random.key(1), x)
    expected = lax.conv_general_dilated(
        x, variables["params"]["kernel"], (stride, stride), ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=6,
    )  # fmt: skip
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, x), expected, atol=1e-5)


def test_folded_normalization_is_convolution_then_normalization():
    rng = np.random.default_rng(0)
    tensors = {
        "c.weight": rng.normal(size=(4, 3, 3, 3)), "n.weight": rng.normal(size=4),
        "n.bias": rng.normal(size=4), "n.running_mean": rng.normal(size=4),
        "n.running_var": rng.uniform(0.1, 2, size=4),
    }  # fmt: skip
    tensors = {name: value.astype(np.float32) for name, value in tensors.items()}
    x = rng.normal(size=(2, 3, 9, 9)).astype(np.float32)

    # PyTorch's order: batch, channels, rows, columns.
    plain = lax.conv(x, tensors["c.weight"], (1, 1), "SAME").transpose(0, 2, 3, 1)
    deviation = np.sqrt(tensors["n.running_var"] + 1e-5)
    expected = (plain - tensors["n.running_mean"]) / deviation * tensors["n.weight"]
    folded = mobilenet_file.fold_normalisation(tensors, "c", "n")
    ours = lax.conv_general_dilated(
        x.transpose(0, 2, 3, 1), folded["kernel"], (1, 1), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    np.testing.assert_allclose(ours + folded["bias"], expected + tensors["n.bias"], atol=1e-4)


class _Runs:
    """Pickled, it asks the reader to create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_a_file_that_asks_for_code_is_refused_and_nothing_runs(tmp_path):
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    body = pickle.dumps({"a": _Runs(tmp_path / "executed")}, 2)
    assert any(op.name == "GLOBAL" for op, _, _ in pickletools.genops(body))
    bad = tmp_path / "bad.pth"
    bad.write_bytes(magic + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + body)
    with pytest.raises(ValueError, match="refused"):
        read_tensors(bad)
    assert not (tmp_path / "executed").exists()
    pickle.loads(body)  # the same bytes do run code where nobody looks
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02K\x01.", b"text"])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(ValueError, match="not a readable PyTorch tensor file"):
        read_tensors(tmp_path / "bad.pth")


@pytest.fixture(scope="module")
def weights():
    """The cached weights; tests do not download them."""
    path = assets.cache_folder() / assets.ASSETS["mobilenet_v2"].filename
    if not path.exists():
        pytest.skip(f"needs {path.name} in the asset cache; an evaluation fetches it")
    return assets.fetch("mobilenet_v2")


def test_all_weights_are_used_and_features_tell_blur_from_sharpness(weights):
    variables = mobilenet.load_variables(weights)
    photo = skimage.data.astronaut()[:256, 100:356]
    pieces = np.stack([photo[i : i + 128, j : j + 128] for i in (0, 64, 128) for j in (0, 64, 128)])
    blurred = pieces.reshape(9, 32, 4, 32, 4, 3).mean((2, 4)).repeat(4, 1).repeat(4, 2)
    wanted = jax.eval_shape(mobilenet.MobileNetV2().init, jax.random.key(0), pieces[:1] / 1.0)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(lambda x: x.shape, wanted)
    extract = kid.mobilenet_features(batch_size=9)
    sharp = extract(pieces)
    assert sharp.shape == (9, mobilenet.FEATURES)
    assert kid.squared_mmd(extract(blurred.astype(np.uint8)), sharp) > 0.1
    tapped = mobilenet.MobileNetV2(layers=(0, 7))
    _, outputs = jax.eval_shape(tapped.apply, variables, pieces[:1] / 1.0)
    assert [outputs[layer].shape for layer in (0, 7)] == [(1, 64, 64, 32), (1, 8, 8, 64)]
