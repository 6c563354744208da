"""What the surroundings of a face tell of its person: sex, age band, band of skin tone.

Blind to the masked region: what lies under the mask is replaced by a smooth continuation of the rest before
any network sees it. Labels were age and sex as `models.age_sex` calls them and the tone of the cheeks; none
of them is an input. Ages, and all classes where the asset `context_trunk` is missing, come from a small head
on the coarsest features of the anonymizer's encoder; sex and tone from linear maps of these and of
MobileNetV2's features. What was measured is in `dp3_jax/weights/README.md`.
"""

import contextlib
import hashlib
import pathlib
import time
from typing import Any, NamedTuple

import numpy as np

from dp3_jax.common import assets, files
from dp3_jax.common.asset_sources import cache_folder
from dp3_jax.common.compilations import KeptProgram
from dp3_jax.common.errors import UserError
from dp3_jax.models.weights import nested
from dp3_jax.replacement import generator
from dp3_jax.replacement.attributes import ita
from dp3_jax.replacement.identities import AGE_BANDS, TONE_EDGES, TONES, Classes
from dp3_jax.vision import blending, geometry
from dp3_jax.vision.masks import SIZE

_FOLDER = pathlib.Path(__file__).parents[1] / "weights"
_WEIGHTS, LINEAR = _FOLDER / "classes.safetensors", _FOLDER / "context_linear.safetensors"
_TRUNK = "context_trunk"
_RETRY_AFTER = 86400.0  # seconds until a trunk that could not be fetched is asked for again
# A band next to the right one is no harm, one further off is; distances still count a little.
_APART = np.abs(np.arange(TONES)[:, None] - np.arange(TONES))
_TONE_COST = (_APART > 1) + 0.05 * _APART


# Children are one in ten at most, so with less more adults would become children than children stay such.
_MIN_CHILD = 0.7
# Below, the key decides. Of 1,969 held-out faces 96% are above, and of these 91% right; with .75, and so
# chance for a fifth, fewer of all are.
_MIN_SEX = 0.55
# The ends of the scale are rare among the photos that weights were fitted to, and a light face on dark skin
# is the worse mistake.
_TONE_WEIGHTS = np.array([2.0, 1.5, 1.0, 1.0, 1.0, 1.2])
_SHARE = 0.7  # of the linear map in what is said of tones; the smaller head knows the darkest band better
_STEPS = np.linspace(-2.2, 2.2, 23)  # standard deviations from a predicted tone that are looked at
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
    """The networks.

    Attributes:
      fingerprint: changes when the same surroundings may give other classes.
      has_trunk: whether it has the larger network.
      parameters: of `models.context_classes`.
    """

    def __init__(self, trunk: pathlib.Path | None = None):
        """Loads the weights that come with the package.

        Args:
          trunk: the asset `context_trunk`; without it the smaller head decides everything.
        """
        import jax
        import safetensors.numpy

        load = safetensors.numpy.load_file
        stored: dict[str, Any] = {"encoder": nested(load(generator.WEIGHTS))}
        stored["head"] = load(_WEIGHTS)
        used = [generator.WEIGHTS, _WEIGHTS]
        if trunk is not None:
            stored |= {"trunk": nested(load(trunk)), "linear": load(LINEAR)}
            used += [trunk, LINEAR]
            self._deviation = stored["linear"].pop("skin.deviation")
        self.has_trunk = trunk is not None
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in used]
        self.fingerprint = hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]
        self.parameters = jax.device_put(jax.tree.map(lambda x: np.asarray(x, np.float32), stored))
        function, name = (
            (guess_with_trunk, "classes-trunk") if self.has_trunk else (guess_both, "classes")
        )
        self._guess = KeptProgram(function, name)

    def __call__(self, view: np.ndarray, mask: np.ndarray) -> Guess:
        """What the surroundings of a face tell.

        Args:
          view: u8[128, 128, 3] canonical view; what lies under the mask has no part in it.
          mask: f32[128, 128, 1].
        """
        images = [view]
        if self.has_trunk:
            images.append(continued(view, mask))
        first, *others = (np.float32(image[None]) / 127.5 - 1 for image in images)
        said = np.asarray(self._guess(self.parameters, first, mask[None], *others))
        ages = _softmax(said[1:5])
        if not self.has_trunk:
            return Guess(_sigmoid(said[0]), ages, _softmax(said[5:]))
        tones = _SHARE * _tones(said[12:], self._deviation) + (1 - _SHARE) * _softmax(said[5:11])
        tones *= _TONE_WEIGHTS
        return Guess(_sigmoid(said[11]), ages, tones / tones.sum())

    def warm(self) -> None:
        """Gets ready for the first face: compiles the network, or loads what once was compiled."""
        self(np.zeros((SIZE, SIZE, 3), np.uint8), np.ones((SIZE, SIZE, 1), np.float32))

    def classify(self, view: np.ndarray, mask: np.ndarray) -> Classes:
        """The classes of `__call__`'s guess."""
        return self(view, mask).classes


def load_classifier() -> ContextClassifier:
    """The best classifier that this machine has; fetches its trunk once, or tries it again after a day."""
    return ContextClassifier(_trunk())


def awaits_trunk() -> bool:
    """Whether the trunk is to be fetched: it is not there, and was not asked for in vain for a day."""
    return not assets.is_cached(_TRUNK) and _age(_missed()) >= _RETRY_AFTER


def _missed() -> pathlib.Path:
    return cache_folder() / f"{_TRUNK}.missed"


def _trunk() -> pathlib.Path | None:
    if not assets.is_cached(_TRUNK) and not awaits_trunk():
        return None
    try:
        return assets.fetch(_TRUNK)
    except UserError:
        with contextlib.suppress(OSError, UserError):
            files.write_bytes(_missed(), b"")
        return None


def _age(path: pathlib.Path) -> float:
    """Seconds since a file was written; infinite where there is none."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def continued(view: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """u8[128, 128, 3]: a view in which what lies under the mask is a smooth continuation of the rest."""
    # To the pixel: the regions of frames have smooth outlines, outside of which something may be left.
    masked = geometry.Region(0, 0, mask[..., 0] > 0)
    return blending.fill_background(view, [masked], quick=True)


def _tones(colour: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """f[6]: probabilities of the bands of tone.

    Args:
      colour: f[3], CIE Lab of cheeks as predicted.
      deviation: f[2], by which predictions of L and b are wrong.
    """
    share = np.exp(-(_STEPS**2) / 2)
    lightness, b = (c + d * _STEPS for c, d in zip(colour[::2], deviation, strict=True))
    bands = np.searchsorted(TONE_EDGES, ita(lightness[:, None], b[None]), side="right")
    weight = np.outer(share, share)
    found = np.array([weight[bands == band].sum() for band in range(TONES)])
    return found / found.sum()


def guess_both(parameters, image, mask):
    """f32[11]: the mean over the view and its mirror image; see `context_classes.guess_both`."""
    # Late: it loads Flax, which a program that was kept does not need.
    from dp3_jax.models import context_classes

    return context_classes.guess_both(parameters, widths(), image, mask)


def guess_with_trunk(parameters, image, mask, background_fill):
    """f32[15]: see `context_classes.guess_with_trunk`."""
    from dp3_jax.models import context_classes

    return context_classes.guess_with_trunk(parameters, widths(), image, mask, background_fill)


def widths() -> tuple[int, ...]:
    """Of the anonymizer's encoder."""
    return tuple(generator.DEFAULT_MODEL["generator_widths"])


def _sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def _softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max())
    return e / e.sum()
