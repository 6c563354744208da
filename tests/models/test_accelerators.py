"""What changes where JAX computes on a GPU or TPU, tried on CPU by taking the forms that those take."""

import functools
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import anonymize128, celeba128, fusion128
from dp3_jax.cli.main import main
from dp3_jax.common import allocator
from dp3_jax.models import mobilenet, perceptual, prior
from dp3_jax.training import assembly, configuration, options
from tests import runs

CONFIGS = {"dcgan": celeba128, "anonymizer": anonymize128, "fusion": fusion128}


@pytest.mark.parametrize(
    ("kind", "capability", "dtype"),
    [
        ("Tesla T4", "7.5", "float32"),
        ("Tesla V100-SXM2-16GB", "7.0", "float32"),
        ("NVIDIA A100-SXM4-40GB", "8.0", "bfloat16"),
        ("NVIDIA H200", "9.0", "bfloat16"),
        ("NVIDIA B200", "10.0", "bfloat16"),
        ("AMD Instinct MI250X", "gfx90a", "bfloat16"),
        ("TPU v5 lite", None, "bfloat16"),
    ],
)
def test_bfloat16_is_taken_where_the_hardware_has_it(kind, capability, dtype, monkeypatch):
    device = SimpleNamespace(device_kind=kind)
    if capability:
        device.compute_capability = capability
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu" if "TPU" in kind else "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [device])
    found, reason = options.compute_dtype("auto")
    assert found == jnp.dtype(dtype)
    assert (kind in reason) == (dtype == "float32")
    assert options.compute_dtype("bfloat16")[0] == jnp.bfloat16  # who asks for it gets it


def tiny(family, **train):
    config = CONFIGS[family].get_config("smoke")
    with config.unlocked():
        config.data.image_size = 16
        config.model.update(generator_widths=(16, 8), discriminator_widths=(8, 16))
        config.train.update(batch_size=8, accumulation=1, augment=(), **train)
    return config


def abstract_state(config):
    """Shapes and dtypes of a fresh state, and its networks."""
    return jax.eval_shape(lambda: assembly.fresh(runs.parts(config)))


@pytest.mark.parametrize("family", CONFIGS)
def test_a_whole_training_step_of_each_family_takes_the_form_and_the_dtype_of_its_config(family):
    """Traced, not compiled: that takes minutes for the larger networks."""
    config = tiny(family, convolution="lax", compute_dtype="bfloat16")
    configuration.parse(config)
    state, size = abstract_state(config), config.data.image_size
    for network in (state.generator, state.discriminator):
        assert network.apply_fn.__self__.form == "lax"
    batch = {"image": jax.ShapeDtypeStruct((8, size, size, 3), jnp.uint8)}
    lowered = jax.jit(runs.parts(config).train_step).lower(state, batch)
    after, _ = lowered.out_info
    assert re.search(r"stablehlo\.convolution.*bf16", lowered.as_text())
    assert {x.dtype for x in jax.tree.leaves(after.generator.params)} == {jnp.dtype("float32")}


@functools.cache
def one_step(form, dtype="float32"):
    """Metrics of a whole training step, and the parameters after it, on fixed pictures."""
    config = tiny("dcgan", convolution=form, compute_dtype=dtype)
    state = runs.fresh_state(config)
    size = config.data.image_size
    image = np.random.default_rng(0).integers(0, 256, (8, size, size, 3)).astype(np.uint8)
    state, metrics = jax.jit(runs.parts(config).train_step)(state, {"image": image})
    networks = {"generator": state.generator.params, "discriminator": state.discriminator.params}
    return jax.device_get(metrics), jax.device_get(networks)


