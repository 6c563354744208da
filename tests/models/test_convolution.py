"""The strided and transposed convolution against XLA's own, in every form, with all their derivatives."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from dp3_jax.models import convolution
from dp3_jax.models.convolution import (
    FORMS,
    StridedConv,
    TransposedConv,
    conv_transpose,
    strided_conv,
)

# (height, width, channels, features): both branches of the winograd form, odd sides, single pixels.
SHAPES = [
    (8, 4, 16, 24),
    (4, 12, 17, 16),
    (8, 8, 3, 16),
    (6, 8, 16, 16),
    (5, 7, 2, 3),
    (1, 2, 1, 1),
]


def reference_strided(x, kernel):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=dimensions)


def reference_transposed(x, kernel):
    return lax.conv_transpose(x, kernel, (2, 2), "SAME", transpose_kernel=True)


def normal(seed, *shape, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def value_and_gradients(function, x, kernel, cotangent_dtype=None):
    """(y, x gradient, kernel gradient) for a fixed cotangent, rounded to `cotangent_dtype`."""
    shape = jax.eval_shape(function, x, kernel)
    cotangent = normal(9, *shape.shape, dtype=cotangent_dtype or shape.dtype).astype(shape.dtype)

    @jax.jit
    def compute(x, kernel, cotangent):
        y, backward = jax.vjp(function, x, kernel)
        return y, *backward(cotangent)

    return compute(x, kernel, cotangent)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_equal_xlas(form, shape):
    height, width, channels, features = shape
    with jax.enable_x64(True):
        kernel = normal(0, 4, 4, channels, features)
        for ours, theirs, depth in (
            (strided_conv, reference_strided, channels),
            (conv_transpose, reference_transposed, features),
        ):
            x = normal(1, 2, height, width, depth)
            found = value_and_gradients(lambda x, k, f=ours: f(x, k, form=form), x, kernel)
            wanted = value_and_gradients(theirs, x, kernel)
            for a, b in zip(found, wanted, strict=True):
                assert a.dtype == np.float64
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", ["lax", "winograd"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 3e-6), (jnp.bfloat16, 2e-2)])
def test_low_precision_stays_near_float64(form, dtype, tolerance):
    kernel = normal(0, 4, 4, 32, 48, dtype=dtype)
    x, y = normal(1, 2, 8, 8, 32, dtype=dtype), normal(2, 2, 4, 4, 48, dtype=dtype)
    found = (
        *value_and_gradients(lambda x, k: strided_conv(x, k, form=form), x, kernel),
        *value_and_gradients(lambda y, k: conv_transpose(y, k, form=form), y, kernel),
    )
    with jax.enable_x64(True):
        x, y, kernel = (jnp.asarray(np.asarray(array, np.float64)) for array in (x, y, kernel))
        wanted = (
            *value_and_gradients(reference_strided, x, kernel, dtype),
            *value_and_gradients(reference_transposed, y, kernel, dtype),
        )
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == dtype
        error = np.abs(np.asarray(a, np.float64) - b).max()
        assert error < tolerance * np.abs(b).max()


@pytest.mark.parametrize(("form", "channels"), [("lax", 3), ("subpixel", 3), ("winograd", 16)])
def test_gradient_penalty_differentiates_twice(form, channels):
    """R1: the parameter gradient of the squared input gradient of a two-layer critic."""

    def penalty(kernels, x, convolve):
        def critic(x):
            return jnp.tanh(convolve(jnp.tanh(convolve(x, kernels[0])), kernels[1])).sum()

        return jnp.square(jax.grad(critic)(x)).sum()

    with jax.enable_x64(True):
        kernels = normal(0, 4, 4, channels, 16), normal(1, 4, 4, 16, 16)
        x = normal(2, 2, 8, 8, channels)
        gradient = jax.jit(jax.value_and_grad(penalty), static_argnums=2)
        ours = gradient(kernels, x, lambda x, k: strided_conv(x, k, form=form))
        theirs = gradient(kernels, x, reference_strided)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_second_derivatives_of_the_transposed_convolution(form):
    with jax.enable_x64(True):
        kernel, x, direction = (
            normal(0, 4, 4, 16, 16),
            normal(1, 1, 4, 4, 16),
            normal(2, 1, 4, 4, 16),
        )

        def slope(kernel, convolve):
            return jnp.vdot(jax.grad(lambda x: jnp.sin(convolve(x, kernel)).sum())(x), direction)

        gradient = jax.jit(jax.grad(slope), static_argnums=1)
        ours = gradient(kernel, lambda x, k: conv_transpose(x, k, form=form))
        np.testing.assert_allclose(
            ours, gradient(kernel, reference_transposed), rtol=1e-9, atol=1e-9
        )


@settings(max_examples=6, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([1, 3, 16]),
    features=st.sampled_from([1, 16]),
    form=st.sampled_from(sorted(FORMS)),
)
def test_transposed_is_the_adjoint_of_strided(height, width, channels, features, form):
    """<A x, y> = <x, A' y> for every size: what makes one the gradient of the other."""
    with jax.enable_x64(True):
        kernel = normal(0, 4, 4, channels, features)
        x = normal(1, 2, 2 * height, 2 * width, channels)
        y = normal(2, 2, height, width, features)
        there = jax.jit(lambda x, k: strided_conv(x, k, form=form))
        back = jax.jit(lambda y, k: conv_transpose(y, k, form=form))
        left, right = jnp.vdot(there(x, kernel), y), jnp.vdot(x, back(y, kernel))
        np.testing.assert_allclose(left, right, rtol=1e-10, atol=1e-10)


