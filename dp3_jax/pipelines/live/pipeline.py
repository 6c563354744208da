"""Live video from a source to a sink: four stages in a thread each, joined by queues that drop the oldest.

    source -> watch (detect, track) -> render -> sink

What may be shown is decided in `watching`; here it holds that only what the renderer has returned gets to
the sink. A frame is not shown at all when the detector or the renderer fails on it, and it is dropped when it
waits while a newer one comes. A failure of the generator is none of the renderer's: it leaves a cover.
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

# Frames, or groups of frames decided together, that wait for a stage: only the newest where older ones may be
# dropped, as each one more that waits makes all after it later by the time that the stage takes.
_DEPTH, _DEPTH_WAITING = 1, 2
_INTERVAL = 1.0  # s between two looks at the load
_SOURCE_ENDING = 0.5  # s that the source gets to close; it may wait for input that never comes
_LARGER = 1.15  # times as large as others is a face that is no longer too small
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
        self._too_small: set[int] = set()  # tracks that were in the last frame

    def paint(
        self, tracked: TrackedFrame, blurred_below: int = 0
    ) -> tuple[np.ndarray, list[FaceResult]]:
        """The frame as it may be shown.

        Args:
          tracked: the frame.
          blurred_below: px; smaller faces, which otherwise get new ones, are blurred.

        Raises:
          ValueError: the renderer gave no frame of the same size; and whatever it raises.
        """
        if self._has_met_many() and not tracked.faces:
            self._renderer, self._seen = self._new_renderer(), set()
        cut, self._scene = tracked.scene != self._scene, tracked.scene
        # Counted as they are shown: where most are dropped, the last one shown is still the one before.
        self._count += 1
        seen = tracked.observations()
        numbers = self._persons.assign(seen)
        self._seen.update(numbers)
        seen = self._without_small(seen, blurred_below)
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

    def _without_small(
        self, seen: Sequence[tuple[Track, Observation]], below: int
    ) -> list[tuple[Track, Observation]]:
        """The tracks of a frame, small ones to be blurred, as there is no time to draw all of them."""
        limits = {
            track.number: below * (_LARGER if track.number in self._too_small else 1.0)
            for track, _ in seen
        }
        self._too_small = {
            track.number for track, one in seen if max(one.box[2:]) < limits[track.number]
        }
        return [
            (
                dataclasses.replace(track, method="blur", reason="small")
                if track.number in self._too_small and track.method is None and not track.keep
                else track,
                one,
            )
            for track, one in seen
        ]

    def _has_met_many(self) -> bool:
        persons = sum(number > 0 for number in self._seen)
        return persons > _MAX_PERSONS or len(self._seen) - persons > _MAX_NOBODIES


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
          generates: new faces are made; where there is no time for all, small ones are blurred.
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
        # What has been decided together waits and is dropped together.
        self._arrived: LatestQueue[list[Frame]] = self._queue(drop)
        self._decided: LatestQueue[list[TrackedFrame]] = self._queue(drop)
        self._ready: LatestQueue[list[Rendered]] = self._queue(drop)
        self._queues = (self._arrived, self._decided, self._ready)
        self._stopping = stopping
        self._ended = threading.Event()  # the sink gets no more frames
        self._suppressed = 0
        self._error: BaseException | None = None

    def _queue(self, drop: bool) -> LatestQueue:
        return LatestQueue(
            _DEPTH if drop else _DEPTH_WAITING,
            wait=not drop,
            on_drop=lambda item: self.meter.count("dropped", len(item)),
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
                self._arrived.put([frame])

    def _decide(self) -> None:
        for (frame,) in self._arrived:
            with self.meter.stage("detect"):
                decided = self._policy.take(frame, self._controller.level)
            self._pass_on(decided)
            # Rather a newer frame once it can go on than one that waits: looking takes what rendering needs.
            self._decided.wait_for_room()
        self._pass_on(self._policy.finish())

    def _pass_on(self, decided: list[TrackedFrame]) -> None:
        self.meter.count("withheld", self._policy.suppressed - self._suppressed)
        self._suppressed = self._policy.suppressed
        if decided:
            self._decided.put(decided)

    def _render(self) -> None:
        painter = Painter(self._new_renderer, self._persons)
        for tracked in itertools.chain.from_iterable(self._decided):
            try:
                below = self._controller.level.blurred_below if self._generates else 0
                with self.meter.stage("render"):
                    shown, face_results = painter.paint(tracked, below)
            except Exception as error:  # whatever it is, this frame is not shown
                self.failure = " ".join(str(error).split()) or type(error).__name__
                self.failures += 1
                self.meter.count("withheld")
                continue
            self.faces = len(face_results)
            self.meter.done(face_result.done for face_result in face_results)
            self._ready.put([Rendered(shown, tracked.frame.seconds, tracked.frame.arrived)])

    def _show(self) -> None:
        for (rendered,) in self._ready:
            with self.meter.stage("sink"):
                self._sink.write(rendered.image, rendered.seconds)
            self.meter.shown(time.perf_counter() - rendered.arrived)
