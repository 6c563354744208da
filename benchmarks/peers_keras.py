"""The same network and training step in Keras 3 on TensorFlow, as a timed process of training_step.py.

Timed: one call of a `tf.function` on one batch already in memory: latents drawn, one forward pass of G and
of D on real and fake, both gradients at the same parameters from one persistent tape, one Adam step each.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import peer_protocol
import tensorflow as tf
from keras import layers


def make_networks() -> tuple[keras.Model, keras.Model]:
    """(generator, discriminator)."""
    bare = {"kernel_size": 4, "strides": 2, "padding": "same"}
    g = [keras.Input((peer_protocol.LATENT,)), layers.Dense(8 * 8 * 512, use_bias=False)]
    g += [layers.Reshape((8, 8, 512)), layers.BatchNormalization(), layers.LeakyReLU(0.2)]
    for features in (256, 128, 64):
        g += [
            layers.Conv2DTranspose(features, use_bias=False, **bare),
            layers.BatchNormalization(),
            layers.LeakyReLU(0.2),
        ]
    g.append(layers.Conv2DTranspose(3, activation="tanh", **bare))
    d = [keras.Input((128, 128, 3))]
    for features in (64, 128, 256, 512):
        d += [layers.Conv2D(features, **bare), layers.LeakyReLU(0.2), layers.Dropout(0.3)]
    return keras.Sequential(g), keras.Sequential([*d, layers.Flatten(), layers.Dense(1)])


def main() -> None:
    """Serves the parent."""
    options = peer_protocol.arguments(("float32", "xla"))
    g, d = make_networks()
    g_adam, d_adam = (keras.optimizers.Adam(2e-4, beta_1=0.5) for _ in range(2))
    g_adam.build(g.trainable_variables)
    d_adam.build(d.trainable_variables)
    real = tf.clip_by_value(tf.random.normal((options.batch, 128, 128, 3)), -1, 1)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function(jit_compile=options.variant == "xla")
    def step(real):
        z = tf.random.normal((options.batch, peer_protocol.LATENT))
        with tf.GradientTape(persistent=True) as tape:
            on_fake, on_real = d(g(z, training=True), training=True), d(real, training=True)
            g_loss = loss(tf.ones_like(on_fake), on_fake)
            d_loss = loss(tf.ones_like(on_real), on_real) + loss(tf.zeros_like(on_fake), on_fake)
        g_grads = tape.gradient(g_loss, g.trainable_variables)
        d_grads = tape.gradient(d_loss, d.trainable_variables)
        g_adam.apply(g_grads)
        d_adam.apply(d_grads)
        return d_loss

    def run(steps: int) -> None:
        for _ in range(steps):
            result = step(real)
        result.numpy()

    version = f"Keras {keras.__version__}, TensorFlow {tf.__version__}"
    peer_protocol.serve(run, options.steps, version=version)


if __name__ == "__main__":
    main()
