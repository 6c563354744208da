"""Does a generated face repeat a face that our networks were trained on?

The nearest training face is looked for in three spaces: pixels under the canonical mask, and the embeddings
of two verifiers. Each distance is divided by the mean distance to the next nearest ones
(`metrics.memorisation`), so that faces that are merely smooth or usual do not look like copies. Originals,
which nothing was trained on, say what is common: 5% of them are nearer than their own 5% quantile.

Of the prior's training faces nobody here has any. What can be asked of it is only how often two keys give
one person (`of_two_keys`): a generator that had learned few people would give the same ones again.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from dp3_jax.evaluation.attacks import recognition
from dp3_jax.evaluation.attacks.attack import GREY, AttackResult, FaceSet
from dp3_jax.evaluation.attacks.linkage import linked
from dp3_jax.evaluation.attacks.verifiers import FACE_VERIFIERS, Embed
from dp3_jax.metrics import memorisation
from dp3_jax.vision import masks

MEASURE = "as near to a training face as the nearest 5% of unseen real faces are"
QUANTILE = 0.05
SPACES = ("pixels", "sface", "dlib_resnet")  # the latter ones verifiers
_RESAMPLES = 1000
_MIN_TRAINING = 20  # faces


def _by_verifier(rows: np.ndarray, train: np.ndarray) -> np.ndarray:
    """f64[n]: distance to the nearest of `train`, divided by the mean one to the next; unit rows."""
    count = min(memorisation.NEIGHBOURS + 1, len(train))
    distance = np.sort(1.0 - np.asarray(rows, np.float64) @ train.T, axis=1)
    return memorisation.relative(distance[:, :count])


def _inside(pictures: np.ndarray) -> np.ndarray:
    """u8[n, S, S, 3] with nothing outside of the canonical mask, where surroundings are real."""
    return np.where(masks.inference_mask(pictures.shape[1]) > 0, pictures, np.uint8(GREY))


def copies(generated: np.ndarray, heldout: np.ndarray, seed: int = 0) -> dict[str, float]:
    """The share of distances f[n] below the 5% quantile of f[m], and its interval by the bootstrap."""
    rng = np.random.default_rng(seed)
    tail = 0.025 / len(SPACES)  # the worst of the spaces is what counts
    drawn = []
    for _ in range(_RESAMPLES):
        limit = np.quantile(rng.choice(heldout, len(heldout)), QUANTILE)
        drawn.append((rng.choice(generated, len(generated)) < limit).mean())
    low, high = np.quantile(drawn, (tail, 1 - tail))
    value = float((generated < np.quantile(heldout, QUANTILE)).mean())
    return {"value": value, "low": float(low), "high": float(high)}


def of_two_keys(
    renderings: np.ndarray, embed: Embed, thresholds: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """`linkage.linked` by verifier of all pairs of u8[n, 128, 128, 3] faces, each of a key of its own."""
    embedded = embed(renderings)
    pairs = np.array(list(itertools.combinations(range(len(renderings)), 2))).reshape(-1, 2)
    return {
        name: linked((rows[pairs[:, 0]] * rows[pairs[:, 1]]).sum(1), thresholds[name])
        for name, rows in embedded.items()
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Memorisation:
    """The attack; what it learns from is given to it.

    Attributes:
      training: u8[m, 128, 128, 3], faces that the networks under attack were trained on.
      embed: verifiers; only those of `spaces` are used, and only those that it has.
      spaces: where neighbours are looked for.
    """

    training: np.ndarray
    embed: Callable[[np.ndarray], Mapping[str, np.ndarray]] = FACE_VERIFIERS
    spaces: Sequence[str] = SPACES

    name: ClassVar[str] = "memorisation"
    title: ClassVar[str] = "Training faces that come again"
    trains: ClassVar[bool] = False
    needs_people: ClassVar[bool] = False

    def fit(self, faces: FaceSet, seed: int) -> "Memorisation":
        """See `Attack`."""
        del faces, seed
        return self

    def score(self, faces: FaceSet) -> AttackResult:
        """See `FittedAttack`; no original may be a training face."""
        if len(self.training) < _MIN_TRAINING or not len(faces):
            why = f"it takes {_MIN_TRAINING} training faces"
            return recognition.unjudged(self, why, MEASURE)
        generated, heldout = faces.anonymized, faces.originals
        distances = {}
        if "pixels" in self.spaces:
            pixels = (_inside(x) for x in (generated, heldout, self.training))
            apart = memorisation.pixel_distances(*pixels)
            distances["pixels"] = tuple(memorisation.relative(one) for one in apart)
        train, made, real = (self.embed(x) for x in (self.training, generated, heldout))
        for space in self.spaces:
            if space in train:
                distances[space] = tuple(_by_verifier(x[space], train[space]) for x in (made, real))
        found = {space: copies(*pair) for space, pair in distances.items()}
        space, worst = max(found.items(), key=lambda item: item[1]["low"])
        count = len(faces)
        leaks = (
            True if worst["low"] > QUANTILE else (False if count >= recognition.MIN_FACES else None)
        )
        sentence = (
            f"{100 * worst['value']:.0f}% of {count} results are as near to one of {len(self.training)} "
            f"training faces ({space}) as the nearest {QUANTILE:.0%} of unseen real faces are (95%: "
            f"{100 * worst['low']:.0f} to {100 * worst['high']:.0f}%): "
            f"{recognition.verdict(leaks, count)}."
        )
        return AttackResult(
            self.name, self.title, MEASURE, worst["value"], worst["low"], worst["high"], QUANTILE,
            "unseen real faces", None, leaks, sentence, count,
            {space: memorisation.compare(*pair) | found[space] for space, pair in distances.items()},
        )  # fmt: skip
