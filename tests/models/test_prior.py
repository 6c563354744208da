"""The face prior: its parts against their definitions, the whole against OpenVINO and recorded numbers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dp3_jax.common import asset_sources, assets, prior_file
from dp3_jax.common.openvino_ir import Graph
from dp3_jax.models import modulated, prior

DIM = 16  # of the small network's w
features = jax.jit(prior.features, static_argnums=2)
CHANNELS = (8, 8, 8)  # entering each layer of the small network and leaving its last one


def random_separable(rng, name, size, inputs, outputs):
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {
        f"{name}.depthwise": draw(3, 3, inputs),
        f"{name}.kernel": draw(inputs, outputs) / np.float32(np.sqrt(inputs)),
        f"{name}.noise": draw(size, size),
        f"{name}.bias": draw(outputs),
        f"{name}.style.kernel": draw(DIM, inputs) / np.float32(np.sqrt(DIM)),
        f"{name}.style.bias": draw(inputs),
    }


@pytest.fixture(scope="module")
def small():
    """Parameters of the entry and two layers with few channels, at random."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    params = {
        "input": draw(4, 4, 8),
        "entry.kernel": draw(3, 3, 8, 8) / np.float32(8),
        "entry.noise": draw(4, 4),
        "entry.bias": draw(8),
        "entry.style.kernel": draw(DIM, 8),
        "entry.style.bias": draw(8),
    }
    for i, (before, after) in enumerate(itertools.pairwise(CHANNELS)):
        size, name = 8 * 2**i, f"layers.{i}"
        params |= {f"{name}.up.kernel": draw(DIM, before), f"{name}.up.bias": draw(before)}
        params |= random_separable(rng, f"{name}.conv1", size, before // 4, after)
        params |= random_separable(rng, f"{name}.conv2", size, after, after)
    return params


def test_the_inverse_haar_transform_is_orthonormal():
    transform = jax.jit(modulated.inverse_haar)
    basis = jnp.eye(2 * 3 * 8).reshape(48, 2, 3, 8)
    matrix = transform(basis).reshape(48, 48)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(48), atol=1e-6)


def test_the_inverse_haar_transform_has_its_bands_where_they_belong():
    # One pixel, two channels; bands: low 0, low 1, then (along H, along W, both) of channel 0 and of 1.
    low, along_h, along_w = (
        modulated.inverse_haar(jnp.eye(8)[i].reshape(1, 1, 1, 8)) for i in (1, 2, 6)
    )
    np.testing.assert_array_equal(low[0, ..., 1], np.full((2, 2), 0.5))
    np.testing.assert_array_equal(along_h[0, ..., 0], [[0.5, 0.5], [-0.5, -0.5]])
    np.testing.assert_array_equal(along_w[0, ..., 1], [[0.5, -0.5], [0.5, -0.5]])
    assert not low[..., 0].any() and not along_h[..., 1].any() and not along_w[..., 0].any()


def test_a_separable_convolution_is_what_it_says():
    rng = np.random.default_rng(1)
    params = random_separable(rng, "conv", 8, 6, 5)
    x = rng.normal(size=(2, 8, 8, 6)).astype(np.float32)
    w = rng.normal(size=(2, DIM)).astype(np.float32)
    factors = w @ params["conv.style.kernel"] + params["conv.style.bias"]
    y = jax.lax.conv_general_dilated(
        x * factors[:, None, None],
        params["conv.depthwise"][:, :, None],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=6,
    )
    y = y @ params["conv.kernel"] + params["conv.noise"][..., None] + params["conv.bias"]
    expected = jax.nn.leaky_relu(y, 0.2)
    ours = jax.jit(modulated.separable, static_argnums=1)(params, "conv", x, w)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_equal_rows_for_each_layer_are_one_w(small):
    w = np.random.default_rng(2).normal(size=(2, DIM)).astype(np.float32)
    single = features(small, w, 1)
    assert single.shape == (2, 16, 16, 8)
    np.testing.assert_array_equal(features(small, prior.per_layer(w), 1), single)


def test_a_row_acts_on_its_layer_and_those_above(small):
    w = prior.per_layer(np.random.default_rng(3).normal(size=(1, DIM)).astype(np.float32))
    edited = w.at[:, 2].add(1)  # layer 1
    np.testing.assert_array_equal(features(small, edited, 0), features(small, w, 0))
    assert np.abs(features(small, edited, 1) - features(small, w, 1)).max() > 0.1
    beyond = w.at[:, 3:].add(1)
    np.testing.assert_array_equal(features(small, beyond, 1), features(small, w, 1))


def test_pictures_of_a_batch_do_not_mix(small):
    w = np.random.default_rng(4).normal(size=(3, DIM)).astype(np.float32)
    together = features(small, w, 1)
    for i in range(3):
        alone = features(small, w[i : i + 1], 1)[0]
        np.testing.assert_allclose(together[i], alone, atol=1e-4 * float(jnp.abs(alone).max()))


