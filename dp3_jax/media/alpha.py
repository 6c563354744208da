"""Transparency as numbers: what viewers show of it, and whether it could be a picture.

Colours are u8[h, w, 3] and alpha is u8[h, w], 255 where a picture is opaque.
"""

import cv2
import numpy as np

WHITE, GREY, BLACK = 255, 128, 0
NEAR = 8  # levels: as good as opaque, transparent or equal

MAX_FADE = 16.0  # levels by which a fade differs from an even one
FADE_SHARE = 95  # percent of the pixels to which that applies

_MAX_SOFT = 0.15  # of a face's pixels are neither opaque nor transparent where a person is cut out
_MAX_ISLANDS = 0.01  # of them are cut off from the face's border: eyes or a mouth of a stencil


def over(pixels: np.ndarray, alpha: np.ndarray, background: int) -> np.ndarray:
    """u8[h, w, 3]: what a viewer shows of colours and alpha over a grey level."""
    opacity = alpha[..., None].astype(np.uint16)  # 255 * 255 and half of 255 fit
    blended = pixels * opacity + np.uint16(background) * (255 - opacity)
    return ((blended + 127) // 255).astype(np.uint8)


def is_outline(part: np.ndarray, inside: np.ndarray) -> bool:
    """Whether a part of an alpha has two levels in a face, bool[h, w], and no island of one in the other."""
    soft = (part >= NEAR) & (part <= 255 - NEAR) & inside
    if soft.sum() > _MAX_SOFT * inside.sum():
        return False
    core = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    islands = 0
    for level in (part >= 128, part < 128):
        count, labels = cv2.connectedComponents((level & inside).astype(np.uint8))
        touching = np.zeros(count, bool)
        touching[np.unique(labels[inside & ~core])] = True
        touching[0] = True  # the background of the labels
        islands += int((~touching[labels]).sum())
    return islands <= _MAX_ISLANDS * inside.sum()


def changed(
    pixels: np.ndarray, alpha: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colours and alpha of a picture that was changed in the form in which it is shown.

    Args:
      pixels, alpha: of the picture.
      before: u8[h, w, 3], what is shown of it: `over` GREY.
      after: u8[h, w, 3], what is to be shown.

    Returns:
      The new colours and alpha. What was changed is opaque, unless an outline or a fade runs through it.
      Nothing is left under what is wholly transparent: nobody has looked at it.
    """
    different = _filled((before != after).any(-1))
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(different.astype(np.uint8))
    new = alpha.copy()
    for label in range(1, count):
        left, top, width, height = boxes[label][:4]
        area = slice(top, top + height), slice(left, left + width)
        inside = labels[area] == label
        if not is_outline(alpha[area], inside):
            new[area][inside] = _fade(alpha[area], inside)
    unseen = np.where((alpha == 0)[..., None], np.uint8(GREY), pixels)
    return np.where(different[..., None], after, unseen), new


def _fade(part: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """u8[n], alpha for the n pixels inside: the plane that it lies in, or opaque where it is no plane."""
    places = np.argwhere(inside)
    system = np.column_stack([places, np.ones(len(places))])
    plane = system @ np.linalg.lstsq(system, part[inside].astype(float), rcond=None)[0]
    apart = np.abs(plane - part[inside])
    if apart.max() <= 1:  # as near as whole numbers come
        return part[inside]
    flat = np.percentile(apart, FADE_SHARE) <= MAX_FADE
    return np.clip(np.rint(plane), 0, 255) if flat else np.full(len(places), 255)


def _filled(mask: np.ndarray) -> np.ndarray:
    """bool[h, w] without holes: pixels of a new face that happen to be what they were."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    return cv2.drawContours(filled, found, -1, 1, cv2.FILLED) > 0