def test_layers_on_four_devices(repository):
    flags = "--xla_force_host_platform_device_count=4"
    subprocess.run(
        [sys.executable, "-m", "tests.sharded_layers"],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=repository,
        check=True,
    )


def test_layers_match_flax_after_the_documented_change_of_layout():
    x = normal(0, 2, 8, 8, 3, dtype=np.float32)
    flax_layer = nn.ConvTranspose(5, (4, 4), (2, 2))
    variables = flax_layer.init(jax.random.key(0), x)
    kernel = variables["params"]["kernel"][::-1, ::-1].transpose(0, 1, 3, 2)
    ours = {"params": {"kernel": kernel, "bias": jnp.arange(5.0)}}
    theirs = {"params": {**variables["params"], "bias": jnp.arange(5.0)}}
    np.testing.assert_allclose(
        TransposedConv(5).apply(ours, x), flax_layer.apply(theirs, x), atol=1e-5
    )
    flax_layer = nn.Conv(5, (4, 4), (2, 2))
    variables = flax_layer.init(jax.random.key(0), x)
    np.testing.assert_allclose(
        StridedConv(5).apply(variables, x), flax_layer.apply(variables, x), atol=1e-5
    )


@pytest.mark.parametrize("layer", [StridedConv, TransposedConv])
def test_layers_keep_parameters_in_one_dtype_and_compute_in_another(layer):
    module = layer(6, dtype=jnp.bfloat16, use_bias=True)
    x = normal(0, 1, 4, 4, 2, dtype=np.float32)
    variables = module.init(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert module.apply(variables, x).dtype == jnp.bfloat16
    assert set(layer(6, use_bias=False).init(jax.random.key(0), x)["params"]) == {"kernel"}


@pytest.mark.parametrize("layer", [StridedConv, TransposedConv])
def test_default_initialization_keeps_the_variance(layer):
    """LeCun's: variance 1 / fan-in, where fan-in counts the input channels in this layer's own layout."""
    kernel = layer(8).init(jax.random.key(0), jnp.zeros((1, 4, 4, 64)))["params"]["kernel"]
    np.testing.assert_allclose(kernel.var() * 16 * 64, 1.0, rtol=0.1)


def test_unfit_arguments_are_refused():
    x, kernel = jnp.zeros((1, 8, 8, 3)), jnp.zeros((4, 4, 3, 5))
    with pytest.raises(ValueError, match="3 channels"):
        conv_transpose(x, kernel)
    with pytest.raises(ValueError, match="expected"):
        strided_conv(x, kernel[:3])
    with pytest.raises(ValueError, match="bfloat16"):
        strided_conv(x.astype(jnp.bfloat16), kernel)
    with pytest.raises(ValueError, match="no form"):
        strided_conv(x, kernel, form="fft")


def test_default_form_exists():
    assert convolution.default_form() in FORMS
