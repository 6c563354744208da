"""The photos that an evaluation of generated identities compares; what each kind is: identities_suite."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from dp3_jax.detection.detections import Detection, FaceSource
from dp3_jax.detection.face_detection import Detector
from dp3_jax.evaluation import people
from dp3_jax.evaluation.identities_tables import ranks_of
from dp3_jax.evaluation.replacers import Replacer, donor_view, paste
from dp3_jax.replacement import key_derivation
from dp3_jax.replacement.identities import IdentitySource
from dp3_jax.vision import geometry
from dp3_jax.vision.masks import CANONICAL_POINTS

_SOME = (
    2  # probes of each person of which all kinds are made; of the others what verification needs
)
SHOWN_PEOPLE, SHOWN_FACES = 24, 3


@dataclasses.dataclass(frozen=True)
class Bench:
    """What is compared.

    Attributes:
      replace: the way under evaluation.
      source: its generated people.
      real: real people as a source.
      shipped: the way that needs no source.
      name: where the weights under evaluation came from.
    """

    replace: Replacer
    source: IdentitySource
    real: IdentitySource
    shipped: Replacer
    name: str

    @property
    def fingerprint(self) -> str:
        """Changes when the pictures would."""
        parts = (self.replace, self.source, self.real, self.shipped)
        return " ".join(part.fingerprint for part in parts)


def find(detector: Detector, photo: np.ndarray) -> Detection:
    """The face nearest the middle; where none is found, the canonical one."""
    found = [face for face in detector.detect(photo) if face.keypoints is not None]
    if not found:
        return Detection(geometry.CANONICAL_BOX, CANONICAL_POINTS, 1.0, FaceSource.USER)
    middle = photo.shape[0] / 2
    return min(found, key=lambda f: float(np.abs(f.keypoints.mean(0) - middle).max()))


def _with_a_key(
    bench: Bench, photo: np.ndarray, face: Detection, key: bytes, more: Iterable[str]
) -> Iterator[tuple[str, np.ndarray, str]]:
    """(kind, picture, real person in it) for one key: new, real_person, and those of `more` there are."""
    new = bench.replace(photo, face, key, bench.source)
    yield "new", new.photo, ""
    real = bench.replace(photo, face, key, bench.real)
    yield "real_person", real.photo, real.donor.person if real.donor else ""
    if not more:
        return
    shipped = bench.shipped(photo, face, key, None).photo
    made = {"shipped": lambda: shipped}
    if new.donor is not None:
        made["donors"] = lambda: donor_view(new.donor)
        made["pasted"] = lambda: paste(shipped, face, new.donor)
    for kind in more:
        if kind in made:
            yield kind, made[kind](), ""


@dataclasses.dataclass
class Kind:
    """Pictures of one kind: u8[S, S, 3], of which probes, and which real person is in them ("": none)."""

    pictures: list[np.ndarray] = dataclasses.field(default_factory=list)
    index: list[int] = dataclasses.field(default_factory=list)
    person: list[str] = dataclasses.field(default_factory=list)

    def add(self, picture: np.ndarray, index: int, person: str = "") -> None:
        """One more."""
        self.pictures.append(picture)
        self.index.append(index)
        self.person.append(person)


def make(
    bench: Bench, detector: Detector, probes: people.People, part: Iterable[int], seed: int
) -> dict[str, Kind]:
    """All kinds of pictures of the probes `part`; `seed` is that of the keys, two for each probe."""
    kinds: dict[str, Kind] = {"original": Kind()}
    ranks, master_key = ranks_of(probes.probe_people), key_derivation.master_key_from_seed(seed)
    for number in part:
        photo = probes.probes[number]
        face = find(detector, photo)
        kinds["original"].add(photo, number)
        more = ("shipped", "donors", "pasted") if ranks[number] < _SOME else ()
        key = key_derivation.track_key(master_key, 2 * number)
        for kind, picture, person in _with_a_key(bench, photo, face, key, more):
            kinds.setdefault(kind, Kind()).add(picture, number, person)
        if ranks[number]:
            continue
        key = key_derivation.track_key(master_key, 2 * number + 1)
        for kind, picture, person in _with_a_key(
            bench, photo, face, key, ("shipped", "donors", "pasted")
        ):
            kinds.setdefault(f"{kind}_2", Kind()).add(picture, number, person)
    return kinds


def grid(bench: Bench, probes: people.People, seed: int) -> np.ndarray:
    """u8[N, S, S, 3], 2 + SHOWN_FACES for each of some people: photo, shipped weights' face, new ones."""
    detector, master_key = Detector(rotations=False), key_derivation.master_key_from_seed(seed + 1)
    cells = []
    for number in np.flatnonzero(ranks_of(probes.probe_people) == 0)[:SHOWN_PEOPLE]:
        photo = probes.probes[number]
        face = find(detector, photo)
        keys = [
            key_derivation.track_key(master_key, SHOWN_FACES * int(number) + i)
            for i in range(SHOWN_FACES)
        ]
        cells += [photo, bench.shipped(photo, face, keys[0], None).photo]
        cells += [bench.replace(photo, face, key, bench.source).photo for key in keys]
    return np.stack(cells)
