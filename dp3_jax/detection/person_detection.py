"""Finding persons: the whole frame, then square tiles of it, for those who are small in it."""

import itertools
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from dp3_jax.detection.detections import Detection, overlap
from dp3_jax.detection.kinds import BODY
from dp3_jax.models.person_network import SIDE, PersonNetwork

MIN_CONFIDENCE = 0.35
_SAME_IOU = 0.55  # boxes that overlap more show one person; side by side they overlap by up to half
_INSIDE = (
    0.75  # share of a box that was cut by its tile, which lies in another: that one has all of it
)
_OVERLAP = 0.25  # of a tile's side that it shares with the next
_FINE = 640  # px, the least side of the smaller tiles of photos
_PART = 0.75  # share of a box that lies in a larger one, of a person who does not fit into the tile
_EDGE = 0.02  # of a tile's side: a box as near to its edge was cut by it
_GREY = 114  # of what a tile has outside the frame


class PersonDetector:
    """Finds persons; threads may share it."""

    def __init__(self, min_confidence: float = MIN_CONFIDENCE):
        """Loads the network, fetching it once; raises UserError as `PersonNetwork`."""
        self._network = PersonNetwork()
        self._least = min_confidence

    def detect(self, frame: np.ndarray, *, fine: bool = True) -> list[Detection]:
        """The persons in u8[h, w, 3] RGB, surest first.

        Args:
          frame: the picture.
          fine: also look for small ones, in tiles of half the shorter side; for photos.
        """
        whole: list[Detection] = []
        cut: list[Detection] = []
        for left, top, side in _tiles(frame.shape[0], frame.shape[1], fine):
            boxes = self._network(_tile(frame, left, top, side), self._least)
            scale = side / SIDE
            placed = boxes.corners * scale + np.array([left, top, left, top], np.float32)
            for corners, score in zip(placed, boxes.scores, strict=True):
                found = _detection(corners, score, frame.shape)
                if found is not None and not _is_part(found, (left, top, side), whole):
                    is_cut = _is_cut(corners, left, top, side, frame.shape)
                    (cut if is_cut else whole).append(found)
        return _once_each(whole, cut)


def _tiles(height: int, width: int, fine: bool) -> Iterator[tuple[int, int, int]]:
    """(left, top, side) of the squares to look at, px; the first holds all of the frame."""
    sides = [max(height, width), min(height, width)]
    if fine and min(height, width) >= _FINE:
        sides.append(max(_FINE, min(height, width) // 2))
    for side in dict.fromkeys(sides):
        yield from (
            (left, top, side)
            for top, left in itertools.product(_starts(height, side), _starts(width, side))
        )


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / (side * (1 - _OVERLAP)))) + 1
    return np.linspace(0, length - side, count).round().astype(int).tolist()


def _tile(frame: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """u8[416, 416, 3] of a square, grey where that reaches out of the frame."""
    part = frame[top : top + side, left : left + side]
    scale = SIDE / side
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    picture = np.full((SIDE, SIDE, 3), _GREY, np.uint8)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    picture[: size[1], : size[0]] = cv2.resize(part, size, interpolation=method)
    return picture


def _detection(corners: np.ndarray, score: float, shape: tuple[int, ...]) -> Detection | None:
    """A person in the frame; None for one who is outside of it."""
    left, top = np.maximum(corners[:2], 0)
    right, bottom = np.minimum(corners[2:], (shape[1], shape[0]))
    if right - left < 2 or bottom - top < 2:
        return None
    box = (float(left), float(top), float(right - left), float(bottom - top))
    return Detection(box, None, float(score), kind=BODY)


def _is_cut(corners: np.ndarray, left: int, top: int, side: int, shape: tuple[int, ...]) -> bool:
    """Whether a tile ended within a person that the frame goes on with."""
    near = _EDGE * side
    return bool(
        (left > 0 and corners[0] < left + near)
        or (top > 0 and corners[1] < top + near)
        or (left + side < shape[1] and corners[2] > left + side - near)
        or (top + side < shape[0] and corners[3] > top + side - near)
    )


def _is_part(found: Detection, tile: tuple[int, int, int], larger: Sequence[Detection]) -> bool:
    """Whether it is what a tile shows of one of those who were found in a larger one before."""
    left, top, side = tile
    for other in larger:
        x, y, width, height = other.box
        fits = left <= x and top <= y and x + width <= left + side and y + height <= top + side
        if not fits and _share(found.box, other.box) > _PART:
            return True
    return False


def _once_each(whole: list[Detection], cut: list[Detection]) -> list[Detection]:
    """Persons without repetitions; one who was cut counts where nobody is known to be there."""
    kept: list[Detection] = []
    for one in sorted(whole, key=lambda one: -one.confidence):
        if all(overlap(one.box, other.box) <= _SAME_IOU for other in kept):
            kept.append(one)
    for one in sorted(cut, key=lambda one: -one.confidence):
        if all(_share(one.box, other.box) <= _INSIDE for other in kept) and all(
            overlap(one.box, other.box) <= _SAME_IOU for other in kept
        ):
            kept.append(one)
    return kept


def _share(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    """How much of `box` lies in `other`."""
    across = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    down = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    return max(across, 0.0) * max(down, 0.0) / (box[2] * box[3])
