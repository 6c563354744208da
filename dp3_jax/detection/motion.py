"""How heads move from frame to frame, seen in the picture, and tracks whose points follow that motion.

The five points of a detector tremble, and they follow the mouth and the eyes: a new face that is put where
they are slides over the head. One that is put where the skin went does not. So the motion of each head
between two frames is measured by optical flow of what is in its mask, and the places in a track are then
those that fit all these motions closely and all detections roughly.

This belongs to the first pass: it looks at hidden pixels. What is kept of them is four numbers a frame.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.tracks import Box, Observation, Track
from dp3_jax.vision import geometry, masks, poses
from dp3_jax.vision.geometry import Alignment
from dp3_jax.vision.poses import Pose

_GRID = 8  # canonical px between the spots that are followed
_WINDOW = 11  # canonical px round each
_LEVELS = 3  # of the pyramid: heads are followed over some 40 canonical px a frame
# More rounds, or a finer one, move no spot by more than 0.05 canonical px, and take a third more time.
_UNTIL = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03)
# A view has no more pixels than the frame: (canonical px for each px of the frame, px of the view).
_SIDES = ((1.75, 64), (1.0, 96), (0.0, masks.SIZE))
_MIN_TEXTURE = 1e-4  # as OpenCV measures it (smallest eigenvalue); flatter spots could be anywhere
_MAX_TEXTURE = 1e-2  # from which on more does not make a spot surer
_RETURN = 0.5  # canonical px by which a spot that is followed back may miss where it began
_MIN_SPOTS = 16
_MIN_AGREEING = 0.35  # of the spots, or it is not one thing that moves there
_AGREEING = 1.0  # canonical px
_NOISE = 0.15  # canonical px by which spots on a head differ from its motion
_ROUNDS = 6  # of finding out which spots are on it, at first with 8 times the noise

# Canonical px by which each is usually wrong. A detection's error stays for a while, a motion's is new in
# each frame, so their ratio says how far round a frame detections are averaged: some 40 frames.
_DETECTED = 2.0
_FOLLOWED = 0.05
_INTERPOLATED = 20.0  # a place that nobody saw
_UNSEEN = 1.0  # a motion that was not measured, taken to be that of the detections
_OUTLIER = 3.0  # canonical px from which on a detection is rather wrong
_MIN_WRONG = (
    4.0  # canonical px between what a motion and what detections say; such a motion is not used
)
_SOLVED = 3  # times, to find out which detections are wrong
_MAX_SHIFT = (
    6.0  # canonical px by which any part of the mask may be moved from where it was detected
)
_DECIMALS = 2  # of px, as in tracks


class Step(NamedTuple):
    """The motion of a head to one frame from the frame before: z -> a * z + b with z = x + iy in px."""

    a: complex
    b: complex

    def back(self) -> "Step":
        """The motion from that frame to the one before."""
        return Step(1 / self.a, -self.b / self.a)

    def part(self, count: int) -> "Step":
        """The motion that, so many times one after the other, is this one."""
        a = self.a ** (1 / count)
        return Step(a, self.b / sum(a**i for i in range(count)))


Steps = Mapping[tuple[int, Box], Step]


class View(NamedTuple):
    """A head as one frame shows it.

    Attributes:
      image: u8[side, side], grey.
      alignment: by which it was cut out, to the canonical frame, of whose px the view has side / SIZE.
    """

    image: np.ndarray
    alignment: Alignment


@functools.lru_cache(maxsize=8)
def _spots(side: int) -> np.ndarray:
    """f32[n, 1, 2] px of a view: a grid in the usual mask."""
    y, x = np.mgrid[_GRID // 2 : masks.SIZE : _GRID, _GRID // 2 : masks.SIZE : _GRID]
    inside = masks.inference_mask()[..., 0][y, x] > 0
    spots = np.stack([x[inside], y[inside]], -1)[:, None]
    return ((spots + 0.5) * (side / masks.SIZE) - 0.5).astype(np.float32)


def _side(alignment: Alignment) -> int:
    return next(side for least, side in _SIDES if alignment.scale > least)


def view(frame: np.ndarray, alignment: Alignment, side: int | None = None) -> View:
    """A head in a frame, u8[h, w], grey.

    Args:
      frame: of the clip.
      alignment: of the face, about.
      side: of the view; None for what the face's size asks for.

    Raises:
      ValueError: it lies outside the frame.
    """
    side = side or _side(alignment)
    ratio = side / masks.SIZE
    shown = Alignment(alignment.a * ratio, alignment.b * ratio + complex(ratio - 1, ratio - 1) / 2)
    return View(geometry.extract(frame, shown, side, quick=True), alignment)


def _followed(before: np.ndarray, now: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spots of two views u8[side, side]: complex canonical px where they were, and are, and f64 how sure."""
    side = now.shape[0]
    ratio, spots = side / masks.SIZE, _spots(side)
    window = round(_WINDOW * ratio) | 1
    options = {"winSize": (window, window), "maxLevel": _LEVELS - (side < 96), "criteria": _UNTIL}
    back, found, texture = cv2.calcOpticalFlowPyrLK(
        now, before, spots, None, flags=cv2.OPTFLOW_LK_GET_MIN_EIGENVALS, **options
    )
    again, returned, _ = cv2.calcOpticalFlowPyrLK(before, now, back, None, **options)
    missed = np.linalg.norm(again - spots, axis=2)
    good = (found > 0) & (returned > 0) & (missed < _RETURN * ratio) & (texture > _MIN_TEXTURE)
    was, is_now = (
        ((places[good].astype(np.float64) + 0.5) / ratio - 0.5) @ (1, 1j)
        for places in (back, spots)
    )
    return was, is_now, np.minimum(texture[good], _MAX_TEXTURE).astype(np.float64)


