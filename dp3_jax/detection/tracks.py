"""Tracks: where each person's face is in each frame of a clip, without a gap.

Where a face was not detected its box is carried over from the frames beside and made larger, the more so
the further away they are: what is not known for sure is hidden more widely. Lengths are measured in half box
widths and heights there, so that a box and the ellipse in it are both still covered: an ellipse moved by a
share s of its half axes lies in one that is 1 + s times as large.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from dp3_jax.common.choices import METHODS
from dp3_jax.common.errors import UserError
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.detection.kinds import FACE, TargetKind
from dp3_jax.detection.prediction import CALM, Motion, coasting
from dp3_jax.vision.geometry import Alignment

Box = tuple[float, float, float, float]

SOURCES = tuple(source for source in FaceSource if source is not FaceSource.ROTATED)

NOT_SURELY_A_FACE = "not surely a face"  # the reason of a track of low confidence, for people

# A face that is clear in any frame reaches more confidence; a plant or a lamp that passes for one does not.
HIGH_CONFIDENCE = 0.7

MIN_DILATION = (
    0.08  # by which an interpolated box is larger in any case: neighbours are seen inexactly
)
DILATION_PER_FRAME = 0.03  # for each frame to the nearest detection
MIN_PIXELS = 2.0  # by which it is wider and higher at least: small faces are found inexactly
MAX_DILATION = 1.0  # an interpolated box is at most twice as wide and high
_WINDOW = 8  # frames at one end of a gap that tell how the face moves there
_STRAIGHT = 4  # frames: over shorter gaps faces move on a straight line
_DECIMALS = 2  # of px; no detector is as precise, and files of an hour stay small
_CONFIDENCE_DECIMALS = 4


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Observation:
    """One face in one frame.

    Attributes:
      frame: number of the frame in presentation order, from 0.
      box: (x, y, width, height) in px of the upright frame, square ones; may reach
        out of it.
      keypoints: f32[n, 2] px, as `Detection.keypoints`; None if unknown.
      confidence: 0 to 1; 0 for interpolated ones.
      source: of SOURCES.
      vector: how it looks, as `face_vector.measure_raw` gave it; None if that was not measured.
      kind: what it is.
    """

    frame: int
    box: Box
    keypoints: np.ndarray | None
    confidence: float
    source: FaceSource = FaceSource.DETECTED
    vector: FaceVector | None = None
    kind: TargetKind = FACE

    def alignment(self) -> Alignment:
        """Where it lies: into its kind's canonical frame."""
        return self.kind.frame(self.box, self.keypoints)


@dataclasses.dataclass(frozen=True, eq=False)
class Track:
    """One person while they are on screen.

    Attributes:
      number: unique in the clip, from 1.
      observations: one for every frame from the first to the last, in order.
      keep: leave this face as it is.
      method: as in `face_actions.FaceAction`, or None for the one in the settings.
      reason: why it is kept or treated otherwise, for the record.
      low_confidence: it is not surely one of a face, and `method` is what that asked for.
    """

    number: int
    observations: tuple[Observation, ...]
    keep: bool = False
    method: str | None = None
    reason: str = ""
    low_confidence: bool = False

    @property
    def first(self) -> int:
        """Number of its first frame."""
        return self.observations[0].frame

    @property
    def last(self) -> int:
        """Number of its last frame."""
        return self.observations[-1].frame


@dataclasses.dataclass(frozen=True)
class Tracking:
    """What the first pass found in a clip.

    Attributes:
      frames: number of frames in the clip.
      width, height: of the upright frames, px.
      cuts: numbers of the first frames after a cut, rising.
      tracks: of all persons.
    """

    frames: int
    width: int
    height: int
    cuts: tuple[int, ...]
    tracks: tuple[Track, ...]


def to_face(observation: Observation) -> Detection:
    """The observation as the anonymizer takes it."""
    return Detection(
        observation.box,
        observation.keypoints,
        observation.confidence,
        observation.source,
        observation.kind,
    )


def from_face(frame: int, face: Detection) -> Observation:
    """A detection as an observation: to a hundredth of a px; one from a turned frame is a detection too."""
    source = FaceSource.DETECTED if face.source == FaceSource.ROTATED else face.source
    points = (
        None if face.keypoints is None else np.round(face.keypoints, _DECIMALS).astype(np.float32)
    )
    box = tuple(round(float(v), _DECIMALS) for v in face.box)
    confidence = round(float(face.confidence), _CONFIDENCE_DECIMALS)
    return Observation(frame, box, points, confidence, source, kind=face.kind)


def by_frame(tracking: Tracking) -> Callable[[int], list[tuple[Track, Observation]]]:
    """An index: gives the tracks that are in a frame, each with its observation there.

    Looking up costs time for the faces in the frame only; the index holds one entry for each observation.
    """
    index: dict[int, list[tuple[Track, Observation]]] = {}
    for track in tracking.tracks:
        for observation in track.observations:
            index.setdefault(observation.frame, []).append((track, observation))
    return lambda frame: list(index.get(frame, ()))


