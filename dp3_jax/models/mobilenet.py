"""MobileNetV2's trunk (Sandler et al., 2018, arXiv:1801.04381) for inference: image features without PyTorch.

Batch normalization is folded into the convolutions. Weights come from torchvision's file
(`assets.fetch("mobilenet_v2")`), read by `common.mobilenet_file`.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dp3_jax.common.mobilenet_file import BLOCKS, load_variables

__all__ = [
    "BLOCKS",
    "FEATURES",
    "DepthwiseConv",
    "InvertedResidual",
    "MobileNetV2",
    "load_variables",
]
FEATURES = 1280
# Mean and standard deviation of ImageNet's colours in [0, 1], as torchvision's weights expect.
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


class DepthwiseConv(nn.Module):
    """3x3 depthwise convolution with bias, one pixel of zero padding, as nine shifted products.

    XLA's grouped convolution is many times slower on CPU; the sum of products fuses into one loop.
    """

    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), C] in `dtype`; sums are float32."""
        channels = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, 1, channels))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        height, width = x.shape[1:3]
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        total = bias  # the loop that fuses holds it in registers, whatever the dtype of the maps
        for row in range(3):
            for column in range(3):
                window = padded[
                    :, row : row + height : self.stride, column : column + width : self.stride
                ]
                total = total + window * kernel[row, column, 0]
        return total.astype(self.dtype)


class InvertedResidual(nn.Module):
    """Expand (1x1), filter (depthwise 3x3), project (1x1, linear); plus the input where shapes allow."""

    expansion: int
    features: int
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), features] in `dtype`."""
        y = x
        if self.expansion > 1:
            wide = x.shape[-1] * self.expansion
            y = nn.relu6(nn.Conv(wide, (1, 1), dtype=self.dtype, name="expand")(y))
        y = nn.relu6(DepthwiseConv(self.stride, self.dtype, name="depthwise")(y))
        y = nn.Conv(self.features, (1, 1), dtype=self.dtype, name="project")(y)
        return x + y if self.stride == 1 and x.shape[-1] == self.features else y


class MobileNetV2(nn.Module):
    """The trunk up to the pooled features; no classifier.

    Attributes:
      layers: numbers of torchvision's `features` (0 the stem, 1 to 17 the blocks, 18 the last
        convolution) whose outputs are returned too, for perceptual losses.
      dtype: of the computation.
    """

    layers: Sequence[int] = ()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> tuple[jax.Array, dict[int, jax.Array]]:
        """Maps f32[B, H, W, 3] in [-1, 1] to ([B, 1280] pooled, {layer: [B, h, w, C]}) in `dtype`."""
        x = ((image + 1.0) / 2.0 - _MEAN) / _DEVIATION
        settings = {"strides": 2, "padding": ((1, 1), (1, 1)), "dtype": self.dtype}
        x = nn.relu6(nn.Conv(32, (3, 3), name="features_0", **settings)(x))
        outputs = [x]
        for expansion, features, repetitions, stride in BLOCKS:
            for repetition in range(repetitions):
                block = InvertedResidual(
                    expansion,
                    features,
                    stride if repetition == 0 else 1,
                    self.dtype,
                    name=f"features_{len(outputs)}",
                )
                x = block(x)
                outputs.append(x)
        last = nn.Conv(FEATURES, (1, 1), dtype=self.dtype, name=f"features_{len(outputs)}")
        x = nn.relu6(last(x))
        outputs.append(x)
        return x.mean((1, 2)), {layer: outputs[layer] for layer in self.layers}