def test_strips_give_the_whole_image(small, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    w = np.random.default_rng(5).normal(size=(2, DIM)).astype(np.float32)
    whole = features(small, w, 1)
    monkeypatch.setattr(prior, "STRIPS_FROM", 8)
    monkeypatch.setattr(prior, "STRIP_ROWS", 4)
    strips = jax.jit(lambda params, w: prior.features(params, w, 1))(small, w)
    np.testing.assert_allclose(strips, whole, atol=1e-5 * float(jnp.abs(whole).max()))


IR = b"""<net name="n" version="10"><layers>
<layer id="0" name="x" type="Parameter"/>
<layer id="1" name="k" type="Const"><data element_type="f32" shape="2, 1" offset="4" size="8"/></layer>
<layer id="2" name="m" type="Multiply"/><layer id="3" name="r" type="Result"/></layers><edges>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="2" from-port="2" to-layer="3" to-port="0"/></edges></net>"""


def test_an_openvino_graph_is_read():
    graph = Graph(IR, np.array([9, 1, 2, 8], np.float32).tobytes())
    product = graph.user(graph.named("x"), "Multiply")
    assert graph.kind(graph.user(product, "Result")) == "Result"
    assert [graph.kind(i) for i in graph.inputs(product)] == ["Parameter", "Const"]
    np.testing.assert_array_equal(graph.constant_input(product), [[1], [2]])
    for wrong in (b"<net version='11'/>", b"not xml"):
        with pytest.raises(ValueError, match=r"XML|IR"):
            Graph(wrong, b"")


@pytest.fixture(scope="module")
def params():
    if not (assets.cache_folder() / assets.ASSETS["prior"].filename).is_file():
        pytest.skip('the asset "prior" is not in the cache (dp3 assets --fetch prior)')
    return prior.load_prior()


# Of three z by numpy's default_rng(20211): mean and standard deviation of w; of the picture the mean and
# standard deviation of R, G, B, RGB in the middle and at (100, 900), and the mean absolute difference of
# neighbours in a row. From OpenVINO 2026.4 in float32.
GOLDEN = (
    (0.100882, 0.441831, (0.262561, 0.318278, 0.032241), (0.425608, 0.264809, 0.421077),
     (0.858140, 0.740809, 0.713146), (-0.384809, -0.042210, -0.539660), 0.015195),
    (0.108046, 0.487060, (0.292879, 0.136658, -0.074443), (0.355902, 0.444291, 0.475439),
     (0.295371, -0.078608, -0.313456), (0.909588, 0.952339, 0.932740), 0.018941),
    (0.071129, 0.427963, (0.123714, -0.111030, -0.394909), (0.445664, 0.386004, 0.328911),
     (0.840029, 0.370501, 0.290479), (-0.053510, -0.218735, -0.460767), 0.032025),
)  # fmt: skip


@pytest.fixture(scope="module")
def pictures(params):
    """(z, w, pictures) of the three latents."""
    z = np.random.default_rng(20211).normal(size=(3, 512)).astype(np.float32)
    w = jax.jit(prior.mapping)(params, z)
    synthesis = jax.jit(prior.synthesis)
    return z, np.asarray(w), np.concatenate([synthesis(params, w[i : i + 1]) for i in range(3)])


@pytest.mark.parametrize("index", range(3))
def test_recorded_numbers(pictures, index):
    w, y = pictures[1][index], pictures[2][index]
    ours = (w.mean(), w.std(), y.mean((0, 1)), y.std((0, 1)), y[512, 512], y[100, 900],
            np.abs(np.diff(y, axis=1)).mean())  # fmt: skip
    for value, expected in zip(ours, GOLDEN[index], strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-3)
    assert y.shape == (1024, 1024, 3)


@pytest.fixture
def graphs(tmp_path):
    """The package's OpenVINO graphs, from a wheel that somebody put beside the assets."""
    wheels = sorted(assets.cache_folder().glob("random_face-*.whl"))
    if not wheels:
        pytest.skip(
            "the wheel is not beside the assets (pip download --no-deps random_face==2021.7.21.1 "
            "in the folder that `dp3 assets` tells)"
        )
    for member in prior_file.MEMBERS:
        content = asset_sources.read_member(wheels[0], member)
        (tmp_path / member.rpartition("/")[2]).write_bytes(content)
    return tmp_path


def test_equal_to_openvino(graphs, pictures):
    openvino = pytest.importorskip("openvino", reason="needs openvino (the extra benchmarks)")
    z, w, ours = pictures
    for name, given, expected in (("Mapping", z, w), ("Synthesis", w, ours)):
        model = openvino.Core().compile_model(
            str(graphs / f"{name}Network.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        theirs = np.concatenate([model({0: row[None]})[0] for row in given])
        if name == "Synthesis":
            theirs = theirs.transpose(0, 2, 3, 1)
        assert np.abs(theirs - expected).max() < 1e-3
