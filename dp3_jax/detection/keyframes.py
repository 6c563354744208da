"""Which frames of a clip are searched for faces that nobody knows, and how thoroughly."""

import enum

import numpy as np

from dp3_jax.media.video.lazy_pictures import Image

CHUNK = 32  # frames
_UPRIGHT_EVERY = 16  # frames, between those with all upright passes
# Frames since one with all passes, from which on the last one before a cut has them too.
_SHORT_SCENE = 3
_INTERVAL = 0.12  # s from one keyframe to the next
_MAX_INTERVAL = 5  # frames
# In small pictures faces are soft, and are detected in one frame and not in the next.
_SMALL, _MAX_SMALL_INTERVAL = 800 * 600, 2  # px, frames
_SAMPLES = 64  # across the shorter side, by which frames are compared with the last keyframe
_OTHER = 24  # levels by which a sample is another one
_CHANGED = 0.35  # share of the samples; from there on a frame is a keyframe
_QUIET, _QUIET_FACTOR = 0.03, 2  # share of the samples; below, there is more time between keyframes


def interval(rate: float, width: int, height: int) -> int:
    """Frames from one keyframe to the next in a clip of so many frames a second, of a size in px."""
    most = _MAX_SMALL_INTERVAL if width * height < _SMALL else _MAX_INTERVAL
    return max(1, min(round(_INTERVAL * rate), most))


class Search(enum.IntEnum):
    """How a frame is searched for faces that nobody knows."""

    NONE = 0
    COARSE = 1
    FINER = 2
    UPRIGHT = 3
    ALL = 4


class Schedule:
    """Says how each frame is searched."""

    def __init__(self, every: int, last: Image | None, begins: bool):
        """Begins with a clip, or after a frame that had all passes; arguments as of `VideoDetector.find`."""
        self._every = every
        self._key = None if last is None else self._samples(last)
        self._begins = begins
        self._unsearched = CHUNK if begins else 0  # frames since one with all passes
        self._waited = 0  # frames since a keyframe
        self._finer = False  # whether the last coarse pass had a finer one beside it

    def search(self, image: Image, *, cut: bool, place: int, last: bool) -> Search:
        """How the next frame is searched, which is at a place in its chunk, perhaps the last one."""
        self._unsearched += 1
        self._waited += 1
        samples = self._samples(image)
        kind = Search.NONE
        if cut or last or self._begins:
            kind, self._unsearched, self._finer = Search.ALL, 0, False
        elif (place + 1) % _UPRIGHT_EVERY == 0 and self._unsearched >= _SHORT_SCENE:
            kind = Search.UPRIGHT
        elif self._is_due(samples):
            self._finer = not self._finer
            kind = Search.FINER if self._finer else Search.COARSE
        if kind:
            self._waited, self._key = 0, samples
        self._begins = False
        return kind

    def search_at_end(self) -> Search:
        """How the last frame before a cut, or of the clip, is searched."""
        return Search.ALL if self._unsearched >= _SHORT_SCENE else Search.COARSE

    @staticmethod
    def _samples(image: Image) -> np.ndarray:
        """i16[n, m, 3]: a few px of a frame."""
        stride = max(1, min(image.shape[:2]) // _SAMPLES)
        return image[stride // 2 :: stride, stride // 2 :: stride].astype(np.int16)

    def _is_due(self, samples: np.ndarray) -> bool:
        """Whether a frame is so much later, or so different, that it is a keyframe."""
        if self._key is None or self._key.shape != samples.shape:
            return True
        changed = float((np.abs(samples - self._key).max(-1) > _OTHER).mean())
        every = self._every * (_QUIET_FACTOR if changed < _QUIET else 1)
        return changed > _CHANGED or self._waited >= every
