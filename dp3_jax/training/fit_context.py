"""Fits what surroundings tell of sex and tone (weights/context_linear.safetensors).

    python -m dp3_jax.training.fit_context PACKED [--count N] [--out FILE]

PACKED is a packed set of photos in the canonical frame. Each face is measured (labels), then what is round it
is described by networks that cannot see it (`models.context_classes`), and linear maps are fitted.
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Iterable

import numpy as np

from dp3_jax.common import files
from dp3_jax.common.asset_sources import safetensors_bytes
from dp3_jax.common.errors import UserError
from dp3_jax.data.packed import open_packed
from dp3_jax.models import context_classes
from dp3_jax.replacement import classes
from dp3_jax.replacement.attributes import AttributeReader
from dp3_jax.vision.masks import turned_mask

_SURE = 0.8  # probability of a sex from which on it is a label
_SEX_PENALTY, _SKIN_PENALTY = 0.5, 2.0  # of squared coefficients, for standardised features
_HELD_OUT = 5  # each so manieth face tells how wrong predictions of the skin are


def measured(images: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(encoder's features f32[n, N], MobileNetV2's f32[n, 1664], labels f32[n, 4]) of u8[128, 128, 3] photos.

    Labels are the probability of being called a woman, and L, a and b of the cheeks; photos without a face
    are left out.

    Raises:
      UserError: a network cannot be had.
    """
    import jax

    reader, classifier = AttributeReader(), classes.load_classifier()
    if not classifier.has_trunk:
        raise UserError("fitting needs the asset context_trunk, which cannot be fetched")
    describe = jax.jit(
        lambda parameters, *views: context_classes.describe(parameters, classes.widths(), *views)
    )
    encoded, seen, labels = [], [], []
    for image in images:
        face = reader.read(image)
        if face is None:
            continue
        mask = turned_mask(face.yaw)
        both = (np.float32(view) / 127.5 - 1 for view in (image, classes.continued(image, mask)))
        view, continued = (levels[None] for levels in both)
        own = describe(classifier.parameters, view, mask[None], continued)
        encoded.append(np.asarray(own[0]).mean(0))
        seen.append(np.asarray(own[1]))
        labels.append((face.female, face.lightness, face.redness, face.yellowness))
    return np.array(encoded), np.array(seen), np.array(labels, np.float32)


def fit(encoded: np.ndarray, seen: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """The file's arrays; arguments as of what `measured` gives."""
    both, female = np.concatenate([seen, encoded], 1), labels[:, 0]
    sure = np.abs(female - 0.5) >= _SURE - 0.5
    sex, sex_bias = _logistic(seen[sure], female[sure] > 0.5)
    skin, skin_bias = _ridge(both, labels[:, 1:])
    last = np.arange(len(both)) % _HELD_OUT == 0
    kernel, bias = _ridge(both[~last], labels[~last, 1:])
    wrong = (labels[last, 1:] - both[last] @ kernel - bias).std(0)
    return {
        "sex.kernel": sex[:, None], "sex.bias": np.array([sex_bias]),
        "skin.kernel": skin, "skin.bias": skin_bias, "skin.deviation": wrong[[0, 2]],
    }  # fmt: skip


def _standardised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x with mean 0 and rows of length about 1, the mean, what it was divided by)."""
    mean, scale = x.mean(0), (x.std(0) + 1e-3) * np.sqrt(x.shape[1])
    return (x - mean) / scale, mean, scale


def _ridge(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kernel f[d, k] and bias f[k] of y = x kernel + bias."""
    import scipy.linalg

    z, mean, scale = _standardised(x)
    square = z.T @ z + _SKIN_PENALTY * np.eye(z.shape[1], dtype=z.dtype)
    kernel = scipy.linalg.solve(square, z.T @ (y - y.mean(0)), assume_a="pos") / scale[:, None]
    return kernel, y.mean(0) - mean @ kernel


def _logistic(x: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, float]:
    """Kernel f[d] and bias of the logit of `true`, bool[n]."""
    from scipy.optimize import minimize

    z, mean, scale = _standardised(x)
    sign = np.where(true, 1.0, -1.0)

    def loss(p: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (z @ p[:-1] + p[-1])
        slope = -sign / (1 + np.exp(margin))
        penalty = _SEX_PENALTY * p[:-1]
        value = np.logaddexp(0, -margin).sum() + penalty @ p[:-1] / 2
        return value, np.append(z.T @ slope + penalty, slope.sum())

    found = minimize(loss, np.zeros(z.shape[1] + 1), jac=True, method="L-BFGS-B").x
    kernel = found[:-1] / scale
    return kernel, float(found[-1] - mean @ kernel)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m dp3_jax.training.fit_context", description=__doc__.splitlines()[0]
    )
    parser.add_argument("packed", type=pathlib.Path, help="a packed set of photos")
    parser.add_argument("--count", type=int, default=10_800, help="photos, the first ones")
    parser.add_argument("--out", type=pathlib.Path, default=classes.LINEAR, help="the file")
    given = parser.parse_args(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    try:
        images = open_packed(given.packed).images
        arrays = fit(*measured(np.array(image) for image in images[: given.count]))
        files.write_bytes(given.out, safetensors_bytes(arrays))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