def test_a_whole_training_step_with_the_accelerators_form_is_the_same_step():
    (ours, params), (theirs, others) = (one_step(form) for form in ("winograd", "lax"))
    for name in ("loss_g", "loss_d", "d_real", "d_fake"):
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-4, atol=1e-5, err_msg=name)
    # Adam's first step is the learning rate times the sign of the gradient, or nearly so where that is 0.
    leaves = zip(*(jax.tree.leaves(tree) for tree in (params, others)), strict=True)
    off = [np.mean(np.abs(a - b) > 1e-5) for a, b in leaves]
    assert np.mean(off) < 0.02


def test_a_whole_training_step_with_the_accelerators_dtype_is_near_it():
    (exact, _), (rounded, _) = (one_step("lax", dtype) for dtype in ("float32", "bfloat16"))
    for name in ("loss_g", "loss_d"):
        np.testing.assert_allclose(rounded[name], exact[name], rtol=0.02, err_msg=name)


def test_fixed_networks_compute_in_the_dtype_that_is_asked_for_and_give_float32(monkeypatch):
    image = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3), minval=-1.0)
    shapes = jax.eval_shape(mobilenet.MobileNetV2().init, jax.random.key(1), image)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: rng.normal(0, np.prod(x.shape[:-1], initial=4) ** -0.5, x.shape).astype("f4"),
        shapes,
    )
    monkeypatch.setattr(mobilenet, "load_variables", lambda path: variables)
    exact, rounded = (
        jax.jit(perceptual.mobilenet_features("", layers=(1, 3), dtype=dtype))
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert "bf16" not in exact.lower(image).as_text()
    assert "bf16" in rounded.lower(image).as_text()
    for a, b in zip(exact(image), rounded(image), strict=True):
        assert b.dtype == jnp.float32
        assert np.linalg.norm(a - b) < 0.05 * np.linalg.norm(a)


def test_a_config_trains_against_its_perceptual_network_in_its_own_dtype(monkeypatch):
    asked = []
    monkeypatch.setattr(perceptual, "vgg19_features", lambda *, dtype: asked.append(dtype))
    config = tiny("anonymizer", compute_dtype="bfloat16")
    config.model.perceptual, config.losses.content = "vgg19", 1.0
    runs.parts(config)
    assert asked == [jnp.bfloat16]


def test_the_prior_draws_whole_layers_where_it_draws_strips_on_cpu(monkeypatch):
    """`tests/test_prior.py` compares the two; here, that an accelerator takes the whole one."""
    used = []
    monkeypatch.setattr(prior.modulated, "in_strips", lambda *a: used.append(a) or jnp.zeros(()))
    monkeypatch.setattr(prior.modulated, "separable", lambda params, name, x, *a: x)
    monkeypatch.setattr(prior.modulated, "style", lambda *a: jnp.ones((1, 4)))
    side = prior.STRIPS_FROM // 2
    x, w = jnp.zeros((1, side, side, 4)), jnp.zeros((1, prior.LATENT_DIM))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert prior.layer({}, 0, x, w).shape[1] == prior.STRIPS_FROM and not used


def test_a_gpu_is_shared_by_the_command_and_the_user_has_the_last_word(monkeypatch):
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    monkeypatch.delenv(name, raising=False)
    assert main(["--version"]) == 0
    assert allocator.os.environ[name] == "false"
    monkeypatch.setenv(name, "true")
    assert main(["--version"]) == 0
    assert allocator.os.environ[name] == "true"


def test_the_c_library_is_left_alone_where_jax_computes_on_an_accelerator(monkeypatch):
    monkeypatch.setattr(allocator, "glibc", lambda name: pytest.fail("changed"))
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    assert not allocator.computes_on_cpu() and not allocator.keep_freed_memory()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert allocator.computes_on_cpu(["null"])
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(allocator.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(allocator.importlib.metadata, "entry_points", lambda group: ())
    assert allocator.computes_on_cpu(["null"])  # no plugin: JAX cannot use what is there
    monkeypatch.setattr(allocator.importlib.util, "find_spec", lambda name: name == "libtpu")
    assert not allocator.computes_on_cpu(["null"])
    assert allocator.computes_on_cpu(["no such device"])
