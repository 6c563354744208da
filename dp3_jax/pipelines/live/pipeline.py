"""Live video from a source to a sink: four stages in a thread each, joined by queues that drop the oldest.

    source -> watch (detect, track) -> render -> sink

What may be shown is decided in `release_policy`; here it holds that only what the renderer has returned
gets to the sink. A frame is not shown at all when the detector or the renderer fails on it, and it is dropped
when it waits while a newer one comes. A failure of the generator is none of the renderer's: it leaves a
cover.

A frame that waits for later ones to be searched is rendered meanwhile, and once more where they have changed
what is known of it: so waiting costs no time besides.
"""

import contextlib
import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.common.queues import LatestQueue
from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.media.live.sinks import Sink, SinkClosed
from dp3_jax.media.live.sources import Frame
from dp3_jax.pipelines.live.measurements import Meter
from dp3_jax.pipelines.live.persons import Persons
from dp3_jax.pipelines.live.quality_controller import Load, QualityController
from dp3_jax.pipelines.live.release_policy import ReleasePolicy, TrackedFrame
from dp3_jax.replacement.face_actions import FaceResult

# Frames, or what came of one search, that wait for a stage: only the newest where older ones may be
# dropped, as each one more that waits makes all after it later by the time that the stage takes.
_DEPTH, _DEPTH_WAITING = 1, 2
_INTERVAL = 1.0  # s between two looks at the load
_SOURCE_ENDING = 0.5  # s that the source gets to close; it may wait for input that never comes
# A renderer that has met so many people, all of whom it remembers, is replaced when nobody is in the picture.
_MAX_PERSONS = 100
_MAX_NOBODIES = 2000  # what passed for a face for a moment; little is remembered of it

STAGES = ("source", "detect", "render", "sink")


@dataclasses.dataclass(frozen=True, eq=False)
class Rendered:
    """An anonymized frame u8[h, w, 3], with `seconds` and `arrived` as of `Frame`."""

    image: np.ndarray
    seconds: float
    arrived: float


@dataclasses.dataclass(frozen=True, eq=False)
class Searched:
    """What came of the search of a frame.

    Attributes:
      released: frames that may be shown now.
      ahead: the frame itself, if it is to wait.
    """

    released: list[TrackedFrame]
    ahead: TrackedFrame | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class RenderedAhead:
    """A frame that waits, what it was rendered into, and how often there had been new persons then."""

    tracked: TrackedFrame
    image: np.ndarray
    face_results: list[FaceResult]
    renewed: int


class Renders(Protocol):
    """What is needed of `clip_rendering.Renderer`."""

    def render(
        self, image: np.ndarray, faces: Sequence[tuple[Track, Observation]], *, cut: bool = False
    ) -> tuple[np.ndarray, list[FaceResult]]:
        """The frame with its faces anonymized, and what was done with each."""
        ...


class Painter:
    """Renders frames; a renderer that fails is replaced."""

    def __init__(self, new_renderer: Callable[[], Renders], persons: Persons | None = None):
        """Begins with a renderer that remembers nothing; `persons` says who each track becomes."""
        self._new_renderer = new_renderer
        self._renderer = new_renderer()
        self._persons = Persons(each_entering=True) if persons is None else persons
        self._seen: set[int] = set()
        self._scene = -1
        self._count = 0
        self._ahead: dict[int, RenderedAhead] = {}  # by number of the frame

    def paint_ahead(self, tracked: TrackedFrame, *, blurs: bool = False) -> None:
        """Renders a frame that may not be shown yet, for `paint`; what fails is left to that."""
        with contextlib.suppress(Exception):
            image, face_results = self._painted(tracked, blurs)
            made = RenderedAhead(tracked, image, face_results, self._persons.renewed)
            self._ahead[tracked.frame.number] = made

    def paint(
        self, tracked: TrackedFrame, *, blurs: bool = False
    ) -> tuple[np.ndarray, list[FaceResult]]:
        """The frame as it may be shown.

        Args:
          tracked: the frame.
          blurs: whether faces for which there is no time are blurred instead of getting new ones.

        Raises:
          ValueError: the renderer gave no frame of the same size; and whatever it raises.
        """
        ahead = self._ahead.get(tracked.frame.number)
        # Of those before it none will come any more.
        self._ahead = {n: one for n, one in self._ahead.items() if n > tracked.frame.number}
        if (
            ahead is not None
            and tracked.is_shown_like(ahead.tracked)
            and self._persons.renewed == ahead.renewed
            and not self._persons.renewing
        ):
            return ahead.image, ahead.face_results
        return self._painted(tracked, blurs)

    def _painted(self, tracked: TrackedFrame, blurs: bool) -> tuple[np.ndarray, list[FaceResult]]:
        if self._has_met_many() and not tracked.faces:
            self._renderer, self._seen = self._new_renderer(), set()
        cut, self._scene = tracked.scene != self._scene, tracked.scene
        # Counted as they are shown: where most are dropped, the last one shown is still the one before.
        self._count += 1
        seen = tracked.observations()
        numbers = self._persons.assign(seen)
        self._seen.update(numbers)
        if blurs:
            seen = [(_blurred(track, tracked.blurred), one) for track, one in seen]
        faces = [
            (
                dataclasses.replace(track, number=number),
                dataclasses.replace(observation, frame=self._count),
            )
            for number, (track, observation) in zip(numbers, seen, strict=True)
        ]
        image = tracked.frame.image
        try:
            shown, face_results = self._renderer.render(image, faces, cut=cut)
            if shown.shape != image.shape or shown.dtype != np.uint8:
                raise ValueError(f"the renderer gave {shown.dtype}{shown.shape}")
            if faces and (shown is image or len(face_results) != len(faces)):
                raise ValueError("the renderer left faces out")
        except Exception:
            self._renderer = self._new_renderer()
            raise
        return shown, face_results

    def _has_met_many(self) -> bool:
        persons = sum(number > 0 for number in self._seen)
        return persons > _MAX_PERSONS or len(self._seen) - persons > _MAX_NOBODIES


