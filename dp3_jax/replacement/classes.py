"""What the surroundings of a face tell of its person: sex, age band, band of skin tone.

Blind to the masked region, as the anonymizer whose encoder looks at the context: a small head on its coarsest
features. Labels were age and sex as `models.age_sex` calls them and the tone of the cheeks, on 4,500 of
CelebA's training images (dark ones preferred) and 1,400 faces of the prior; none of them is an input.

On the 2,000 images of the validation and test partitions: sex 83% right; age within one band 94%; tone within
one band 79%, by band from dark to very light .84 .81 .85 .79 .78 .65, and of the two dark bands 17% taken for
one of the three light ones. Children are told from adults badly, CelebA shows next to none: of the prior's
children 22% are called so, of its adults 2.6%, of CelebA's people .25%. The decision rule and the weights of
rare bands were chosen on these same images, so fresh ones will give somewhat less.
"""

import functools
import pathlib
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dp3_jax.anonymization import generator
from dp3_jax.models.anonymizer import ContextNetwork
from dp3_jax.replacement.identities import AGE_BANDS, TONES, Classes

_WEIGHTS = pathlib.Path(__file__).parents[1] / "weights" / "classes.safetensors"
_CELLS = 4  # the coarsest features are averaged over so many parts of each side
_SLOPE = 0.1  # of the head's LeakyReLU
# A band next to the right one is no harm, one further off is; distances still count a little.
_APART = np.abs(np.arange(TONES)[:, None] - np.arange(TONES))
_TONE_COST = (_APART > 1) + 0.05 * _APART


# Children are one in ten at most, so with less more adults would become children than children stay such.
_MIN_CHILD = 0.7
_MIN_SEX = 0.8  # below, the key decides: a man in a woman's place is worse than either by chance
_MIN_AGE = 0.4


class Guess(NamedTuple):
    """Probabilities.

    Attributes:
      female: of being a woman or girl.
      ages: f32[4], of each of identities.AGE_BANDS.
      tones: f32[6], of each band of skin tone.
    """

    female: float
    ages: np.ndarray
    tones: np.ndarray

    @property
    def classes(self) -> Classes:
        """The sex where that is sure, the age band, the band of tone with the least expected harm."""
        sure = max(self.female, 1 - self.female) >= _MIN_SEX
        tone = int(np.argmin(_TONE_COST @ self.tones))
        return Classes(self.female > 0.5 if sure else None, self._age(), tone)

    def _age(self) -> str:
        """The likeliest band; where none is likely, the one in the middle, next to all adult ones."""
        child, *adult = self.ages
        if child > _MIN_CHILD:
            return "child"
        if max(adult) < _MIN_AGE:
            return "middle"
        return list(AGE_BANDS)[1 + int(np.argmax(adult))]


class _Encoder(ContextNetwork):
    """f32[B, N]: the coarsest features of a context, averaged over parts."""

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array) -> jax.Array:
        inside = mask > 0
        x = self._encode(jnp.where(inside, 0.0, image), inside.astype(jnp.float32))[-1]
        batch, side, _, channels = x.shape
        x = x.reshape(batch, _CELLS, side // _CELLS, _CELLS, side // _CELLS, channels)
        return x.mean((2, 4)).reshape(batch, -1)


def guess(
    parameters: dict, widths: tuple[int, ...], image: jax.Array, mask: jax.Array
) -> jax.Array:
    """f32[B, 11]: logits of sex (1), age bands (4) and tones (6); pure.

    Args:
      parameters: {"encoder": of the anonymizer, "head": of the head}.
      widths: of the encoder.
      image: f32[B, 128, 128, 3] in [-1, 1], canonical; what lies under the mask is discarded first of all.
      mask: f32[B, 128, 128, 1].
    """
    head = parameters["head"]
    x = _Encoder(widths).apply(parameters["encoder"], image, mask)
    x = nn.leaky_relu(x @ head["hidden.kernel"] + head["hidden.bias"], _SLOPE)
    return x @ head["out.kernel"] + head["out.bias"]


class ContextClassifier:
    """The head with its encoder."""

    def __init__(self):
        """Loads the weights, which come with the package."""
        import flax.traverse_util
        import safetensors.numpy

        from dp3_jax import models

        stored = safetensors.numpy.load_file(generator.WEIGHTS)
        encoder = flax.traverse_util.unflatten_dict(stored, sep="/")
        head = safetensors.numpy.load_file(_WEIGHTS)
        self._parameters = jax.tree.map(
            lambda x: np.asarray(x, np.float32), {"encoder": encoder, "head": head}
        )
        widths = tuple(models.build_generator(generator.DEFAULT_MODEL).widths)
        self._guess = jax.jit(functools.partial(_guess_both, widths))

    def __call__(self, view: np.ndarray, mask: np.ndarray) -> Guess:
        """What the surroundings of a face tell.

        Args:
          view: u8[128, 128, 3] canonical view; what lies under the mask has no part in it.
          mask: f32[128, 128, 1].
        """
        image = np.float32(view) / 127.5 - 1
        logits = np.asarray(self._guess(self._parameters, image[None], mask[None]))
        return Guess(
            float(1 / (1 + np.exp(-logits[0]))), _softmax(logits[1:5]), _softmax(logits[5:])
        )

    def classify(self, view: np.ndarray, mask: np.ndarray) -> Classes:
        """The classes of `__call__`'s guess."""
        return self(view, mask).classes


def _guess_both(
    widths: tuple[int, ...], parameters: dict, image: jax.Array, mask: jax.Array
) -> jax.Array:
    """f32[11]: the mean over the view and its mirror image."""
    images = jnp.concatenate([image, image[:, :, ::-1]])
    return guess(parameters, widths, images, jnp.concatenate([mask, mask[:, :, ::-1]])).mean(0)


def _softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max())
    return e / e.sum()
