"""Face verifiers: do two pictures show the same person? For judging generated faces, not for training."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np

from dp3_jax import assets
from dp3_jax.errors import UserError


class Verifier(Protocol):
    """What an evaluation asks of a face verifier.

    Attributes:
      name: for reports.
      threshold: two found faces show the same person when the cosine of their embeddings is at least this.
    """

    name: str
    threshold: float

    def embed(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u8[N, H, W, 3] RGB pictures of one face -> (f32[N, D] of length 1, bool[N] face found).

        Rows without a found face are zero and must not be compared.
        """
        ...


@contextlib.contextmanager
def needed(who: str, package: str, otherwise: str) -> Iterator[None]:
    """Turns a failed import within into a UserError.

    Args:
      who: wants to import.
      package: what to give to pip.
      otherwise: what to do without.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{who} needs a package ({error}): pip install {package}, or {otherwise}"
        ) from error


def _unit(embedding: np.ndarray) -> np.ndarray:
    return (embedding / max(float(np.linalg.norm(embedding)), 1e-12)).astype(np.float32)


def _stack(embeddings: list[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
    """One row for each picture, zeros where there is None; and which rows are not None."""
    found = np.array([e is not None for e in embeddings], bool)
    width = next((len(e) for e in embeddings if e is not None), 1)
    rows = [np.zeros(width, np.float32) if e is None else e for e in embeddings]
    return np.array(rows, np.float32).reshape(len(rows), width), found


@contextlib.contextmanager
def _quiet_opencv():
    """Hides the warnings that OpenCV 5 prints when a detector is created."""
    from cv2.utils import logging as opencv_logging

    level = opencv_logging.getLogLevel()
    opencv_logging.setLogLevel(opencv_logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        opencv_logging.setLogLevel(level)


class SFace:
    """YuNet finds the face and its five points, SFace (Zhong et al., 2021) embeds the aligned face."""

    name = "SFace"
    threshold = 0.363  # the published operating point of these weights (OpenCV's FaceRecognizerSF)

    # A crop that cuts the chin or forehead is less often taken for two with a margin around it.
    side = 128  # px, the picture's side for detection
    margin = 32  # px of black around it
    score = 0.6  # least confidence of a detection

    def __init__(self):
        """Loads both networks.

        Raises:
          UserError: OpenCV is missing, or the networks cannot be fetched.
        """
        with needed(
            "the face verifier", "opencv-python-headless", "choose config.evaluate.judge=none"
        ):
            import cv2
        detector, recognizer = assets.fetch("yunet"), assets.fetch("sface")
        side = self.side + 2 * self.margin
        with _quiet_opencv():
            self._detector = cv2.FaceDetectorYN.create(
                str(detector), "", (side, side), score_threshold=self.score
            )
            self._recognizer = cv2.FaceRecognizerSF.create(str(recognizer), "")

    def _embed_one(self, image: np.ndarray) -> np.ndarray | None:
        import cv2

        bgr = np.ascontiguousarray(image[..., ::-1])
        if bgr.shape[:2] != (self.side, self.side):
            bgr = cv2.resize(bgr, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
        margins = (self.margin,) * 4
        bgr = cv2.copyMakeBorder(bgr, *margins, cv2.BORDER_CONSTANT)
        _, faces = self._detector.detect(bgr)
        if faces is None:
            return None
        largest = max(faces, key=lambda face: face[2] * face[3])
        return _unit(self._recognizer.feature(self._recognizer.alignCrop(bgr, largest))[0])

    def embed(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Verifier.embed`. The largest face of each square picture; about 15 ms each on one core."""
        return _stack([self._embed_one(image) for image in images])


class DeepFace:
    """The verifier that the paper used: the DeepFace library with its default model, VGG-Face."""

    name = "DeepFace VGG-Face"
    _model = "VGG-Face"

    def __init__(self):
        """Loads the model; DeepFace downloads its weights itself.

        Raises:
          UserError: DeepFace is missing, or its weights cannot be had.
        """
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with needed(
            "the DeepFace judge", "'dp3_jax[deepface]'", "choose config.evaluate.judge=sface"
        ):
            from deepface import DeepFace as library
            from deepface.modules.verification import find_threshold

        try:
            library.build_model(self._model)
        except Exception as error:  # it raises many kinds when a download fails
            raise UserError(
                f"DeepFace cannot load {self._model}: {' '.join(str(error).split())}; "
                "choose config.evaluate.judge=sface"
            ) from error
        self._library = library
        # DeepFace compares by cosine distance, 1 minus the cosine.
        self.threshold = 1.0 - float(find_threshold(self._model, "cosine"))

    def _embed_one(self, image: np.ndarray) -> np.ndarray | None:
        bgr = np.ascontiguousarray(image[..., ::-1])  # DeepFace reads arrays as OpenCV does
        try:
            faces = self._library.represent(
                bgr, model_name=self._model, detector_backend="yunet", enforce_detection=True
            )
        except ValueError:  # DeepFace's way to say that it found no face
            return None
        largest = max(faces, key=lambda face: face["facial_area"]["w"] * face["facial_area"]["h"])
        return _unit(np.asarray(largest["embedding"], np.float32))

    def embed(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Verifier.embed`."""
        return _stack([self._embed_one(image) for image in images])


def open_verifier(name: str) -> Verifier:
    """The verifier called "sface" or "deepface".

    Raises:
      UserError: a package or a file that it needs is missing.
    """
    return {"sface": SFace, "deepface": DeepFace}[name]()


def open_judges(
    names: Iterable[str], makers: Mapping[str, Callable[[], Verifier]], where: str
) -> tuple[dict[str, Verifier], dict[str, str]]:
    """(verifiers by name, why others are not there), each in the order of `names`.

    Args:
      names: which of `makers` are wanted.
      makers: by name, each makes a verifier or raises a UserError.
      where: what holds the names, for the message.

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
            missing[name] = str(error)
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
