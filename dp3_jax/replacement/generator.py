"""The trained face generator, from its weights file to pixels in and pixels out.

JAX is loaded where the network is: that takes half a second, in which a video can be looked at.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dp3_jax.common.compilations import remember_compilations
from dp3_jax.common.errors import UserError
from dp3_jax.models.weights import nested
from dp3_jax.vision import masks

if TYPE_CHECKING:
    import jax

WEIGHTS = pathlib.Path(__file__).parents[1] / "weights" / "anonymizer128.safetensors"
# The network is compiled for each of these batch sizes; other numbers of faces take several calls. On two
# cores a face costs 12 ms of CPU time alone, 9.5 in a batch of 2, 8 in one of 4 and 7.3 in one of 8.
BATCHES = (4, 1)
TAKES = ("image", "mask", "z")  # inputs of the families that a FaceGenerator can run


@dataclasses.dataclass(frozen=True)
class FaceGenerator:
    """Fills holes in face photos of the canonical frame.

    Attributes:
      latent_dim: Z, numbers in a latent.
      size: side of the pictures in px.
      fingerprint: sha256 of the weights file in hex; for random variables, of their bytes.
    """

    latent_dim: int
    size: int
    fingerprint: str
    _load: Callable[[], tuple[Callable, Any]] = dataclasses.field(repr=False)
    _ready: set[int] = dataclasses.field(default_factory=set, repr=False, compare=False)

    @functools.cached_property
    def _network(self) -> tuple[Callable, Any]:
        """The compiled function and its variables."""
        return self._load()

    def generate(self, image: np.ndarray, mask: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Synthesises the pixels under the mask.

        Pixels under the mask are set to zero before anything else, so no result depends on them. A face
        depends on its own row alone, and up to float32 rounding not on how many come with it.

        Args:
          image: u8[B, S, S, 3], RGB, in the canonical frame; B from 0.
          mask: f32[B, S, S, 1]; every pixel where it is above 0 is synthesised.
          z: f32[B, Z], standard normal: same z, same context, same face.

        Returns:
          u8[B, S, S, 3]; outside the mask bit-identical to `image`.

        Raises:
          ValueError: shapes or dtypes are not these.
        """
        self._check(image, mask, z)
        apply, variables = self._network
        masked = mask > 0
        context = np.where(masked, np.uint8(0), image)
        result = context.copy()
        start = 0
        while start < len(image):
            rows = slice(start, start + next(n for n in BATCHES if n <= len(image) - start))
            parts = context[rows], masked[rows], np.asarray(z[rows], np.float32)
            filled = np.asarray(apply(variables, *parts))
            np.copyto(result[rows], filled, where=masked[rows])
            start = rows.stop
        return result

    def warm(self, count: int) -> None:
        """Gets ready to draw up to `count` faces: compiles the network, or loads what once was compiled."""
        for size in (n for n in BATCHES[::-1] if n <= count and n not in self._ready):
            view = np.zeros((size, self.size, self.size, 3), np.uint8)
            mask = np.ones((size, self.size, self.size, 1), np.float32)
            self.generate(view, mask, np.zeros((size, self.latent_dim), np.float32))
            self._ready.add(size)

    def _check(self, image: np.ndarray, mask: np.ndarray, z: np.ndarray) -> None:
        count, side = len(image), self.size
        wanted = {
            "image": ((count, side, side, 3), image),
            "mask": ((count, side, side, 1), mask),
            "z": ((count, self.latent_dim), z),
        }
        for name, (shape, array) in wanted.items():
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
        if image.dtype != np.uint8:
            raise ValueError(f"image is {image.dtype}, expected uint8")


def _network(model: Mapping[str, Any], variables: Mapping[str, Any]) -> tuple[Callable, Any]:
    """A generator as `FaceGenerator` runs it."""
    import jax
    import jax.numpy as jnp

    from dp3_jax import models
    from dp3_jax.common import images

    remember_compilations()
    network = models.build_generator(model)

    @jax.jit
    def apply(
        variables: Any, image: "jax.Array", masked: "jax.Array", z: "jax.Array"
    ) -> "jax.Array":
        filled = network.apply(
            variables, images.to_float(image), masked.astype(jnp.float32), z, train=False
        )
        return images.to_uint8(filled)

    # In NumPy: JAX would compile a program for each shape.
    variables = jax.tree.map(lambda x: np.asarray(x, np.float32), dict(variables))
    return apply, jax.device_put(variables)


def _make(
    model: Mapping[str, Any], digest: str, load: Callable[[], tuple[Callable, Any]]
) -> FaceGenerator:
    return FaceGenerator(model["latent_dim"], model["image_size"], digest, load)


def _shipped() -> tuple[Callable, Any]:
    """The network that comes with the package, as `_network` gives it."""
    import safetensors.numpy

    flat = safetensors.numpy.load_file(WEIGHTS)  # not held against the model, which takes 0.4 s
    return _network(DEFAULT_MODEL, nested(flat))


def load_anonymizer(path: str | os.PathLike | None = None) -> FaceGenerator:
    """The generator in a weights file; without `path` the one that comes with the package.

    That one is taken to be whole and is read when it is first used.

    Raises:
      UserError: the file is missing, damaged, or of another kind.
    """
    source = WEIGHTS if path is None else pathlib.Path(path)
    try:
        content = source.read_bytes()
    except OSError as error:
        remedy = "install dp3_jax again" if path is None else "check the path"
        raise UserError(f"cannot read the weights {source}: {error.strerror}; {remedy}") from error
    digest = hashlib.sha256(content).hexdigest()
    if path is None:
        return _make(DEFAULT_MODEL, digest, _shipped)
    from dp3_jax.models import generator_file

    model, variables, _ = generator_file.read_generator(source)
    return generator_of(model, variables, digest, source)


def generator_of(
    model: Mapping[str, Any],
    variables: Mapping[str, Any],
    fingerprint: str,
    source: str | os.PathLike,
) -> FaceGenerator:
    """The generator that a `model` section describes, with given variables.

    Args:
      model: see `models.build_generator`.
      variables: of the network.
      fingerprint: tells generators apart; of files it is the SHA-256 of their content.
      source: where they came from, for messages.

    Raises:
      UserError: the model is no anonymizer.
    """
    from dp3_jax import models

    family = models.family_of(model)
    if family.takes != TAKES:
        raise UserError(f"{source} holds {family.title}, not an anonymizer")
    return _make(model, fingerprint, lambda: _network(model, variables))


# What configs/anonymize128.py trains.
DEFAULT_MODEL = {
    "family": "anonymizer",
    "image_size": masks.SIZE,
    "latent_dim": 64,
    "style_dim": 128,
    "generator_widths": (32, 64, 128, 256),
}
