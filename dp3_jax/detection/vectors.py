"""What passes from a face in a clip to the new one: measured vectors, smoothed, bounded and rounded.

For files each frame's vector is smoothed over the frames round it (`centred`), live over those before it
(`VectorFilter`). Where nothing was measured poses are interpolated; expressions and gazes relax to what is
usual, so that a blink in which the face was lost does not become a sleep. How far eyes are open is given as a
share of what is usual for the track, and gazes relative to the usual one: what is left of the shape of
somebody's eyes is how they move.
"""

import math
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dp3_jax.common.choices import MOTIONS
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.detection.tracks import Observation, Track, shots

STILL = FaceVector(0.0, 0.0)  # what `--motion none` shows


class _Number(NamedTuple):
    """How one number of a vector is treated.

    Attributes:
      step, low, high: it is rounded to multiples of `step` and bounded.
      sigma: frames, of the centred smoothing.
      cutoff, rise: of the causal one (one-euro filter; Casiez et al., 2012): cycles a frame, and more for
        each unit a frame.
      relaxes: whether it goes to what is usual where it is not known.
    """

    step: float
    low: float
    high: float
    sigma: float
    cutoff: float
    rise: float
    relaxes: bool


# Steps are such that one of them moves nothing by more than half a px of a face 128 px wide.
_ANGLE = _Number(0.25, -60.0, 60.0, 1.2, 0.07, 0.1, False)
_EYE = _Number(0.025, 0.0, 1.2, 0.6, 0.25, 4.0, True)
_GAZE = _Number(0.01, -0.4, 0.4, 0.8, 0.15, 8.0, True)
NUMBERS = {
    "yaw": _ANGLE,
    "pitch": _ANGLE,
    "mouth_opening": _Number(0.005, 0.0, 0.6, 0.7, 0.2, 10.0, True),
    "mouth_width": _Number(0.005, 0.5, 1.4, 1.0, 0.12, 8.0, True),
    "left_eye": _EYE,
    "right_eye": _EYE,
    "gaze_x": _GAZE,
    "gaze_y": _GAZE,
}
assert tuple(NUMBERS) == FaceVector._fields
_YAW, _MOUTH = (FaceVector._fields.index(name) for name in ("yaw", "mouth_opening"))
_EYES, _GAZES = ("left_eye", "right_eye"), ("gaze_x", "gaze_y")

# The lids' distance in widths of the eye, before anything is known of a person. Measured lids do not quite
# meet: shut ones have _SHUT of what is usual, or what a track's lowest are, within bounds.
_USUAL_OPENING, _SHUT = 0.4, 0.45
_SHUT_QUANTILE, _SHUT_BOUNDS = 0.01, (0.3, 0.5)
_OPENINGS = (0.2, 0.55)  # usual ones lie between
_SEES = 0.4  # how far eyes must be open to tell where they look
_OPEN_QUANTILE = 0.75  # of a track, which is what is usual: below it is blinked
_LOW_CONFIDENCE = (
    10.0  # frames: what was seen in few frames counts less against what is usual for all
)
_HELD = 5  # frames in which what is not known stays as it was (eyes are not looked at in each)
_RELAXING = 8.0  # frames in which it then falls to 1/e of its distance from what is usual

# Poses by five points alone, of small faces, tremble by .5 to 4 degrees, those by a mesh by .15 to .45.
_STEADIER = 3.0  # times as much they are smoothed
_SPEED_CUTOFF = 0.2  # cycles a frame
_LEARNING = 0.02  # share of a new value in what is usual live
_QUICKER = 3.0  # times that for eyes wider open than usual, and that share of it for those
_BLINKS = 0.7  # times as wide open or less, which rather blink


def limited_to(vector: FaceVector, motion: str) -> FaceVector:
    """What may pass of a vector: with "face" all of it, with "head" the pose, with "none" a constant.

    With "grid", by which drawings of the builtin generator follow (`following`), it is the pose too.

    Raises:
      ValueError: another motion.
    """
    match motion:
        case "face":
            return vector
        case "head" | "grid":
            return vector.without_expression()
        case "none":
            return STILL
    raise ValueError(f"motion {motion!r} is not one of {', '.join(MOTIONS)}")


def bounded(vector: FaceVector) -> FaceVector:
    """The vector with each number between its bounds, rounded to a multiple of its step."""
    return FaceVector(
        *(
            None if value is None else _stepped(value, number)
            for value, number in zip(vector, NUMBERS.values(), strict=True)
        )
    )


def _stepped(value: float, number: _Number) -> float:
    value = min(max(value, number.low), number.high)
    return round(round(value / number.step) * number.step, 6) + 0.0  # no -0


# Cuts, and what `_smoothed` gave: an hour's track has 7 MB.
_SMOOTHED: weakref.WeakKeyDictionary[Track, tuple[tuple[int, ...], np.ndarray]] = (
    weakref.WeakKeyDictionary()
)


