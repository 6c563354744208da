"""Finding faces: YuNet (Wu et al., 2023, through OpenCV) over scales, tiles and rotations.

A face that is missed is shown to everyone; a dog that is taken for a face is a blemish. So recall comes
before precision: every pass may only add faces, and a second look at each takes away only what it is sure of.
"""

import contextlib
import dataclasses
import functools
import itertools
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from dp3_jax.common import assets
from dp3_jax.common.cores import available_cores
from dp3_jax.common.errors import UserError
from dp3_jax.common.opencv import one_thread_each, quiet_opencv
from dp3_jax.detection import pyramid
from dp3_jax.detection.detections import Detection, FaceSource, merge, once_each
from dp3_jax.detection.pyramid import COARSEST, TILE, Pyramid, scales, tiles
from dp3_jax.vision import geometry

MIN_CONFIDENCE = 0.5

Pass = Callable[[], list[Detection]]  # one call of the network

SMALLEST = 16  # px, the width of the smallest face that is looked for

_ROTATIONS = (90, 135, 180, 225, 270)  # degrees; upright passes see up to 45
_ROTATED_SIDE = 640  # px, the longer side in the passes with rotation
_DIAGONAL = (
    0.7  # of that in the diagonal ones, which only see better what the two beside them see too
)
_ROTATED_EXTRA = 0.15  # more confidence asked of a face found in a rotated pass
# Every face of at least REDETECTION_WIDTH is detected again, upright and at the size YuNet knows best. Of 399
# detections above SURE in the shared photos all were confirmed with 0.67 or more; hands, shirts, bricks and
# gaps between two faces are not found again at all, or with next to no confidence.
REDETECTION_WIDTH = 24  # px; a smaller one is only covered, and a speck too much does not matter
_REDETECTION_MARGIN = 32  # canonical px
SURE = 0.85  # a face found with this confidence stays whatever the second look says
UNCONFIRMED = 0.1  # below, the second look denies a face
_UNCONFIRMED_ROTATED = 0.3  # upside-down leaves and fur look like faces more often
_PRECISE = 0.6  # from here on the second look's five points are taken
_MIN_CONFIDENCE_OF_NEW = 0.3  # confidence asked of a face that was made
_COARSE_SIDE = 128  # px, the longer side for the border in a glance
_BORDER = 0.25  # of the side: black round the coarsest pass, for faces cut off by the frame
_MAX_THREADS = 4  # each has a network with up to 100 MB of activations for a tile