def similarity(was: np.ndarray, now: np.ndarray, weights: np.ndarray) -> Step | None:
    """The similarity that most spots follow, by repeated least squares; None where too few agree.

    Args:
      was, now: complex[n], canonical px.
      weights: f64[n].
    """
    if len(was) < _MIN_SPOTS:
        return None
    shift = now - was
    a, b = 1 + 0j, complex(np.median(shift.real), np.median(shift.imag))
    for i in range(_ROUNDS):
        noise = _NOISE * 2 ** max(0, 3 - i)
        own = weights / (1 + (np.abs(a * was + b - now) / noise) ** 2)
        middle, target = own @ was / own.sum(), own @ now / own.sum()
        spread = own @ np.abs(was - middle) ** 2
        if spread <= 0:
            return None
        a = complex((own * np.conj(was - middle)) @ (now - target) / spread)
        b = complex(target - a * middle)
    agreeing = np.abs(a * was + b - now) < _AGREEING
    return Step(a, b) if agreeing.mean() >= _MIN_AGREEING and a else None


def between(before: View, now: View) -> Step | None:
    """How a head has come from one view to the other, of the same side; None where it cannot be told."""
    found = similarity(*_followed(before.image, now.image))
    if found is None:
        return None
    first, second = before.alignment, now.alignment
    a, b = found.a * first.a, found.a * first.b + found.b
    return Step(a / second.a, (b - second.b) / second.a)


def step(before: np.ndarray, now: np.ndarray, box: Box, points: np.ndarray | None) -> Step | None:
    """How the head with a face in one frame has come there from the frame before.

    Args:
      before, now: u8[h, w], grey.
      box, points: of the face in `now`.

    Returns:
      None where it cannot be told: the head was not there, is too flat, or shows no single motion.
    """
    if points is None:  # such a face is placed by its box, whatever it does
        return None
    alignment = geometry.align(box, points)
    try:
        views = [view(frame, alignment) for frame in (before, now)]
    except ValueError:  # outside the frame
        return None
    return between(*views)


def _by_points(observation: Observation) -> Alignment | None:
    """The alignment by the points alone; None where they say nothing (see `geometry.align`)."""
    by_box = geometry.align(observation.box, None)
    if observation.keypoints is None or observation.alignment() == by_box:
        return None
    return geometry.align_points(observation.keypoints)


def _chain(
    values: np.ndarray, weights: np.ndarray, steps: tuple[np.ndarray, np.ndarray], links: np.ndarray
) -> np.ndarray:
    """complex[n] x with the least sum(weights |x - values|^2) + sum(links |x[1:] - a x[:-1] - b|^2).

    Args:
      values: complex[n].
      weights: f64[n], positive.
      steps: a and b, complex[n - 1].
      links: f64[n - 1].
    """
    a, b = steps
    diagonal = weights.astype(complex)
    diagonal[1:] += links
    diagonal[:-1] += links * np.abs(a) ** 2
    right = weights * values
    right[1:] += links * b
    right[:-1] -= links * np.conj(a) * b
    return solved(diagonal, -links * np.conj(a), right)


