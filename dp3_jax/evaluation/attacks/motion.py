"""Known by how one moves: an attacker who has only the vectors that pass from faces in clips to the new ones.

Each track of the given clips is a person. Windows of a second of the first half of a track are learnt from,
windows of its last part, a gap later, are to be told whose they are. What is learnt from are the vectors as
they leave the program (`detection.vectors`: smoothed, bounded, rounded), in statistics of each number: its
level, its spread, its speed and its spectrum. Both parts are of one recording, so what is measured here is
more than an attacker has who must know somebody again in another one; how the head is held to that camera is
most of it. Statistics without levels (`dynamics`) say what is left.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.evaluation.attacks import recognition
from dp3_jax.evaluation.attacks.attack import UNKNOWN, AttackResult, FaceSet

GROUPS = {
    "pose": ("yaw", "pitch"),
    "pose, mouth": ("yaw", "pitch", "mouth_opening", "mouth_width"),
    "pose, mouth, eyes": FaceVector._fields[:6],
    "pose, mouth, eyes, gaze": FaceVector._fields,
}
RATE = 25.0  # a second, to which all vectors are resampled: a clip's own rate would tell it apart
WINDOW, STRIDE = 25, 5  # samples
TRAINED, GAP = 0.5, 0.1  # shares of a track
MIN_PEOPLE = 5  # that say something where nobody is known
MIN_SECONDS = 3.0  # of a track: two windows at its end
_BANDS = ((1, 3), (3, 6), (6, 13))  # of the spectrum of a window, in cycles a second
_RIDGE = 3.0
_FURTHEST = 4.0  # standard deviations that a statistic counts at most
_DRAWS = 2000  # of tracks, for intervals


@dataclasses.dataclass(frozen=True, eq=False)
class Person:
    """A track: its name, and f64[n, 8] its vectors at RATE."""

    name: str
    vectors: np.ndarray


def resampled(shown: Sequence[FaceVector], rate: float) -> np.ndarray:
    """f64[n, 8] at RATE of vectors at another rate, linearly interpolated."""
    values = np.array(shown, np.float64)
    times = np.arange(0, (len(values) - 1) / rate + 1e-9, 1 / RATE)
    return np.stack([np.interp(times * rate, np.arange(len(values)), one) for one in values.T], 1)


def _statistics(window: np.ndarray, dynamics: bool) -> np.ndarray:
    """f64[m] of f64[WINDOW, k]."""
    centred = window - window.mean(0)
    power = np.abs(np.fft.rfft(centred * np.hanning(len(window))[:, None], axis=0)) ** 2
    hertz = np.fft.rfftfreq(len(window), 1 / RATE)
    bands = [power[(low <= hertz) & (hertz < high)].sum(0) for low, high in _BANDS]
    moves = [
        window.std(0),
        np.abs(np.diff(window, axis=0)).mean(0),
        *(np.log(band + 1e-6) for band in bands),
    ]
    levels = [] if dynamics else [window.mean(0), window.min(0), window.max(0)]
    return np.concatenate([*levels, *moves])


def _windows(part: np.ndarray, dynamics: bool) -> np.ndarray:
    starts = range(0, len(part) - WINDOW + 1, STRIDE)
    return np.stack([_statistics(part[s : s + WINDOW], dynamics) for s in starts])


def _parts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is learnt from, and what is to be known again."""
    return values[: int(TRAINED * len(values))], values[int((TRAINED + GAP) * len(values)) :]


def _ridge(train: np.ndarray, owners: np.ndarray, count: int, test: np.ndarray) -> np.ndarray:
    """f64[tests, count] scores: regression on who it is, each person of the same weight."""
    share = np.sqrt(1 / np.bincount(owners, minlength=count))[owners][:, None]
    wanted = np.eye(count)[owners] - 1 / count
    inputs = np.column_stack([train, np.ones(len(train))])
    gram = (inputs * share).T @ (inputs * share)
    scale = _RIDGE * np.trace(gram) / len(gram) / 10
    weights = np.linalg.solve(
        gram + scale * np.eye(len(gram)), (inputs * share).T @ (wanted * share)
    )
    return np.column_stack([test, np.ones(len(test))]) @ weights


def _nearest(train: np.ndarray, owners: np.ndarray, count: int, test: np.ndarray) -> np.ndarray:
    """f64[tests, count] scores: how near the nearest window of each person is."""
    apart = np.linalg.norm(test[:, None] - train[None], axis=2)
    return -np.stack([apart[:, owners == one].min(1) for one in range(count)], 1)


_RECOGNIZERS = {"ridge": _ridge, "nearest": _nearest}


@dataclasses.dataclass(frozen=True)
class Recognition:
    """How well people are known again.

    Attributes:
      rank1: share of the windows whose person is the first guess, mean of all persons.
      interval: of rank1, 95%, by drawing persons anew.
      recognizer: the better one of those tried, which flatters the attacker.
      people: for each the share of its own windows.
    """

    rank1: float
    interval: tuple[float, float]
    recognizer: str
    people: tuple[float, ...]


