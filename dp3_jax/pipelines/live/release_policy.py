"""Where the faces are in each live frame, and which frames may be shown.

A frame is shown only when all of this holds:

1. It was itself looked at by the detector, and the look did not fail: known faces are followed in every
   frame, whatever the load (in at most two frames in a row only by the motion in the picture), and those not
   found are carried on by their speed, ever wider, for `grace` frames of the tracker.
2. A pass over the whole picture, for faces that nobody knows yet, ran on it or on one of the next
   `Level.every` - 1 frames of the same scene. Until then it waits; faces that this pass finds are carried
   back into the frames that wait.
3. After the start, a cut, or a failure of the detector: a full pass (FULL) ran on this very frame or on an
   earlier one of the same scene since then. Nothing is shown before.
4. With a `delay`, that many later frames of the scene have been looked at too; faces found in them are
   carried back here as well: who comes into the picture is often seen a frame late.

Frames that wait when a scene ends or the detector fails are never shown.

A track that has not been clear in any frame so far is covered in a classic way, as in files: where plants
pass for faces, new faces on them would be worse, and drawing them takes the time that the true ones need.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from dp3_jax.detection import tracks
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.detection.live_detection import Budget, LiveDetector
from dp3_jax.detection.sequence_detection import NumberedFrame
from dp3_jax.detection.shots import CutDetector
from dp3_jax.detection.tracking import Linking, Tracker
from dp3_jax.detection.tracks import NOT_SURELY_A_FACE, Observation, Track
from dp3_jax.detection.vector_meter import BesideMeter, VectorMeter, Vectors, meter_for
from dp3_jax.pipelines.live.new_face_limits import NewFaceLimits
from dp3_jax.pipelines.live.quality_controller import Level

FULL = Budget(side=1280, scan=True)

_REMEMBERED = 1000  # frames after which nobody comes back as the same track

Detect = Callable[[np.ndarray, Sequence[Detection], Budget], list[Detection]]


@dataclasses.dataclass(eq=False)
class TrackedFrame:
    """A frame and where the faces are in it.

    Attributes:
      frame: as it came: `sequence_detection.NumberedFrame`, with whatever else it has.
      faces: tracks by number. Their first observation is the one in this frame, the second one the detection
        that it comes from: this one, an earlier one, or a later one if the face was carried back.
      scene: number of its scene; it changes at every cut.
      measured: tracks whose vectors are being measured in this frame.
      vectors: these vectors, when they are ready; None: none are.
      blurred: tracks for whose new faces there is no time.
    """

    frame: Any
    faces: dict[int, Track]
    scene: int
    measured: tuple[int, ...] = ()
    vectors: Future[Vectors] | None = None
    blurred: frozenset[int] = frozenset()

    def observations(self) -> list[tuple[Track, Observation]]:
        """Each track with its observation in this frame and what was measured of it; waits for that."""
        known: dict[int, FaceVector | None] = {}
        if self.vectors is not None:
            # A face that nothing is known of gets a new one all the same.
            with contextlib.suppress(Exception):
                known = dict(zip(self.measured, self.vectors.result(), strict=True))
        return [
            (track, dataclasses.replace(track.observations[0], vector=known.get(number)))
            for number, track in self.faces.items()
        ]

    def is_shown_like(self, other: "TrackedFrame") -> bool:
        """Whether the faces are known as they were in an earlier copy of the same frame."""
        return (
            self.blurred == other.blurred
            and self.faces.keys() == other.faces.keys()
            and all(
                track.method == other.faces[number].method
                and track.observations[0] is other.faces[number].observations[0]
                for number, track in self.faces.items()
            )
        )


class ReleasePolicy:
    """Looks at one frame after another and says which may be shown."""

    def __init__(
        self,
        detect: Detect,
        tracker: Tracker,
        is_cut: Callable[[np.ndarray], bool],
        *,
        delay: int = 0,
        low_confidence: str | None = None,
        meter: VectorMeter | None = None,
    ):
        """Knows nothing yet.

        Args:
          detect: u8[h, w, 3], predicted faces and the budget -> faces, as `detecting.LiveDetector.detect`.
          tracker: of the frames' size.
          is_cut: whether a frame is the first of a new scene; called once for each.
          delay: frames that are to be looked at after one before it is shown.
          low_confidence: method for faces that have never been clear; None for that of all.
          meter: of the faces' vectors; None leaves them out.
        """
        self._detect = detect
        self._tracker = tracker
        self._is_cut = is_cut
        self._beside = BesideMeter(meter)
        self._delay = delay
        self._waiting: list[TrackedFrame] = []
        self._undecided = 0  # of these, the last ones, since the last pass over the whole picture
        self._known: dict[int, Observation] = {}  # as they were seen last
        self._low_confidence = low_confidence
        self._high_confidence: dict[
            int, int
        ] = {}  # tracks once clear, and the frames they were last in
        self._limits = NewFaceLimits()
        self._scene = 0
        self._blind = True
        self._count = 0
        self.suppressed = 0  # frames that are never shown
        self.failure = ""  # of the detector, the last one in one line
        self.failures = 0  # frames in which the detector failed

    def take(self, frame: NumberedFrame, level: Level) -> list[TrackedFrame]:
        """Looks at the next frame; returns those that may be shown now, in order."""
        released: list[TrackedFrame] = []
        try:
            cut = self._is_cut(frame.image)
            if cut:
                self._scene += 1
                self._known.clear()
                released += self._flush()
            released += self._decide(frame, level, cut)
        except (
            Exception
        ) as error:  # whatever it is, the frame is not shown and the next one is tried
            self.failure = " ".join(str(error).split()) or type(error).__name__
            self.failures += 1
            released += self._flush()
            self.suppressed += 1
            self._blind = True
        return released

    def ahead(self) -> TrackedFrame | None:
        """The frame that was looked at last, as it would be shown now; None unless it waits.

        It may be rendered meanwhile. It may not be shown: what later frames say of it is still to come.
        """
        if not self._waiting:
            return None
        newest = self._waiting[-1]
        return self._treated([dataclasses.replace(newest, faces=dict(newest.faces))])[0]

    def finish(self) -> list[TrackedFrame]:
        """The frames that wait only for the delay."""
        return self._flush()

    def _flush(self) -> list[TrackedFrame]:
        """All that is decided; what is not is dropped."""
        decided = self._waiting[: len(self._waiting) - self._undecided]
        self.suppressed += self._undecided
        self._waiting, self._undecided = [], 0
        return self._treated(decided)

    def _treated(self, decided: list[TrackedFrame]) -> list[TrackedFrame]:
        """The frames, with what is to be done with those faces that are not surely ones."""
        for tracked in decided if self._low_confidence is not None else ():
            for number in tracked.faces.keys() - self._high_confidence.keys():
                track = tracked.faces[number]
                tracked.faces[number] = dataclasses.replace(
                    track,
                    method=self._low_confidence,
                    reason=NOT_SURELY_A_FACE,
                    low_confidence=True,
                )
        return decided

    def _decide(self, frame: NumberedFrame, level: Level, cut: bool) -> list[TrackedFrame]:
        full = cut or self._blind
        passes = full or self._undecided + 1 >= level.every
        self._count += 1
        budget = FULL
        if not full:
            scan = passes and self._count % level.scan_every < level.every
            budget = Budget(level.side if passes else None, scan)
        expected = [] if cut else self._tracker.expected(frame.number)
        found = self._detect(frame.image, expected, budget)
        seen = dict(self._tracker.update(frame.number, found, cut=cut))
        self._remember(seen)
        blurred = self._limits.blurred(self._to_be_new(seen), level)
        self._carry_back(seen, frame.image.shape, blurred)
        # What it was when it was seen says what it is in the frames where it is not.
        faces = {n: Track(n, (observation, self._known[n])) for n, observation in seen.items()}
        measured = {
            n: tracks.to_face(s)
            for n, s in seen.items()
            if s.source != FaceSource.INTERPOLATED and n not in blurred
        }
        vectors = self._beside.submit(
            self._count,
            frame.image,
            tuple(measured.values()),
            every=max(level.every, level.measure_every),
        )
        self._waiting.append(
            TrackedFrame(frame, faces, self._scene, tuple(measured), vectors, blurred)
        )
        self._undecided = 0 if passes else self._undecided + 1
        self._blind = False
        if self._undecided:
            return []
        ready = max(0, len(self._waiting) - self._delay)
        released, self._waiting = self._waiting[:ready], self._waiting[ready:]
        return self._treated(released)

    def _to_be_new(self, seen: Mapping[int, Observation]) -> dict[int, Observation]:
        """Those faces that are not blurred anyway."""
        if self._low_confidence is None:
            return dict(seen)
        return {n: observation for n, observation in seen.items() if n in self._high_confidence}

    def _carry_back(
        self, seen: Mapping[int, Observation], shape: Sequence[int], blurred: frozenset[int]
    ) -> None:
        """Adds faces to the frames that wait and do not have them yet."""
        height, width = shape[:2]
        for earlier in self._waiting:
            for number in seen.keys() - earlier.faces.keys():
                there = tracks.extrapolate(
                    seen[number], np.zeros(2), earlier.frame.number, width, height
                )
                earlier.faces[number] = Track(number, (there, seen[number]))
                earlier.blurred |= blurred & {number}

    def _remember(self, faces: dict[int, Observation]) -> None:
        lost = {
            n for n, observation in faces.items() if observation.source == FaceSource.INTERPOLATED
        }
        self._known = {n: self._known.get(n, s) if n in lost else s for n, s in faces.items()}
        for number, observation in faces.items():
            if number in self._high_confidence or observation.confidence >= tracks.HIGH_CONFIDENCE:
                self._high_confidence[number] = observation.frame
        if faces:
            now = max(observation.frame for observation in faces.values())
            self._high_confidence = {
                n: at for n, at in self._high_confidence.items() if now - at <= _REMEMBERED
            }


def new_release_policy(
    size: tuple[int, int],
    rate: float,
    method: str,
    min_confidence: float,
    *,
    delay: int,
    motion: str = "none",
) -> ReleasePolicy:
    """A watch whose networks have been used once: the first time is slow.

    Args:
      size: (width, height) of the frames, px.
      rate: frames a second, about.
      method: by which faces are treated.
      min_confidence: of a detection.
      delay: as of `ReleasePolicy`.
      motion: what new faces follow, as of `vectors.limited_to`.

    Raises:
      UserError: as `face_detection.Detector`.
    """
    detect = LiveDetector(min_confidence).detect
    nothing = np.zeros((size[1], size[0], 3), np.uint8)
    detect(nothing, [], FULL)
    tracker = Tracker(*size, Linking.at_rate(rate))
    # As in files, a new face on what may be none would be worse than a blur.
    low_confidence = "blur" if method == "generate" else None
    meter = meter_for(method, motion, rate, live=True)
    if meter is not None:
        meter(0, nothing, [Detection((0.0, 0.0, 100.0, 100.0), None, 1.0)])
    return ReleasePolicy(
        detect,
        tracker,
        CutDetector().update,
        delay=delay,
        low_confidence=low_confidence,
        meter=meter,
    )
