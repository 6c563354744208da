"""Face verifiers: do two pictures show the same person? For judging generated faces, not for training.

Most are a way to find the five points of the face in a picture, and an embedder of `models.embedders`;
they can be combined freely. Others are libraries that do both.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.metrics.verifier import Verifier, needed
from dp3_jax.models import embedders
from dp3_jax.vision import masks


class DetectedPoints:
    """The five points of the largest face that YuNet finds in each picture."""

    # A crop that cuts the chin or forehead is less often taken for two with a margin around it.
    side = 128  # px, the picture's side for detection
    margin = 32  # px of black around it
    score = 0.6  # least confidence of a detection

    def __init__(self):
        """Loads the detector.

        Raises:
          UserError: OpenCV is missing, or the network cannot be fetched.
        """
        with needed("the face verifier", "opencv-python-headless"):
            import cv2
        from dp3_jax.common import assets
        from dp3_jax.common.opencv import quiet_opencv

        side, detector = self.side + 2 * self.margin, str(assets.fetch("yunet"))
        with quiet_opencv():
            self._detector = cv2.FaceDetectorYN.create(
                detector, "", (side, side), score_threshold=self.score
            )

    def __call__(self, pictures: np.ndarray) -> list[np.ndarray | None]:
        """f32[5, 2] points in each of u8[N, S, S, 3] pictures, in px of the picture; None: no face."""
        return [self._find(picture) for picture in pictures]

    def _find(self, picture: np.ndarray) -> np.ndarray | None:
        import cv2

        bgr = np.ascontiguousarray(picture[..., ::-1])
        ratio = np.array(bgr.shape[1::-1]) / self.side
        if bgr.shape[:2] != (self.side, self.side):
            bgr = cv2.resize(bgr, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
        margins = (self.margin,) * 4
        _, faces = self._detector.detect(cv2.copyMakeBorder(bgr, *margins, cv2.BORDER_CONSTANT))
        if faces is None:
            return None
        largest = max(faces, key=lambda face: face[2] * face[3])
        points = largest[4:14].reshape(5, 2) - self.margin
        return ((points + 0.5) * ratio - 0.5).astype(np.float32)


def canonical_points(pictures: np.ndarray) -> list[np.ndarray]:
    """CANONICAL_POINTS for each of u8[N, S, S, 3] pictures, in px of the picture: no detector.

    A detector finds no face in most blurred or covered pictures, and pictures without a found face say
    nothing about what can be recognized. Someone who wants to know who it is does not need a detector.
    """
    scale = (pictures.shape[1] if len(pictures) else masks.SIZE) / masks.SIZE
    points = ((masks.CANONICAL_POINTS + 0.5) * scale - 0.5).astype(np.float32)
    return [points for _ in pictures]


@dataclasses.dataclass(frozen=True)
class AlignedVerifier:
    """A `Verifier`: faces are aligned by their five points, then embedded.

    Attributes:
      name: for reports.
      find: five points for each picture, or None.
      embedder: of aligned faces.
    """

    name: str
    find: Callable[[np.ndarray], list[np.ndarray | None]]
    embedder: embedders.Embedder

    @property
    def threshold(self) -> float:
        """Least cosine of one person."""
        return self.embedder.threshold

    def embed(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Verifier.embed`."""
        points = self.find(images)
        found = np.array([p is not None for p in points], bool)
        rows = embedders.unit(
            embedders.embed(self.embedder, images[found], [p for p in points if p is not None])
        )
        embeddings = np.zeros((len(images), rows.shape[1]), np.float32)
        embeddings[found] = rows
        return embeddings, found


def _detected(embedder: Callable[[], embedders.Embedder]) -> AlignedVerifier:
    find, opened = DetectedPoints(), embedder()
    return AlignedVerifier(opened.name, find, opened)


def _forced(embedder: Callable[[], embedders.Embedder]) -> AlignedVerifier:
    opened = embedder()
    return AlignedVerifier(f"{opened.name} without detector", canonical_points, opened)