def recognise(people: Sequence[Person], names: Sequence[str], *, dynamics: bool) -> Recognition:
    """Attacks the numbers `names` of the vectors.

    Args:
      people: at least two, of MIN_SECONDS.
      names: fields of FaceVector.
      dynamics: whether levels are left out.
    """
    columns = [FaceVector._fields.index(name) for name in names]
    parts = [_parts(one.vectors[:, columns]) for one in people]
    train = [_windows(first, dynamics) for first, _ in parts]
    test = [_windows(last, dynamics) for _, last in parts]
    owners = np.repeat(np.arange(len(people)), [len(one) for one in train])
    asked = np.repeat(np.arange(len(people)), [len(one) for one in test])
    train, test = np.concatenate(train), np.concatenate(test)
    middle, spread = train.mean(0), np.maximum(train.std(0), 1e-9)
    train, test = (np.clip((one - middle) / spread, -_FURTHEST, _FURTHEST) for one in (train, test))
    best = None
    for name, recognizer in _RECOGNIZERS.items():
        guesses = recognizer(train, owners, len(people), test).argmax(1)
        each = [float((guesses[asked == one] == one).mean()) for one in range(len(people))]
        found = Recognition(float(np.mean(each)), _interval(each), name, tuple(each))
        best = found if best is None or found.rank1 > best.rank1 else best
    return best


def _interval(each: Sequence[float]) -> tuple[float, float]:
    """Of the mean of what is known of each person, if others had been drawn."""
    drawn = np.random.default_rng(0).choice(np.array(each), (_DRAWS, len(each))).mean(1)
    return tuple(float(v) for v in np.quantile(drawn, (0.025, 0.975)))


def attack(people: Sequence[Person]) -> dict[str, Any]:
    """How well people are told apart by each group of numbers, as JSON.

    Raises:
      UserError: there are fewer than two.
    """
    if len(people) < 2:
        raise UserError(
            f"--motion-attack found {len(people)} face that is large and seen for {MIN_SECONDS:g} s; it "
            "takes two people or more: give more clips"
        )
    return {
        "people": [one.name for one in people],
        "chance": 1 / len(people),
        "groups": {
            group: {
                kind: dataclasses.asdict(recognise(people, names, dynamics=kind == "dynamics"))
                for kind in ("all", "dynamics")
            }
            for group, names in GROUPS.items()
        },
    }


def format_report(result: dict[str, Any]) -> str:
    """The table that is printed."""
    people, chance = len(result["people"]), result["chance"]
    lines = [
        f"known by how they move: {people} people, one recording of each; chance {chance:.3f}",
        f"{'numbers':<26}{'rank 1':>8}{'95%':>16}{'dynamics':>10}{'95%':>16}",
    ]
    for group, kinds in result["groups"].items():
        line = f"{group:<26}"
        for width, kind in ((8, "all"), (10, "dynamics")):
            low, high = kinds[kind]["interval"]
            line += f"{kinds[kind]['rank1']:>{width}.3f}{f'{low:.3f} to {high:.3f}':>16}"
        lines.append(line)
    return "\n".join(lines)


MEASURE = "a second of movement is told whose it is"


@dataclasses.dataclass(frozen=True)
class MotionAttack:
    """The attack on vectors of clips; it learns from the beginning of each track itself.

    Attributes:
      dynamics: leave out how the head is usually held, which belongs to one recording.
    """

    dynamics: bool = False

    name: ClassVar[str] = "motion"
    title: ClassVar[str] = "How somebody moves"
    trains: ClassVar[bool] = False
    needs_people: ClassVar[bool] = True

    def fit(self, faces: FaceSet, seed: int) -> "MotionAttack":
        """See `Attack`."""
        del faces, seed
        return self

    def score(self, faces: FaceSet) -> AttackResult:
        """See `FittedAttack`; the faces of a person are a track's, in order, RATE a second."""
        people = tracks(faces)
        if len(people) < 2:
            why = (
                f"it takes two tracks of {MIN_SECONDS:g} s or more with the vectors that passed on"
            )
            return recognition.unjudged(self, why, MEASURE)
        names = FaceVector._fields[: people[0].vectors.shape[1]]
        found = recognise(people, names, dynamics=self.dynamics)
        low, high = found.interval
        chance = 1 / len(people)
        leaks = low > chance
        sentence = (
            f"An attacker who has seen the first half of {len(people)} tracks tells in "
            f"{100 * found.rank1:.0f}% of the seconds of their ends whose they are (95%: {100 * low:.0f} to "
            f"{100 * high:.0f}%; by chance {100 * chance:.0f}%): "
            + ("it leaks." if leaks else f"{recognition.verdict(_judged(people), len(people))}.")
        )
        return AttackResult(
            self.name, self.title, MEASURE, found.rank1, low, high, chance, "chance", None,
            True if leaks else _judged(people), sentence, sum(len(one.vectors) for one in people),
            dataclasses.asdict(found),
        )  # fmt: skip


def _judged(people: Sequence[Person]) -> bool | None:
    """What is found where nothing lies above chance: few people say nothing."""
    return False if len(people) >= MIN_PEOPLE else None


def tracks(faces: FaceSet) -> list[Person]:
    """The tracks in a set whose vectors are whole for MIN_SECONDS; numbers unknown in all are left out."""
    if faces.conditioning is None:
        return []
    values = np.asarray(faces.conditioning, np.float64)
    # Numbers come in the order of FaceVector's, so that the first ones are those that all have.
    whole = np.isfinite(values).any(0)
    values = values[:, : len(whole) if whole.all() else int(np.argmin(whole))]
    found = []
    for person in np.unique(faces.people[np.asarray(faces.people) != UNKNOWN]):
        own = values[faces.people == person]
        if own.size and len(own) >= MIN_SECONDS * RATE and np.isfinite(own).all():
            found.append(Person(str(person), own))
    return found
