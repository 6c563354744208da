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

import pathlib
from typing import NamedTuple

import numpy as np

from dp3_jax.common.compilations import KeptProgram
from dp3_jax.models.weights import nested
from dp3_jax.replacement import generator
from dp3_jax.replacement.identities import AGE_BANDS, TONES, Classes
from dp3_jax.vision.masks import SIZE

_WEIGHTS = pathlib.Path(__file__).parents[1] / "weights" / "classes.safetensors"
# A band next to the right one is no harm, one further off is; distances still count a little.
_APART = np.abs(np.arange(TONES)[:, None] - np.arange(TONES))
_TONE_COST = (_APART > 1) + 0.05 * _APART


# Children are one in ten at most, so with less more adults would become children than children stay such.
_MIN_CHILD = 0.7
# Below, the key decides. The likelier sex is right for 83% of 891 held-out faces; with
# .8 here, and so chance for 37%, 77% were.
_MIN_SEX = 0.55
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


class ContextClassifier:
    """The head with its encoder."""

    def __init__(self):
        """Loads the weights, which come with the package."""
        import jax
        import safetensors.numpy

        stored = {"encoder": nested(safetensors.numpy.load_file(generator.WEIGHTS))}
        stored["head"] = safetensors.numpy.load_file(_WEIGHTS)
        self._parameters = jax.device_put(jax.tree.map(lambda x: np.asarray(x, np.float32), stored))
        self._guess = KeptProgram(guess_both, "classes")

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

    def warm(self) -> None:
        """Gets ready for the first face: compiles the network, or loads what once was compiled."""
        self(np.zeros((SIZE, SIZE, 3), np.uint8), np.ones((SIZE, SIZE, 1), np.float32))

    def classify(self, view: np.ndarray, mask: np.ndarray) -> Classes:
        """The classes of `__call__`'s guess."""
        return self(view, mask).classes


def guess_both(parameters, image, mask):
    """f32[11]: the mean over the view and its mirror image; see `context_classes.guess`."""
    # Late: it loads Flax, which a program that was kept does not need.
    from dp3_jax.models import context_classes

    return context_classes.guess_both(
        parameters, tuple(generator.DEFAULT_MODEL["generator_widths"]), image, mask
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max())
    return e / e.sum()
