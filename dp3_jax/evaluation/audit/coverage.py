"""Was a face changed at all? Pixels alone tell it, without a network that could be wrong.

Both pictures are compared in the canonical frame, in the middle of the face, where no hair or background is.
A picture that was only compressed again keeps its details where they were; one that was anonymized does not.
"""

import dataclasses

import cv2
import numpy as np

from dp3_jax.vision import masks

SHOWN, TOO_LITTLE, CHANGED = "shown", "changed too little", "changed"
KEPT = "kept on purpose"  # what a sidecar says of it
# Between what a face keeps when it is only stored again and what anonymizers leave of it: measured on 80
# photos of LFW, docs/cli/audit.md has the numbers.
MIN_ALIKE_SHOWN = 0.95
MIN_ALIKE_TOO_LITTLE = 0.8  # the most of 80 generated faces is 0.70, of blurred ones 0.66
MIN_CHANGE = 6.0  # grey levels: less is what storing it again does, as JPEG of quality 20
_NOISE = 2.0  # times as much as the surroundings changed
_FINE, _COARSE = 1.0, 6.0  # px: details lie between these blurs
_INNER = 0.62  # of the mask's half-axes: brows to chin
_FLAT = 1.5  # grey levels, standard deviation: below there is nothing to be alike


@dataclasses.dataclass(frozen=True)
class Change:
    """How a face differs from its original.

    Attributes:
      difference: mean absolute difference in the middle of the face, grey levels of 255.
      outside: the same around the mask, which storing a picture again changes too.
      alike: correlation of the details, -1 to 1; 0 where the result has none.
    """

    difference: float
    outside: float
    alike: float

    @property
    def state(self) -> str:
        """SHOWN, TOO_LITTLE or CHANGED."""
        if self.alike >= MIN_ALIKE_SHOWN and self.difference <= max(
            MIN_CHANGE, _NOISE * self.outside
        ):
            return SHOWN
        return TOO_LITTLE if self.alike >= MIN_ALIKE_TOO_LITTLE else CHANGED


def _inner() -> np.ndarray:
    """bool[128, 128]: the middle of the face, from the brows to the chin."""
    grid = np.arange(masks.SIZE, dtype=np.float32)
    (x, y), (a, b) = masks.CENTRE, (axis * _INNER for axis in masks.HALF_AXES)
    # Lower than the mask, which reaches over the forehead.
    return ((grid[None] - x) / a) ** 2 + ((grid[:, None] - y - 6) / b) ** 2 <= 1


_INSIDE = _inner()


def _details(picture: np.ndarray) -> np.ndarray:
    """f32[h, w]: luminance without its coarse part and its noise."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (_FINE, _COARSE))
    return fine - coarse


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    if min(a.std(), b.std()) < _FLAT:
        return 0.0
    return float((a * b).mean() / (a.std() * b.std()))


def compare(original: np.ndarray, anonymized: np.ndarray, mask: np.ndarray) -> Change:
    """How the face in two canonical views u8[128, 128, 3] differs; `mask` bool[128, 128], what was masked."""
    apart = np.abs(original.astype(np.int16) - anonymized).mean(-1)
    flat = float(_details(original)[_INSIDE].std()) < _FLAT
    a, b = (_details(view)[_INSIDE] for view in (original, anonymized))
    alike = _correlation(a, b)
    difference = float(apart[_INSIDE].mean())
    if flat and difference < MIN_CHANGE:  # a face without details that is as it was
        alike = 1.0
    # Not the mask's boundary, where results are blended.
    margin = cv2.dilate(np.asarray(mask, np.uint8), np.ones((9, 9), np.uint8)) == 0
    outside = float(np.median(apart[margin])) if margin.any() else 0.0
    return Change(difference, outside, alike)
