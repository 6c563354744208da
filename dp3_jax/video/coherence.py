"""What makes the new faces of a clip hold together in time: steady places, pictures, colours and grain.

All memory is kept in the canonical frame of the face. Averaging there over frames is the same as warping the
previous output by the motion of the face, from alignment to alignment, without resampling it again and
again. Everything remembered comes from erased frames and generated pictures, never from a hidden pixel, but
for the motion of the hidden face (see `following`).
"""

import bisect
import dataclasses
import functools
import hmac
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from dp3_jax.anonymization import blending, geometry, secrets
from dp3_jax.anonymization.geometry import Alignment, Region
from dp3_jax.video import averaging, following
from dp3_jax.video.poses import Pose, limited, to_alignment, to_pose, turned
from dp3_jax.video.tracks import Sighting, Track

# Frames; as STIT (Tzaban et al., 2022) smooths the centres and the axes of its crops.
_CENTRE_SIGMA = 1.0
_SHAPE_SIGMA = 3.0
_REACH = 9  # frames on each side
# Canonical px by which points are usually wrong: a pose off its neighbours' line by much more counts little.
_USUAL_ERROR = 1.0
_ROUNDS = 2  # of finding out which ones those are
_LEVER = 45.0  # canonical px: how far from its middle a face shows that it is turned or too large

# One-euro filter (Casiez et al., 2012), with frames as the unit of time.
_CENTRE_CUTOFF, _CENTRE_RISE = (
    0.15,
    0.15,
)  # cycles per frame, and more for each canonical px per frame
_SHAPE_CUTOFF, _SHAPE_RISE = 0.04, 1.5  # the same for log size and radians
_SPEED_CUTOFF = 0.1

# Canonical px inside the mask over which the averaged fill takes over: at the very edge only the fill of this
# frame continues this frame's surroundings.
_FILL_EDGE = 2.0
_FRESH_CAUSAL = 0.1  # added to what is out of date in live video
_REST = 0.6  # of the surroundings' `freshness` from which on a face is drawn all the same

_GRAIN_EVERY = 8  # frames between two looks at the grain
_GRAIN_FRESH = 0.3
_TILE = 256  # px, side of the grain's pattern


@dataclasses.dataclass(frozen=True)
class Coherence:
    """What is done against flicker; without any of it each frame is treated alone, with one z per track.

    Attributes:
      smooth_alignment: places of faces are smoothed over time.
      blend_previous: the previous picture of a face is blended into the new one where it still fits.
      follow_motion: the picture is moved as the hidden face moves, lips and lids included.
      steady_colour: corrections of light and colour are averaged over time.
      steady_fill: what the surroundings continue into under the rim of a face is averaged over time.
      steady_grain: the grain's strength is averaged over time, and its pattern is new in every frame.
      steady_method: faces near the smallest size, and masks, do not change from frame to frame.
    """

    smooth_alignment: bool = True
    blend_previous: bool = True
    follow_motion: bool = True
    steady_colour: bool = True
    steady_fill: bool = True
    steady_grain: bool = True
    steady_method: bool = True


ALL = Coherence()
NONE = Coherence(*(False,) * len(dataclasses.fields(Coherence)))


@functools.lru_cache(maxsize=4096)  # each sighting is in the windows of its neighbours
def _pose(sighting: Sighting) -> Pose:
    return to_pose(geometry.align(sighting.box, sighting.points))


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


def centred(track: Track, sighting: Sighting, cuts: Sequence[int] = ()) -> Pose:
    """The pose in a frame, smoothed over the frames round it that are of the same shot; not yet limited.

    Args:
      track: with all its sightings.
      sighting: the one of the frame.
      cuts: numbers of the first frames after a cut, rising.
    """
    raw = _pose(sighting)
    index = sighting.frame - track.first
    if index >= len(track.sightings) or track.sightings[index].frame != sighting.frame:
        return raw
    shot = bisect.bisect_right(cuts, sighting.frame)
    near = [
        one
        for one in track.sightings[max(index - _REACH, 0) : index + _REACH + 1]
        if bisect.bisect_right(cuts, one.frame) == shot
    ]
    offsets = np.array([one.frame - sighting.frame for one in near], np.float64)
    centres, sizes, angles = np.array([_pose(one) for one in near]).T
    # Size and angle as one number, in which a distance is a share of the face.
    shapes = sizes.real + 1j * turned(angles.real - raw.angle)
    weights = np.exp(-0.5 * (offsets / _SHAPE_SIGMA) ** 2)
    off = np.ones(len(near))
    for _ in range(_ROUNDS):
        shape, slope = _local(offsets, shapes, weights * off)
        wrong = _LEVER * np.abs(shapes - shape - slope * offsets) / _USUAL_ERROR
        off = 1 / (1 + wrong**4)
    shape, _ = _local(offsets, shapes, weights * off)
    centre, _ = _local(offsets, centres, np.exp(-0.5 * (offsets / _CENTRE_SIGMA) ** 2) * off)
    return Pose(complex(centre), float(shape.real), raw.angle + float(shape.imag))


