"""Which detections show the same person: association over time, causal for live and both ways for files.

The motion of each face (`prediction`) says where it should be and how sure that is; an optimal assignment
(Hungarian) gives the detections of a frame to the faces, first the confident ones, then the rest (the order
is that of ByteTrack, Zhang et al., 2022; but no detection is thrown away here: one that fits nobody begins a
track). For files, pieces of tracks are then joined over gaps by their motion on both sides.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.detection import tracks
from dp3_jax.detection.assignment import assigned
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.prediction import (
    CALM,
    NOISE,
    SIZE_RATIO,
    Motion,
    coasting,
    measured,
    moved,
)
from dp3_jax.detection.tracks import Observation, Track

_CONFIDENT = 0.6  # detections from here on choose their track first
_GATE = 4.0  # standard deviations between a face and its track
_REACH = 2.0  # sizes; not further from where it was expected, however uncertain that is
_LOW_CONFIDENCE_REACH = 1.0  # the same for less confident detections
_SAME_IOU = 0.3  # a box that overlaps the expected one more fits, whatever the motion
_ALONE = 12.0  # cost of leaving a track and a detection alone, as of a bad fit

_JUST_SEEN = 3  # frames in which a face that was not found is expected in each, later in one of
_LOST_EVERY = 3

_JOIN_REACH = 1.5  # sizes between where two pieces of a track expect each other
_JOIN_DRIFT = 0.03  # sizes more for each frame between them
_MAX_JOIN_REACH = 2.5
_JOIN_SIZE_RATIO = 1.8


# Of the margin: what is never clearly a face is often none, and where it lies is hardly known.
_LOW_CONFIDENCE_MARGIN = 1 / 3


@dataclasses.dataclass(frozen=True)
class Linking:
    """How long faces are followed that are not seen, in frames.

    Attributes:
      max_gap: pieces further apart are different tracks.
      margin: a track begins so much before the first and ends so much after the last detection; a third of
        it for one that is never clear.
      grace: a face that was lost in live video stays covered so long.

    Raises:
      UserError: a negative number.
    """

    max_gap: int = 60
    margin: int = 15
    grace: int = 30

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if value < 0:
                raise UserError(f"{name} is a number of frames from 0, not {value}")

    @classmethod
    def at_rate(
        cls, rate: float, max_gap: float = 2.0, margin: float = 0.5, grace: float = 1.0
    ) -> "Linking":
        """The same from seconds.

        Args:
          rate: frames a second.
          max_gap, margin, grace: s.
        """
        return cls(*(round(seconds * rate) for seconds in (max_gap, margin, grace)))


class _Target:
    """A face that is followed: how it moves, and the last detection."""

    def __init__(self, number: int, seen: Observation):
        self.number = number
        self.seen = seen
        self.motion = Motion.begun(seen.frame, seen.box)

    def see(self, observation: Observation) -> None:
        """Takes a detection in."""
        self.motion = self.motion.seen(observation.frame, observation.box)
        self.seen = observation


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """f64[n, m] of f64[n, 1, 4] and f64[1, m, 4], (centre x, centre y, width, height)."""
    low = np.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = np.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    common = np.maximum(high - low, 0).prod(-1)
    return common / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - common)


def _assign(
    targets: Sequence[_Target], seen: Sequence[Observation], frame: int, reach: float
) -> list[tuple[_Target, Observation]]:
    """The likeliest pairs of targets and detections; a pair that is too unlikely stays apart."""
    if not targets or not seen:
        return []
    expected = [target.motion.expect(frame) for target in targets]
    a = np.array([value for value, _ in expected])[:, None]
    b = np.array([measured(observation.box) for observation in seen])[None]
    variance = np.array([[covariance[0, 0] + NOISE**2] for _, covariance in expected])
    size = np.sqrt(a[..., 2] * a[..., 3])
    error = (b - a) / size[..., None]
    away = (error[..., :2] ** 2).sum(-1)
    ratio = np.abs(np.log(b[..., 2:] / a[..., 2:])).max(-1)
    near = (away < np.minimum(_GATE**2 * variance, reach**2)) | (_iou(a, b) > _SAME_IOU)
    fits = near & (ratio < np.log(SIZE_RATIO))
    if fits.sum(0).max() <= 1 and fits.sum(1).max() <= 1:  # no two for one: nothing to weigh
        return [(targets[i], seen[j]) for i, j in np.argwhere(fits)]
    # The negative logarithm of a normal density, 0 for a perfect fit to a face known exactly.
    unlikely = (error**2).sum(-1) / (2 * variance) + np.log(variance / NOISE**2)
    cost = np.where(fits, np.minimum(unlikely, 0.99 * _ALONE), _ALONE)
    pairs = assigned(cost)
    return [(targets[i], seen[j]) for i, j in pairs if fits[i, j]]


class Tracker:
    """Follows faces from frame to frame with what is known so far: for live video.

    It remembers only the faces of the last `max_gap` or `grace` frames.
    """

    def __init__(self, width: int, height: int, options: Linking | None = None):
        """Begins with no faces.

        Args:
          width, height: of the upright frames, px.
          options: how long faces are followed.
        """
        self._size = (width, height)
        self._options = options or Linking()
        self._targets: list[_Target] = []
        self._numbers = itertools.count(1)
        self._frame = -1

    def associate(
        self, frame: int, faces: Sequence[Detection], *, cut: bool = False
    ) -> list[tuple[int, Observation]]:
        """Gives each face of a frame its track's number; all arguments as of `update`.

        Returns:
          (track number, observation) for each face, in their order.
        """
        if frame <= self._frame:
            raise ValueError(f"frame {frame} does not come after frame {self._frame}")
        self._frame = frame
        longest = max(self._options.max_gap, self._options.grace)
        self._targets = [t for t in self._targets if not cut and frame - t.seen.frame <= longest]
        seen = [tracks.from_face(frame, face) for face in faces]
        sure = [
            s for s in seen if s.source != FaceSource.LOW_CONFIDENCE and s.confidence >= _CONFIDENT
        ]
        pairs = _assign(self._targets, sure, frame, _REACH)
        taken = {id(x) for pair in pairs for x in pair}
        free = [target for target in self._targets if id(target) not in taken]
        rest = [s for s in seen if id(s) not in {id(one) for one in sure}]
        pairs += _assign(free, rest, frame, _LOW_CONFIDENCE_REACH)
        numbers = {}
        for target, observation in pairs:
            target.see(observation)
            numbers[id(observation)] = target.number
        for observation in seen:
            if id(observation) not in numbers:
                self._targets.append(_Target(next(self._numbers), observation))
                numbers[id(observation)] = self._targets[-1].number
        return [(numbers[id(observation)], observation) for observation in seen]

    def update(
        self, frame: int, faces: Sequence[Detection], *, cut: bool = False
    ) -> list[tuple[int, Observation]]:
        """Takes the faces of a frame in and says where all known ones are.

        Args:
          frame: its number, above the last one; frames may be left out.
          faces: found in it; empty also for a frame in which nobody looked.
          cut: the frame is the first after a cut: nothing known before it counts.

        Returns:
          (track number, observation) of each face, and interpolated ones for faces that were seen in the last
          `grace` frames but not in this one. A face that is found again keeps its number.
        """
        found = self.associate(frame, faces, cut=cut)
        for target in self._targets:
            if 0 < frame - target.seen.frame <= self._options.grace:
                lost = tracks.extrapolate(target.seen, target.motion.speed, frame, *self._size)
                found.append((target.number, lost))
        return found

    def expected(self, frame: int) -> list[Detection]:
        """Where known faces should be in a later frame, as they were seen last.

        All of the last few frames, and of those lost for longer, up to `grace` frames, each in some frames
        only: most of them have gone, and looking for them takes longer than for one that is there.
        """
        found = []
        for target in self._targets:
            away = frame - target.seen.frame
            if away <= _JUST_SEEN or (away <= self._options.grace and away % _LOST_EVERY == 0):
                found.append(moved(tracks.to_face(target.seen), target.motion.way(frame)))
        return found


def _joins(pieces: Sequence[Sequence[Observation]], options: Linking) -> list[tuple[int, int]]:
    """Pairs (i, j) of pieces such that j goes on where i ended; no piece twice on one side."""
    order = sorted(range(len(pieces)), key=lambda i: pieces[i][0].frame)
    starts = np.array([pieces[i][0].frame for i in order])
    rows, columns, costs = [], [], []
    for i, piece in enumerate(pieces):
        end = piece[-1].frame
        low, high = np.searchsorted(starts, [end + 1, end + options.max_gap + 2])
        for j in order[low:high]:
            cost = _join_cost(piece, pieces[j])
            if cost is not None:
                rows.append(i)
                columns.append(j)
                costs.append(cost)
    if not rows:
        return []
    # Ends and starts that have nothing to do with each other are assigned apart: the matrices stay small.
    group = _groups(rows, columns)
    found = []
    for one in np.unique(group):
        chosen = np.flatnonzero(group == one)
        ends, row = np.unique(np.array(rows)[chosen], return_inverse=True)
        begins, column = np.unique(np.array(columns)[chosen], return_inverse=True)
        cost = np.full((len(ends), len(begins)), _ALONE)
        cost[row, column] = np.array(costs)[chosen]
        pairs = assigned(cost)
        found += [(int(ends[a]), int(begins[b])) for a, b in pairs if cost[a, b] < _ALONE]
    return found


def _groups(rows: Sequence[int], columns: Sequence[int]) -> np.ndarray:
    """i[n]: equal numbers for links of a row and a column that hang together, however indirectly."""
    above: dict[tuple[str, int], tuple[str, int]] = {}

    def top(one: tuple[str, int]) -> tuple[str, int]:
        while (other := above.get(one, one)) != one:
            above[one] = above.get(other, other)
            one = other
        return one

    for row, column in zip(rows, columns, strict=True):
        above[top(("row", row))] = top(("column", column))
    tops = [top(("row", row)) for row in rows]
    numbers = {one: number for number, one in enumerate(dict.fromkeys(tops))}
    return np.array([numbers[one] for one in tops])


def _join_cost(piece: Sequence[Observation], other: Sequence[Observation]) -> float | None:
    """How badly `other` continues `piece`, in sizes of the face; None when it cannot."""
    last, first = piece[-1], other[0]
    size_a, size_b = np.sqrt(np.prod(last.box[2:])), np.sqrt(np.prod(first.box[2:]))
    ratio = abs(np.log(size_a / size_b))
    if ratio > np.log(_JOIN_SIZE_RATIO):
        return None
    gap = first.frame - last.frame
    size = np.sqrt(size_a * size_b)
    between = (tracks.centre(first.box) - tracks.centre(last.box)) / size
    speeds = np.array([tracks.velocity(piece, -1), tracks.velocity(other, 0)]) / size
    # The face moved on, slowed down, or stopped, which asks for more change the faster it was.
    away, effort = [], []
    for way in (float(gap), float(coasting(gap)), 0.0):
        away.append(np.linalg.norm(between - speeds * way, axis=1).mean())
        lost = np.linalg.norm(speeds, axis=1).mean() * (min(gap, CALM) - way)
        effort.append(away[-1] + max(lost, 0.0) / 2)
    if min(away) > min(_JOIN_REACH + _JOIN_DRIFT * gap, _MAX_JOIN_REACH):
        return None
    return float(min(effort) + ratio + _JOIN_DRIFT * gap)


def _pieces(
    shot: tuple[int, int], detections: Mapping[int, Sequence[Detection]], options: Linking
) -> list[list[Observation]]:
    """Observations of a shot by the person that they show, joined over gaps."""
    # Short gaps are followed forward; over longer ones, knowing both sides says more.
    tracker = Tracker(1, 1, Linking(min(options.margin, options.max_gap), 0, 0))
    found: dict[int, list[Observation]] = {}
    for frame in range(*shot):
        if detections.get(frame):
            for number, observation in tracker.associate(frame, detections[frame]):
                found.setdefault(number, []).append(observation)
    pieces = list(found.values())
    following = dict(_joins(pieces, options))
    joined = []
    for i in set(range(len(pieces))) - set(following.values()):
        whole, j = list(pieces[i]), i
        while (j := following.get(j)) is not None:
            whole += pieces[j]
        joined.append(whole)
    return sorted(joined, key=lambda whole: (whole[0].frame, whole[0].box))


def link(
    frames: int,
    detections: Mapping[int, Sequence[Detection]],
    cuts: Sequence[int],
    width: int,
    height: int,
    *,
    options: Linking | None = None,
) -> tuple[Track, ...]:
    """The tracks of a clip, without gaps and with a margin before and after.

    Every detection is in exactly one track; two in one frame are in two tracks, also where they overlap
    (`detection.merge` has decided before whether they show one face). No track crosses a cut.

    Args:
      frames: number of frames in the clip.
      detections: faces by frame; frames without any may be absent.
      cuts: numbers of the first frames after a cut.
      width, height: of the upright frames, px.
      options: how long faces are followed.

    Raises:
      ValueError: detections in a frame that is not in the clip.
    """
    if outside := [f for f, faces in detections.items() if faces and not 0 <= f < frames]:
        raise ValueError(f"there is no frame {outside[0]} in a clip of {frames} frames")
    options = options or Linking()
    found = []
    for start, stop in tracks.shots(frames, cuts):
        for piece in _pieces((start, stop), detections, options):
            margin = options.margin
            if max(seen.confidence for seen in piece) < tracks.HIGH_CONFIDENCE:
                margin = round(_LOW_CONFIDENCE_MARGIN * margin)
            first = max(start, piece[0].frame - margin)
            last = min(stop - 1, piece[-1].frame + margin)
            observations = tracks.extend(piece, first, last, width, height)
            found.append(Track(len(found) + 1, observations))
    return tuple(found)
