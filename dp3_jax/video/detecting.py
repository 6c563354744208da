"""Finding faces in frames that follow one another: a coarse pass over each, all passes over a few, and
looks at the places where a face must be, forward and backward from where one was seen.

The points of YuNet's coarse pass are the steadiest that can be had: a look at the canonical view moves them
by 5% of the distance of the eyes, each time differently. So a face has those of the coarse pass wherever that
sees it, in frames with all passes too, and those of a look only where it does not.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import Protocol

import numpy as np

from dp3_jax.anonymization import detection
from dp3_jax.anonymization.detection import Face
from dp3_jax.video import looking

CHUNK = 32  # frames
MEMORY = 8  # frames whose faces tell all that is known for the next

_CHUNK_BYTES = 200e6  # that the frames of a chunk may have
_AHEAD = 4  # a share of 1 / _AHEAD of the next chunk is begun while one is finished
_UPRIGHT_EVERY = 16  # frames, between those with all upright passes
_SHORT_SCENE = (
    3  # frames since one with all passes, from which on the last one before a cut has them too
)
_COARSE_AREA = 640 * 360  # px of the frame made small for the coarse pass
_TURNED = 512  # px, the longer side in the passes with rotation

_LIVE_TILE = 384  # px, the side of the pieces in which a whole frame is searched
_LIVE_TURNED = 352  # px, the longer side of a frame turned

Found = tuple[int, list[Face], bool]


class Numbered(Protocol):
    """A frame of a clip: its number, and u8[h, w, 3] RGB."""

    number: int
    image: np.ndarray


@dataclasses.dataclass(eq=False)
class _View:
    """A frame on which the passes have been started."""

    number: int
    image: np.ndarray
    cut: bool
    factor: float
    glance: futures.Future
    passes: list[futures.Future]


class VideoDetector(looking.Looker):
    """Finds the faces in the frames of a clip, a chunk of frames at a time.

    Every frame has a coarse pass; the last one of each chunk, the clip's first and those at a cut have all
    passes of `Detector`, and the one in the middle of a chunk the upright ones. A face that is seen in one
    frame is looked for in the next and in the one before, up to the chunk's first frame, so small and turned
    faces that only all passes can find are followed through the frames between. The result does not depend
    on the number of threads or their timing.
    """

    def __init__(
        self,
        min_confidence: float = detection.MIN_CONFIDENCE,
        rotations: bool = True,
        *,
        chunk: int = CHUNK,
        threads: int | None = None,
    ):
        """Loads the network, fetching it once.

        Args:
          min_confidence, rotations: as of `Detector`.
          chunk: frames that are held in memory at most; fewer of large ones, so that they have 200 MB.
          threads: by default one for each core, up to 4.

        Raises:
          UserError: as `Detector`.
        """
        super().__init__(min_confidence, rotations, threads)
        self._chunk = chunk

    def chunk_of(self, image: np.ndarray) -> int:
        """How many frames like u8[h, w, 3] are in a chunk."""
        return max(2, min(self._chunk, int(_CHUNK_BYTES // max(1, image.nbytes))))

    def find(
        self,
        frames: Iterable[Numbered],
        is_cut: Callable[[np.ndarray], bool],
        before: Sequence[Sequence[Face]] = (),
    ) -> Iterator[Found]:
        """Yields (number, faces, whether a cut is before it) of each frame, in order.

        Args:
          frames: of one clip, in order; at most a chunk and a quarter of them are held.
          is_cut: called once with each image, in order: whether a new scene begins with it.
          before: where a job goes on at the end of a chunk: what was found in the frames before, oldest
            first; the last 8 are enough, and none before the last cut.
        """
        recent = [list(faces) for faces in before]
        views: list[_View] = []
        since = 0 if recent else CHUNK  # frames since one with all passes
        begins = not recent
        finishing: futures.Future | None = None  # of the chunk before, which takes one core only
        with futures.ThreadPoolExecutor(1) as worker:
            for frame in frames:
                cut = bool(is_cut(frame.image))
                size = self.chunk_of(frame.image)
                if cut and views and since >= _SHORT_SCENE:
                    self._start_passes(views[-1])
                views.append(self._start(frame, cut))
                since += 1
                if cut or begins or len(views) == size:
                    self._start_passes(views[-1])
                    since = 0
                elif len(views) % _UPRIGHT_EVERY == 0 and since >= _SHORT_SCENE:
                    self._start_passes(views[-1], turned=0)
                begins = False
                if finishing is not None and len(views) >= size // _AHEAD:
                    found, recent = finishing.result()
                    yield from found
                    finishing = None
                if len(views) == size:
                    finishing = worker.submit(self._finish, views, recent)
                    views = []
            if finishing is not None:
                found, recent = finishing.result()
                yield from found
        if views:
            self._start_passes(views[-1])
            yield from self._finish(views, recent)[0]

    def _start(self, frame: Numbered, cut: bool) -> _View:
        factor = looking.coarse_factor(frame.image.shape, _COARSE_AREA)
        glance = self.pool.submit(self.glance, frame.image, factor)
        return _View(frame.number, frame.image, cut, factor, glance, [])

    def _start_passes(self, view: _View, turned: int = _TURNED) -> None:
        if not view.passes:
            passes = self.detector.passes(view.image, turned=turned, glanced=view.factor)
            view.passes.extend(self.pool.submit(one) for one in passes)

    def _finish(
        self, views: Sequence[_View], recent: list[list[Face]]
    ) -> tuple[list[Found], list[list[Face]]]:
        """The results of a chunk, and what was found in the last frames since a cut."""
        pictures, found = [], []
        for view in views:
            picture, faces = view.glance.result()
            if view.passes:
                passed = [face for one in view.passes for face in one.result()]
                faces = self.with_passes(view.image, faces, passed)
            pictures.append(picture)
            found.append(faces)
        cuts = [view.cut for view in views]
        self._follow(pictures, found, cuts, recent)
        backward = found[::-1]
        self._follow(pictures[::-1], backward, [False, *cuts[:0:-1]], [])
        results = []
        for view, faces in zip(views, backward[::-1], strict=True):
            recent = [] if view.cut else recent
            recent = [*recent, faces][-MEMORY:]
            results.append((view.number, faces, view.cut))
        return results, recent

    def _follow(
        self,
        pictures: Sequence[looking.Picture],
        found: list[list[Face]],
        cuts: Sequence[bool],
        recent: Sequence[list[Face]],
    ) -> None:
        """Adds to `found` the faces that looks see in frames next to those they were found in.

        Args:
          cuts: whether there is a cut between each frame and the one before it in this order.
          recent: what was found in the last frames before.
        """
        known: list[looking.Known] = []
        for faces in recent:
            known = looking.advanced(known, faces)
        for i, (picture, cut) in enumerate(zip(pictures, cuts, strict=True)):
            if cut:
                known = []
            found[i] = self.followed(picture, found[i], [one.expected() for one in known])
            known = looking.advanced(known, found[i])


@dataclasses.dataclass(frozen=True)
class Budget:
    """What is done in one frame of a live picture.

    Attributes:
      side: the longer side of the frame in the coarse pass, px; None for no coarse pass.
      scan: whether one piece of the whole frame, upright or turned, is searched in full detail.
    """

    side: int | None = 640
    scan: bool = True


class LiveDetector(looking.Looker):
    """Finds the faces in one frame after another at a cost that is steady and can be lowered.

    The passes of `Detector` are spread over the frames, one piece in each, in turn.
    """

    def __init__(
        self,
        min_confidence: float = detection.MIN_CONFIDENCE,
        rotations: bool = True,
        *,
        threads: int | None = None,
    ):
        """Loads the network, fetching it once; arguments and errors as of `VideoDetector`."""
        super().__init__(min_confidence, rotations, threads)
        self._turn = 0

    def detect(
        self, image: np.ndarray, predicted: Sequence[Face], budget: Budget | None = None
    ) -> list[Face]:
        """The faces that are found in a frame, the most confident first.

        Args:
          image: u8[h, w, 3] RGB.
          predicted: the faces that must be somewhere near their boxes in it. Those that no pass sees are
            looked for one by one, whatever the budget is: about 1 ms each.
          budget: of this frame; the default one if None.
        """
        budget = budget or Budget()
        picture, found, factor = looking.Picture(image), [], 0.0
        if budget.side is not None:
            height, width = image.shape[:2]
            area = round(budget.side**2 * min(height, width) / max(height, width))
            factor = looking.coarse_factor(image.shape, area)
        scan = self.pool.submit(self._scan, image, factor) if budget.scan else None
        if budget.side is not None:
            picture, found = self.glance(image, factor)
        if scan is not None:
            wholes = [*found, *predicted]
            news = [f for f in scan.result() if not looking.is_part(f, wholes)]
            found = self.with_passes(image, found, news)
        return self.followed(picture, found, predicted)

    def _scan(self, image: np.ndarray, glanced: float) -> list[Face]:
        """What the next piece shows of what a glance does not."""
        pieces = list(self.detector.passes(image, _LIVE_TILE, _LIVE_TURNED, glanced))
        if not pieces:
            return []
        self._turn = (self._turn + 1) % len(pieces)
        return pieces[self._turn]()
