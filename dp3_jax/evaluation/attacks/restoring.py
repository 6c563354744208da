"""Judging restored pictures: what attacks that give a picture of the original back have in common."""

from collections.abc import Callable, Mapping

import numpy as np

from dp3_jax.evaluation.attacks import recognition
from dp3_jax.evaluation.attacks.attack import Attack, AttackResult, FaceSet, gallery_and_probes
from dp3_jax.evaluation.attacks.verifiers import Embed
from dp3_jax.metrics import identification

Restore = Callable[[np.ndarray], np.ndarray]  # u8[n, 128, 128, 3] -> the same


def within(masks: np.ndarray, restored: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """u8[n, S, S, 3]: `restored` under bool[n, S, S] masks, `pictures` elsewhere."""
    return np.where(np.asarray(masks, bool)[..., None], restored, pictures)


def similarities(
    faces: FaceSet, restore: Mapping[str, Restore], embed: Embed
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """How like the gallery's originals restored pictures are, by the verifiers together.

    Args:
      faces: with people of whom several faces are known.
      restore: by kind of picture, "anonymized" and "blanked".
      embed: the verifiers.

    Returns:
      (f[P, G] by kind, with the "originals" as they are; bool[P, G] of one person; i[P] people).
    """
    gallery, rows = gallery_and_probes(faces.people)
    probes = faces.select(rows)
    pictures = {}
    for kind, shown in {"anonymized": probes.anonymized, **probes.floors}.items():
        # Strangers' results are restored as any result is.
        function = restore["anonymized" if kind == "impostors" else kind]
        pictures[kind] = within(probes.masks, function(shown), shown)
    pictures["originals"] = probes.originals
    whose = embed(faces.originals[gallery])
    scores = {kind: recognition.fused(embed(one), whose) for kind, one in pictures.items()}
    same = identification.same_person(probes.people, faces.people[gallery])
    return scores, same, probes.people


def score(
    attack: Attack, faces: FaceSet, restore: Mapping[str, Restore], embed: Embed, how: str
) -> AttackResult:
    """The result of an attack that restores pictures; arguments as of `similarities`."""
    if len(gallery_and_probes(faces.people)[0]) < 3:
        return recognition.unjudged(attack, "three people need two faces each")
    return recognition.recognised(attack, *similarities(faces, restore, embed), how)
