"""What the fusion network said of one frame, carried to the next ones, where the head has moved on.

Fill, gain and bias belong to the surroundings and stay. Alpha belongs to the donor: it is kept relative to
the softened mask of the donor that it was made for, and takes the mask of the donor that is shown.
"""

import cv2
import numpy as np

from dp3_jax.replacement.fusing import Parts

CHANNELS = 10  # of `packed`
_KNOWN = 0.3  # of the softened mask, from which on its ratio to alpha says something
_SPREAD = 4.0  # px, standard deviation by which what is known there is carried on
_SMOOTH = np.array([1, 2, 1], np.float32) / 4


def softened(mask: np.ndarray) -> np.ndarray:
    """f32[S, S, 1]: a donor's mask of 0 and 1 as the network softens it (`models.fusion._softened`)."""
    smooth = mask[..., 0].astype(np.float32)
    for _ in range(2):
        smooth = cv2.sepFilter2D(
            smooth, cv2.CV_32F, _SMOOTH, _SMOOTH, borderType=cv2.BORDER_REPLICATE
        )
    return (np.clip(2 * smooth - 1, 0, 1) * mask[..., 0])[..., None]


def packed(parts: Parts, mask: np.ndarray) -> np.ndarray:
    """f32[S, S, 10] to be kept: fill, alpha relative to the softened mask, gain, bias.

    Args:
      parts: of a frame.
      mask: f32[S, S, 1] of the donor that they were made for.
    """
    edge = softened(mask)[..., 0]
    known = (edge >= _KNOWN).astype(np.float32)
    ratio = np.minimum(parts.alpha[..., 0] / np.maximum(edge, _KNOWN), 1.0) * known
    around = cv2.GaussianBlur(ratio, (0, 0), _SPREAD), cv2.GaussianBlur(known, (0, 0), _SPREAD)
    carried = np.where(around[1] > 1e-3, around[0] / np.maximum(around[1], 1e-3), 1.0)
    alpha = np.where(known > 0, ratio, carried)
    return np.dstack([parts.fill, alpha, parts.gain, parts.bias]).astype(np.float32)


def placed(kept: np.ndarray, mask: np.ndarray) -> Parts:
    """The parts for a donor with this mask, f32[S, S, 1], of what `packed` gave or an average of it."""
    alpha = kept[..., 3:4] * softened(mask)
    return Parts(kept[..., :3], alpha, kept[..., 4:7], kept[..., 7:10])
