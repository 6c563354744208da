"""Looks for faces where they must be: what is known of them from other frames, and quick looks at places.

A look at one place costs a tenth of a pass over the frame, shows YuNet the face upright and at the size it
likes, and may ask less confidence, as that there is a face is known.
"""

import cmath
import dataclasses
import functools
from collections.abc import Iterable, Sequence
from concurrent import futures

import numpy as np

from dp3_jax.common.cores import available_cores
from dp3_jax.detection import face_detection
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.face_detection import (
    REDETECTION_WIDTH,
    SURE,
    UNCONFIRMED,
    Detection,
    Detector,
)
from dp3_jax.detection.prediction import Motion, moved
from dp3_jax.media.video import lazy_pictures
from dp3_jax.media.video.lazy_pictures import Image
from dp3_jax.vision import geometry

# A look shows YuNet the place of a face turned upright, the face _FACE px wide.
_FACE = 48
_SIDE = 128
_REACH = 0.8  # of the face's width: how far from its place it may be found
_AT_ONCE = 1.7  # a face does not grow or shrink by more from frame to frame
_CONFIDENCE_OF_KNOWN = 0.35  # confidence asked of a face that was known before
_LOW_CONFIDENCE = 0.6  # below, it may be the wrong way up, or no face
_MAX_SIZE_CHANGE = (
    1.2  # a doubtful one must keep its size to this factor, or a plant grows to fill the frame
)
_TURNED_OVER = 0.8  # what is asked of it then
_PATIENCE = 4  # frames in which a known face is looked for after it was seen last

# As in `Detector.confirm`: faces of the coarse pass that are not sure are detected again.
_CONFIRM_REACH = 0.4
_FAINT = 0.35  # confidence from which on the coarse pass may show a face that a look confirms
_CLEARLY = 0.25  # more confidence than the coarse pass has: then the other face is taken
_TURNED = np.pi / 3  # radians between two opinions on which way is up

_PART = 1.3  # times as wide at least is a face of which a tile shows a part
_COARSE_LARGEST = 2.0  # at most this much is a frame made larger for the coarse pass
_STRIDE = 32  # px; YuNet pads a picture to a multiple


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A frame, and the same resized by `factor`; None where that is not at hand."""

    frame: Image
    coarse: np.ndarray | None = None
    factor: float = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """A face seen in earlier frames.

    Attributes:
      face: as seen last.
      motion: of it; its frames count from any one.
      missed: frames since then, in which it has not been seen.
    """

    face: Detection
    motion: Motion
    missed: int = 0

    def expected(self, frames: int = 1) -> Detection:
        """The face in the next frame, or so many on."""
        return moved(self.face, self.motion.way(self._next + frames - 1))

    def after(self, face: Detection | None) -> "Known":
        """What is known after the next frame, in which it was seen, or not."""
        if face is None:
            return dataclasses.replace(self, missed=self.missed + 1)
        return Known(face, self.motion.seen(self._next, face.box))

    @property
    def _next(self) -> int:
        return self.motion.frame + self.missed + 1


def _centre(face: Detection) -> np.ndarray:
    x, y, w, h = face.box
    return np.array([x + w / 2, y + h / 2])


def paired(expected: Sequence[Detection], faces: Sequence[Detection]) -> dict[int, int]:
    """Which of `faces` each of `expected` is: indices, nearest first, each used once."""
    if not expected or not faces:
        return {}
    x, y, w, h = np.array([one.box for one in expected]).T[..., None]
    other_x, other_y, other_w, other_h = np.array([one.box for one in faces]).T[:, None]
    size, other_size = np.sqrt(w * h), np.sqrt(other_w * other_h)
    across = np.abs(x + w / 2 - other_x - other_w / 2)
    down = np.abs(y + h / 2 - other_y - other_h / 2)
    distance = np.maximum(across, down) / np.sqrt(size * other_size)
    ratio = size / other_size
    near = (distance < _REACH) & (ratio < _AT_ONCE) & (ratio > 1 / _AT_ONCE)
    pairs: dict[int, int] = {}
    taken = set()
    for _, i, j in sorted((distance[i, j], int(i), int(j)) for i, j in np.argwhere(near)):
        if i not in pairs and j not in taken:
            pairs[i] = j
            taken.add(j)
    return pairs


def advanced(known: Sequence[Known], faces: Sequence[Detection]) -> list[Known]:
    """The faces known after one more frame, in which `faces` were found."""
    pairs = paired([one.expected() for one in known], faces)
    after = [
        one.after(faces[pairs[i]] if i in pairs else None)
        for i, one in enumerate(known)
        if i in pairs or one.missed < _PATIENCE
    ]
    seen = set(pairs.values())
    news = (face for j, face in enumerate(faces) if j not in seen)
    return after + [Known(face, Motion.begun(0, face.box)) for face in news]


def _contains_centre(face: Detection, others: Sequence[Detection]) -> bool:
    """Whether the middle of any other face lies in this one's box: then this one is not beside it."""
    x, y, w, h = face.box
    return any(x < cx < x + w and y < cy < y + h for cx, cy in map(_centre, others))


