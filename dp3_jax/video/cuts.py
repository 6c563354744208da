"""Hard cuts: where one frame shows another scene than the frame before.

Frames are compared as thumbnails, block by block, each block with the place in the other frame that looks
most like it: pans, zooms and moving things are found again, another scene is not. Brightness and contrast
are taken out first, so that a flash or a fade is no cut; frames without any picture in them (black, or white
from a flash) say nothing, and the next one is compared with the last that did.
"""

import cv2
import numpy as np

_WIDTH, _HEIGHT = 48, 32  # px of a thumbnail
_BLOCK = 8  # px, the side of a block
_SEARCH = (6, 8)  # px up and down, left and right, in which a block is looked for
_STRIDE = 4  # every fourth pixel of at least _LARGE px is looked at
_LARGE = 400  # px, the shorter side
_FLAT = 6.0  # levels of standard deviation below which a frame shows nothing
_STEEPEST = 2.5  # contrast is raised by at most this ratio between two frames
_COLOUR = 32.0  # levels of colour difference that count like a standard deviation of brightness
_CHANGED = 0.5  # mean difference from which on another scene is shown
_RISE = 2.0  # how many times the usual difference of the last frames it must be
_MEMORY = 0.8  # of the usual difference, from frame to frame


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """f32[_HEIGHT, _WIDTH, 3]: brightness and two colour differences, in levels."""
    if min(image.shape[:2]) >= _LARGE:
        image = np.ascontiguousarray(image[_STRIDE // 2 :: _STRIDE, _STRIDE // 2 :: _STRIDE])
    small = cv2.resize(image, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb).astype(np.float32)


def _blocks(differences: np.ndarray) -> np.ndarray:
    """Means over blocks: [..., _HEIGHT, _WIDTH] -> [..., rows, columns]."""
    shape = (*differences.shape[:-2], _HEIGHT // _BLOCK, _BLOCK, _WIDTH // _BLOCK, _BLOCK)
    return differences.reshape(shape).mean((-3, -1))


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """How different two thumbnails are, motion and brightness taken out; 0 for the same scene, about 1 else."""
    levels = max(first[..., 0].std(), second[..., 0].std())
    normal = []
    for one in (first, second):
        bright = one[..., 0] - one[..., 0].mean()
        gain = min(_STEEPEST, levels / max(float(bright.std()), 1e-3)) / levels
        colour = (one[..., 1:] - one[..., 1:].mean((0, 1))) / _COLOUR
        normal.append(np.concatenate([bright[..., None] * gain, colour], -1))
    down, right = _SEARCH
    padded = np.pad(normal[0], ((down, down), (right, right), (0, 0)), "edge")
    shifted = np.lib.stride_tricks.sliding_window_view(padded, (_HEIGHT, _WIDTH), (0, 1))
    # [shifts down, shifts right, channel, height, width]
    apart = np.abs(shifted - normal[1].transpose(2, 0, 1)).sum(2)
    best = _blocks(apart).min((0, 1))
    return float(best.mean())


class CutDetector:
    """Says of each frame whether it is the first after a hard cut."""

    def __init__(self):
        self._last: np.ndarray | None = None  # the thumbnail of the last frame that shows anything
        self._usual = 0.0

    def update(self, image: np.ndarray) -> bool:
        """Takes the next frame, u8[h, w, 3] RGB; whether there is a cut right before it."""
        small = _thumbnail(image)
        if small[..., 0].std() < _FLAT:
            return False
        last, self._last = self._last, small
        if last is None:
            return False
        changed = difference(last, small)
        cut = changed > max(_CHANGED, _RISE * self._usual)
        self._usual = 0.0 if cut else _MEMORY * self._usual + (1 - _MEMORY) * changed
        return cut
