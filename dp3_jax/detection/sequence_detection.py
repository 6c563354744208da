"""Finding faces in frames that follow one another: a coarse pass over keyframes, all passes over a few of
them, and looks at the places where a face must be, forward and backward from where one was seen. Between two
keyframes faces are carried by what their heads do in the picture; who is not found there is looked for.

The points of YuNet's coarse pass are the steadiest that can be had: a look at the canonical view moves them
by 5% of the distance of the eyes, each time differently. So a face has those of the coarse pass wherever that
sees it, in frames with all passes too, and those of a look only where it does not.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import NamedTuple, Protocol

import numpy as np

from dp3_jax.detection import carrying, face_detection, region_detection
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.keyframes import CHUNK, Schedule, Search
from dp3_jax.detection.motion import Step
from dp3_jax.media.video import lazy_pictures
from dp3_jax.media.video.lazy_pictures import Image

MEMORY = 8  # frames whose faces tell all that is known for the next

_CHUNK_BYTES = 200e6  # that the frames of a chunk may have
_AHEAD = 4  # a share of 1 / _AHEAD of the next chunk is begun while one is finished
_COARSE_AREA = 640 * 360  # px of the frame made small for the coarse pass
_TURNED = 512  # px, the longer side in the passes with rotation
_FINER = 4 / 3  # times as fine as the coarse pass is one beside it, in every second keyframe


class FrameDetections(NamedTuple):
    """What was found in a frame.

    Attributes:
      number: of the frame.
      faces: in it.
      cut: whether there is a cut before it.
      steps: how heads have come there from the frame before, by place in `faces`: of those that were
        followed; None where it cannot be told.
    """

    number: int
    faces: list[Detection]
    cut: bool
    steps: Mapping[int, Step | None]


class NumberedFrame(Protocol):
    """A frame of a clip: its number, and u8[h, w, 3] RGB."""

    number: int
    image: Image


class _View:
    """A frame, and the passes that have been started on it: none where it is not a keyframe."""

    def __init__(self, frame: NumberedFrame, cut: bool):
        self.number, self.image, self.cut = frame.number, frame.image, cut
        self.factor = region_detection.coarse_factor(frame.image.shape, _COARSE_AREA)
        self.coarse_detection: futures.Future | None = None
        self.passes: list[futures.Future] = []

    @functools.cached_property
    def grey(self) -> np.ndarray:
        """u8[h, w]."""
        return lazy_pictures.grey(self.image)

    @functools.cached_property
    def picture(self) -> region_detection.Picture:
        """The frame as it is looked at; waits for the coarse pass of a keyframe."""
        return (
            self.coarse_detection.result()[0]
            if self.coarse_detection
            else region_detection.Picture(self.image)
        )


class VideoDetector(region_detection.RegionDetector):
    """Finds the faces in the frames of a clip, a chunk of frames at a time.

    Keyframes have a coarse pass: one in so many frames, those that look much different from the last one, and
    those at a cut. The last frame of each chunk, the clip's first and those at a cut have all passes of
    `Detector`, and the one in the middle of a chunk the upright ones. A face that is seen in two keyframes is
    carried through the frames between where the motion in the picture agrees; any other is looked for in
    every next frame and in every one before, up to the chunk's first, so small and turned faces that only all
    passes can find are followed through the frames between. The result does not depend on the number of
    threads or their timing.
    """

    def __init__(
        self,
        min_confidence: float = face_detection.MIN_CONFIDENCE,
        rotations: bool = True,
        *,
        chunk: int = CHUNK,
        every: int = 4,
        threads: int | None = None,
    ):
        """Loads the network, fetching it once.

        Args:
          min_confidence, rotations: as of `Detector`.
          chunk: frames that are held in memory at most; fewer of large ones, so that they have 200 MB.
          every: frames from one keyframe to the next, see `interval`.
          threads: by default one for each core, up to 4.

        Raises:
          UserError: as `Detector`.
        """
        super().__init__(min_confidence, rotations, threads)
        self._chunk = chunk
        self._every = every

    def chunk_of(self, image: Image) -> int:
        """How many frames like u8[h, w, 3] are in a chunk."""
        return max(2, min(self._chunk, int(_CHUNK_BYTES // max(1, image.nbytes))))

    def find(
        self,
        frames: Iterable[NumberedFrame],
        is_cut: Callable[[Image], bool],
        before: Sequence[Sequence[Detection]] = (),
        last: Image | None = None,
    ) -> Iterator[FrameDetections]:
        """Yields what is in each frame, in order.

        Args:
          frames: of one clip, in order; at most a chunk and a quarter of them are held.
          is_cut: called once with each image, in order: whether a new scene begins with it.
          before: where a job goes on at the end of a chunk: what was found in the frames before, oldest
            first; the last 8 are enough, and none before the last cut.
          last: the picture before the first of these frames then.
        """
        recent = [list(faces) for faces in before]
        schedule = Schedule(self._every, last, not recent)
        previous = None if last is None else lazy_pictures.grey(last)
        views: list[_View] = []
        finishing: futures.Future | None = None  # of the chunk before, which takes one core only
        with futures.ThreadPoolExecutor(1) as worker:
            for frame in frames:
                cut = bool(is_cut(frame.image))
                size = self.chunk_of(frame.image)
                if cut and views:
                    self._search(views[-1], schedule.search_at_end())
                view, place = _View(frame, cut), len(views)
                last_one = place + 1 == size
                self._search(
                    view, schedule.search(frame.image, cut=cut, place=place, last=last_one)
                )
                views.append(view)
                if finishing is not None and len(views) >= size // _AHEAD:
                    found, recent = finishing.result()
                    yield from found
                    finishing = None
                if last_one:
                    finishing = worker.submit(self._finish, views, recent, previous)
                    previous, views = view.grey, []
            if finishing is not None:
                found, recent = finishing.result()
                yield from found
        if views:
            self._search(views[-1], Search.ALL)
            yield from self._finish(views, recent, previous)[0]

    def _search(self, view: _View, kind: Search) -> None:
        """Starts the passes of a search that have not been started."""
        if kind and view.coarse_detection is None:
            view.coarse_detection = self.pool.submit(self.coarse_detection, view.image, view.factor)
        if kind >= Search.FINER and not view.passes:
            turned = _TURNED if kind == Search.ALL else 0
            finest = _FINER * view.factor if kind == Search.FINER else np.inf
            passes = self.detector.passes(
                np.asarray(view.image), turned=turned, coarse_faces=view.factor, finest=finest
            )
            view.passes.extend(self.pool.submit(one) for one in passes)

    def _finish(
        self, views: Sequence[_View], recent: list[list[Detection]], previous: np.ndarray | None
    ) -> tuple[list[FrameDetections], list[list[Detection]]]:
        """The results of a chunk, and what was found in the last frames since a cut.

        Args:
          views: of its frames; the last one is a keyframe, and so are those at both sides of a cut.
          recent: what was found in the last frames before, since a cut.
          previous: u8[h, w], the frame before, grey.
        """
        bridge = _Bridge(self, views)
        scene, start = _Scene(recent), 0
        for end, view in enumerate(views):
            if view.coarse_detection is None:
                continue
            if view.cut:
                scene, previous = _Scene(), None
            bridge.forward(range(start, end + 1), scene, previous)
            previous, start = view.grey, end + 1
        keys = [i for i, view in enumerate(views) if view.coarse_detection is not None]
        scene = _Scene()
        for start, end in itertools.pairwise([len(views), *reversed(keys), -1]):
            if start < len(views) and views[start].cut:
                scene = _Scene()
            bridge.backward(range(start - 1, max(end, 0) - 1, -1), scene, is_key=end >= 0)
        results = []
        for i, (view, faces) in enumerate(zip(views, bridge.found, strict=True)):
            recent = [*([] if view.cut else recent), faces][-MEMORY:]
            results.append(FrameDetections(view.number, faces, view.cut, bridge.steps_of(i)))
        return results, recent

    def in_key(self, view: _View, expected: Sequence[Detection]) -> list[Detection]:
        """The faces that the passes over a keyframe find, and those expected ones that looks do."""
        picture, coarse_faces = view.coarse_detection.result()
        faces = self.confirmed(picture, coarse_faces, expected)
        if view.passes:
            passed = [face for one in view.passes for face in one.result()]
            faces = self.with_passes(view.image, faces, passed)
        return self.followed(picture, faces, expected)


class _Scene:
    """What is known of the faces up to a frame, in one direction of time."""

    def __init__(self, recent: Iterable[Sequence[Detection]] = ()):
        self.known: list[region_detection.Known] = []
        for faces in recent:
            self.add(faces)

    def add(self, faces: Sequence[Detection]) -> None:
        """Takes in what was found in the next frame."""
        self.known = region_detection.advanced(self.known, faces)

    def seen(self) -> list[region_detection.Known]:
        """Those that were found in the last frame."""
        return [one for one in self.known if not one.missed]


class _Bridge:
    """Finds in the frames of a chunk, keyframe by keyframe, who is known from other frames of it or before.

    Attributes:
      found: the faces in each frame.
    """

    def __init__(self, detector: VideoDetector, views: Sequence[_View]):
        self.found: list[list[Detection]] = [[] for _ in views]
        self._detector = detector
        self._views = views
        self._steps: dict[
            int, tuple[Detection, Step]
        ] = {}  # by the id of the face, which it keeps alive

    def steps_of(self, frame: int) -> dict[int, Step]:
        """As of `FrameDetections`."""
        known = (self._steps.get(id(face)) for face in self.found[frame])
        return {i: one[1] for i, one in enumerate(known) if one is not None}

    def forward(self, frames: range, scene: _Scene, previous: np.ndarray | None) -> None:
        """Goes on to the next keyframe.

        Args:
          frames: up to the keyframe.
          scene: what is known; moves on to the keyframe.
          previous: the keyframe before, grey; None where there is none in the scene.
        """
        known = [] if previous is None else scene.seen()
        chains = self._chains(known, [previous, *(self._views[i].grey for i in frames)])
        led = _led(known, chains, len(frames))
        lost = [one.expected(len(frames)) for one in scene.known if one.missed]
        key = frames[-1]
        self.found[key] = self._detector.in_key(self._views[key], [*led, *lost])
        self._carry(frames, known, chains, led)
        self._go_on(frames, scene)

    def backward(self, frames: range, scene: _Scene, *, is_key: bool) -> None:
        """Goes back to the keyframe before, or to the chunk's first frame.

        Args:
          frames: backward in time.
          scene: as of `forward`, of what comes after them.
          is_key: whether the last of them is a keyframe.
        """
        seen = scene.seen()
        if seen and is_key:
            there = region_detection.paired([one.expected() for one in seen], self.found[frames[0]])
            known = [one for i, one in enumerate(seen) if i not in there]
            after = self._views[frames[0] + 1].grey
            chains = self._chains(known, [after, *(self._views[i].grey for i in frames)])
            led = _led(known, chains, len(frames))
            picture = self._views[frames[-1]].picture
            self.found[frames[-1]] = self._detector.followed(picture, self.found[frames[-1]], led)
            self._carry(frames, known, chains, led)
        self._go_on(frames, scene)

    def _chains(
        self, known: Sequence[region_detection.Known], greys: Sequence[np.ndarray]
    ) -> list[carrying.Chain]:
        follow = functools.partial(carrying.chained, greys=greys)
        speeds = [one.motion.speed for one in known]
        return list(self._detector.pool.map(follow, [one.face for one in known], speeds))

    def _carry(
        self,
        frames: range,
        known: Sequence[region_detection.Known],
        chains: Sequence[carrying.Chain],
        led: Sequence[Detection],
    ) -> None:
        """Adds the faces between that the flow tells, and how heads have moved there."""
        for i, j in region_detection.paired(led, self.found[frames[-1]]).items():
            first, last, chain = known[i].face, self.found[frames[-1]][j], chains[i]
            between = carrying.carried(first, last, chain, len(frames))
            if between is None:
                continue
            for frame, face in zip(frames, between, strict=False):
                self.found[frame].append(face)
            if len(chain.steps) == len(frames):
                path = [first, *between, last]
                arrived = path[1:] if frames.step > 0 else path[:-1]
                for face, step in zip(arrived, chain.steps, strict=True):
                    self._steps[id(face)] = face, step if frames.step > 0 else step.back()

    def _go_on(self, frames: range, scene: _Scene) -> None:
        """Looks for those who are missing in each frame."""
        for i in frames:
            view = self._views[i]
            among = scene.known if view.coarse_detection is not None else scene.seen()
            expected = [one.expected() for one in among]
            self.found[i] = self._detector.followed(view.picture, self.found[i], expected)
            scene.add(self.found[i])


def _led(
    known: Sequence[region_detection.Known], chains: Sequence[carrying.Chain], count: int
) -> list[Detection]:
    """Where faces should be so many frames on: by the flow, else by how they moved before."""
    return [
        chain.faces[-1] if len(chain.faces) == count else one.expected(count)
        for one, chain in zip(known, chains, strict=True)
    ]
