"""Attackers who train on hidden faces ("parrot" attacks: Newton et al., 2005), and what context gives away.

A recognizer made for faces reads little from a picture whose face was replaced. An attacker who knows the
anonymizer can do better: anonymize photos of people whom they know, and learn which person such a picture
comes from. Here that is a ridge regression from features of the hidden picture to the recognizer's embedding
of the person's original face, learned on people of the train split and tried on others. The same from the
picture with a grey hole tells what the surroundings alone give away, whatever is drawn into the hole: a
generator that does not see the face adds nothing to them, though it may make a part easier to read.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dp3_jax.evaluation.people import People
from dp3_jax.metrics import identification, kid, verification

Extractor = Callable[[np.ndarray], np.ndarray]  # u8[N, S, S, 3] -> f32[N, D]

FAR = 1e-2
# Weights of the penalty that are tried, in mean eigenvalues of the features' scalar products.
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FOLDS = 4


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


@dataclasses.dataclass(frozen=True)
class Ridge:
    """An affine map f[N, D] -> f[N, E] of unit length, fitted by least squares with a penalty.

    Attributes:
      mean_in, mean_out: what is subtracted, f64[D] and f64[E]; faces have much in common.
      weights: f64[D, E].
      penalty: of PENALTIES, the one that was taken.
    """

    mean_in: np.ndarray
    mean_out: np.ndarray
    weights: np.ndarray
    penalty: float

    def predict(self, x: np.ndarray) -> np.ndarray:
        """What the map makes of f[N, D], as unit rows."""
        return _unit((x - self.mean_in) @ self.weights)

    def centred(self, y: np.ndarray) -> np.ndarray:
        """f[N, E] of the map's target space, as unit rows to compare predictions with."""
        return _unit(y - self.mean_out)


def open_features(name: str, batch_size: int) -> tuple[Extractor, Extractor, str]:
    """(embed, features, their name) for `attack`: SFace without a detector, and beside it KID's features.

    SFace sees the face's surroundings through what it knows of faces; the other features see hair and
    background for what they are.

    Args:
      name: a key of kid.FEATURE_NAMES.
      batch_size: pictures in one call of these.

    Raises:
      UserError: OpenCV or weights are missing.
    """
    judge, extract = (
        verification.open_verifier("sface_forced"),
        kid.feature_extractor(name, batch_size),
    )

    def embed(pictures: np.ndarray) -> np.ndarray:
        return judge.embed(pictures)[0]

    def features(pictures: np.ndarray) -> np.ndarray:
        return np.concatenate([embed(pictures), _unit(extract(pictures))], axis=1)

    return embed, features, f"{judge.name} and {kid.FEATURE_NAMES[name]}"


def fit(x: np.ndarray, y: np.ndarray, penalties: Sequence[float]) -> list[Ridge]:
    """Ridge regressions of y f[N, E] on x f[N, D] (Hoerl and Kennard, 1970), in the dual form."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    mean_in, mean_out = x.mean(0), y.mean(0)
    x, y = x - mean_in, y - mean_out
    values, vectors = np.linalg.eigh(x @ x.T)
    turned, ridges = vectors.T @ y, []
    for penalty in penalties:
        shrunk = np.maximum(values, 0) + penalty * values.mean() + 1e-12
        weights = x.T @ (vectors @ (turned / shrunk[:, None]))
        ridges.append(Ridge(mean_in, mean_out, weights, penalty))
    return ridges


def train(x: np.ndarray, y: np.ndarray, people: np.ndarray) -> Ridge:
    """`fit` with the penalty that recognizes people best who were left out, in FOLDS parts of the people.

    Args:
      x: f[N, D], features of hidden pictures.
      y: f[N, E], embeddings of other, original pictures of the same people.
      people: i[N].
    """
    _, fold = np.unique(people, return_inverse=True)
    fold = fold % FOLDS
    areas = np.zeros((FOLDS, len(PENALTIES)))
    for part in range(FOLDS):
        learned, tried = fold != part, fold == part
        same = identification.same_person(people[tried], people[tried])
        for number, ridge in enumerate(fit(x[learned], y[learned], PENALTIES)):
            scores = ridge.predict(x[tried]) @ ridge.centred(y[tried]).T
            area = identification.area_under_curve(scores[same], scores[~same])
            areas[part, number] = 0.5 if area is None else area
    return fit(x, y, [PENALTIES[int(np.argmax(areas.mean(0)))]])[0]


def rates(scores: np.ndarray, same: np.ndarray) -> dict[str, Any]:
    """How well scores f[P, G] tell bool[P, G] pairs of one person; the threshold is that of these scores."""
    threshold = identification.threshold_at_far(scores[~same], FAR)
    accepted = None
    if threshold is not None:
        accepted = identification.true_accept_rate(scores[same], threshold).as_dict()
    return {
        "true_accept_rate": accepted,
        "rank_1": identification.rank_one(scores, same).as_dict(),
        "area_under_curve": identification.area_under_curve(scores[same], scores[~same]),
    }


def attack(
    hidings: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    known: People,
    held_out: People,
    embed: Extractor,
    features: Extractor,
) -> dict[str, Any]:
    """Trains an attacker for each way of hiding and tries it.

    Args:
      hidings: functions from u8[N, S, S, 3] to the same with the face hidden; "original" does nothing and
        shows that the attack works.
      known: people that the attacker trains on, none of them in `held_out`; the gallery picture is what the
        regression of each probe leads to.
      held_out: gallery of original pictures, and the probes to be hidden and recognized.
      embed: a recognizer's embedding of original faces, unit rows.
      features: what the attacker sees of a hidden picture; its first numbers are `embed`'s.

    Returns:
      For each way "untrained", the recognizer's own cosine, and "trained", with rates as from `rates`.

    Raises:
      ValueError: someone is in both groups.
    """
    if np.isin(known.gallery_people, held_out.gallery_people).any():
        raise ValueError("the attacker must not train on people that it is tried on")
    row_of = {person: row for row, person in enumerate(known.gallery_people.tolist())}
    rows = [row_of[person] for person in known.probe_people.tolist()]
    target, gallery = embed(known.gallery)[rows], embed(held_out.gallery)
    same = identification.same_person(held_out.probe_people, held_out.gallery_people)
    result = {}
    for name, hide in hidings.items():
        probes = features(hide(held_out.probes))
        ridge = train(features(hide(known.probes)), target, known.probe_people)
        result[name] = {
            "untrained": rates(_unit(probes[:, : gallery.shape[1]]) @ gallery.T, same),
            "trained": rates(ridge.predict(probes) @ ridge.centred(gallery).T, same),
        }
    return {
        "people": len(known.gallery),
        "pictures": len(known.probes),
        "gallery": len(held_out.gallery),
        "far": FAR,
        "rank_1_by_chance": 1 / len(held_out.gallery),
        "rows": result,
    }
