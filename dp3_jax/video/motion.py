"""How heads move from frame to frame, seen in the picture itself, and tracks whose points follow that motion.

The five points of a detector tremble, and they follow the mouth and the eyes. A new face that is put where
they are slides over the head; one that is put where the skin of the head went does not. So the motion of
each head between two frames is measured once, by optical flow of its own skin and hair, and the places of a
track are those that fit all its motions closely and all its detections roughly.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from scipy import linalg

from dp3_jax import masks
from dp3_jax.anonymization import geometry
from dp3_jax.anonymization.geometry import Alignment
from dp3_jax.video import coherence
from dp3_jax.video.tracks import Sighting, Track

_GRID = 6  # canonical px between the spots whose motion is looked at
_WINDOW = 11  # px round each
_LEVELS = 3
_LEAST_TEXTURE = 1e-4  # smallest eigenvalue of a spot that can be followed, in OpenCV's units
_RETURN = 0.5  # px by which a spot may miss where it came from
_LEAST_SPOTS = 16
_LEAST_AGREEING = 0.35  # of the spots
_AGREEING = 1.0  # px
_NOISE = 0.15  # px, of spots that move with the head
_ROUNDS = 6

_DETECTED = 2.0
_FOLLOWED = 0.05
_GUESSED = 1.0
_FILLED = 20.0
_SOLVED = 3
_OUTLIER = 3.0
_LEVER = 45.0


class Step(NamedTuple):
    """The motion of a head to a frame from the one before: z -> a * z + b with z = x + iy in px."""

    a: complex
    b: complex


def _spots() -> np.ndarray:
    y, x = np.mgrid[4 : masks.SIZE - 3 : _GRID, 4 : masks.SIZE - 3 : _GRID]
    inside = masks.inference_mask()[..., 0][y, x] > 0
    return np.stack([x[inside], y[inside]], -1).astype(np.float32)


_SPOTS = _spots()


def _fit(p, q, weights):
    p0, q0 = weights @ p / weights.sum(), weights @ q / weights.sum()
    spread = weights @ np.abs(p - p0) ** 2
    a = (weights * np.conj(p - p0)) @ (q - q0) / spread
    return a, q0 - a * p0


def step(before: np.ndarray, now: np.ndarray, alignment: Alignment) -> Step | None:
    views = [geometry.extract(grey, alignment, quick=True) for grey in (before, now)]
    options = dict(winSize=(_WINDOW, _WINDOW), maxLevel=_LEVELS)
    spots = _SPOTS[:, None]
    back, found, texture = cv2.calcOpticalFlowPyrLK(
        views[1], views[0], spots, None, flags=cv2.OPTFLOW_LK_GET_MIN_EIGENVALS, **options)
    again, found2, _ = cv2.calcOpticalFlowPyrLK(views[0], views[1], back, None, **options)
    miss = np.linalg.norm((again - spots)[:, 0], axis=1)
    good = (found[:, 0] > 0) & (found2[:, 0] > 0) & (miss < _RETURN) & (texture[:, 0] > _LEAST_TEXTURE)
    if good.sum() < _LEAST_SPOTS:
        return None
    p = back[good, 0] @ np.array([1, 1j])
    q = spots[good, 0] @ np.array([1, 1j])
    own = np.minimum(texture[good, 0], 0.01)
    shift = q - p
    a, b = 1.0 + 0j, complex(np.median(shift.real), np.median(shift.imag))
    for i in range(_ROUNDS):
        scale = _NOISE * 2 ** max(0, _ROUNDS - 3 - i)
        off = np.abs(a * p + b - q) / scale
        a, b = _fit(p, q, own / (1 + off**2))
    agreeing = np.abs(a * p + b - q) < _AGREEING
    if agreeing.mean() < _LEAST_AGREEING:
        return None
    # canonical -> frame on both sides
    return Step(complex(a), complex((a * alignment.b + b - alignment.b) / alignment.a))


def refined(track: Track, step_of: Callable[[Sighting], Step | None]) -> Track:
    sightings = track.sightings
    poses = [coherence._pose(s) for s in sightings]
    count = len(poses)
    if count < 2:
        return track
    steps = [None, *(step_of(s) if b.source != "filled" else None for b, s in itertools.pairwise(sightings))]
    centres = np.array([p.centre for p in poses])
    shapes = np.array([p.size for p in poses]) + 1j * np.unwrap([p.angle for p in poses])
    unit = np.exp(-shapes.real)
    data = np.array([1 / (_FILLED if s.source == "filled" or s.points is None else _DETECTED) ** 2 for s in sightings])
    link = np.array([1 / (_GUESSED if s is None else _FOLLOWED) ** 2 for s in steps[1:]])
    m = np.array([1.0 if s is None else s.a for s in steps[1:]], complex)
    n = np.array([0.0 if s is None else s.b for s in steps[1:]], complex)
    guess = np.array([s is None for s in steps[1:]])
    n = np.where(guess, centres[1:] - centres[:-1], n)
    turn = np.where(guess, shapes[1:] - shapes[:-1], np.log(np.abs(m)) - 1j * np.angle(m))
    wrong = np.ones(count)
    for _ in range(_SOLVED):
        c = _chain(centres, data * wrong * unit**2, m, n, link * unit[1:] ** 2)
        s = _chain(shapes, data * wrong * _LEVER**2, np.ones(count - 1), turn, link * _LEVER**2)
        off = np.maximum(np.abs(c - centres) * unit, np.abs(s - shapes) * _LEVER) / _OUTLIER
        wrong = 1 / (1 + off**2)
    moved = []
    for sighting, pose, centre, shape in zip(sightings, poses, c, s, strict=True):
        if sighting.points is None:
            moved.append(sighting)
            continue
        smooth = coherence.limited(coherence.Pose(complex(centre), float(shape.real), float(shape.imag)), pose)
        points = coherence.to_alignment(smooth).invert(geometry.align_points(sighting.points).apply(sighting.points))
        moved.append(dataclasses.replace(sighting, points=np.round(points, 2).astype(np.float32)))
    return dataclasses.replace(track, sightings=tuple(moved))


def _chain(values, weights, factors, shifts, links):
    """min sum w |x - v|^2 + sum l |x_{t+1} - m x_t - n|^2"""
    diagonal = weights.astype(complex)
    diagonal[1:] += links
    diagonal[:-1] += links * np.abs(factors) ** 2
    right = weights * values.astype(complex)
    right[1:] += links * shifts
    right[:-1] -= links * np.conj(factors) * shifts
    upper = np.zeros(len(values), complex)
    upper[1:] = -links * np.conj(factors)  # x_t row, x_{t+1} column
    return linalg.solveh_banded(np.array([upper, diagonal]), right)