def is_part(face: Detection, wholes: Sequence[Detection]) -> bool:
    """Whether a face is what a tile shows of a larger one that is known, and so hidden anyway."""
    return any(
        whole.box[2] > _PART * face.box[2] and _contains_centre(whole, [face]) for whole in wholes
    )


def _same(one: Detection, other: Detection) -> bool:
    return len(face_detection.merge([one, other])) == 1


def is_turned(one: Detection, other: Detection) -> bool:
    """Whether two views of a face disagree on which way is up: YuNet takes some chins for foreheads."""
    if one.keypoints is None or other.keypoints is None:
        return False
    mine, its = (face.alignment().a for face in (one, other))
    return abs(cmath.phase(mine * its.conjugate())) > _TURNED


def missing(expected: Sequence[Detection], found: Sequence[Detection]) -> list[Detection]:
    """Those expected faces that are not among those found, or were found another way up."""
    pairs = paired(expected, found)
    return [
        face
        for i, face in enumerate(expected)
        if i not in pairs or is_turned(face, found[pairs[i]])
    ]


def _is_better(face: Detection, other: Detection) -> bool:
    """Whether one view of a face is clearly better than the other."""
    margin = 0 if is_turned(face, other) else _CLEARLY
    return face.confidence > other.confidence + margin


def joined(stable: Sequence[Detection], others: Iterable[Detection]) -> list[Detection]:
    """All faces; of those in both, the one in `stable`, unless the other is clearly the better one.

    Where the two disagree on which way is up, the more confident one is taken.
    """
    result = list(stable)
    for other in others:
        place = next((i for i, face in enumerate(result) if _same(face, other)), None)
        if place is None:
            result.append(other)
            continue
        mine = result[place]
        if _is_better(other, mine):
            result[place] = other
        elif other.confidence > mine.confidence:
            result[place] = dataclasses.replace(mine, confidence=other.confidence)
    return face_detection.merge(result)


def coarse_factor(shape: Sequence[int], area: int) -> float:
    """The factor by which a frame of (height, width, ...) has about `area` px, for the coarse pass."""
    shorter = min(shape[:2])
    factor = min(_COARSE_LARGEST, (area / (shape[0] * shape[1])) ** 0.5)
    if factor < 1 and 0.88 * factor < 1 / round(1 / factor) < 1.06 * factor:
        return 1 / round(1 / factor)  # quick to resize by
    whole = shorter * factor // _STRIDE * _STRIDE  # no time is spent on padding
    return whole / shorter if whole else factor


