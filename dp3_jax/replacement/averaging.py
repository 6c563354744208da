"""Running averages of the pictures of a face, in its canonical frame, and when they are out of date."""

import functools

import cv2
import numpy as np

# Least weight of the new picture in the average: of what is wrong half has gone after 14 frames.
MIN_WEIGHT = 0.05
# The same for the smooth fill of what is erased, which moves with the background and only must not flicker.
FILL_MIN_WEIGHT = 0.3
EVERY = 8  # frames from one drawing to the next: it is averaged in over all of them
_SAME = 8.0  # levels: surroundings that differ by less show the same
_OTHER = 40.0  # levels: surroundings that differ by more have nothing to do with the ones before
_COARSE = 32  # px, the side at which pictures are compared
_UNCHANGED = 20.0  # levels by which the new picture may differ locally and still be averaged fully
# Levels of local difference from which on the new picture counts as much as it may, and the weight that a
# drawing has then: all at once would be a jump.
_CHANGED, _MAX_WEIGHT = 100.0, 0.5
_LOCAL = 3  # coarse px, what "locally" means


@functools.lru_cache(maxsize=64)  # all faces of a run share a few masks
def _known(masked: bytes, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What of a view is known: u8[S, S], 255 if it is, and f32[32, 32], the share of each cell."""
    known = (np.frombuffer(masked, bool).reshape(shape) ^ True).astype(np.uint8)
    share = cv2.resize(known.astype(np.float32), (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
    return known * np.uint8(255), share


def surroundings(view: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What is round a face, for `measured_change`.

    Args:
      view: u8[S, S, 3], canonical view of a background-filled frame.
      mask: f32[S, S, 1], 1 where the face is new.

    Returns:
      f32[32, 32, 4]: mean colours, unknown ones being 0, and the share of each cell that is known.
    """
    known, share = _known((mask[..., 0] != 0).tobytes(), mask.shape[:2])
    seen = cv2.bitwise_and(view, view, mask=known)
    colour = cv2.resize(seen, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
    return np.dstack([colour.astype(np.float32), share])


def measured_change(before: np.ndarray | None, now: np.ndarray) -> float:
    """How much of what is remembered is out of date, by its surroundings: 0 nothing, 1 all.

    The mean absolute difference where both are wholly known, in levels, held against _SAME and _OTHER.
    """
    if before is None:
        return 1.0
    both = (before[..., 3] == 1) & (now[..., 3] == 1)
    if not both.any():
        return 1.0
    difference = float(np.abs(before[..., :3] - now[..., :3])[both].mean())
    return float(np.clip((difference - _SAME) / (_OTHER - _SAME), 0.0, 1.0))


def average(
    before: np.ndarray,
    new: np.ndarray,
    change_score: float,
    *,
    least: float = MIN_WEIGHT,
    most: float = _MAX_WEIGHT,
    every: int = EVERY,
) -> np.ndarray:
    """The running average of a picture, f32[S, S, 3].

    Args:
      before: f32[S, S, 3], the average so far.
      new: [S, S, 3].
      change_score: as `measured_change` gives it.
      least: weight of the new picture.
      most: its weight where it is very different.
      every: frames in which the same new picture comes again.

    Each pixel of the new picture gets a weight of `least` at least, and more where the two are very
    different: noise is averaged away, and of what has moved no ghost stays for long.
    """
    difference = cv2.subtract(new, before, dtype=cv2.CV_32F)
    cells = cv2.resize(difference, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
    local = np.abs(cv2.blur(cells, (_LOCAL, _LOCAL))).max(-1)
    changed = most * np.clip((local - _UNCHANGED) / (_CHANGED - _UNCHANGED), 0.0, 1.0)
    changed = 1 - (1 - changed) ** (1 / every)
    weight = least + (1 - least) * np.maximum(changed, np.float32(change_score))
    if weight.max() == weight.min():
        return cv2.scaleAdd(difference, float(weight[0, 0]), before)
    weight = cv2.resize(weight, before.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.add(before, cv2.multiply(difference, cv2.merge([weight] * 3)))


def drift(before: np.ndarray, new: np.ndarray, change_score: float) -> np.ndarray:
    """The running average of a correction of colours; `change_score` as `measured_change` gives it."""
    weight = np.float32(MIN_WEIGHT + (1 - MIN_WEIGHT) * change_score)
    return before + weight * (new - before)
