"""The anonymizer: blind to what lies under the mask, exact outside it, and moved by its latent."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import anonymize128
from dp3_jax import models
from dp3_jax.common.errors import UserError
from dp3_jax.models import anonymizer, dcgan, generator_file
from dp3_jax.replacement import generator
from dp3_jax.training import export
from dp3_jax.vision import masks

SIZE = 32
MODELS = {
    "anonymizer": {
        "family": "anonymizer",
        "image_size": SIZE,
        "latent_dim": 8,
        "style_dim": 16,
        "generator_widths": (8, 16),
        "discriminator_widths": (8, 8),
    }
}
MODELS["fusion"] = {**MODELS["anonymizer"], "family": "fusion"}


FILLERS = sorted(name for name, family in models.FAMILIES.items() if family.fills_region)


def drawn(family, count=2, size=SIZE, seed=0):
    """Two pictures that agree outside a mask and differ under it, the mask, and the other inputs."""
    keys = jax.random.split(jax.random.key(seed), 4)
    shape = (count, size, size, 3)
    a, b = (jax.random.uniform(key, shape, minval=-1, maxval=1) for key in keys[:2])
    mask = masks.random_masks(keys[2], count, size)
    others = [
        jax.random.normal(keys[3], zeros.shape)
        for zeros in models.generator_inputs(MODELS[family], count)[2:]
    ]
    return a, jnp.where(mask > 0, b, a), mask, others


@functools.cache
def made(family, dtype=jnp.float32):
    """(apply(image, mask, *others) jitted, variables) of a family's generator with random weights."""
    model = MODELS[family]
    network = models.build_generator(model, dtype)
    variables = jax.jit(network.init)(jax.random.key(0), *models.generator_inputs(model))
    return jax.jit(functools.partial(network.apply, variables)), variables


def test_every_family_that_fills_a_masked_region_is_tested_here():
    assert set(MODELS) == set(FILLERS)
    for name in FILLERS:
        assert models.FAMILIES[name].takes[:2] == ("image", "mask")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("family", FILLERS)
def test_two_faces_under_one_mask_give_the_same_bits(family, dtype):
    apply, _ = made(family, dtype)
    a, b, mask, others = drawn(family)
    out_a, out_b = np.asarray(apply(a, mask, *others)), np.asarray(apply(b, mask, *others))
    assert (np.asarray(a) != np.asarray(b)).any()
    np.testing.assert_array_equal(out_a.view(np.uint32), out_b.view(np.uint32))
    for nothing in (np.nan, np.inf):  # what is not a number must not pass either
        poisoned = jnp.where(mask > 0, nothing, a)
        np.testing.assert_array_equal(np.asarray(apply(poisoned, mask, *others)), out_a)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("family", FILLERS)
def test_no_output_depends_on_a_pixel_under_the_mask(family, dtype):
    """Rows of the Jacobian in random directions: exactly zero under the mask, and alive outside it."""
    apply, _ = made(family, dtype)
    a, _, mask, others = drawn(family)

    @jax.jit
    def rows(key):
        out, backward = jax.vjp(lambda image: apply(image, mask, *others), a)
        return backward(jax.random.normal(key, out.shape))[0]

    for seed in range(3):
        gradient = np.asarray(rows(jax.random.key(seed)))
        hidden = np.broadcast_to(np.asarray(mask) > 0, gradient.shape)
        assert not gradient[hidden].any()
        assert gradient[~hidden].any()


@pytest.mark.parametrize("family", FILLERS)
def test_pixels_outside_the_mask_are_returned_exactly(family):
    for dtype in (jnp.float32, jnp.bfloat16):
        apply, _ = made(family, dtype)
        a, _, mask, others = drawn(family)
        out = np.asarray(apply(a, mask, *others))
        outside = np.broadcast_to(np.asarray(mask) == 0, out.shape)
        assert out.dtype == np.float32
        np.testing.assert_array_equal(out[outside], np.asarray(a)[outside])
        soft = apply(a, mask * 0.01, *others)  # any share of a pixel hides all of it
        np.testing.assert_array_equal(soft, out)


@pytest.mark.parametrize("family", FILLERS)
def test_the_other_inputs_and_the_context_change_the_face(family):
    apply, _ = made(family)
    a, _, mask, others = drawn(family)
    inside = np.broadcast_to(np.asarray(mask) > 0, a.shape)
    base = np.asarray(apply(a, mask, *others))
    changed = np.asarray(apply(a, mask, -others[0], *others[1:]))
    other_context = np.asarray(apply(-a, mask, *others))
    assert np.abs(base - changed)[inside].mean() > 0.02
    assert np.abs(base - other_context)[inside].mean() > 0.02


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 1, 1, 2)])
def test_doubling_is_bilinear(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    batch, height, width, channels = shape
    expected = jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "linear")
    np.testing.assert_allclose(anonymizer.double(x), expected, atol=1e-6)


def test_space_to_depth_undoes_depth_to_space():
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 8))
    np.testing.assert_array_equal(anonymizer.space_to_depth(dcgan.depth_to_space(x)), x)


