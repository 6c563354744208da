"""Strided and transposed 4x4 convolutions whose derivatives stay fast, in two forms.

The DCGAN family uses one geometry only: kernel 4x4, stride 2, SAME padding, NHWC. Three maps describe it
completely. With an image x (B, H, W, C), a feature map y (B, ceil(H/2), ceil(W/2), F) and a kernel
w (4, 4, C, F):

  convolve         y[o]    = sum over k   of x[2 o + k - 1] w[k]
  transpose        x[i]    = sum over o,k of y[o] w[k]       where 2 o + k - 1 = i
  kernel_gradient  w[k]    = sum over o   of x[2 o + k - 1] y[o]

Each is linear in both of its arguments, and the derivatives of each are the other two: a transposed
convolution IS the gradient of a strided convolution by its input. So the three, each with a `custom_vjp`
that calls the other two, are closed under reverse-mode differentiation of any order (the R1 penalty needs
the second), and each of them can be computed in whatever form is fastest. XLA's own rule for the kernel
gradient of a transposed convolution (a convolution of the zero-stuffed input) is not: on CPU it takes 25
to 80 times as long as the `kernel_gradient` of the matching strided convolution, which is the same number
(known upstream: jax-ml/jax#23783, #31662). Forward mode (`jax.jvp`) is not supported, as with any
`custom_vjp`.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from dp3_jax.models.convolution_forms import FORMS, KERNEL_SIZE, STRIDE


def default_form() -> str:
    """The form used where none is named, by JAX's default backend. A config names one in train.convolution.

    CPU, measured on two cores at batch 32 with the networks of configs/celeba128.py, processor seconds of a
    whole training step: subpixel 2.3, winograd 1.4 (and 14 instead of 8 to compile it). Per map, lax took
    1.1 to 1.8 times as long as subpixel for the transpose, and 1.0 to 2.3 times as long as winograd for
    the kernel gradient. GPU and TPU have hardware and libraries for the plain convolution, so they
    get it; the others are unmeasured there.
    """
    return "winograd" if jax.default_backend() == "cpu" else "lax"


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x, kernel, form):
    return FORMS[form].convolve(x, kernel)


def _convolve_backward(form, saved, cotangent):
    x, kernel = saved
    gradient = _transpose(cotangent, kernel, x.shape[1:3], form)
    return gradient, _kernel_gradient(x, cotangent, form)


_convolve.defvjp(
    lambda x, kernel, form: (_convolve(x, kernel, form), (x, kernel)), _convolve_backward
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _transpose(y, kernel, size, form):
    return FORMS[form].transpose(y, kernel, size)


def _transpose_backward(size, form, saved, cotangent):
    del size
    y, kernel = saved
    return _convolve(cotangent, kernel, form), _kernel_gradient(cotangent, y, form)


_transpose.defvjp(
    lambda y, kernel, size, form: (_transpose(y, kernel, size, form), (y, kernel)),
    _transpose_backward,
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _kernel_gradient(x, y, form):
    return FORMS[form].kernel_gradient(x, y)


def _kernel_gradient_backward(form, saved, cotangent):
    x, y = saved
    return _transpose(y, cotangent, x.shape[1:3], form), _convolve(x, cotangent, form)


_kernel_gradient.defvjp(
    lambda x, y, form: (_kernel_gradient(x, y, form), (x, y)), _kernel_gradient_backward
)


def _check(x: jax.Array, kernel: jax.Array, channel_axis: int, form: str) -> None:
    if x.ndim != 4 or kernel.ndim != 4 or kernel.shape[:2] != (KERNEL_SIZE, KERNEL_SIZE):
        raise ValueError(
            f"expected (B, H, W, C) and (4, 4, ., .), got {x.shape} and {kernel.shape}"
        )
    if x.shape[-1] != kernel.shape[channel_axis]:
        raise ValueError(f"{x.shape[-1]} channels do not fit a kernel {kernel.shape}")
    if x.dtype != kernel.dtype:
        raise ValueError(f"input is {x.dtype}, kernel {kernel.dtype}; cast one of them")
    if form not in FORMS:
        raise ValueError(f"no form {form!r}; there are {', '.join(FORMS)}")


def strided_conv(x: jax.Array, kernel: jax.Array, *, form: str | None = None) -> jax.Array:
    """Convolution with a 4x4 kernel, stride 2, SAME padding.

    Args:
      x: (B, H, W, C), any H and W >= 1; float.
      kernel: (4, 4, C, F), HWIO as in `nn.Conv`; the dtype of `x`.
      form: a key of `FORMS`; None takes `default_form()`. All forms give the same numbers but for rounding.

    Returns:
      (B, ceil(H / 2), ceil(W / 2), F) in the dtype of `x`.

    Raises:
      ValueError: shapes or dtypes do not fit together.
    """
    form = form or default_form()
    _check(x, kernel, 2, form)
    return _convolve(x, kernel, form)


def conv_transpose(x: jax.Array, kernel: jax.Array, *, form: str | None = None) -> jax.Array:
    """Transposed convolution with a 4x4 kernel, stride 2, SAME padding: twice the size.

    Equals `lax.conv_transpose(x, kernel, (2, 2), "SAME", transpose_kernel=True)`, and is what PyTorch's
    `ConvTranspose2d(C, F, 4, stride=2, padding=1)` and Keras's `Conv2DTranspose(F, 4, 2, "same")` compute.

    Args:
      x: (B, H, W, C); float.
      kernel: (4, 4, F, C), the kernel of the strided convolution it is the transpose of: Keras's layout;
        PyTorch's (C, F, kh, kw) weight is `weight.transpose(2, 3, 1, 0)`. `nn.ConvTranspose`'s default
        (`transpose_kernel=False`) keeps (4, 4, C, F) and does not flip: its kernel k is
        `k[::-1, ::-1].transpose(0, 1, 3, 2)` here.
      form: as in `strided_conv`.

    Returns:
      (B, 2 H, 2 W, F) in the dtype of `x`.

    Raises:
      ValueError: shapes or dtypes do not fit together.
    """
    form = form or default_form()
    _check(x, kernel, 3, form)
    return _transpose(x, kernel, (STRIDE * x.shape[1], STRIDE * x.shape[2]), form)


class _Convolution(nn.Module):
    """What the two layers share: fields, bias and dtypes.

    Attributes:
      features: channels of the output.
      use_bias: adds a vector of `features`, started at zero.
      dtype: compute dtype; None takes the common one of input and parameters.
      param_dtype: dtype the parameters are kept in.
      kernel_init: initializer; None takes LeCun's normal with the fan-in of this layer's kernel layout.
      form: how it is computed, a key of `FORMS`; None takes `default_form()`.
    """

    features: int
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Callable[..., jax.Array] | None = None
    form: str | None = None

    def _parameters(self, x: jax.Array, in_axis: int, out_axis: int):
        shape = [KERNEL_SIZE, KERNEL_SIZE, 0, 0]
        shape[in_axis], shape[out_axis] = x.shape[-1], self.features
        init = self.kernel_init or nn.initializers.lecun_normal(in_axis=in_axis, out_axis=out_axis)
        kernel = self.param("kernel", init, tuple(shape), self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param(
                "bias", nn.initializers.zeros_init(), (self.features,), self.param_dtype
            )
        return promote_dtype(x, kernel, bias, dtype=self.dtype)


class StridedConv(_Convolution):
    """`strided_conv` as a layer: (B, H, W, C) -> (B, ceil(H/2), ceil(W/2), features)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the layer; its `kernel` is (4, 4, C, features)."""
        x, kernel, bias = self._parameters(x, in_axis=2, out_axis=3)
        y = strided_conv(x, kernel, form=self.form)
        return y if bias is None else y + bias


class TransposedConv(_Convolution):
    """`conv_transpose` as a layer: (B, H, W, C) -> (B, 2 H, 2 W, features)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the layer; its `kernel` is (4, 4, features, C)."""
        x, kernel, bias = self._parameters(x, in_axis=3, out_axis=2)
        y = conv_transpose(x, kernel, form=self.form)
        return y if bias is None else y + bias
