"""Made-up faces that move through made-up clips, and how much of them a tracking leaves uncovered."""

import numpy as np

from dp3_jax.detection import tracks
from dp3_jax.detection.face_detection import Detection
from dp3_jax.vision.masks import CANONICAL_POINTS

WIDTH, HEIGHT = 640, 360
_IN_BOX = (CANONICAL_POINTS - np.array([33.4, 35.4])) / np.array([62.3, 82.4])


def face(box, confidence=0.9, source="detected"):
    """A face with its five points where they usually are."""
    points = np.array(box[:2]) + _IN_BOX * np.array(box[2:])
    return Detection(tuple(float(v) for v in box), points.astype(np.float32), confidence, source)


def straight(frames, start, speed, size=(40.0, 50.0)):
    """Boxes f64[frames, 4] of a face that moves at a constant speed; `start` is its centre, px."""
    centres = np.array(start) + np.arange(frames)[:, None] * np.array(speed)
    sizes = np.broadcast_to(np.array(size), centres.shape)
    return np.concatenate([centres - sizes / 2, sizes], 1)


def swaying(frames, middle, sway, period, *, size=(40.0, 50.0), phase=0.0):
    """Boxes f64[frames, 4] of a face that swings about a place by `sway` px, as a sine in time."""
    swing = np.sin(2 * np.pi * np.arange(frames) / period + phase)[:, None]
    centres = np.array(middle) + swing * np.array(sway)
    sizes = np.broadcast_to(np.array(size), centres.shape)
    return np.concatenate([centres - sizes / 2, sizes], 1)


def seen(paths, missing=lambda person, frame: False, noise=0.0, seed=0):
    """Detections by frame of some persons' boxes, but for those that `missing` says."""
    rng = np.random.default_rng(seed)
    found = {}
    for person, boxes in enumerate(paths):
        for frame, box in enumerate(boxes):
            shaken = box + noise * np.tile(box[2:], 2) * rng.standard_normal(4)
            if visible(box) and not missing(person, frame):
                found.setdefault(frame, []).append(face(shaken))
    return found


def visible(box):
    """Whether a detector could see a face there: its centre lies in the frame."""
    x, y = tracks.centre(box)
    return 0 <= x < WIDTH and 0 <= y < HEIGHT


def uncovered(tracking, frame, box):
    """Number of px of a true face's ellipse, in the frame, that no observation's ellipse covers."""
    left, top, right, bottom = (round(v) for v in (*box[:2], box[0] + box[2], box[1] + box[3]))
    y, x = np.mgrid[max(top, 0) : min(bottom + 1, HEIGHT), max(left, 0) : min(right + 1, WIDTH)]

    def ellipse(one):
        middle = tracks.centre(one)
        return ((x - middle[0]) / one[2] * 2) ** 2 + ((y - middle[1]) / one[3] * 2) ** 2

    bare = ellipse(box) <= 1
    for track in tracking:
        if track.first <= frame <= track.last:
            # A tenth of a px: boxes are kept to a hundredth.
            x0, y0, w, h = track.observations[frame - track.first].box
            bare &= ellipse((x0 - 0.05, y0 - 0.05, w + 0.1, h + 0.1)) > 1
    return int(bare.sum())


def exposed(tracking, paths, frames=None):
    """`uncovered` over all persons and frames (or those given), as {(person, frame): px}, without zeros."""
    found = {}
    for person, boxes in enumerate(paths):
        for frame in range(len(boxes)) if frames is None else frames:
            if visible(boxes[frame]) and (px := uncovered(tracking, frame, boxes[frame])):
                found[person, frame] = px
    return found
