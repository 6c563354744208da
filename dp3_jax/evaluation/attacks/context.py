"""Known by the surroundings: an attacker who learns from pictures whose masked region is blanked.

What this finds no anonymizer of faces takes away: hair, neck, clothes, background. It says how much the
extent of the mask leaves, and is the floor of the other attacks.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from dp3_jax.evaluation.attacks import parrot, recognition
from dp3_jax.evaluation.attacks.attack import AttackResult, FaceSet, gallery_and_probes


@dataclasses.dataclass(frozen=True, eq=False)
class FittedContext:
    """A parrot that has learned from blanked pictures."""

    attack: "Context"
    learned: parrot.FittedParrot

    def score(self, faces: FaceSet) -> AttackResult:
        """See `FittedAttack`; what is called "anonymized" in the details are the blanked pictures."""
        gallery, probes = gallery_and_probes(faces.people)
        if len(gallery) < 3:
            return recognition.unjudged(self.attack, "three people need two faces each")
        scores, same = self.learned.scores(faces)
        asked: Mapping[str, np.ndarray] = {
            "anonymized": scores["blanked"]["trained"],
            "originals": scores["originals"]["trained"],
        }
        how = "learned from the surroundings of other people's faces and sees nothing else"
        return recognition.recognised(self.attack, asked, same, faces.people[probes], how)


@dataclasses.dataclass(frozen=True)
class Context:
    """The attack; `eyes` opens what it looks with."""

    eyes: Callable[[], parrot.Eyes] = parrot.open_eyes

    name: ClassVar[str] = "context"
    title: ClassVar[str] = "Surroundings of the face alone"
    trains: ClassVar[bool] = True
    needs_people: ClassVar[bool] = True

    def fit(self, faces: FaceSet, seed: int) -> FittedContext:
        """See `Attack`; raises as `Parrot.fit`."""
        learner = parrot.Parrot(self.eyes, kinds=("originals", "blanked"))
        return FittedContext(self, learner.fit(faces, seed))
