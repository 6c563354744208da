"""One sentence for each risk, with its evidence, and what the whole audit says."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from dp3_jax.evaluation.attacks.attack import AttackResult
from dp3_jax.evaluation.attacks.recognition import MIN_FACES
from dp3_jax.evaluation.audit import coverage
from dp3_jax.evaluation.audit.recognition import Recognised
from dp3_jax.metrics.resampling import wilson

# Exit statuses; those of all commands stand in cli.main.
NOTHING_FOUND, SKIPPED, LEAKS, NOT_JUDGED = 0, 1, 3, 4


@dataclasses.dataclass(frozen=True)
class Risk:
    """One way in which somebody could be known, and whether it was found.

    Attributes:
      name, title: for files and for people.
      found: True: it is there; False: it was looked for and not found; None: it could not be judged.
      sentence: with its evidence.
    """

    name: str
    title: str
    found: bool | None
    sentence: str


@dataclasses.dataclass(frozen=True)
class Seen:
    """How many faces there are of each state of `coverage`, and where.

    Attributes:
      states: faces by state, those that are surely faces.
      low_confidence: the same for what may be none.
      files: that were looked at.
    """

    states: Counter
    low_confidence: Counter
    files: int

    @property
    def count(self) -> int:
        """Faces that should have been changed."""
        return sum(self.states.values()) - self.states[coverage.KEPT]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _share(found: int, count: int) -> str:
    low, high = wilson(found, count)
    return f"{100 * found / count:.1f}%, 95%: {100 * low:.1f} to {100 * high:.1f}%"


def _low_confidence(seen: Seen) -> str:
    left = seen.low_confidence[coverage.SHOWN] + seen.low_confidence[coverage.TOO_LITTLE]
    if not left:
        return ""
    return (
        f" Besides, {_count(left, 'spot')} that may be no face {'was' if left == 1 else 'were'} left: "
        "look at them in the list below."
    )


def of_coverage(seen: Seen) -> list[Risk]:
    """Faces that still show, and such that were changed too little."""
    names = (
        ("shown", coverage.SHOWN, "A face still shows", "left as in the original"),
        ("too_little", coverage.TOO_LITTLE, "A face was changed too little", "changed too little"),
    )
    risks = []
    for name, state, title, what in names:
        found, count = seen.states[state], seen.count
        where = f"{_count(count, 'face')} found in {_count(seen.files, 'original')}"
        if not count:
            sentence = f"No face was found in {_count(seen.files, 'original')}: nothing to judge."
            risks.append(Risk(name, title, None, sentence))
            continue
        are = "was" if found == 1 else "were"
        text = f"{found or 'None'} of {where} {are} {what} ({_share(found, count)})."
        if name == "shown":
            text += _low_confidence(seen)
            if kept := seen.states[coverage.KEPT]:
                text += f" {_count(kept, 'more face')} kept on purpose, as the sidecars say."
        risks.append(Risk(name, title, found > 0, text))
    return risks


def of_recognition(results: Sequence[Recognised]) -> list[Risk]:
    """Whether each verifier recognises somebody."""
    title = "Somebody is recognised"
    if not results:
        text = "There is no face that is large enough to be recognised."
        return [Risk("recognised", title, None, text)]
    return [
        Risk(f"recognised_{one.name}", f"{title} by {one.title}", one.found, one.sentence)
        for one in results
    ]


def of_attacks(results: Sequence[AttackResult]) -> list[Risk]:
    """What the attacks that were asked for found."""
    risks = []
    for one in results:
        text = one.sentence.removeprefix(f"{one.title}: ")
        risks.append(Risk(one.name, one.title, one.found, text[:1].upper() + text[1:]))
    return risks


def status(risks: Sequence[Risk], skipped: int) -> int:
    """The exit status: a leak goes before what could not be judged, and that before skipped files."""
    if any(risk.found for risk in risks):
        return LEAKS
    if any(risk.found is None for risk in risks):
        return NOT_JUDGED
    return SKIPPED if skipped else NOTHING_FOUND


def summary(risks: Sequence[Risk], skipped: int) -> str:
    """The whole in one sentence, which never promises that anybody is anonymous."""
    leaks = [risk for risk in risks if risk.found]
    open_ = [risk for risk in risks if risk.found is None]
    left = f" {_count(skipped, 'file')} could not be judged." if skipped else ""
    if leaks:
        names = "; ".join(risk.title for risk in leaks)
        return f"Do not release this yet: {_count(len(leaks), 'risk')} found ({names}).{left}"
    if open_:
        names = "; ".join(risk.title for risk in open_)
        return (
            f"Nothing was found, but this is not enough to judge by: {names}. It takes {MIN_FACES} different "
            f"faces or more, and originals that the verifiers know.{left}"
        )
    return f"Nothing was found by what was tried; other attackers may know more.{left}"


def as_dict(risk: Risk) -> dict[str, Any]:
    """For JSON."""
    return dataclasses.asdict(risk)
