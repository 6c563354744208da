"""What an attack on anonymized faces is: it may learn from some people, and is then tried on others.

An attack gets faces before and after anonymization, says how well it recognises people in the results, and
with what that must be compared: an attacker always knows something (chance, the surroundings), and only
what lies above this floor was left by the anonymizer.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from dp3_jax.evaluation.attacks.remembering import Marked

UNKNOWN = -1  # in `FaceSet.people`
GREY = 128  # what a blanked masked region shows

Anonymize = Callable[[np.ndarray, bytes], np.ndarray]  # (u8[h, w, 3] picture, key) -> the same size


@dataclasses.dataclass(frozen=True, eq=False)
class FaceSet(Marked):
    """Faces before and after anonymization, in the canonical face frame (`vision.masks`).

    Attributes:
      originals: u8[n, 128, 128, 3] RGB.
      anonymized: u8[n, 128, 128, 3], the same places of the results.
      masks: bool[n, 128, 128], the masked region; where unknown the canonical default mask.
      people: i64[n], who it is; UNKNOWN: not known.
      conditioning: f32[n, k], pose and expression vectors that passed, NaN where unknown; None: of none.
      files: n names, for reports; faces of one name are one track.
      classes: f32[n, k], sex, age, tone, pose in comparable units (`impostors.read_classes`); None: unknown.
      impostors: u8[n, 128, 128, 3], what results would be with the faces of strangers of the same classes
        (see `impostors`); None: nobody has made them.
    """

    originals: np.ndarray
    anonymized: np.ndarray
    masks: np.ndarray
    people: np.ndarray
    conditioning: np.ndarray | None = None
    files: tuple[str, ...] = ()
    classes: np.ndarray | None = None
    impostors: np.ndarray | None = None

    def __post_init__(self):
        """Raises ValueError where the parts do not fit together."""
        n = len(self.originals)
        lengths = {len(self.anonymized), len(self.masks), len(self.people)}
        more = (self.conditioning, self.classes, self.impostors)
        lengths |= {len(part) for part in more if part is not None}
        lengths |= {len(self.files)} if self.files else set()
        if lengths - {n} or self.originals.shape != self.anonymized.shape:
            raise ValueError(
                f"a set of {n} faces has parts of {sorted(lengths)}, or of other sizes"
            )

    def __len__(self) -> int:
        """Faces."""
        return len(self.originals)

    def select(self, rows: np.ndarray) -> "FaceSet":
        """The faces `rows`, i64[m] or bool[n]."""
        return FaceSet(
            self.originals[rows],
            self.anonymized[rows],
            self.masks[rows],
            np.asarray(self.people)[rows],
            None if self.conditioning is None else self.conditioning[rows],
            tuple(np.array(self.files, object)[rows]) if self.files else (),
            None if self.classes is None else self.classes[rows],
            None if self.impostors is None else self.impostors[rows],
        )

    @property
    def floors(self) -> dict[str, np.ndarray]:
        """Pictures u8[n, 128, 128, 3] that tell nothing of the person, by the names of `recognised`."""
        known = {} if self.impostors is None else {"impostors": self.impostors}
        return {"blanked": self.blanked, **known}

    @property
    def blanked(self) -> np.ndarray:
        """u8[n, 128, 128, 3]: the originals with a grey masked region: all that surroundings tell."""
        return np.where(np.asarray(self.masks, bool)[..., None], np.uint8(GREY), self.originals)


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """What an attack recognised.

    Attributes:
      name, title: of the attack.
      measure: what `value` is.
      value, low, high: with its 95% interval; NaN where it could not be tried.
      floor: the same measure where nothing can leak; `floor_is` says what that is.
      control: the same measure on originals, which shows that the attack works; None: there is none.
      found: True: it leaks; False: nothing found; None: it could not be judged.
      sentence: one sentence with its evidence.
      count: faces judged.
      details: further numbers by name, for tables.
    """

    name: str
    title: str
    measure: str
    value: float
    low: float
    high: float
    floor: float
    floor_is: str
    control: float | None
    found: bool | None
    sentence: str
    count: int
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what is not a number becomes None."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        number = (v if not isinstance(v, float) or np.isfinite(v) else None for v in given.values())
        return dict(zip(given, number, strict=True))


class FittedAttack(Protocol):
    """An attack after learning."""

    def score(self, faces: FaceSet) -> AttackResult:
        """Tries it on people that it did not learn from."""
        ...


class Attack(Protocol):
    """An attack. Making one loads nothing.

    Attributes:
      name: for --attacks.
      title: for reports.
      trains: whether `fit` learns from faces of known people, who must not be those that it is tried on.
      needs_people: whether it must be told who is who, with two faces of a person or more.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    trains: ClassVar[bool]
    needs_people: ClassVar[bool]

    def fit(self, faces: FaceSet, seed: int) -> FittedAttack:
        """What an attacker has after learning from these; those that learn nothing take any faces.

        Raises:
          UserError: a network that it needs cannot be had.
        """
        ...


def gallery_and_probes(people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(i64[G] rows of the first face of each known person, i64[P] rows of their other faces), rising.

    People with a single face are in neither.
    """
    people = np.asarray(people)
    known, first, counts = np.unique(people, return_index=True, return_counts=True)
    first = first[(counts >= 2) & (known != UNKNOWN)]
    gallery = np.sort(first)
    probes = np.flatnonzero(np.isin(people, people[gallery]))
    return gallery, np.setdiff1d(probes, gallery)


def another_of_each(people: np.ndarray) -> np.ndarray:
    """i64[n]: for each face the row of another one of the same person, -1 where there is none."""
    people = np.asarray(people)
    other = np.full(len(people), -1, np.int64)
    for person in np.unique(people[people != UNKNOWN]):
        rows = np.flatnonzero(people == person)
        if len(rows) > 1:
            other[rows] = np.roll(rows, -1)
    return other


def split_people(faces: FaceSet, share: float, seed: int) -> tuple[FaceSet, FaceSet]:
    """(faces of a share of the known people, to learn from; all other faces), nobody in both."""
    known = np.unique(faces.people[np.asarray(faces.people) != UNKNOWN])
    order = np.random.default_rng(seed).permutation(known)
    learned = np.isin(faces.people, order[: round(share * len(known))])
    return faces.select(learned), faces.select(~learned)
