"""Our training step, and the same one in plain Flax, as timed processes of training_step.py.

Timed: one compiled step on one uint8 batch already on the device; the state is donated.

ours    what `launch.py --config=configs/celeba128.py` runs: `assembly.build` and `compile_step` of that
        config, with the update after every batch instead of every second one, as the peers do.
plain   Flax as its documentation teaches it: nn.ConvTranspose, nn.Conv, nn.BatchNorm, nn.Dropout, one loss
        function and one `jax.value_and_grad` per network, optax.adam.
"""

import time
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import peer_protocol

from configs import celeba128
from dp3_jax.common import allocator
from dp3_jax.training import assembly, configuration, sharding
from dp3_jax.training.options import compute_dtype


def images(batch: int) -> np.ndarray:
    """Random pixels: the work does not depend on them."""
    return np.random.default_rng(0).integers(0, 256, (batch, 128, 128, 3), dtype=np.uint8)


def make_ours(batch: int) -> Callable[[int], None]:
    """Runs that many steps of the project's own compiled step."""
    allocator.keep_freed_memory()
    config = celeba128.get_config()
    config.train.update(batch_size=batch, accumulation=1)
    layout = sharding.make_layout()
    parts = assembly.assemble(configuration.parse(config))
    state = assembly.build(parts, layout)
    step = assembly.compile_step(parts.train_step, state, layout, (batch, config.data.image_size))
    data = {"image": layout.global_batch(images(batch))}

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, metrics = step(state, data)
        jax.block_until_ready((state, metrics))

    return run


class Generator(nn.Module):
    """Latents (B, 100) to images (B, 128, 128, 3)."""

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Generates one image per latent, in training mode."""
        x = nn.Dense(8 * 8 * 512, use_bias=False)(z).reshape(-1, 8, 8, 512)
        x = nn.leaky_relu(nn.BatchNorm(use_running_average=False)(x), 0.2)
        for features in (256, 128, 64):
            x = nn.ConvTranspose(features, (4, 4), (2, 2), use_bias=False)(x)
            x = nn.leaky_relu(nn.BatchNorm(use_running_average=False)(x), 0.2)
        return jnp.tanh(nn.ConvTranspose(3, (4, 4), (2, 2))(x))


class Discriminator(nn.Module):
    """Images (B, 128, 128, 3) to logits (B,)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Judges each image, in training mode."""
        for features in (64, 128, 256, 512):
            x = nn.leaky_relu(nn.Conv(features, (4, 4), (2, 2))(x), 0.2)
            x = nn.Dropout(0.3, deterministic=False)(x)
        return nn.Dense(1)(x.reshape(x.shape[0], -1))[:, 0]


def make_plain(batch: int) -> Callable[[int], None]:
    """Runs that many steps of the plain Flax version."""
    g, d = Generator(), Discriminator()
    adam = optax.adam(2e-4, b1=0.5)
    loss = optax.losses.sigmoid_binary_cross_entropy

    def start():
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        g_variables = g.init(keys, jnp.zeros((1, peer_protocol.LATENT)))
        d_params = d.init(keys, jnp.zeros((1, 128, 128, 3)))["params"]
        g_params = g_variables["params"]
        return (
            g_params,
            g_variables["batch_stats"],
            d_params,
            adam.init(g_params),
            adam.init(d_params),
        )

    def step(state, real, key):
        g_params, stats, d_params, g_adam, d_adam = state
        real = real / 127.5 - 1
        z_key, fake_key, real_key = jax.random.split(key, 3)
        z = jax.random.normal(z_key, (batch, peer_protocol.LATENT))

        def judge(params, x, key):
            return d.apply({"params": params}, x, rngs={"dropout": key})

        def g_loss(params):
            variables = {"params": params, "batch_stats": stats}
            fake, changed = g.apply(variables, z, mutable=["batch_stats"])
            return loss(judge(d_params, fake, fake_key), 1.0).mean(), (fake, changed["batch_stats"])

        def d_loss(params, fake):
            on_fake, on_real = judge(params, fake, fake_key), judge(params, real, real_key)
            return loss(on_real, 1.0).mean() + loss(on_fake, 0.0).mean()

        (_, (fake, stats)), g_grads = jax.value_and_grad(g_loss, has_aux=True)(g_params)
        value, d_grads = jax.value_and_grad(d_loss)(d_params, fake)
        g_updates, g_adam = adam.update(g_grads, g_adam)
        d_updates, d_adam = adam.update(d_grads, d_adam)
        g_params = optax.apply_updates(g_params, g_updates)
        d_params = optax.apply_updates(d_params, d_updates)
        return (g_params, stats, d_params, g_adam, d_adam), value

    state = jax.jit(start)()
    compiled = jax.jit(step, donate_argnums=0)
    real, key = jnp.asarray(images(batch)), jax.random.key(2)

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, value = compiled(state, real, key)
        jax.block_until_ready((state, value))

    return run


def matmul_rate(dtype: jnp.dtype) -> float:
    """FLOP/s of the best of some square matrix products of `dtype` on the default device."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    best = np.inf
    for _ in range(20):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def main() -> None:
    """Serves the parent."""
    options = peer_protocol.arguments(("ours", "plain"))
    run = {"ours": make_ours, "plain": make_plain}[options.variant](options.batch)
    dtype = jnp.dtype("float32")
    if options.variant == "ours":
        dtype, _ = compute_dtype("auto")
    peer_protocol.serve(
        run,
        options.steps,
        version=f"JAX {jax.__version__}, {dtype.name}",
        backend=jax.default_backend(),
        device=jax.devices()[0].device_kind,
        matmul_rate=matmul_rate(dtype),
    )


if __name__ == "__main__":
    main()
