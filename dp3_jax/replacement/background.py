"""Where beside a new face the photo's own background shows, and not what the network draws.

The background-filled photo, whose colours run smoothly into the masked region, is nearer to what was there
in two places. Beyond the far cheek of a turned head the network, which learned from portraits that mostly
look ahead with hair on both sides, draws hair. And where it draws what the background-filled photo shows
anyway, it adds specks.
"""

import dataclasses

import cv2
import numpy as np

from dp3_jax.replacement.fusing import Donor, Parts, to_floats
from dp3_jax.vision.masks import SIZE

_YAW = 12.0, 20.0  # degrees between which the background-filled photo takes over
_SIDE = 8.0, 20.0  # canonical px from the donor's middle
_AWAY = 1.0, 5.0  # from the donor's outline
_TOP = 0.0, 0.25  # heights of the donor below its upper end: above there is hair
_SPECKS = 1.5  # px, standard deviation of the blur that specks do not survive
_ALIKE = 6.0, 16.0  # levels by which what is left differs: from the same to something else
_BOTTOM = -0.05, 0.10  # and below its lower end: there is a neck


def _rising(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def far_side(donor: Donor) -> np.ndarray:
    """f32[128, 128, 1]: how much of the fill the background-filled photo takes over; zero where nothing is
    far.

    Args:
      donor: placed; its rendering's yaw says which side is the far one.
    """
    yaw, inside = donor.rendering.pose.yaw, donor.mask[..., 0] > 0
    turned = float(_rising(np.abs(yaw), *_YAW))
    if not turned or not inside.any():
        return np.zeros((SIZE, SIZE, 1), np.float32)
    rows, columns = np.nonzero(inside)
    top, bottom = rows.min(), rows.max()
    height = max(bottom - top, 1)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    share = turned * _rising((columns.mean() - x) * np.sign(yaw), *_SIDE)
    share *= _rising((y - top) / height, *_TOP) * (1 - _rising((y - bottom) / height, *_BOTTOM))
    away = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 3)
    return (share * _rising(away, *_AWAY))[..., None].astype(np.float32)


def plain(parts: Parts, background_fill: np.ndarray) -> np.ndarray:
    """f32[128, 128, 1]: how far the fill shows nothing but the background-filled photo u8[128, 128, 3],
    and specks.
    """
    away = cv2.GaussianBlur(parts.fill - to_floats(background_fill), (0, 0), _SPECKS)
    levels = 127.5 * np.abs(away).max(-1)
    share = 1 - _rising(levels, *_ALIKE)
    return cv2.GaussianBlur(share, (0, 0), 1.0)[..., None].astype(np.float32)


def background(parts: Parts, donor: Donor, background_fill: np.ndarray) -> np.ndarray:
    """f32[128, 128, 1]: where and how far the background-filled photo u8[128, 128, 3] is nearer to what
    was there.
    """
    return np.maximum(far_side(donor), plain(parts, background_fill))


def with_background(parts: Parts, share: np.ndarray, background_fill: np.ndarray) -> Parts:
    """Parts whose fill is the background-filled photo u8[128, 128, 3] as far as `background` says,
    f32[128, 128, 1].
    """
    return dataclasses.replace(
        parts, fill=parts.fill + share * (to_floats(background_fill) - parts.fill)
    )