def solved(diagonal: np.ndarray, above: np.ndarray, right: np.ndarray) -> np.ndarray:
    """complex[n]: solves a Hermitian tridiagonal system by elimination, which is stable for a definite one.

    By hand, as SciPy's solver takes longer to import than a clip of minutes to solve.

    Args:
      diagonal: complex[n].
      above: complex[n - 1], what stands to the right of the diagonal.
      right: complex[n].
    """
    pivots, found = diagonal.tolist(), right.tolist()
    upper = above.tolist()
    for i, value in enumerate(upper):
        factor = value.conjugate() / pivots[i]
        pivots[i + 1] -= factor * value
        found[i + 1] -= factor * found[i]
    found[-1] /= pivots[-1]
    for i in reversed(range(len(upper))):
        found[i] = (found[i] - upper[i] * found[i + 1]) / pivots[i]
    return np.array(found)


def _fitted(raw: list[Pose], sure: np.ndarray, steps: list[Step | None]) -> list[Pose]:
    """The poses that fit all steps between them and, roughly, the raw ones.

    Args:
      raw: at least two.
      sure: bool[n], which of them were seen.
      steps: to each one from the one before; None where it is not known, first of all for the first.
    """
    centres = np.array([pose.centre for pose in raw])
    # Size and angle as one number, which a step adds to.
    shapes = np.array([p.size for p in raw]) + 1j * np.unwrap([p.angle for p in raw])
    unit = np.exp(-shapes.real)  # canonical px for each px
    a = np.array([1 if one is None else one.a for one in steps[1:]], complex)
    b = np.array([0 if one is None else one.b for one in steps[1:]], complex)
    turn = np.log(np.abs(a)) - 1j * np.angle(a)
    away = np.abs(a * centres[:-1] + b - centres[1:]) * unit[1:]
    known = np.array([one is not None for one in steps[1:]]) & (away < _MIN_WRONG)
    a, b = np.where(known, a, 1), np.where(known, b, np.diff(centres))
    turn = np.where(known, turn, np.diff(shapes))
    links = np.where(known, _FOLLOWED, _UNSEEN) ** -2.0
    weights, right = np.where(sure, _DETECTED, _INTERPOLATED) ** -2.0, np.ones(len(raw))
    for _ in range(_SOLVED):
        own = weights * right
        centre = _chain(centres, own * unit**2, (a, b), links * unit[1:] ** 2)
        shape = _chain(shapes, own, (np.ones_like(a), turn), links)
        off = np.maximum(np.abs(centre - centres) * unit, np.abs(shape - shapes) * poses.LEVER)
        right = 1 / (1 + (off / _OUTLIER) ** 2)
    return [
        Pose(complex(c), float(s.real), float(s.imag)) for c, s in zip(centre, shape, strict=True)
    ]


def stabilised(track: Track, steps: Steps) -> Track:
    """The track with points that move as the head does; boxes, and what nobody saw, stay what they are.

    Points keep their shape and move together, so that the face is aligned by what its head did.

    Args:
      track: of one shot.
      steps: by frame and box of the observation that they lead to.
    """
    pairs = itertools.pairwise(track.observations)
    led = [
        None
        if FaceSource.INTERPOLATED in (one.source, other.source)
        else steps.get((other.frame, other.box))
        for one, other in pairs
    ]
    if not any(led):
        return track
    raw = [poses.to_pose(s.alignment()) for s in track.observations]
    by_points = [_by_points(s) for s in track.observations]
    seen = [
        s.source != FaceSource.INTERPOLATED and by is not None
        for s, by in zip(track.observations, by_points, strict=True)
    ]
    fitted = _fitted(raw, np.array(seen), [None, *led])
    observations = []
    for observation, by, old, new in zip(track.observations, by_points, raw, fitted, strict=True):
        if by is None:
            observations.append(observation)
            continue
        alignment = poses.to_alignment(poses.limited(new, old, _MAX_SHIFT))
        points = np.round(alignment.invert(by.apply(observation.keypoints)), _DECIMALS)
        observations.append(dataclasses.replace(observation, keypoints=points.astype(np.float32)))
    return dataclasses.replace(track, observations=tuple(observations))