def shots(frames: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """(first frame, frame after the last) of the parts of a clip between its cuts."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < frames}), frames]
    return list(itertools.pairwise(edges))


def centre(box: Box) -> np.ndarray:
    """f64[2] px."""
    return np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])


def _size(box: Box) -> np.ndarray:
    return np.array(box[2:], np.float64)


def _relative(observation: Observation) -> np.ndarray | None:
    """Its points as shares of its box."""
    if observation.keypoints is None:
        return None
    return (observation.keypoints.astype(np.float64) - observation.box[:2]) / observation.box[2:]


def _interpolated(
    frame: int,
    middle: np.ndarray,
    size: np.ndarray,
    relative: np.ndarray | None,
    dilation: float,
    *,
    kind: TargetKind,
) -> Observation:
    """An observation that nobody saw; `dilation` makes its box larger than `size`."""
    points = None
    if relative is not None:
        points = np.round(middle - size / 2 + relative * size, _DECIMALS).astype(np.float32)
    size = size * (1 + min(MIN_DILATION + dilation, MAX_DILATION)) + MIN_PIXELS
    box = np.round(np.concatenate([middle - size / 2, size]), _DECIMALS)
    return Observation(frame, tuple(box.tolist()), points, 0.0, FaceSource.INTERPOLATED, kind=kind)


def velocity(known: Sequence[Observation], end: int) -> np.ndarray:
    """f64[2] px a frame: how a face moves at one end of the frames in which it is known.

    Args:
      known: observations in order.
      end: 0 for the first, -1 for the last.
    """
    way = -1 if end == 0 else 1  # of time: towards that end
    near = [s for s in known[:_WINDOW] if s.frame - known[0].frame <= _WINDOW][::-1]
    if end:
        near = [s for s in known[-_WINDOW:] if known[-1].frame - s.frame <= _WINDOW]
    return way * Motion.through([(way * s.frame, s.box) for s in near]).speed


def extrapolate(
    known: Observation, speed: np.ndarray, frame: int, width: int, height: int
) -> Observation:
    """Where a face may be in a frame after it was last seen, or before it was first seen.

    It comes to rest; its box grows so that it covers also a face that moves on (up to MOST_GROWTH). Its
    centre does not leave the frame: faces that come in or go out do so across the border.

    Args:
      known: the nearest observation.
      speed: f64[2] px a frame, at that observation and forward in time.
      frame: in which it is wanted, on either side.
      width, height: of the frames, px.
    """
    away = frame - known.frame
    start, size = centre(known.box), _size(known.box)
    way = speed * np.sign(away) * coasting(abs(away))
    edge = np.array([width, height], np.float64)
    middle = np.clip(start + way, np.minimum(start, 0), np.maximum(start, edge))
    short = np.linalg.norm((speed * away - way) / (size / 2))
    return _interpolated(
        frame,
        middle,
        size,
        _relative(known),
        DILATION_PER_FRAME * abs(away) + short,
        kind=known.kind,
    )


def _between(before: Sequence[Observation], after: Sequence[Observation]) -> list[Observation]:
    """Observations for the gap between two pieces of a track."""
    left, right = before[-1], after[0]
    gap = right.frame - left.frame
    a, b, size_a, size_b = centre(left.box), centre(right.box), _size(left.box), _size(right.box)
    tangents = np.zeros((2, 2))
    if gap >= _STRAIGHT:
        # What the speeds at both ends say of the middle of a long gap counts for less.
        tangents = np.array([velocity(before, -1), velocity(after, 0)])
        tangents = (tangents - (b - a) / gap) * gap * min(1.0, CALM / gap)
    ends = [r for r in (_relative(left), _relative(right)) if r is not None]
    interpolated = []
    for frame in range(left.frame + 1, right.frame):
        t = (frame - left.frame) / gap
        # Cubic Hermite interpolation, as its difference from the straight line.
        bend = t * (1 - t) ** 2 * tangents[0] - t**2 * (1 - t) * tangents[1]
        size = (1 - t) * size_a + t * size_b
        relative = (1 - t) * ends[0] + t * ends[-1] if ends else None
        dilation = DILATION_PER_FRAME * min(frame - left.frame, right.frame - frame)
        dilation += 2 * np.linalg.norm(bend / size)  # in half axes: the bend may be wrong
        middle = (1 - t) * a + t * b + bend
        interpolated.append(_interpolated(frame, middle, size, relative, dilation, kind=left.kind))
    return interpolated


def fill(known: Sequence[Observation]) -> tuple[Observation, ...]:
    """The observations with one for each frame between the first and the last.

    Args:
      known: in order, at most one a frame.
    """
    interpolated = [known[0]]
    for i in range(1, len(known)):
        if known[i].frame > known[i - 1].frame + 1:
            interpolated += _between(known[max(0, i - _WINDOW) : i], known[i : i + _WINDOW])
        interpolated.append(known[i])
    return tuple(interpolated)


def extend(
    known: Sequence[Observation], first: int, last: int, width: int, height: int
) -> tuple[Observation, ...]:
    """The observations of `fill` with more before and after them.

    Args:
      known: in order, at most one a frame.
      first, last: frames to extend to.
      width, height: of the frames, px.
    """
    start, end = velocity(known, 0), velocity(known, -1)
    before = (extrapolate(known[0], start, f, width, height) for f in range(first, known[0].frame))
    after = range(known[-1].frame + 1, last + 1)
    ahead = (extrapolate(known[-1], end, f, width, height) for f in after)
    return (*before, *fill(known), *ahead)


def _find(tracking: Tracking, number: int) -> Track:
    for track in tracking.tracks:
        if track.number == number:
            return track
    raise UserError(f"there is no track {number}; the numbers are those of the list of tracks")


def _replaced(tracking: Tracking, removed: Sequence[int], added: Sequence[Track]) -> Tracking:
    left = [track for track in tracking.tracks if track.number not in removed]
    ordered = sorted([*left, *added], key=lambda track: track.number)
    return dataclasses.replace(tracking, tracks=tuple(ordered))


def _next_number(tracking: Tracking) -> int:
    return max((track.number for track in tracking.tracks), default=0) + 1


def exclude(tracking: Tracking, number: int, reason: str = "by the tracks file") -> Tracking:
    """The tracking with one track left as it is in the picture.

    Raises:
      UserError: no track has the number; so for all edits.
    """
    track = dataclasses.replace(_find(tracking, number), keep=True, reason=reason)
    return _replaced(tracking, [number], [track])


def change_method(tracking: Tracking, number: int, method: str | None) -> Tracking:
    """The tracking with one track anonymized by another method; None for that of the settings."""
    if method not in (None, *METHODS):
        raise UserError(f"method {method!r} is not one of {', '.join(METHODS)}")
    track = dataclasses.replace(_find(tracking, number), method=method, low_confidence=False)
    return _replaced(tracking, [number], [track])


def add_box(
    tracking: Tracking, box: Box, first: int, last: int, method: str | None = None
) -> Tracking:
    """The tracking with a new face at one place over a span of frames, `last` included.

    It becomes a track of its own in each shot of the span: no track crosses a cut.
    """
    if not 0 <= first <= last < tracking.frames:
        raise UserError(
            f"frames {first} to {last} are not a span of a clip with frames 0 to {tracking.frames - 1}"
        )
    if method not in (None, *METHODS):
        raise UserError(f"method {method!r} is not one of {', '.join(METHODS)}")
    for start, stop in shots(tracking.frames, tracking.cuts):
        span = range(max(first, start), min(last + 1, stop))
        if span:
            seen = tuple(Observation(frame, box, None, 1.0, FaceSource.USER) for frame in span)
            added = Track(_next_number(tracking), seen, method=method)
            tracking = _replaced(tracking, [], [added])
    return tracking


def split(tracking: Tracking, number: int, frame: int) -> Tracking:
    """The tracking with one track cut in two; its part from `frame` on gets the next free number."""
    track = _find(tracking, number)
    if not track.first < frame <= track.last:
        raise UserError(
            f"track {number} cannot be split at frame {frame}: it has frames {track.first} to {track.last}"
        )
    at = frame - track.first
    parts = [
        dataclasses.replace(track, observations=track.observations[:at]),
        dataclasses.replace(
            track, number=_next_number(tracking), observations=track.observations[at:]
        ),
    ]
    return _replaced(tracking, [number], parts)


def merge(tracking: Tracking, number: int, other: int) -> Tracking:
    """The tracking with two tracks made one, which keeps the first number.

    Frames between them are filled. It is kept as it is only if both were.

    Raises:
      UserError: both were seen in one frame, a cut lies between them, or they are one and the same.
    """
    a, b = _find(tracking, number), _find(tracking, other)
    names = f"tracks {number} and {other} cannot be merged"
    if number == other:
        raise UserError(f"{names}: they are the same track")
    first, last = min(a.first, b.first), max(a.last, b.last)
    if any(first < cut <= last for cut in tracking.cuts):
        raise UserError(f"{names}: a cut lies between them; give them the same key instead")
    best: dict[int, Observation] = {s.frame: s for s in a.observations}
    for observation in b.observations:
        present = best.get(observation.frame)
        if present is None or present.source == FaceSource.INTERPOLATED:
            best[observation.frame] = observation
        elif observation.source != FaceSource.INTERPOLATED:
            raise UserError(f"{names}: both were seen in frame {observation.frame}")
    # What was filled round one of them gives way to the path between the two.
    seen = [frame for frame, s in best.items() if s.source != FaceSource.INTERPOLATED]
    inner = range(min(seen, default=0), max(seen, default=-1))
    rest = [s for f, s in best.items() if s.source != FaceSource.INTERPOLATED or f not in inner]
    merged = dataclasses.replace(
        a,
        observations=fill(sorted(rest, key=lambda s: s.frame)),
        keep=a.keep and b.keep,
        method=a.method or b.method,
        low_confidence=a.low_confidence if a.method else b.low_confidence,
    )
    return _replaced(tracking, [number, other], [merged])
