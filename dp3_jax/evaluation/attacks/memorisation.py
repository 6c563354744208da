"""Does a generated face repeat a face that our networks were trained on?

The nearest training face is looked for in three spaces: pixels under the canonical mask, and the embeddings
of two verifiers. What is merely smooth or usual is near to every face, so that nearness says nothing by
itself. Best is a second set of faces, as many and taken alike, that nothing was trained on: a copy's nearest
face is a training face, anything else's is one as often as not. Without such a set each distance is divided
by the mean distance to the next nearest ones (`metrics.memorisation`), and originals, which nothing was
trained on, say what is common: 5% of them are nearer than their own 5% quantile. Pictures of another kind
than originals, such as blurred ones, that second test may call copies wrongly.

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
MEASURE_OF_TWO = "the nearest face is one of those trained on, not of as many unseen ones"
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


def nearer_to_training(training: np.ndarray, unseen: np.ndarray, seed: int = 0) -> dict[str, float]:
    """How often the nearest of two sets of as many faces is a training face, ties half, with its interval.

    The bootstrap draws results and faces of both sets: a single usual face is near to many results.

    Args:
      training, unseen: f[n, m] distances of n results.
      seed: of the bootstrap.
    """
    rng, tail = np.random.default_rng(seed), 0.025 / len(SPACES)
    results, faces = training.shape

    def credit(rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
        a, b = (x[rows].take(i, 1).min(1) for x, i in ((training, first), (unseen, second)))
        return float(((a < b) + 0.5 * (a == b)).mean())

    everything = np.arange(faces)
    drawn = [
        credit(rng.integers(0, results, results), *rng.integers(0, faces, (2, faces)))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(drawn, (tail, 1 - tail))
    value = credit(np.arange(results), everything, everything)
    return {"value": value, "low": float(low), "high": float(high)}


def _pixels_apart(pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """f64[n, m] mean square differences of u8[n, S, S, 3] and u8[m, S, S, 3]."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) / 255 for x in (pictures, others))
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.maximum(squares, 0) / a.shape[1]


@dataclasses.dataclass(frozen=True, eq=False)
class Memorisation:
    """The attack; what it learns from is given to it.

    Attributes:
      training: u8[m, 128, 128, 3], faces that the networks under attack were trained on.
      embed: verifiers; only those of `spaces` are used, and only those that it has.
      spaces: where neighbours are looked for.
      unseen: u8[m, 128, 128, 3], as many faces of the same kind that nothing was trained on, of other people
        than those that it is tried on; None: there are none.
    """

    training: np.ndarray
    embed: Callable[[np.ndarray], Mapping[str, np.ndarray]] = FACE_VERIFIERS
    spaces: Sequence[str] = SPACES
    unseen: np.ndarray | None = None

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
        if self.unseen is not None:
            return self._of_two(faces.anonymized, self.unseen)
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

    def _of_two(self, generated: np.ndarray, unseen: np.ndarray) -> AttackResult:
        """The result by two sets of faces."""
        count = min(len(self.training), len(unseen))
        sets = self.training[:count], unseen[:count]
        found = {}
        if "pixels" in self.spaces:
            shown = _inside(generated)
            found["pixels"] = nearer_to_training(*(_pixels_apart(shown, _inside(x)) for x in sets))
        made, *others = (self.embed(x) for x in (generated, *sets))
        for space in self.spaces:
            if space in made:
                apart = (1.0 - made[space] @ other[space].T for other in others)
                found[space] = nearer_to_training(*apart)
        space, worst = max(found.items(), key=lambda item: item[1]["low"])
        leaks: bool | None = worst["low"] > recognition.CHANCE
        if not leaks and len(generated) < recognition.MIN_FACES:
            leaks = None
        sentence = (
            f"The face nearest to {100 * worst['value']:.0f}% of {len(generated)} results ({space}) is one "
            f"of {count} training faces, not of {count} unseen ones (95%: {100 * worst['low']:.0f} to "
            f"{100 * worst['high']:.0f}%; by chance 50%): {recognition.verdict(leaks, len(generated))}."
        )
        return AttackResult(
            self.name, self.title, MEASURE_OF_TWO, worst["value"], worst["low"], worst["high"],
            recognition.CHANCE, "chance", None, leaks, sentence, len(generated), dict(found),
        )  # fmt: skip
