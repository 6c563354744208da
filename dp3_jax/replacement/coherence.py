"""What makes the new faces of a clip hold together in time: steady places and grain, and what is switched.

What is remembered of pictures is in `memory`.
"""

import bisect
import dataclasses
import functools
import hmac
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.replacement import key_derivation
from dp3_jax.vision import blending, geometry
from dp3_jax.vision.geometry import Region
from dp3_jax.vision.poses import LEVER, Pose, to_pose, turned

# Frames; as STIT (Tzaban et al., 2022) smooths the centres and the axes of its crops.
_CENTRE_SIGMA = 1.0
_SHAPE_SIGMA = 3.0
_REACH = 9  # frames on each side
# Canonical px by which points are usually wrong: a pose off its neighbours' line by much more counts little.
_USUAL_ERROR = 1.0
_ROUNDS = 2  # of finding out which ones those are

# One-euro filter (Casiez et al., 2012), with frames as the unit of time.
_CENTRE_CUTOFF, _CENTRE_RISE = (
    0.15,
    0.15,
)  # cycles per frame, and more for each canonical px per frame
_SHAPE_CUTOFF, _SHAPE_RISE = 0.04, 1.5  # the same for log size and radians
_SPEED_CUTOFF = 0.1

_TILE = 256  # px, side of the grain's pattern


@dataclasses.dataclass(frozen=True)
class Coherence:
    """What is done against flicker; without any of it each frame is treated alone, with one z per track.

    Attributes:
      smooth_alignment: places of faces are smoothed over time.
      blend_previous: the previous picture of a face is blended into the new one where it still fits.
      transfer_motion: the picture is moved by a dense grid as the hidden face moves, lips and lids included;
        not needed where persons are rendered speaking, and off.
      stabilise_colour: corrections of light and colour are averaged over time.
      stabilise_fill: what the surroundings continue into under the rim of a face is averaged over time.
      stabilise_grain: the grain's strength is averaged over time, and its pattern is new in every frame.
      stabilise_method: faces near the smallest size, and masks, do not change from frame to frame.
    """

    smooth_alignment: bool = True
    blend_previous: bool = True
    transfer_motion: bool = False
    stabilise_colour: bool = True
    stabilise_fill: bool = True
    stabilise_grain: bool = True
    stabilise_method: bool = True


ALL = Coherence()
NONE = Coherence(*(False,) * len(dataclasses.fields(Coherence)))


@functools.lru_cache(maxsize=4096)  # each observation is in the windows of its neighbours
def _pose(observation: Observation) -> Pose:
    return to_pose(observation.alignment())


def _local(offsets: np.ndarray, values: np.ndarray, weights: np.ndarray) -> tuple[complex, complex]:
    """The value at offset 0, and the slope, of the line that fits best under weights.

    Amid evenly weighted samples the value is their average; at the ends of a track it does not lag behind.
    """
    s0, s1, s2 = weights.sum(), weights @ offsets, weights @ offsets**2
    spread = s0 * s2 - s1 * s1
    if spread < 1e-9:  # one sample
        return (weights @ values) / s0, 0.0
    t0, t1 = weights @ values, weights @ (offsets * values)
    return (s2 * t0 - s1 * t1) / spread, (s0 * t1 - s1 * t0) / spread