class Detector:
    """YuNet with its passes; keeps its networks between calls, which may come from several threads."""

    def __init__(
        self,
        min_confidence: float = MIN_CONFIDENCE,
        rotations: bool = True,
        threads: int | None = None,
    ):
        """Loads the network, fetching it once.

        Args:
          min_confidence: faces below are not reported.
          rotations: look for faces in the frame turned by 90, 180 and 270 degrees too.
          threads: that share the passes over a frame, which changes nothing but the time; by default one
            for each core, up to 4.

        Raises:
          UserError: a value out of range, OpenCV is missing, or the network cannot be fetched.
        """
        if not 0 < min_confidence <= 1:
            raise UserError(f"the least confidence {min_confidence} is not above 0 and up to 1")
        try:
            import cv2  # noqa: F401
        except ImportError as error:
            raise UserError(
                "face detection needs OpenCV: pip install opencv-python-headless"
            ) from error
        self.min_confidence = min_confidence
        self.rotations = rotations
        self._path = str(assets.fetch("yunet"))
        self._threads = min(available_cores(), _MAX_THREADS) if threads is None else threads
        self._idle: queue.LifoQueue = queue.LifoQueue()  # networks; a call has one for itself
        self._idle.put(self._new_network())
        self._pool = futures.ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    def _new_network(self) -> Any:
        import cv2

        with quiet_opencv():
            return cv2.FaceDetectorYN.create(self._path, "", (320, 320), nms_threshold=0.3)

    @contextlib.contextmanager
    def _network(self) -> Iterator[Any]:
        """A network that no other thread uses, made where all are in use."""
        try:
            network = self._idle.get_nowait()
        except queue.Empty:
            network = self._new_network()
        try:
            yield network
        finally:
            self._idle.put(network)

    def _all(self, tasks: Iterable[Callable[[], list[Detection]]]) -> list[Detection]:
        """The faces of all tasks, in the order of the tasks."""
        if self._pool is None:
            return [face for task in tasks for face in task()]
        started = [self._pool.submit(task) for task in tasks]
        return [face for future in started for face in future.result()]

    def rows(self, image: np.ndarray, threshold: float) -> np.ndarray:
        """One call of YuNet: f32[n, 15], box, five points and score in px of `image` (u8 RGB)."""
        import cv2

        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        with self._network() as network:
            network.setInputSize((bgr.shape[1], bgr.shape[0]))
            network.setScoreThreshold(threshold)
            _, rows = network.detect(bgr)
        if rows is None:
            return np.zeros((0, 15), np.float32)
        return rows[np.isfinite(rows).all(1) & (rows[:, 2] >= 4) & (rows[:, 3] >= 4)]

    def _in_tile(
        self, tile: np.ndarray, left: int, top: int, scale: np.ndarray, threshold: float = 1.0
    ) -> list[Detection]:
        corner = np.array([left, top])
        rows = self.rows(tile, min(threshold, self.min_confidence))
        return _faces(rows, lambda p: (p + corner) / scale, FaceSource.DETECTED)

    def _with_border(self, image: np.ndarray, scale: np.ndarray) -> list[Detection]:
        """Faces that fill the frame or are cut off by it: a coarse look with black around."""
        import cv2

        border = round(_BORDER * max(image.shape[:2]))
        image = cv2.copyMakeBorder(np.asarray(image), *(border,) * 4, cv2.BORDER_CONSTANT)
        rows = self.rows(image, self.min_confidence)
        return _faces(rows, lambda p: (p - border) / scale, FaceSource.DETECTED)

    def _rotated(self, image: np.ndarray, scale: np.ndarray, degrees: float) -> list[Detection]:
        turned, turn = pyramid.turned(image, degrees)
        rows = self.rows(turned, min(1.0, self.min_confidence + _ROTATED_EXTRA))
        found = []
        faces = _faces(rows, lambda p: turn.invert(p) / scale, FaceSource.ROTATED)
        for face, row in zip(faces, rows.astype(np.float64), strict=True):
            # The box round a tilted box is too large: it gets the size that its turn comes closest to.
            x, y, w, h = face.box
            lying = np.sin(np.radians(degrees)) ** 2
            own = row[2:4] * (1 - lying) + row[3:1:-1] * lying
            width, height = own / scale
            box = (x + (w - width) / 2, y + (h - height) / 2, width, height)
            found.append(dataclasses.replace(face, box=tuple(float(v) for v in box)))
        return found

    def passes(
        self,
        frame: np.ndarray,
        tile: int = TILE,
        turned: int = _ROTATED_SIDE,
        coarse_faces: float = 0.0,
        finest: float = np.inf,
    ) -> list[Pass]:
        """Every call of the network for a frame, the large ones first; each gives faces in the frame's px.

        Args:
          frame: u8[h, w, 3] RGB.
          tile: the most px that a tile's side has.
          turned: the longer side in the passes with rotation, px; 0 for none of these.
          coarse_faces: the factor of a `coarse_detection` over the frame; what that sees is left out.
          finest: the frame is resized by this factor instead of larger ones.
        """
        sizes = Pyramid(frame)
        return [
            one(sizes) for one in self._planned(frame.shape, tile, turned, coarse_faces, finest)
        ]

    def one_pass(
        self, frame: np.ndarray, turn: int, tile: int, turned: int, coarse_faces: float
    ) -> list[Detection]:
        """The faces of one of these calls, that at place `turn` of them all, over and over again."""
        planned = list(self._planned(frame.shape, tile, turned, coarse_faces, np.inf))
        return planned[turn % len(planned)](Pyramid(frame))() if planned else []

    def _planned(
        self, shape: Sequence[int], tile: int, turned: int, coarse_faces: float, finest: float
    ) -> Iterator[Callable[[Pyramid], Pass]]:
        """What makes each call when it is given the frame, of this shape; the rest is as of `passes`."""
        longer = max(shape[:2])
        if min(shape[:2]) < SMALLEST:
            return

        def tiled(sizes: Pyramid, factor: float, rows: slice, columns: slice) -> Pass:
            image = sizes.resized(factor)
            part = image[rows, columns]
            return functools.partial(
                self._in_tile, part, columns.start, rows.start, sizes.scale(image)
            )

        def bordered(sizes: Pyramid, factor: float) -> Pass:
            small = sizes.resized(factor)
            return functools.partial(self._with_border, small, sizes.scale(small))

        def rotated(sizes: Pyramid, factor: float, degrees: float) -> Pass:
            image = sizes.resized(factor)
            return functools.partial(self._rotated, image, sizes.scale(image), degrees)

        factors = {min(factor, finest) for factor in scales(*shape[:2])}
        for factor in sorted((f for f in factors if f > 1.2 * coarse_faces), reverse=True):
            height, width = (max(1, round(length * factor)) for length in shape[:2])
            for down, across in itertools.product(tiles(height, tile), tiles(width, tile)):
                parts = {"rows": slice(*down), "columns": slice(*across)}
                yield functools.partial(tiled, factor=factor, **parts)
        if not coarse_faces:
            yield functools.partial(bordered, factor=min(1.0, COARSEST / 2 / longer))
        if self.rotations and turned:
            # Upright passes see 45 degrees to each side, and so do these.
            for degrees in _ROTATIONS:
                side = turned * (_DIAGONAL if degrees % 90 else 1.0)
                yield functools.partial(rotated, factor=min(1.0, side / longer), degrees=degrees)

    def coarse_detection(
        self, frame: np.ndarray, coarse: np.ndarray, threshold: float = 1.0
    ) -> list[Detection]:
        """What one pass over a frame made small and one with a border find.

        Args:
          frame: u8[h, w, 3] RGB.
          coarse: the same, resized.
          threshold: confidence of what is given, where that is less than the detector's own.
        """
        sizes = Pyramid(frame, coarse)
        small = sizes.resized(min(1.0, _COARSE_SIDE / max(frame.shape[:2])))
        found = self._in_tile(coarse, 0, 0, sizes.scale(coarse), threshold)
        found += self._with_border(small, sizes.scale(small))
        height, width = frame.shape[:2]
        return merge([f for f in found if _touches(f.box, width, height)])

    def _redetected(self, frame: np.ndarray, face: Detection) -> list[Detection]:
        """The face with the points found in its canonical view; none when there is no face in it."""
        if min(face.box[2:]) < REDETECTION_WIDTH:
            return [face]
        alignment = face.alignment().shifted(_REDETECTION_MARGIN, _REDETECTION_MARGIN)
        side = geometry.SIZE + 2 * _REDETECTION_MARGIN
        rows = self.rows(geometry.extract(frame, alignment, side), UNCONFIRMED)
        x, y, w, h = geometry.CANONICAL_BOX
        expected = np.array([x + w / 2, y + h / 2]) + _REDETECTION_MARGIN
        away = np.abs(rows[:, :2] + rows[:, 2:4] / 2 - expected).max(1)
        rows = rows[(away < 0.4 * w) & (rows[:, 2] > 0.6 * w) & (rows[:, 2] < 1.8 * w)]
        best = rows[np.argmax(rows[:, 14])] if len(rows) else None
        score = 0.0 if best is None else float(best[14])
        turned = face.source != FaceSource.DETECTED
        if face.confidence < SURE and score < (_UNCONFIRMED_ROTATED if turned else UNCONFIRMED):
            return []
        if score < _PRECISE:
            return [face]
        points = alignment.invert(best[4:14].reshape(5, 2)).astype(np.float32)
        return [dataclasses.replace(face, keypoints=points)]

    def are_faces(self, views: np.ndarray) -> np.ndarray:
        """Whether each of u8[B, S, S, 3] canonical views shows a face in its middle; bool[B]."""
        import cv2

        found = []
        for view in views:
            side = view.shape[0]
            border = side // 4
            image = cv2.copyMakeBorder(view, *(border,) * 4, cv2.BORDER_CONSTANT)
            rows = self.rows(image, _MIN_CONFIDENCE_OF_NEW)
            centre = border + side / 2
            x, y = rows[:, 0] + rows[:, 2] / 2 - centre, rows[:, 1] + rows[:, 3] / 2 - centre
            near = np.maximum(np.abs(x), np.abs(y)) < side / 4
            found.append(bool(np.any(near & (rows[:, 2] > side / 4))))
        return np.array(found, bool)

    def detect(self, frame: np.ndarray) -> list[Detection]:
        """All faces found in a frame, u8[h, w, 3] RGB, the most confident first; an empty list if none."""
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ValueError(f"detect takes u8[h, w, 3], got {frame.dtype}{frame.shape}")
        if self._pool is None:
            return self.confirm(frame, self._all(self.passes(frame)))
        with one_thread_each():
            return self.confirm(frame, self._all(self.passes(frame)))

    def confirm(
        self, frame: np.ndarray, found: Sequence[Detection], beside: Sequence[Detection] = ()
    ) -> list[Detection]:
        """What passes over a frame have found `beside` other faces: without repetitions, looked at again."""
        height, width = frame.shape[:2]
        merged = merge([f for f in found if _touches(f.box, width, height)])
        seen = self._all(functools.partial(self._redetected, frame, face) for face in merged)
        seen = once_each(seen)
        upright = any(
            f.source == FaceSource.DETECTED and f.confidence >= SURE for f in [*seen, *beside]
        )
        return [_judged(face, upright) for face in seen]


def _judged(face: Detection, upright: bool) -> Detection:
    """The face, called unsure where a weak one is turned in a frame with `upright` ones: often a hand."""
    if upright and face.source == FaceSource.ROTATED and face.confidence < SURE:
        return dataclasses.replace(face, source=FaceSource.LOW_CONFIDENCE)
    return face


def _touches(box: Sequence[float], width: int, height: int) -> bool:
    """Whether the box has its centre in the frame or a third of its area."""
    x, y, w, h = box
    right, down = min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)
    return right > 0 and down > 0 and right * down > w * h / 3


def _faces(rows: np.ndarray, to_frame, source: str) -> list[Detection]:
    """YuNet's rows as faces; `to_frame` takes f64[n, 2] points of the network's picture to the frame."""
    found = []
    for row in rows.astype(np.float64):
        x, y, w, h = row[:4]
        corners = to_frame(np.array([[x, y], [x + w, y + h]]))
        (left, top), (right, bottom) = corners.min(0), corners.max(0)
        box = (float(left), float(top), float(right - left), float(bottom - top))
        points = to_frame(row[4:14].reshape(5, 2)).astype(np.float32)
        found.append(Detection(box, points, float(min(row[14], 1.0)), source))
    return found