class RegionDetector:
    """A detector, threads that share its work, and looks at single places."""

    def __init__(self, min_confidence: float, rotations: bool, threads: int | None):
        self.detector = Detector(min_confidence, rotations, threads=1)
        self.pool = futures.ThreadPoolExecutor(threads or min(available_cores(), 4))

    def _detect_near(
        self, picture: Picture, face: Detection, threshold: float, reach: float
    ) -> Detection | None:
        """The face as it is now if it is near its place; its source stays, as a look cannot tell."""
        usual = face.alignment()
        x, y, w, h = geometry.CANONICAL_BOX
        ratio = _FACE / w
        shift = complex(_SIDE, _SIDE) / 2 - ratio * complex(x + w / 2, y + h / 2)
        alignment = geometry.Alignment(usual.a * ratio, usual.b * ratio + shift)
        image, shown = picture.frame, alignment
        if picture.coarse is not None and alignment.scale < picture.factor:  # that is fine enough
            image = picture.coarse
            shown = geometry.Alignment(alignment.a / picture.factor, alignment.b)
        try:
            view = geometry.extract(image, shown, _SIDE, quick=True)
        except ValueError:  # it has left the frame
            return None
        rows = self.detector.rows(view, threshold)
        away = np.abs(rows[:, :2] + rows[:, 2:4] / 2 - _SIDE / 2).max(1) / _FACE
        fits = (rows[:, 2] * _AT_ONCE > _FACE) & (rows[:, 2] < _FACE * _AT_ONCE) & (away < reach)
        if not fits.any():
            return None
        # Rather this face than its neighbour.
        row = rows[fits][np.argmax((rows[:, 14] - away / 2)[fits])].astype(np.float64)
        # As of the passes with rotation: the box has the size that the face's turn comes closest to.
        lying = np.sin(np.angle(alignment.a)) ** 2
        size = (row[2:4] * (1 - lying) + row[3:1:-1] * lying) / alignment.scale
        corner = alignment.invert(row[:2] + row[2:4] / 2) - size / 2
        return Detection(
            box=tuple(float(v) for v in (*corner, *size)),
            keypoints=alignment.invert(row[4:14].reshape(5, 2)).astype(np.float32),
            confidence=min(float(row[14]), 1.0),
            source=FaceSource.LOW_CONFIDENCE
            if face.source == FaceSource.LOW_CONFIDENCE
            else FaceSource.DETECTED,
        )

    def detect_known(self, picture: Picture, face: Detection) -> Detection | None:
        """The face as it is now; turned over, where that shows a better one."""
        seen = self._detect_near(picture, face, _CONFIDENCE_OF_KNOWN, _REACH)
        if seen is not None and seen.confidence >= _LOW_CONFIDENCE:
            return seen
        if (
            seen is not None
            and not 1 / _MAX_SIZE_CHANGE < seen.box[2] / face.box[2] < _MAX_SIZE_CHANGE
        ):
            seen = None
        if face.keypoints is None or min(face.box[2:]) < REDETECTION_WIDTH:
            return seen
        points = (2 * _centre(face) - face.keypoints).astype(np.float32)
        over = dataclasses.replace(face, keypoints=points)
        return self._detect_near(picture, over, _TURNED_OVER, _CONFIRM_REACH) or seen

    def coarse_detection(self, frame: Image, factor: float) -> tuple[Picture, list[Detection]]:
        """A coarse pass over a frame resized by `factor`: all that may be a face."""
        if min(frame.shape[:2]) < face_detection.SMALLEST:
            return Picture(frame), []
        coarse = lazy_pictures.resized(frame, factor)
        return Picture(frame, coarse, factor), self.detector.coarse_detection(frame, coarse, _FAINT)

    def confirmed(
        self,
        picture: Picture,
        coarse_faces: Sequence[Detection],
        expected: Sequence[Detection] = (),
    ) -> list[Detection]:
        """Those faces of a glance of which it is sure, that are expected, or that a look confirms."""
        known = set(paired(expected, coarse_faces).values())
        confirm = functools.partial(self._confirmed, picture)
        news = [i for i in range(len(coarse_faces)) if i not in known]
        right = dict(
            zip(news, self.pool.map(confirm, [coarse_faces[i] for i in news]), strict=True)
        )
        faces = (right.get(i, face) for i, face in enumerate(coarse_faces))
        return [face for face in faces if face is not None]

    def _confirmed(self, picture: Picture, face: Detection) -> Detection | None:
        """The face as the glance saw it; a faint one has to be seen again as clearly as any other."""
        if face.confidence < self.detector.min_confidence:
            seen = self._detect_near(picture, face, self.detector.min_confidence, _CONFIRM_REACH)
            return seen and dataclasses.replace(face, confidence=seen.confidence)
        if face.confidence >= SURE or min(face.box[2:]) < REDETECTION_WIDTH:
            return face
        return self._detect_near(picture, face, UNCONFIRMED, _CONFIRM_REACH) and face

    def with_passes(
        self, frame: Image, coarse_faces: Sequence[Detection], found: Sequence[Detection]
    ) -> list[Detection]:
        """What a glance at a frame has found, and `found` in other passes over it."""

        def is_known(face: Detection) -> bool:
            """Whether `joined` takes no more than the confidence of it."""
            return any(_same(face, other) and not _is_better(face, other) for other in coarse_faces)

        known = [face for face in found if is_known(face)]
        unknown = [face for face in found if not is_known(face)]
        confirmed_faces = self.detector.confirm(frame, unknown, coarse_faces)
        return joined(coarse_faces, [*known, *confirmed_faces])

    def followed(
        self, picture: Picture, found: Sequence[Detection], expected: Sequence[Detection]
    ) -> list[Detection]:
        """`found`, and those expected ones that are not among them but are seen in a look."""
        detect = functools.partial(self.detect_known, picture)
        sure = [face for face in found if face.confidence >= SURE]
        seen = [
            face
            for face in self.pool.map(detect, missing(expected, found))
            if face is not None
            and not (face.confidence < _LOW_CONFIDENCE and _contains_centre(face, sure))
        ]
        return joined(found, face_detection.merge(seen)) if seen else list(found)