def centred(track: Track, observation: Observation, cuts: Sequence[int] = ()) -> Pose:
    """The pose in a frame, smoothed over the frames round it that are of the same shot; not yet limited.

    Args:
      track: with all its observations.
      observation: the one of the frame.
      cuts: numbers of the first frames after a cut, rising.
    """
    raw = _pose(observation)
    index = observation.frame - track.first
    if index >= len(track.observations) or track.observations[index].frame != observation.frame:
        return raw
    shot = bisect.bisect_right(cuts, observation.frame)
    near = [
        one
        for one in track.observations[max(index - _REACH, 0) : index + _REACH + 1]
        if bisect.bisect_right(cuts, one.frame) == shot
    ]
    offsets = np.array([one.frame - observation.frame for one in near], np.float64)
    centres, sizes, angles = np.array([_pose(one) for one in near]).T
    # Size and angle as one number, in which a distance is a share of the face.
    shapes = sizes.real + 1j * turned(angles.real - raw.angle)
    weights = np.exp(-0.5 * (offsets / _SHAPE_SIGMA) ** 2)
    off = np.ones(len(near))
    for _ in range(_ROUNDS):
        shape, slope = _local(offsets, shapes, weights * off)
        wrong = LEVER * np.abs(shapes - shape - slope * offsets) / _USUAL_ERROR
        off = 1 / (1 + wrong**4)
    shape, _ = _local(offsets, shapes, weights * off)
    centre, _ = _local(offsets, centres, np.exp(-0.5 * (offsets / _CENTRE_SIGMA) ** 2) * off)
    return Pose(complex(centre), float(shape.real), raw.angle + float(shape.imag))


class SmoothedMotion(NamedTuple):
    """Where a causal filter stands: the last pose, and its change for each frame."""

    pose: Pose
    speed: Pose


def _share(cutoff: float, frames: int) -> float:
    """The weight of a new value in a first-order low-pass filter."""
    return 1.0 - float(np.exp(-2 * np.pi * cutoff * frames))


def follow(before: SmoothedMotion | None, raw: Pose, frames: int = 1) -> SmoothedMotion:
    """One step of a one-euro filter: smooth when the face rests, close behind it when it moves.

    Args:
      before: what this function gave for the previous frame of the face; None for the first one.
      raw: the pose as it was measured.
      frames: since then.
    """
    if before is None:
        return SmoothedMotion(raw, Pose(0j, 0.0, 0.0))
    pose, speed = before
    change = Pose(
        (raw.centre - pose.centre) / frames,
        (raw.size - pose.size) / frames,
        float(turned(raw.angle - pose.angle)) / frames,
    )
    share = _share(_SPEED_CUTOFF, frames)
    speed = Pose(*(old + share * (new - old) for old, new in zip(speed, change, strict=True)))
    pace = abs(speed.centre) * float(np.exp(-raw.size)), abs(speed.size), abs(speed.angle)
    rises = (_CENTRE_RISE, _SHAPE_RISE, _SHAPE_RISE)
    cutoffs = (_CENTRE_CUTOFF, _SHAPE_CUTOFF, _SHAPE_CUTOFF)
    steps = [
        frames * _share(cutoff + rise * own, frames)
        for cutoff, rise, own in zip(cutoffs, rises, pace, strict=True)
    ]
    return SmoothedMotion(
        Pose(*(old + s * new for old, s, new in zip(pose, steps, change, strict=True))), speed
    )


@functools.lru_cache(maxsize=64)
def _pattern(key: bytes) -> np.ndarray:
    """f32[_TILE, _TILE], standard normal, which repeats seamlessly."""
    return key_derivation.grain_generator(key).standard_normal((_TILE, _TILE), np.float32)


def add_grain(frame: np.ndarray, target: Region, sigma: float, key: bytes, number: int) -> None:
    """Gives the new face in `frame`, changed in place, the grain of frame `number`.

    Args:
      frame: u8[h, w, 3].
      target: pixels of the face.
      sigma: levels of standard deviation.
      key: of the face.
      number: of the frame; each one has its own pattern.
    """
    if sigma < blending.MIN_GRAIN or not target.inside.size:
        return
    digest = hmac.digest(key, f"dp3 grain {number}".encode(), "sha256")
    top, left = digest[0] % _TILE, digest[1] % _TILE
    height, width = target.inside.shape
    times = -(-(top + height) // _TILE), -(-(left + width) // _TILE)
    part = np.tile(_pattern(key), times)[top : top + height, left : left + width]
    # Rounded here: the levels that it is added to are whole numbers.
    grain = cv2.multiply(part, min(sigma, blending.MAX_GRAIN), dtype=cv2.CV_16S)
    noisy = cv2.add(frame[target.slices], cv2.merge([grain] * 3), dtype=cv2.CV_8U)
    geometry.place(frame, target, noisy)