def test_modulation_is_that_of_the_weights():
    """Scaling input and output equals StyleGAN2's per-image kernels."""
    layer = anonymizer.ModulatedConv(5)
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
    style = jax.random.normal(jax.random.key(1), (2, 3))
    variables = layer.init(jax.random.key(2), x, style)
    params = variables["params"]
    scale = 1 + style @ params["style"]["kernel"] + params["style"]["bias"]
    out = layer.apply(variables, x, style)
    for image in range(2):
        kernel = params["kernel"] * scale[image][None, None, :, None]
        kernel = kernel / jnp.sqrt((kernel**2).sum((0, 1, 2)))
        expected = jax.lax.conv_general_dilated(
            x[image : image + 1], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        np.testing.assert_allclose(out[image : image + 1], expected, atol=1e-4)


def test_no_grid_at_the_start():
    """ICNR: the last layer starts with four equal sub-pixels."""
    _, variables = made("anonymizer")
    for channel in range(3):
        kernel = np.asarray(variables["params"]["rgb_0"]["kernel"]).reshape(3, 3, -1, 4, 3)
        assert (kernel[..., channel] == kernel[..., :1, channel]).all()


# The exported file and the pixel interface.


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    model, (_, variables) = MODELS["anonymizer"], made("anonymizer")
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    generator_file.save_generator(path, variables, model, half=True, step=7)
    return path


def pixels(count, seed=0):
    a, b, mask, (z,) = drawn("anonymizer", count, seed=seed)
    to_pixels = lambda x: np.asarray((x + 1) * 127.5, np.float32).astype(np.uint8)  # noqa: E731
    return to_pixels(a), to_pixels(b), np.asarray(mask), np.asarray(z)


def test_the_exported_file_is_blind_and_exact_outside(weights_file):
    faces = generator.load_anonymizer(weights_file)
    assert (faces.size, faces.latent_dim) == (SIZE, 8)
    a, b, mask, z = pixels(3)
    out = faces.generate(a, mask, z)
    assert out.shape == a.shape and out.dtype == np.uint8
    np.testing.assert_array_equal(out, faces.generate(b, mask, z))
    outside = np.broadcast_to(mask == 0, a.shape)
    np.testing.assert_array_equal(out[outside], a[outside])
    assert (out[~outside] != a[~outside]).mean() > 0.5


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 11])
def test_any_number_of_faces_and_each_depends_on_its_row_alone(weights_file, count):
    faces = generator.load_anonymizer(weights_file)
    a, _, mask, z = pixels(11)
    out = faces.generate(a[:count], mask[:count], z[:count])
    assert out.shape == (count, SIZE, SIZE, 3)
    for row in range(count):
        alone = faces.generate(a[row : row + 1], mask[row : row + 1], z[row : row + 1])
        # Another batch size may round differently: one grey level.
        assert np.abs(out[row].astype(int) - alone[0]).max() <= 1


def test_fingerprint_is_that_of_the_file(weights_file, tmp_path):
    faces = generator.load_anonymizer(weights_file)
    assert len(faces.fingerprint) == 64
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights_file.read_bytes())
    assert generator.load_anonymizer(copy).fingerprint == faces.fingerprint


def test_wrong_weights_are_explained_in_one_line(weights_file, tmp_path):
    with pytest.raises(UserError, match="check the path"):
        generator.load_anonymizer(tmp_path / "none.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(weights_file.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        generator.load_anonymizer(broken)
    other = tmp_path / "dcgan.safetensors"
    model = {"family": "dcgan", "image_size": 16, "latent_dim": 4, "generator_widths": (8,),
             "upsampling": "transposed", "negative_slope": 0.2}  # fmt: skip
    network = models.build_generator(model)
    variables = network.init(jax.random.key(0), jnp.zeros((1, 4)), train=False)
    generator_file.save_generator(other, variables, model)
    with pytest.raises(UserError, match="not an anonymizer"):
        generator.load_anonymizer(other)
    with pytest.raises(UserError, match="dp3 anonymize"):
        export.load_generator(weights_file)


def test_the_generator_with_random_weights_has_the_shipped_shape():
    config = anonymize128.get_config()
    for name, value in generator.DEFAULT_MODEL.items():
        section = config.data if name == "image_size" else config.model
        assert section[name] == value
    model = generator.DEFAULT_MODEL
    network = models.build_generator(model)
    shapes = jax.eval_shape(network.init, jax.random.key(0), *models.generator_inputs(model))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert 3e6 < count < 6e6


def test_the_shipped_weights_are_small_blind_and_draw_with_the_latent():
    assert generator.WEIGHTS.stat().st_size <= 16e6
    model, _, _ = generator_file.read_generator(generator.WEIGHTS)
    for name, value in generator.DEFAULT_MODEL.items():
        assert model[name] == (list(value) if isinstance(value, tuple) else value)
    faces = generator.load_anonymizer()
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 1, 128, 128, 3), dtype=np.uint8)
    mask = masks.inference_mask()[None]
    b = np.where(mask > 0, b, a)
    z = rng.standard_normal((2, 1, 64)).astype(np.float32)
    out = faces.generate(a, mask, z[0])
    np.testing.assert_array_equal(out, faces.generate(b, mask, z[0]))
    assert faces.generate(a, mask, z[1])[np.broadcast_to(mask > 0, a.shape)].std() > 1
    assert (out != faces.generate(a, mask, z[1])).any()


def test_the_shipped_weights_are_loaded_as_they_are_in_their_file():
    _, variables, _ = generator_file.read_generator(generator.WEIGHTS)
    _, shipped = generator.load_anonymizer()._network
    jax.tree.map(np.testing.assert_array_equal, shipped, {"params": variables["params"]})


def test_covering_faces_of_a_video_loads_neither_jax_nor_scipy():
    # They take a second to load, which nobody should wait for who does not need them.
    code = "import sys, dp3_jax.pipelines.video.job; sys.exit(bool({'jax', 'scipy'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True)