def smooth_alignments(track: Track, cuts: Sequence[int] = ()) -> list[Alignment]:
    """The alignments of a whole track as its faces are rendered in a file, one for each sighting."""
    return [to_alignment(limited(centred(track, one, cuts), _pose(one))) for one in track.sightings]


class Motion(NamedTuple):
    """Where a causal filter stands: the last pose, and its change for each frame."""

    pose: Pose
    speed: Pose


def _share(cutoff: float, frames: int) -> float:
    """The weight of a new value in a first-order low-pass filter."""
    return 1.0 - float(np.exp(-2 * np.pi * cutoff * frames))


def follow(before: Motion | None, raw: Pose, frames: int = 1) -> Motion:
    """One step of a one-euro filter: smooth when the face rests, close behind it when it moves.

    Args:
      before: what this function gave for the previous frame of the face; None for the first one.
      raw: the pose as it was measured.
      frames: since then.
    """
    if before is None:
        return Motion(raw, Pose(0j, 0.0, 0.0))
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
    return Motion(
        Pose(*(old + s * new for old, s, new in zip(pose, steps, change, strict=True))), speed
    )


@functools.lru_cache(maxsize=64)
def _pattern(key: bytes) -> np.ndarray:
    """f32[_TILE, _TILE], standard normal, which repeats seamlessly."""
    return secrets.grain_generator(key).standard_normal((_TILE, _TILE), np.float32)


