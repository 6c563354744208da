"""Known by what passes on from the original face: its pose and expression (`detection.face_vector`).

A recogniser that knows nothing but this short vector says who has it in the gallery: the nearest, each number
counted in its standard deviations.
"""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from dp3_jax.evaluation.attacks import recognition
from dp3_jax.evaluation.attacks.attack import AttackResult, FaceSet, gallery_and_probes
from dp3_jax.metrics import identification


def similarities(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """f64[P, G]: minus the distance of vectors f[P, k] and f[G, k] in the gallery's deviations."""
    spread = gallery.std(0) if len(gallery) else np.ones(gallery.shape[1])
    difference = (probes[:, None] - gallery[None]) / np.maximum(spread, 1e-6)
    return -np.linalg.norm(difference, axis=-1)


def vector_alone(
    probes: np.ndarray, gallery: np.ndarray, probe_people: np.ndarray, gallery_people: np.ndarray
) -> dict[str, Any]:
    """How well vectors alone tell who somebody is.

    Args:
      probes, gallery: f[P, k] and f[G, k].
      probe_people, gallery_people: i[P], i[G].

    Returns:
      verified: `Rate` of the right person accepted where 1% of other people are; rank_1: `Rate` of the
      right person being the nearest; area_under_curve: .5 for one that knows nothing.
    """
    same = identification.same_person(probe_people, gallery_people)
    found = recognition.rates(similarities(probes, gallery), same)
    return {
        "verified": found["true_accept_rate"],
        "rank_1": found["rank_1"],
        "area_under_curve": found["area_under_curve"],
    }


@dataclasses.dataclass(frozen=True)
class Conditioning:
    """The attack; it learns nothing."""

    name: ClassVar[str] = "conditioning"
    title: ClassVar[str] = "Pose and expression that pass on"
    trains: ClassVar[bool] = False
    needs_people: ClassVar[bool] = True

    def fit(self, faces: FaceSet, seed: int) -> "Conditioning":
        """See `Attack`."""
        del faces, seed
        return self

    def score(self, faces: FaceSet) -> AttackResult:
        """See `FittedAttack`; numbers that are unknown in all faces, and faces with others, are left out."""
        if faces.conditioning is None or not np.isfinite(faces.conditioning).any():
            return recognition.unjudged(self, "it is not known what passed on")
        numbers = np.isfinite(faces.conditioning).any(0)
        vectors = np.asarray(faces.conditioning, np.float64)[:, numbers]
        known = np.isfinite(vectors).all(1)
        vectors, people = vectors[known], faces.people[known]
        gallery, probes = gallery_and_probes(people)
        if len(gallery) < 3:
            return recognition.unjudged(self, "three people need two faces each")
        return recognition.recognised(
            self,
            {"anonymized": similarities(vectors[probes], vectors[gallery])},
            identification.same_person(people[probes], people[gallery]),
            people[probes],
            "knows nothing but the pose and expression that passed on",
        )
