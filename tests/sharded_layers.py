"""Run with four devices by test_convolution: layers on a split batch give what they give on a whole one."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dp3_jax.models.convolution import FORMS, conv_transpose, strided_conv
from dp3_jax.models.dropout import dropout

DEVICES = 4


def check_convolution(split, whole):
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.normal(size=(4, 4, 16, 16)), jnp.float32)
    x = jnp.asarray(rng.normal(size=(2 * DEVICES, 8, 8, 16)), jnp.float32)
    for form in FORMS:

        def loss(kernel, x, form=form):
            y = strided_conv(x, kernel, form=form)
            return jnp.square(conv_transpose(y, kernel, form=form) - x).mean()

        gradient = jax.grad(loss)
        sharded = jax.jit(gradient, in_shardings=(whole, split), out_shardings=whole)
        found = sharded(jax.device_put(kernel, whole), jax.device_put(x, split))
        wanted = jax.jit(gradient)(kernel, x)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def check_dropout(split):
    x, key = jnp.ones((4 * DEVICES, 8, 5)), jax.random.key(3)
    sharded = jax.jit(lambda x: dropout(x, key, 0.3))(jax.device_put(x, split))
    assert len(sharded.sharding.device_set) == DEVICES
    assert not sharded.sharding.is_fully_replicated
    np.testing.assert_array_equal(sharded, dropout(x, key, 0.3))


def main():
    assert jax.device_count() == DEVICES
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    check_convolution(split, NamedSharding(mesh, PartitionSpec()))
    check_dropout(split)


if __name__ == "__main__":
    main()
