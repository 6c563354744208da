"""From the parts of an audit: how the faces were covered, and a set of faces for the attacks."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.evaluation.attacks import UNKNOWN, FaceSet
from dp3_jax.evaluation.attacks.recognition import MIN_FACES
from dp3_jax.evaluation.audit import coverage
from dp3_jax.evaluation.audit.faces import AuditedFace
from dp3_jax.evaluation.audit.pairing import Pair
from dp3_jax.evaluation.audit.store import Store
from dp3_jax.evaluation.audit.verdicts import Seen

MIN_NAMED = MIN_FACES  # of people known by name: then others are not compared with them
MAX_FACES = 2000  # whose pictures are compared, 110 kB each; others are judged by coverage alone

Place = tuple[int, int]  # of a pair, and of a face of it


@dataclasses.dataclass(frozen=True, eq=False)
class Gathered:
    """Faces whose pictures are compared.

    Attributes:
      faces: the set.
      places: for each face of the set, which it is.
      tracked: bool[n], whether it belongs to a track of a clip.
      left_out: how many were too many.
    """

    faces: FaceSet
    places: tuple[Place, ...]
    tracked: np.ndarray
    left_out: int


def count_states(parts: Sequence[Sequence[AuditedFace]]) -> Seen:
    """States of all faces of all pairs; a track of a clip counts once, by its worst frame."""
    sure, low_confidence, looked_at = Counter(), Counter(), 0
    for faces in parts:
        looked_at += 1
        worst: dict[int, AuditedFace] = {}
        for place, face in enumerate(faces):
            own = face.track or -1 - place
            if own not in worst or _badness(face) > _badness(worst[own]):
                worst[own] = face
        for face in worst.values():
            (sure if face.sure else low_confidence)[face.state] += 1
    return Seen(sure, low_confidence, looked_at)


def _badness(face: AuditedFace) -> tuple[bool, int]:
    order = (coverage.KEPT, coverage.CHANGED, coverage.TOO_LITTLE, coverage.SHOWN)
    return face.sure, order.index(face.state)


def _is_compared(face: AuditedFace) -> bool:
    return face.sure and face.is_large and face.state != coverage.KEPT


def _main_face(faces: Sequence[AuditedFace]) -> int | None:
    """Whom a photo or clip is of: the largest face, or its track."""
    compared = [face for face in faces if _is_compared(face)]
    largest = max(compared, key=lambda face: face.box[2] * face.box[3], default=None)
    if largest is None:
        return None
    return largest.track or -1 - faces.index(largest)


def _numbers(vector: FaceVector | None) -> np.ndarray:
    values = [None] * len(FaceVector._fields) if vector is None else vector
    return np.array([np.nan if v is None else v for v in values], np.float32)


def gather(
    pairs: Sequence[Pair],
    parts: Sequence[Sequence[AuditedFace]],
    who: Mapping[str, int],
    store: Store,
    seed: int,
) -> Gathered:
    """The set of faces that verifiers and attacks compare.

    A person who is named for a file is its largest face, in a clip that face's track; every other track is a
    person of its own, every other face of a photo is of somebody unknown. With enough who are named the
    others are left out: compared with their own picture alone they would tell something else.

    Args:
      pairs: that were looked at.
      parts: their faces, without pictures.
      who: {name of a pair: number of its person}.
      store: holds the pictures.
      seed: of the choice where there are more than MAX_FACES.
    """
    people, names, rows = {}, {}, []
    stranger = max(who.values(), default=-1) + 1
    for i, (pair, faces) in enumerate(zip(pairs, parts, strict=True)):
        main = _main_face(faces)
        owners: dict[int, int] = {}
        for j, face in enumerate(faces):
            own = face.track or -1 - j
            if own not in owners:
                named = own == main and pair.name in who
                owners[own] = who[pair.name] if named else UNKNOWN
                if face.track and not named:
                    owners[own], stranger = stranger, stranger + 1
            people[i, j] = owners[own]
            names[i, j] = f"{pair.name} {'track' if face.track else 'face'} {face.track or j + 1}"
            if _is_compared(face) and face.has_views:
                rows.append((i, j))
    known = [place for place in rows if people[place] in set(who.values())]
    rows = known if len(known) >= MIN_NAMED else rows
    chosen = np.random.default_rng(seed).permutation(len(rows))[:MAX_FACES]
    kept = [rows[place] for place in sorted(chosen)]
    views, masks = _pictures(pairs, kept, store)
    vectors = np.array([_numbers(parts[i][j].vector) for i, j in kept], np.float32)
    vectors = vectors.reshape(len(kept), len(FaceVector._fields))
    faces = FaceSet(
        originals=views[:, 0],
        anonymized=views[:, 1],
        masks=masks,
        people=np.array([people[place] for place in kept], np.int64),
        conditioning=vectors if np.isfinite(vectors).any() else None,
        files=tuple(names[place] for place in kept),
    )
    tracked = np.array([parts[i][j].track > 0 for i, j in kept], bool)
    return Gathered(faces, tuple(kept), tracked, len(rows) - len(kept))


def _pictures(
    pairs: Sequence[Pair], places: Sequence[Place], store: Store
) -> tuple[np.ndarray, np.ndarray]:
    """(u8[n, 2, 128, 128, 3] views, bool[n, 128, 128] masks) of faces, in the order of the pairs."""
    views = np.zeros((len(places), 2, 128, 128, 3), np.uint8)
    masks = np.zeros((len(places), 128, 128), bool)
    faces: list[AuditedFace] = []
    last = -1
    for row, (i, j) in enumerate(places):
        if i != last:
            (faces, _), last = store.read(pairs[i], views=True), i
        views[row], masks[row] = faces[j].views, faces[j].mask
    return views, masks
