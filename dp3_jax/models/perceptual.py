"""Features of a trained classifier for the perceptual losses: MobileNetV2's, or VGG19's.

MobileNetV2's weights are an asset (`assets.fetch("mobilenet_v2")`). VGG19's, which Johnson et al. and Liu et
al. used, come from `keras.applications`, which fetches them from its own address: they need TensorFlow and a
network, once.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.models import mobilenet
from dp3_jax.models.projected import Features

# Outputs of MobileNetV2 at 1/2, 1/4, 1/8 and 1/16 of the side: textures to parts of a face.
MOBILENET_LAYERS = (1, 3, 6, 10)
# Convolutions in each block of VGG19 (Simonyan and Zisserman, 2015, arXiv:1409.1556, column E), and channels.
VGG19_BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
# The last layer before each of the first three poolings (Liu et al., 2018, arXiv:1804.07723, with the
# poolings' inputs in place of their outputs).
VGG19_LAYERS = ("block1_conv2", "block2_conv2", "block3_conv4")
# Means of ImageNet's channels in BGR, 0..255, as the Caffe weights that Keras carries expect.
_CAFFE_MEAN = np.array([103.939, 116.779, 123.68], np.float32)


def mobilenet_features(
    path: str | os.PathLike, layers: Sequence[int] = MOBILENET_LAYERS, dtype: Any = jnp.float32
) -> Features:
    """A function from f32[B, S, S, 3] in [-1, 1] to f32 feature maps at `layers` of MobileNetV2's trunk.

    Args:
      path: torchvision's weights file.
      layers: numbers as in `mobilenet.MobileNetV2`.
      dtype: of the computation.

    Raises:
      ValueError: the file is not that.
    """
    network = mobilenet.MobileNetV2(layers=tuple(layers), dtype=dtype)
    variables = jax.tree.map(jnp.asarray, mobilenet.load_variables(path))

    def features(image: jax.Array) -> list[jax.Array]:
        _, outputs = network.apply(variables, image)
        return [outputs[layer].astype(jnp.float32) for layer in layers]

    return features


class VGG19(nn.Module):
    """VGG19's convolutions up to the last of `layers` (names as in Keras), computed in `dtype`."""

    layers: Sequence[str] = VGG19_LAYERS
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> list[jax.Array]:
        """Maps f32[B, H, W, 3] RGB in [-1, 1] to the feature maps, f32, after the ReLUs of `layers`."""
        x = (image[..., ::-1] + 1.0) * 127.5 - _CAFFE_MEAN
        found: dict[str, jax.Array] = {}
        for block, (count, channels) in enumerate(VGG19_BLOCKS, start=1):
            if block > 1:
                x = nn.max_pool(x, (2, 2), (2, 2))
            for index in range(1, count + 1):
                name = f"block{block}_conv{index}"
                x = nn.relu(nn.Conv(channels, (3, 3), dtype=self.dtype, name=name)(x))
                found[name] = x.astype(jnp.float32)
                if set(self.layers) <= found.keys():
                    return [found[layer] for layer in self.layers]
        raise ValueError(f"VGG19 has no layers {sorted(set(self.layers) - found.keys())}")


def vgg19_variables(weights: Mapping[str, Sequence[np.ndarray]]) -> dict[str, Any]:
    """Variables of `VGG19` from {Keras layer name: (kernel, bias)}."""
    return {"params": {name: {"kernel": k, "bias": b} for name, (k, b) in weights.items()}}


def vgg19_features(layers: Sequence[str] = VGG19_LAYERS, dtype: Any = jnp.float32) -> Features:
    """As `mobilenet_features`, with VGG19 trained on ImageNet, fetched by `keras.applications`.

    Raises:
      UserError: Keras is not installed, or its weights cannot be fetched.
    """
    try:
        import keras

        model = keras.applications.VGG19(include_top=False, weights="imagenet")
    except Exception as error:  # Keras raises bare Exceptions for failed downloads
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot get VGG19 from keras.applications: {reason}; install dp3_jax[data] and connect to "
            "the network once, or take model.perceptual=mobilenet_v2"
        ) from error
    convolutions = [layer for layer in model.layers if "_conv" in layer.name]
    variables = vgg19_variables({layer.name: layer.get_weights() for layer in convolutions})
    variables = jax.tree.map(jnp.asarray, variables)
    network = VGG19(layers=tuple(layers), dtype=dtype)

    def features(image: jax.Array) -> list[jax.Array]:
        return network.apply(variables, image)

    return features