def _blurred(track: Track, blurred: frozenset[int]) -> Track:
    """A track, blurred where it is among those for which there is no time."""
    if track.number not in blurred or track.method is not None or track.keep:
        return track
    return dataclasses.replace(track, method="blur", reason="small")


class Pipeline:
    """Runs the stages; see the module."""

    def __init__(
        self,
        frames: Generator[Frame],
        policy: ReleasePolicy,
        new_renderer: Callable[[], Renders],
        sink: Sink,
        *,
        controller: QualityController,
        stopping: threading.Event,
        drop: bool = True,
        persons: Persons | None = None,
        generates: bool = False,
    ):
        """Takes the parts; starts nothing.

        Args:
          frames: of the source.
          policy: decides what may be shown.
          new_renderer: makes a renderer that remembers nothing.
          sink: takes what is shown.
          controller: sets how thoroughly is searched; observed once a second.
          stopping: set when no further frame is to be taken from the source; may be set from outside.
          drop: drop frames that wait when newer ones come; else the source waits.
          persons: who each track becomes; None: each another one.
          generates: new faces are made; where there is no time for all, some are blurred.
        """
        self.meter = Meter()
        self.failure = ""  # of the renderer, the last one in one line
        self.failures = 0  # frames in which it failed
        self.faces = 0  # in the last frame
        self.source_error: UserError | None = None  # why the source ended too early
        self._frames = frames
        self._policy = policy
        self._new_renderer = new_renderer
        self._sink = sink
        self._controller = controller
        self._generates = generates
        self._persons = persons
        self._drops = drop
        # What has been decided together waits and is dropped together.
        self._arrived: LatestQueue[Frame] = self._queue(drop, lambda frame: 1)
        self._searched: LatestQueue[Searched] = self._queue(drop, lambda one: len(one.released))
        self._ready: LatestQueue[Rendered] = self._queue(drop, lambda rendered: 1)
        self._queues = (self._arrived, self._searched, self._ready)
        self._stopping = stopping
        self._ended = threading.Event()  # the sink gets no more frames
        self._suppressed = 0
        self._error: BaseException | None = None

    def _queue(self, drop: bool, frames: Callable[[Any], int]) -> LatestQueue:
        """A queue before a stage; `frames` says how many an item of it stands for."""
        return LatestQueue(
            _DEPTH if drop else _DEPTH_WAITING,
            wait=not drop,
            on_drop=lambda item: self.meter.count("dropped", frames(item)),
        )

    def run(self, tick: Callable[[dict[str, Any]], None]) -> bool:
        """Runs until the source ends, nobody takes frames any more, or Ctrl-C is pressed.

        Args:
          tick: called once a second with what `Meter.interval` says.

        Returns:
          Whether it was interrupted by Ctrl-C.

        Raises:
          UserError: the sink fails; other exceptions are bugs. A source that breaks off only ends the run
            (see `source_error`): what came before it is still worth something.
        """
        work = (self._read, self._decide, self._render, self._show)
        threads = [
            threading.Thread(
                target=self._guarded, args=(one, *queue), name=f"live {name}", daemon=True
            )
            for one, name, *queue in itertools.zip_longest(work, STAGES, self._queues)
        ]
        for thread in threads:
            thread.start()
        interrupted = False
        try:
            due = time.perf_counter() + _INTERVAL
            # Not `join`: one that Ctrl-C interrupts takes the thread for ended ever after (Python 3.11).
            while not self._ended.wait(max(0.0, min(0.1, due - time.perf_counter()))):
                if time.perf_counter() >= due:
                    due += _INTERVAL
                    tick(self._observe())
        except KeyboardInterrupt:
            interrupted = True
        finally:
            self._stopping.set()
            # A source may wait for its next frame for ever; nothing comes of it any more.
            self._queues[0].close()
            # The others have a few frames to finish, and the sink is not to be closed under their feet.
            self._ended.wait()
            for thread in threads[1:]:
                thread.join()
            threads[0].join(_SOURCE_ENDING)
        if self._error is not None:
            raise self._error
        return interrupted

    def _observe(self) -> dict[str, Any]:
        recent = self.meter.interval()
        counts = recent["counts"]
        busiest = max((recent["busy"].get(name, 0.0) for name in STAGES[1:]), default=0.0)
        arrived, dropped = counts.get("arrived", 0), counts.get("dropped", 0)
        self._controller.observe(Load(arrived, dropped, busiest, recent["cpu"], recent["p95"]))
        return recent

    def _guarded(self, work: Callable[[], None], output: LatestQueue | None) -> None:
        """A stage, which ends what comes after it when it ends, and everything when it fails."""
        failed = True
        try:
            work()
            failed = output is None
        except SinkClosed:
            pass
        except BaseException as error:  # it belongs to the caller of `run`
            self._error = self._error or error
        if failed:
            self._stopping.set()
        for queue in self._queues if failed else (output,):
            queue.close()
        if output is None:
            self._ended.set()

    def _read(self) -> None:
        with contextlib.closing(self._frames) as frames:
            while not self._stopping.is_set():
                try:
                    with self.meter.stage("source"):
                        frame = next(frames, None)
                except UserError as error:
                    self.source_error = error
                    return
                if frame is None or self._stopping.is_set():
                    return
                self.meter.count("arrived")
                self._arrived.put(frame)

    def _decide(self) -> None:
        for frame in self._arrived:
            with self.meter.stage("detect"):
                decided = self._policy.take(frame, self._controller.level)
                ahead = self._policy.ahead() if self._drops else None
            self._pass_on(decided, ahead)
            # Rather a newer frame once it can go on than one that waits: looking takes what rendering needs.
            self._searched.wait_for_room()
        self._pass_on(self._policy.finish())

    def _pass_on(self, decided: list[TrackedFrame], ahead: TrackedFrame | None = None) -> None:
        self.meter.count("withheld", self._policy.suppressed - self._suppressed)
        self._suppressed = self._policy.suppressed
        if decided or ahead is not None:
            self._searched.put(Searched(decided, ahead))

    def _render(self) -> None:
        painter = Painter(self._new_renderer, self._persons)
        for searched in self._searched:
            for tracked in searched.released:
                self._render_one(painter, tracked)
            if searched.ahead is not None:
                with self.meter.stage("render"):
                    painter.paint_ahead(searched.ahead, blurs=self._generates)

    def _render_one(self, painter: Painter, tracked: TrackedFrame) -> None:
        """Renders a frame that may be shown, and hands it on."""
        try:
            with self.meter.stage("render"):
                shown, face_results = painter.paint(tracked, blurs=self._generates)
        except Exception as error:  # whatever it is, this frame is not shown
            self.failure = " ".join(str(error).split()) or type(error).__name__
            self.failures += 1
            self.meter.count("withheld")
            return
        self.faces = len(face_results)
        self.meter.done(face_result.done for face_result in face_results)
        self._ready.wait_for_room()  # of some that are released together none pushes another one out
        self._ready.put(Rendered(shown, tracked.frame.seconds, tracked.frame.arrived))

    def _show(self) -> None:
        for rendered in self._ready:
            with self.meter.stage("sink"):
                self._sink.write(rendered.image, rendered.seconds)
            self.meter.shown(time.perf_counter() - rendered.arrived)
