"""The attacks that a user asks for by name, tried on the faces of an audit."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.evaluation import attacks
from dp3_jax.evaluation.attacks import motion
from dp3_jax.evaluation.attacks.attack import Attack, AttackResult, FaceSet, split_people
from dp3_jax.evaluation.attacks.impostors import ReadClasses, read_classes, with_exchanged
from dp3_jax.evaluation.attacks.recognition import unjudged
from dp3_jax.evaluation.audit import again
from dp3_jax.evaluation.audit.pairing import Pair

LEARNED = 0.5  # share of the known people whom an attacker learns from
ALL = "all"
BY_ITSELF = "verify"  # what every audit does


def names() -> list[str]:
    """Of all attacks that can be asked for."""
    return sorted({*attacks.ATTACKS, *attacks.offered(_unused)} - {BY_ITSELF})


def _unused(picture: np.ndarray, key: bytes) -> np.ndarray:
    raise UserError(
        "no sidecar beside the results says how to anonymize again: dp3 anonymize --sidecar writes them"
    )


def check(asked: Sequence[str]) -> list[str]:
    """The names of the attacks that these ask for; ALL is every one.

    Raises:
      UserError: there is none of a name.
    """
    known = names()
    wanted = known if ALL in asked else [name for name in asked if name != BY_ITSELF]
    for name in wanted:
        if name not in known:
            why = attacks.NEEDING_MORE.get(name)
            told = f"it needs {why}" if why else f"there are {ALL}, {', '.join(known)}"
            raise UserError(f"--attacks: no attack {name!r} here; {told}")
    return list(dict.fromkeys(wanted))


def choose_attacks(asked: Sequence[str], pairs: Sequence[Pair]) -> dict[str, Attack]:
    """The attacks of these names, which `check` has let pass; of ALL those that these files allow."""
    wanted = check(asked)
    way = again.usual_way(pairs)
    offered = attacks.offered(_unused if way is None else again.anonymizer(way))
    if ALL in asked:
        allowed = {
            motion.MotionAttack.name: any(pair.is_video for pair in pairs),
            # Only new faces are given vectors.
            attacks.Conditioning.name: way is None or way.method == "generate",
            **dict.fromkeys(
                attacks.offered(_unused).keys() - attacks.ATTACKS.keys(), way is not None
            ),
        }
        wanted = [name for name in wanted if allowed.get(name, True)]
    return {name: offered[name] for name in wanted}


def try_all(
    chosen: Mapping[str, Attack],
    faces: FaceSet,
    moving: Callable[[], FaceSet],
    seed: int,
    progress: Callable[[str], None],
    *,
    read: ReadClasses = read_classes,
) -> list[AttackResult]:
    """The results of the attacks; those that learn do so from half of the known people.

    Their floor are also strangers of the same classes, made by exchange (`attacks.impostors`).

    Args:
      chosen: by name.
      faces: of the audit.
      moving: gives the vectors of clips, for the attack on movement.
      seed: of what is drawn.
      progress: is told each attack's title before it begins.
      read: classes of originals.
    """
    results = []
    learned, left = split_people(faces, LEARNED, seed)

    @functools.cache
    def floored(of: str) -> FaceSet:
        return with_exchanged({"left": left, "faces": faces}[of], read)

    for attack in chosen.values():
        progress(attack.title)
        if attack.trains and not len(learned):
            results.append(unjudged(attack, "it must be told who is who: give --people"))
            continue
        try:
            if attack.name == motion.MotionAttack.name:
                known = asked = moving()
            elif attack.trains:
                known, asked = learned, floored("left")
            else:
                known = asked = floored("faces")
            results.append(attack.fit(known, seed).score(asked))
        except UserError as error:
            why = str(error).removeprefix(f"{attack.title.lower()}: ")
            results.append(unjudged(attack, why))
    return results


def plain(value: Any) -> Any:
    """What JSON can hold, of numbers, arrays, mappings and sequences; what is no number becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value
