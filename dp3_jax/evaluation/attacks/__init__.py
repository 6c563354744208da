"""Attacks on anonymized faces: each in its own file, found by name.

Another one is an object with the attributes and the method of `attack.Attack`; `register` makes it known
to `dp3 audit --attacks` and to the tables of the docs.
"""

import numpy as np

from dp3_jax.evaluation.attacks.attack import (
    UNKNOWN,
    Anonymize,
    Attack,
    AttackResult,
    FaceSet,
    FittedAttack,
    split_people,
)
from dp3_jax.evaluation.attacks.conditioning import Conditioning
from dp3_jax.evaluation.attacks.context import Context
from dp3_jax.evaluation.attacks.inversion import Inversion
from dp3_jax.evaluation.attacks.linkage import Linkage
from dp3_jax.evaluation.attacks.memorisation import Memorisation
from dp3_jax.evaluation.attacks.motion import MotionAttack
from dp3_jax.evaluation.attacks.parrot import Parrot
from dp3_jax.evaluation.attacks.repeat import Repeat
from dp3_jax.evaluation.attacks.restoration import Restoration
from dp3_jax.evaluation.attacks.tuned import Tuned
from dp3_jax.evaluation.attacks.verify import Verify

__all__ = [
    "ATTACKS",
    "NEEDING_MORE",
    "UNKNOWN",
    "Anonymize",
    "Attack",
    "AttackResult",
    "FaceSet",
    "FittedAttack",
    "offered",
    "register",
    "split_people",
]

# By name; those that need no more than faces.
ATTACKS: dict[str, Attack] = {}

# Names of the others, and what they need.
NEEDING_MORE = {
    Linkage.name: "an anonymizer",
    Repeat.name: "an anonymizer",
    Memorisation.name: "the faces that the networks were trained on",
}


def register(attack: Attack) -> None:
    """Makes an attack known by its name.

    Raises:
      ValueError: there is one of this name.
    """
    if attack.name in ATTACKS or attack.name in NEEDING_MORE:
        raise ValueError(f"there is an attack {attack.name!r}; give yours another name")
    ATTACKS[attack.name] = attack


for _attack in (
    Verify(),
    Parrot(),
    Tuned(),
    Context(),
    Conditioning(),
    Inversion(),
    Restoration(),
    MotionAttack(),
):
    register(_attack)


def offered(
    anonymize: Anonymize | None = None, training: np.ndarray | None = None
) -> dict[str, Attack]:
    """All attacks that can be made, by name.

    Args:
      anonymize: anonymizes a picture with a key; for those that must do it again.
      training: u8[m, 128, 128, 3], faces that the networks under attack were trained on.
    """
    more: list[Attack] = [] if anonymize is None else [Linkage(anonymize), Repeat(anonymize)]
    more += [] if training is None else [Memorisation(training)]
    return {**ATTACKS, **{attack.name: attack for attack in more}}