def centred(track: Track, observation: Observation, cuts: Sequence[int] = ()) -> FaceVector | None:
    """The vector of a frame, smoothed over the frames round it that are of the same shot, bounded, rounded.

    A whole track is smoothed when first asked for.

    Args:
      track: with all its observations.
      observation: the one of the frame.
      cuts: numbers of the first frames after a cut, rising.

    Returns:
      None where nothing was measured in the whole shot.
    """
    found = _SMOOTHED.get(track)
    if found is None or found[0] != tuple(cuts):
        found = _SMOOTHED[track] = (
            tuple(cuts),
            _smoothed([s.vector for s in track.observations], _parts(track, cuts)),
        )
    index = observation.frame - track.first
    return _vector(found[1][index]) if 0 <= index < len(found[1]) else None


def _parts(track: Track, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """(first, after the last) of its observations in each shot."""
    return shots(len(track.observations), [cut - track.first for cut in cuts])


def smooth(vectors: Sequence[FaceVector | None]) -> list[FaceVector | None]:
    """`centred` of all frames of a track, of one shot, from what was measured in each."""
    return [_vector(row) for row in _smoothed(vectors, [(0, len(vectors))])]


def _smoothed(vectors: Sequence[FaceVector | None], parts: Iterable[tuple[int, int]]) -> np.ndarray:
    """f64[n, 8], not yet bounded: a whole track, NaN where nothing is known; `parts` as of `_parts`."""
    empty = (math.nan,) * len(NUMBERS)
    rows = [empty if v is None else [math.nan if n is None else n for n in v] for v in vectors]
    values = np.array(rows, np.float64).reshape(len(rows), len(NUMBERS))
    columns = {name: _relative(name, values[:, i]) for i, name in enumerate(NUMBERS)}
    shut = np.mean([columns[name][0] for name in _EYES], 0) < _SEES  # their irises are made up
    for name in _GAZES:
        columns[name][0][shut] = math.nan
    smoothed = np.full_like(values, math.nan)
    known = ~np.isnan(values[:, [_YAW, _MOUTH]])
    by_points = known[:, 1].sum() < known[:, 0].sum() / 2
    for first, last in parts:
        for i, (name, number) in enumerate(NUMBERS.items()):
            column, usual = columns[name]
            chosen = _steadier(number) if by_points else number
            smoothed[first:last, i] = _smooth_column(column[first:last], usual, chosen)
    return smoothed


def _steadier(number: _Number) -> _Number:
    """As `number` where poses are by five points."""
    return number._replace(
        sigma=number.sigma * _STEADIER,
        cutoff=number.cutoff / _STEADIER,
        rise=number.rise / _STEADIER,
    )


def _vector(row: np.ndarray) -> FaceVector | None:
    numbers = [None if math.isnan(value) else float(value) for value in row]
    return None if None in numbers[:2] else bounded(FaceVector(*numbers))


def _relative(name: str, column: np.ndarray) -> tuple[np.ndarray, float]:
    """A track's values as they are passed on, and the usual one among them; f64[n], NaN where unknown."""
    known = column[~np.isnan(column)]
    if not known.size:
        return column, math.nan
    if name in _EYES:
        return _open_share(column, *_openings(known)), 1.0
    usual = float(np.median(known))
    return (column - usual, 0.0) if name in _GAZES else (column, usual)


def _openings(known: np.ndarray) -> tuple[float, float]:
    """How far an eye is usually open, of which f[n] frames are known, and what share of that is shut."""
    shut, seen = np.quantile(known, (_SHUT_QUANTILE, _OPEN_QUANTILE))
    mean = (seen * len(known) + _USUAL_OPENING * _LOW_CONFIDENCE) / (len(known) + _LOW_CONFIDENCE)
    usual = float(np.clip(mean, *_OPENINGS))
    return usual, float(np.clip(shut / usual, *_SHUT_BOUNDS))


def _open_share(opening, usual: float, shut: float = _SHUT):
    """0 for shut lids to 1 for what is usual."""
    return (opening / usual - shut) / (1 - shut)


def _smooth_column(column: np.ndarray, usual: float, number: _Number) -> np.ndarray:
    """One number of the frames of a shot, f64[n], without gaps; NaN where it has none at all."""
    known = np.flatnonzero(~np.isnan(column))
    if not known.size:
        return column
    if not number.relaxes:
        column = column.copy()
        column[known] = _without_spikes(column[known])
    frames = np.arange(len(column))
    interpolated = np.interp(frames, known, column[known])
    if number.relaxes:
        after = np.searchsorted(known, frames).clip(0, len(known) - 1)
        before = (after - 1).clip(0)
        away = np.minimum(np.abs(frames - known[before]), np.abs(known[after] - frames))
        interpolated = usual + (interpolated - usual) * np.exp(
            -np.maximum(away - _HELD, 0) / _RELAXING
        )
    return _gaussian(interpolated, number.sigma)


def _without_spikes(values: np.ndarray) -> np.ndarray:
    """The median of each value and its two neighbours: a head does not jump and return within a frame."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    return np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), 0)


def _gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    """Each value replaced by that of the line which fits those round it best under Gaussian weights.

    Amid them that is their weighted mean; at the ends of a track it does not lag behind.
    """
    reach = math.ceil(3 * sigma)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)

    def moment(of: np.ndarray, power: int) -> np.ndarray:
        return np.correlate(np.pad(of, reach), weights * offsets**power, mode="valid")

    there = np.ones(len(values))
    s0, s1, s2 = (moment(there, power) for power in range(3))
    t0, t1 = moment(values, 0), moment(values, 1)
    spread = s0 * s2 - s1 * s1
    alone = spread < 1e-9  # one value
    return np.where(alone, t0 / s0, (s2 * t0 - s1 * t1) / np.where(alone, 1, spread))


class _State(NamedTuple):
    """Where the causal filter of one number stands."""

    value: float
    speed: float


class VectorFilter:
    """The causal counterpart of `centred`, for one track: one-euro filters, close behind what moves."""

    def __init__(self):
        """Knows nothing yet."""
        self._states: dict[str, _State] = {}
        self._usual: dict[str, float] = {}
        self._seen: dict[str, float] = {}  # frames in which that was learnt
        self._unknown: dict[str, int] = {}  # frames since a number was measured

    def update(self, vector: FaceVector | None, frames_passed: int = 1) -> FaceVector | None:
        """The vector to be shown, bounded and rounded.

        Args:
          vector: as measured in this frame; None where it was not.
          frames_passed: since the last call.

        Returns:
          None as long as nothing has been measured.
        """
        passed = max(frames_passed, 1)
        for name, number in NUMBERS.items():
            value = None if vector is None else getattr(vector, name)
            if value is None or (name in _GAZES and self._is_shut()):
                self._miss(name, number, passed)
            else:
                since = passed + self._unknown.get(name, 0)
                self._unknown[name] = 0
                how = _steadier(number) if vector.mouth_opening is None else number
                self._states[name] = _follow(
                    self._states.get(name), self._told(name, value), since, how
                )
        if "yaw" not in self._states:
            return None
        return bounded(
            FaceVector(*(self._states[n].value if n in self._states else None for n in NUMBERS))
        )

    def _is_shut(self) -> bool:
        """Whether the eyes are so far that their irises are made up."""
        shares = [self._states[name].value for name in _EYES if name in self._states]
        return bool(shares) and sum(shares) / len(shares) < _SEES

    def _told(self, name: str, value: float) -> float:
        """The value as it is passed on; learns what is usual."""
        if name not in _EYES and name not in _GAZES:
            self._learn(name, value, value)
            return value
        if name in _EYES:
            self._learn(name, value, _USUAL_OPENING)
            return _open_share(value, float(np.clip(self._usual[name], *_OPENINGS)))
        self._learn(name, value, 0.0)
        return value - self._usual[name]

    def _learn(self, name: str, value: float, first: float) -> None:
        usual = self._usual.get(name, first)
        seen = self._seen[name] = self._seen.get(name, 0.0) + 1.0
        share = max(_LEARNING, 1 / (seen + _LOW_CONFIDENCE))
        if name in _EYES:
            if value > usual:
                share = min(share * _QUICKER, 0.5)
            elif value < _BLINKS * usual:
                share /= _QUICKER
        self._usual[name] = usual + share * (value - usual)

    def _miss(self, name: str, number: _Number, passed: int) -> None:
        """Holds a number for a while, then lets it relax."""
        before = self._states.get(name)
        if before is None:
            return
        self._unknown[name] = self._unknown.get(name, 0) + passed
        value = before.value
        if number.relaxes and self._unknown[name] > _HELD:
            usual = 1.0 if name in _EYES else 0.0 if name in _GAZES else self._usual[name]
            value = usual + (value - usual) * math.exp(-passed / _RELAXING)
        self._states[name] = _State(value, 0.0)

    def to_json(self) -> dict[str, Any]:
        """All that it remembers."""
        return {
            "states": {name: list(state) for name, state in self._states.items()},
            "usual": dict(self._usual),
            "seen": dict(self._seen),
            "unknown": dict(self._unknown),
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "VectorFilter":
        """What `to_json` gave, after its way through a file."""
        made = cls()
        made._states = {name: _State(*state) for name, state in entry["states"].items()}
        made._usual, made._seen = dict(entry["usual"]), dict(entry["seen"])
        made._unknown = dict(entry["unknown"])
        return made


def _share(cutoff: float, frames: int) -> float:
    """The weight of a new value in a first-order low-pass filter."""
    return 1.0 - math.exp(-2 * math.pi * cutoff * frames)


def _follow(before: _State | None, value: float, passed: int, number: _Number) -> _State:
    if before is None:
        return _State(value, 0.0)
    change = (value - before.value) / passed
    speed = before.speed + _share(_SPEED_CUTOFF, passed) * (change - before.speed)
    share = _share(number.cutoff + number.rise * abs(speed), passed)
    return _State(before.value + share * (value - before.value), speed)