def _dlib() -> Verifier:
    from dp3_jax.metrics.dlib_verifier import Dlib

    return Dlib()


def _deepface() -> Verifier:
    from dp3_jax.metrics.deepface_verifier import DeepFace

    return DeepFace()


# By the names that configs use. "dlib" is the compiled library with its own detector, "dlib_resnet" our port
# of its network; "..._forced" takes pictures in the canonical frame and needs no detector.
VERIFIERS: dict[str, Callable[[], Verifier]] = {
    **{name: functools.partial(_detected, maker) for name, maker in embedders.EMBEDDERS.items()},
    **{
        f"{name}_forced": functools.partial(_forced, maker)
        for name, maker in embedders.EMBEDDERS.items()
    },
    "dlib": _dlib,
    "deepface": _deepface,
}


def open_verifier(name: str) -> Verifier:
    """The verifier called `name`, a key of VERIFIERS.

    Raises:
      UserError: a package or a file that it needs is missing.
    """
    return VERIFIERS[name]()


def open_verifiers(
    names: Iterable[str], makers: Mapping[str, Callable[[], Verifier]], where: str, otherwise: str
) -> tuple[dict[str, Verifier], dict[str, str]]:
    """(verifiers by name, why others are not there), each in the order of `names`.

    Args:
      names: which of `makers` are wanted.
      makers: by name, each makes a verifier or raises a UserError.
      where: what holds the names, for the message.
      otherwise: how to do without one that is not there, for its message.

    Raises:
      UserError: nothing has one of the names.
    """
    opened, missing = {}, {}
    for name in names:
        if name not in makers:
            raise UserError(f"{where} names {name!r}; there are: {', '.join(makers)}")
        try:
            opened[name] = makers[name]()
        except UserError as error:
            missing[name] = f"{error}; or {otherwise}"
    return opened, missing


def verify(
    verifier: Verifier,
    a: tuple[np.ndarray, np.ndarray],
    b: tuple[np.ndarray, np.ndarray],
) -> dict[str, float | int | None]:
    """Verdicts on pairs of embedded faces, `a` and `b` as `Verifier.embed` returns them, equally long.

    Returns:
      pairs: all of them; face_not_found: pairs where at least one face was not found, judged neither
      way; same_person: pairs at or above the threshold; same_person_share: of the judged pairs, None
      when there are none; mean_cosine likewise.
    """
    both = a[1] & b[1]
    cosine = (a[0][both] * b[0][both]).sum(1)
    same = int((cosine >= verifier.threshold).sum())
    return {
        "pairs": len(both),
        "face_not_found": int((~both).sum()),
        "same_person": same,
        "same_person_share": same / len(cosine) if len(cosine) else None,
        "mean_cosine": float(cosine.mean()) if len(cosine) else None,
    }


def identity_pairs(identities: np.ndarray, limit: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of pictures with known answer: (same-person i32[p, 2], different-person i32[q, 2]) indices.

    Args:
      identities: i32[N], a number for each person; pictures with a negative one (unknown) are not used.
      limit: at most so many distinct pairs of each kind; as many different as same ones.
      seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(identities >= 0)
    groups = [np.flatnonzero(identities == person) for person in np.unique(identities[known])]
    same = [pair for group in groups for pair in itertools.combinations(group, 2)]
    same = [same[i] for i in rng.permutation(len(same))[:limit]]
    different: set[tuple[int, int]] = set()
    if len(groups) > 1:
        for _ in range(20 * len(same)):  # enough draws even where two people are most of the set
            i, j = sorted(int(k) for k in rng.choice(known, size=2))
            if len(different) == len(same):
                break
            if identities[i] != identities[j]:
                different.add((i, j))
    shape = (-1, 2)
    return (
        np.array(same, np.int32).reshape(shape),
        np.array(sorted(different), np.int32).reshape(shape),
    )
