"""Hard cuts: where one frame shows another scene than the frame before.

Frames are compared as thumbnails, block by block, each block with the place in the other frame that looks
most like it: pans, zooms and moving things are found again, another scene is not. Brightness and contrast
are taken out first, so that a flash or a fade is no cut; frames without any picture in them (black, or white
from a flash) say nothing, and the next one is compared with the last that did.
"""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

_WIDTH, _HEIGHT = 24, 16  # px of a thumbnail
_BLOCK = 8  # px, the side of a block
_SEARCH = (3, 4)  # px up and down, left and right, in which a block is looked for
_LOOKED_AT = (
    128  # rows or columns of the shorter side that a thumbnail is made of; more is not needed
)
_FLAT = 6.0  # levels of standard deviation below which a frame shows nothing
_STEEPEST = 2.5  # contrast is raised by at most this ratio between two frames
_COLOUR = 64.0  # levels of colour difference that count like a standard deviation of brightness
_CHANGED = 0.45  # mean difference from which on another scene is shown
_RISE = 2.0  # how many times the usual difference of the last frames it must be
_MEMORY = 0.8  # of the usual difference, from frame to frame


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """f32[_HEIGHT, _WIDTH, 3]: brightness and two colour differences, in levels."""
    stride = max(1, min(image.shape[:2]) // _LOOKED_AT)
    image = np.ascontiguousarray(image[stride // 2 :: stride, stride // 2 :: stride])
    small = cv2.resize(image, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb).astype(np.float32)


def _blocks(differences: np.ndarray) -> np.ndarray:
    """Means over blocks: [..., _HEIGHT, _WIDTH] -> [..., rows, columns]."""
    shape = (*differences.shape[:-2], _HEIGHT // _BLOCK, _BLOCK, _WIDTH // _BLOCK, _BLOCK)
    return differences.reshape(shape).mean((-3, -1))


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """How different two thumbnails are besides motion and brightness: 0 for one scene, to about 1.

    Below the least value that matters the search is left out, and the result is a little too high.
    """
    levels = max(first[..., 0].std(), second[..., 0].std())
    normal = []
    for one in (first, second):
        bright = one[..., 0] - one[..., 0].mean()
        gain = min(_STEEPEST, levels / max(float(bright.std()), 1e-3))  # less light, less colour
        colour = (one[..., 1:] - one[..., 1:].mean((0, 1))) * (gain / _COLOUR)
        normal.append(np.concatenate([bright[..., None] * (gain / levels), colour], -1))
    # A pixel counts by at most 1, so that a striking thing that moves is no more than its area.
    unmoved = float(np.minimum(np.abs(normal[0] - normal[1]).sum(-1), 1).mean())
    if unmoved < _CHANGED / _RISE:
        return unmoved
    down, right = _SEARCH
    padded = np.pad(normal[0], ((down, down), (right, right), (0, 0)), "edge")
    shifted = np.lib.stride_tricks.sliding_window_view(padded, (_HEIGHT, _WIDTH), (0, 1))
    # [shifts down, shifts right, channel, height, width]
    apart = np.minimum(np.abs(shifted - normal[1].transpose(2, 0, 1)).sum(2), 1)
    return float(_blocks(apart).min((0, 1)).mean())


class CutDetector:
    """Says of each frame whether it is the first after a hard cut."""

    def __init__(self):
        self._last: np.ndarray | None = None  # the thumbnail of the last frame that shows anything
        self._usual = 0.0

    def state(self) -> dict[str, Any]:
        """All that is remembered, as JSON values."""
        last = None if self._last is None else self._last.astype(int).tolist()
        return {"last": last, "usual": self._usual}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes what `state` gave in place of all that is remembered."""
        last = state["last"]
        self._last = None if last is None else np.array(last, np.float32)
        self._usual = state["usual"]

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