def add_grain(frame: np.ndarray, target: Region, sigma: float, key: bytes, number: int) -> None:
    """Gives the new face in `frame`, changed in place, the grain of frame `number`.

    Args:
      frame: u8[h, w, 3].
      target: pixels of the face.
      sigma: levels of standard deviation.
      key: of the face.
      number: of the frame; each one has its own pattern.
    """
    if sigma < blending.GRAIN_LEAST or not target.inside.size:
        return
    digest = hmac.digest(key, f"dp3 grain {number}".encode(), "sha256")
    top, left = digest[0] % _TILE, digest[1] % _TILE
    height, width = target.inside.shape
    times = -(-(top + height) // _TILE), -(-(left + width) // _TILE)
    part = np.tile(_pattern(key), times)[top : top + height, left : left + width]
    # Rounded here: the levels that it is added to are whole numbers.
    grain = cv2.multiply(part, min(sigma, blending.GRAIN_MOST), dtype=cv2.CV_16S)
    noisy = cv2.add(frame[target.slices], cv2.merge([grain] * 3), dtype=cv2.CV_8U)
    geometry.place(frame, target, noisy)


@dataclasses.dataclass(eq=False)
class Memory:
    """What is known of a track from the frames before.

    Attributes:
      frame: number of the last one.
      candidate: number of its latent, once settled.
      tries: frames in which no candidate was a face.
      surely: whether it was surely a face in any frame.
      small: whether it was too small for a new face; None in the first frame.
      growth: canonical px by which its mask was grown, before rounding up.
      motion: of the causal filter.
      age: frames since the pictures below began.
      beat: of the last drawing by the network (see `rests`).
      grain: standard deviation in levels.
      latest: u8[S, S, 3], the last drawing.
      view: f32[S, S, 3], average of the drawings.
      fill: f32[S, S, 3], average of the erased frame's views, of which what is inside the mask is used.
      around: f32[32, 32, 4], the `surroundings` in the last frame.
      fresh: their `freshness` against those before.
      correct: f32[S / 4, S / 4, 3], average of the corrections of colour.
      offset: f32[GRID, 2], how far the picture has been moved, as `following.advance` gives it.
    """

    frame: int
    candidate: int | None = None
    tries: int = 0
    surely: bool = False
    small: bool | None = None
    growth: float = 0.0
    motion: Motion | None = None
    age: int = 0
    beat: int = -1
    grain: float = 0.0
    latest: np.ndarray | None = None
    view: np.ndarray | None = None
    fill: np.ndarray | None = None
    around: np.ndarray | None = None
    fresh: float = 1.0
    correct: np.ndarray | None = None
    offset: np.ndarray | None = None

    def forget_pictures(self) -> None:
        """After a cut, a gap or a failure; the face stays who it is."""
        self.latest = self.view = self.fill = self.around = self.correct = self.offset = None
        self.age = 0

    def forget_place(self) -> None:
        """After a cut or a gap."""
        self.motion, self.growth = None, 0.0

    def look(self, view: np.ndarray, mask: np.ndarray) -> None:
        """Sees how far the surroundings have changed, and forgets the pictures where that is wholly.

        Args:
          view: u8[S, S, 3], canonical view of the erased frame.
          mask: f32[S, S, 1].
        """
        around = averaging.surroundings(view, mask)
        self.fresh = averaging.freshness(self.around, around)
        if self.fresh >= 1:
            self.forget_pictures()
        self.around = around

    def rests(self, beat: int) -> bool:
        """Whether the last drawing will do, after `look`: the network takes a third of all the time.

        Faces are drawn when the beat is a multiple of `averaging.EVERY`, so that many come together.

        Args:
          beat: a count of frames.
        """
        if self.latest is None or self.fresh > _REST:
            return False
        return beat // averaging.EVERY == self.beat // averaging.EVERY

    def compose(
        self,
        view: np.ndarray,
        new: np.ndarray,
        mask: np.ndarray,
        use: Coherence,
        *,
        causal: bool = False,
    ) -> np.ndarray:
        """The face to be shown, u8[S, S, 3], after `look`: the new one joined with what is remembered.

        Args:
          view, mask: as of `look`.
          new: u8[S, S, 3], the new face in the view, which may be `latest`.
          use: what is to be remembered.
          causal: places are as unsteady as the detector's points, so less is averaged.
        """
        self.latest, fresh = new, self.fresh
        if causal:
            fresh = max(fresh, _FRESH_CAUSAL)
        shown = new
        if use.blend_previous:
            first = self.view is None
            shown = self.view = (
                new.astype(np.float32) if first else averaging.average(self.view, new, fresh)
            )
        if use.follow_motion and self.offset is not None:
            shown = following.moved(shown, self.offset)
        if use.steady_fill:
            view = self._steady_fill(view, mask, fresh)
        correct = blending.correction(view, shown, mask, quick=True)
        if use.steady_colour:
            first = self.correct is None
            self.correct = correct = (
                correct if first else averaging.drift(self.correct, correct, fresh)
            )
        return blending.blend(view, shown, mask, correct)

    def _steady_fill(self, view: np.ndarray, mask: np.ndarray, fresh: float) -> np.ndarray:
        """`view` with the average of what the erased frames showed inside the mask, from _FILL_EDGE on."""
        if self.fill is None:
            self.fill = view.astype(np.float32)
            return view
        self.fill = averaging.average(
            self.fill, view, fresh, least=averaging.FILL_FRESH, most=1.0, every=1
        )
        share = geometry.feather(mask, _FILL_EDGE)
        change = cv2.multiply(
            cv2.subtract(self.fill, view, dtype=cv2.CV_32F), cv2.merge([share] * 3)
        )
        return cv2.add(view, change, dtype=cv2.CV_8U)

    def steady_grain(self, frame: np.ndarray, target: Region, hidden: np.ndarray) -> float:
        """The grain's standard deviation; looked at now and then. Arguments as `blending.add_grain`."""
        if self.age % _GRAIN_EVERY == 0:
            level = float(blending.grain_level(frame, target, hidden))
            share = _GRAIN_FRESH if self.age else 1.0
            self.grain += share * (level - self.grain)
        self.age += 1
        return self.grain
