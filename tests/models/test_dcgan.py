import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import celeba128, celeba128_modern
from dp3_jax import models
from dp3_jax.models import dcgan
from dp3_jax.training import configuration


def sections(module, variant="smoke"):
    return configuration.model_section(module.get_config(variant))


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def test_the_papers_networks_have_the_shapes_the_config_says():
    model = sections(celeba128, "")
    generator, discriminator = models.build_generator(model), models.build_discriminator(model)
    g = jax.eval_shape(
        lambda k: generator.init(k, jnp.zeros((1, 100)), train=False), jax.random.key(0)
    )
    d = jax.eval_shape(
        lambda k: discriminator.init(k, jnp.zeros((1, 128, 128, 3)), train=False), jax.random.key(0)
    )
    # dense 100 x 32768; 4x4 kernels 512-256-128-64-3 with 3 biases; scale and shift of 960 channels
    convolutions = 16 * (512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    assert count(g["params"]) == 100 * 32768 + convolutions + 3 + 2 * (512 + 256 + 128 + 64)
    convolutions = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    assert count(d["params"]) == convolutions + (64 + 128 + 256 + 512) + 8 * 8 * 512 + 1


@pytest.mark.parametrize("module", [celeba128, celeba128_modern])
def test_output_is_an_image_in_range_and_in_float32(module):
    model = sections(module)
    generator = models.build_generator(model, jnp.bfloat16)
    z = 5.0 * jax.random.normal(jax.random.key(0), (3, model["latent_dim"]))
    variables = generator.init(jax.random.key(1), z, train=False)
    image = generator.apply(variables, z, train=False)
    assert image.shape == (3, 32, 32, 3) and image.dtype == jnp.float32
    assert np.abs(image).max() <= 1.0


@pytest.mark.parametrize("module", [celeba128, celeba128_modern])
def test_the_discriminator_judges_each_image_alone(module):
    """The train step's single backward pass stands on this."""
    discriminator = models.build_discriminator(sections(module))
    x = jax.random.uniform(jax.random.key(0), (4, 32, 32, 3))
    variables = discriminator.init(jax.random.key(1), x, train=False)
    judge = functools.partial(discriminator.apply, variables, train=False)
    jacobian = jax.jit(jax.jacobian(judge))(x)
    influence = np.abs(jacobian).sum(axis=(2, 3, 4))
    assert (np.diag(influence) > 0).all()
    np.testing.assert_array_equal(influence - np.diag(np.diag(influence)), 0)


def test_depth_to_space_puts_channels_where_it_says():
    x = jnp.arange(2 * 3 * 8.0).reshape(1, 2, 3, 8)
    y = dcgan.depth_to_space(x)
    assert y.shape == (1, 4, 6, 2)
    for row, column, channel in np.ndindex(4, 6, 2):
        source = x[0, row // 2, column // 2, (2 * (row % 2) + column % 2) * 2 + channel]
        assert y[0, row, column, channel] == source


def test_pixel_shuffle_starts_without_a_grid():
    layer = dcgan.PixelShuffleConv(5)
    x = jax.random.normal(jax.random.key(0), (1, 6, 6, 4))
    y = layer.apply(layer.init(jax.random.key(1), x), x)
    blocks = y.reshape(1, 6, 2, 6, 2, 5)
    np.testing.assert_array_equal(blocks, jnp.broadcast_to(blocks[:, :, :1, :, :1], blocks.shape))


def test_spectral_norm_bounds_every_kernel():
    model = {**sections(celeba128_modern)}
    discriminator = models.build_discriminator(model)
    x = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
    variables = discriminator.init(jax.random.key(1), x, train=False)
    grown = jax.tree.map(lambda p: 7.0 * p, variables["params"])
    stats = variables["batch_stats"]
    for _ in range(30):  # power iterations
        logits, changed = discriminator.apply(
            {"params": grown, "batch_stats": stats}, x, train=True, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(2)},
        )  # fmt: skip
        stats = changed["batch_stats"]
    for name, layer in grown.items():
        kernel = np.asarray(layer["kernel"]).reshape(-1, layer["kernel"].shape[-1])
        top = np.linalg.svd(kernel, compute_uv=False)[0]
        entry = next(v for k, v in _flat(stats).items() if name in k and "sigma" in k)
        assert float(entry) == pytest.approx(top, rel=0.02)
    assert np.isfinite(logits).all()


def _flat(tree):
    return {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
