"""An attacker who learns from anonymized pictures ("parrot" attack: Newton et al., 2005).

A recogniser made for faces reads little from a picture whose face was replaced. An attacker who knows the
anonymizer can do better: anonymize photos of people whom they know, and learn which person such a picture
comes from. Here that is a ridge regression from features of the anonymized picture to the recogniser's
embedding of another, original picture of the person. The same from the picture with a blanked masked region
tells what the surroundings alone give away, whatever is drawn there: a generator that does not see the
face adds nothing to them, though it may make a part easier to read.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.evaluation.attacks import recognition, ridge
from dp3_jax.evaluation.attacks.attack import AttackResult, FaceSet, gallery_and_probes
from dp3_jax.evaluation.attacks.remembering import remembered
from dp3_jax.metrics import identification, kid, verification

Extractor = Callable[[np.ndarray], np.ndarray]  # u8[N, S, S, 3] -> f32[N, D]
MIN_PEOPLE = 2 * ridge.FOLDS  # to learn from: two in each part that is left out


@dataclasses.dataclass(frozen=True)
class Eyes:
    """What an attacker looks with.

    Attributes:
      embed: a recogniser's embedding of original faces, unit rows.
      features: what it sees of an anonymized picture; its first numbers are `embed`'s.
      name: for reports.
    """

    embed: Extractor
    features: Extractor
    name: str


@functools.lru_cache(maxsize=2)
def open_eyes(name: str = "mobilenet_v2", batch_size: int = 32) -> Eyes:
    """SFace without a detector, and beside it KID's features.

    SFace sees the face's surroundings through what it knows of faces; the other features see hair and
    background for what they are.

    Args:
      name: a key of kid.FEATURE_NAMES.
      batch_size: pictures in one call of these.

    Raises:
      UserError: OpenCV or weights are missing.
    """
    verifier = verification.open_verifier("sface_forced")
    extract = kid.feature_extractor(name, batch_size)

    def embed(pictures: np.ndarray) -> np.ndarray:
        return verifier.embed(pictures)[0]

    @remembered
    def features(pictures: np.ndarray) -> np.ndarray:
        return np.concatenate([embed(pictures), ridge.unit(extract(pictures))], axis=1)

    return Eyes(embed, features, f"{verifier.name} and {kid.FEATURE_NAMES[name]}")


def kinds_of(faces: FaceSet) -> dict[str, np.ndarray]:
    """The pictures that an attacker may have, by the names of `recognition.recognised`."""
    return {"originals": faces.originals, "anonymized": faces.anonymized, **faces.floors}


@dataclasses.dataclass(frozen=True, eq=False)
class FittedParrot:
    """What was learned: a regression for each kind of picture, and from whom."""

    attack: "Parrot"
    eyes: Eyes
    ridges: Mapping[str, ridge.Ridge]
    people: np.ndarray

    def scores(self, faces: FaceSet) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
        """Similarities f[P, G] by kind of picture, "untrained" and "trained"; bool[P, G] of one person.

        Raises:
          ValueError: someone was learned from.
        """
        if np.isin(faces.people, self.people).any():
            raise ValueError("the attacker must not train on people that it is tried on")
        gallery, probes = gallery_and_probes(faces.people)
        whose = self.eyes.embed(faces.originals[gallery])
        result = {}
        for kind, pictures in kinds_of(faces).items():
            # Strangers' results are looked at as any result is.
            fitted = self.ridges.get("anonymized" if kind == "impostors" else kind)
            if fitted is None:
                continue
            seen = self.eyes.features(pictures[probes])
            result[kind] = {
                "untrained": ridge.unit(seen[:, : whose.shape[1]]) @ whose.T,
                "trained": fitted.predict(seen) @ fitted.centred(whose).T,
            }
        return result, identification.same_person(faces.people[probes], faces.people[gallery])

    def rates(self, faces: FaceSet) -> dict[str, dict[str, Any]]:
        """`recognition.rates` by kind of picture, "untrained" and "trained"."""
        scores, same = self.scores(faces)
        return {
            kind: {attacker: recognition.rates(one, same) for attacker, one in row.items()}
            for kind, row in scores.items()
        }

    def score(self, faces: FaceSet) -> AttackResult:
        """See `FittedAttack`."""
        gallery, probes = gallery_and_probes(faces.people)
        if len(gallery) < 3:
            return recognition.unjudged(self.attack, "three people need two faces each")
        scores, same = self.scores(faces)
        return recognition.recognised(
            self.attack,
            {kind: row["trained"] for kind, row in scores.items()},
            same,
            faces.people[probes],
            f"learned from such pictures of {len(np.unique(self.people))} other people",
        )


@dataclasses.dataclass(frozen=True)
class Parrot:
    """The attack.

    Attributes:
      eyes: opens what it looks with.
      kinds: of pictures that it learns from.
    """

    eyes: Callable[[], Eyes] = open_eyes
    kinds: tuple[str, ...] = ("originals", "anonymized", "blanked")

    name: ClassVar[str] = "parrot"
    title: ClassVar[str] = "Recogniser adapted to anonymized faces"
    trains: ClassVar[bool] = True
    needs_people: ClassVar[bool] = True

    def fit(self, faces: FaceSet, seed: int) -> FittedParrot:
        """See `Attack`.

        Raises:
          UserError: fewer than MIN_PEOPLE people have two faces.
        """
        del seed
        gallery, probes = gallery_and_probes(faces.people)
        if len(gallery) < MIN_PEOPLE:
            raise UserError(
                f"{self.title.lower()}: {len(gallery)} people with two faces are too few to learn from; "
                f"it takes {MIN_PEOPLE}"
            )
        eyes, people = self.eyes(), faces.people[probes]
        row_of = {person: row for row, person in enumerate(faces.people[gallery].tolist())}
        target = eyes.embed(faces.originals[gallery])[
            [row_of[person] for person in people.tolist()]
        ]
        pictures = kinds_of(faces)
        ridges = {
            kind: ridge.train(eyes.features(pictures[kind][probes]), target, people)
            for kind in self.kinds
        }
        return FittedParrot(self, eyes, ridges, people)
