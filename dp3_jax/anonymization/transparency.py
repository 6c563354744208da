"""Faces in transparent photos: looked for in what viewers show, and taken out of the transparency too.

A viewer lays a transparent photo over white, black or something else, and some show its colours alone. So a
face can lie in the colours, in the transparency (the colours may be all black), or half in each.

What the transparency is inside a face decides how it is treated:
- one outline through it, or none, as where a person is cut out: it stays, like hair and ears outside;
- a fade, such as at the border of a vignette: it is continued from outside the face;
- anything else may be a picture of the face: the face becomes opaque, drawn in the photo as it is shown.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from dp3_jax.anonymization import blending, geometry, methods
from dp3_jax.anonymization.anonymize import Anonymizer, Result, classic
from dp3_jax.anonymization.faces import Face, merge, once_each
from dp3_jax.anonymization.geometry import Region
from dp3_jax.anonymization.plans import Plan, Settings

WHITE, BLACK = 255, 0

_NEAR = 8  # levels: as good as opaque, transparent or equal
_MAX_SOFT = 0.15  # of a face's pixels are neither opaque nor transparent where a person is cut out
_MAX_ISLANDS = 0.01  # of them are cut off from the face's border: eyes or a mouth of a stencil
_MAX_FADE = 16.0  # levels by which a fade differs from the continuation of what is round it
_FADE_SHARE = 95  # percent of the pixels to which that applies


def over(pixels: np.ndarray, alpha: np.ndarray, background: int) -> np.ndarray:
    """u8[h, w, 3]: what a viewer shows of colours u8[h, w, 3] and alpha u8[h, w] over a grey level."""
    opacity = alpha[..., None].astype(np.uint16)  # 255 * 255 and half of 255 fit
    blended = pixels * opacity + np.uint16(background) * (255 - opacity)
    return ((blended + 127) // 255).astype(np.uint8)


def find(anonymizer: Anonymizer, pixels: np.ndarray, alpha: np.ndarray | None) -> list[Face]:
    """The faces of a photo, as `Anonymizer.find`, in its colours and in it over white and over black."""
    faces = list(anonymizer.find(pixels))
    if alpha is None or alpha.min() == 255:
        return faces
    for background in (WHITE, BLACK):
        faces += anonymizer.find(over(pixels, alpha, background))
    return once_each(merge(faces))


def render(
    anonymizer: Anonymizer,
    pixels: np.ndarray,
    alpha: np.ndarray | None,
    plans: Sequence[Plan],
    settings: Settings,
) -> tuple[Result, np.ndarray | None]:
    """Treats the faces of a photo, as `Anonymizer.render`, in its colours and in its transparency.

    Args:
      anonymizer: models.
      pixels: u8[h, w, 3].
      alpha: u8[h, w]; None for an opaque photo.
      plans, settings: as of `Anonymizer.render`.

    Returns:
      The result; and the new alpha, which differs from `alpha` only inside the faces.
    """
    if alpha is None or alpha.min() == 255:
        return anonymizer.render(pixels, plans, settings), alpha
    targets = [_target(plan, settings, alpha.shape) for plan in plans if not plan.keep]
    new_alpha, pictures = _without_faces(alpha, targets)
    if not pictures:
        return anonymizer.render(pixels, plans, settings), new_alpha
    changed = blending.union(targets, alpha.shape)
    shown = over(pixels, alpha, _background(pixels, alpha, changed))
    result = anonymizer.render(shown, plans, settings)
    frame = np.where(changed[..., None], result.frame, pixels)
    return Result(frame, result.outcomes), new_alpha


def _target(plan: Plan, settings: Settings, shape: Sequence[int]) -> Region:
    """The pixels that are changed where a face is treated as planned."""
    alignment = geometry.align(plan.face.box, plan.face.points)
    if classic(plan, settings)[0]:
        return methods.covered(alignment, plan.face.box, settings.cover, shape)
    return geometry.region(alignment, geometry.face_mask(alignment, plan.face.box), shape)


def _without_faces(alpha: np.ndarray, targets: Sequence[Region]) -> tuple[np.ndarray, list[Region]]:
    """The alpha u8[h, w] without what it shows of the faces, and those of which it may be a picture."""
    new, pictures = alpha.copy(), []
    continued = None
    for target in targets:
        part, inside = alpha[target.slices], target.inside
        if not inside.any() or np.ptp(part[inside]) == 0:
            continue
        if _is_outline(part, inside):
            snapped = np.where(part < _NEAR, 0, np.where(part > 255 - _NEAR, 255, part))
            new[target.slices][inside] = snapped[inside]
            continue
        if continued is None:
            continued = blending.erase(np.repeat(alpha[..., None], 3, -1), targets)[..., 0]
        smooth = continued[target.slices]
        apart = np.abs(part[inside].astype(float) - smooth[inside])
        if np.percentile(apart, _FADE_SHARE) <= _MAX_FADE:
            new[target.slices][inside] = smooth[inside]
        else:
            new[target.slices][inside] = 255
            pictures.append(target)
    return new, pictures


def _is_outline(part: np.ndarray, inside: np.ndarray) -> bool:
    """Whether alpha u8[h, w] has two levels in a face, and no island of one in the other."""
    soft = (part >= _NEAR) & (part <= 255 - _NEAR) & inside
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


def _background(pixels: np.ndarray, alpha: np.ndarray, changed: np.ndarray) -> int:
    """The background over which more is to be seen of the photo, but for its faces: white or black."""
    seen = {}
    for background in (WHITE, BLACK):
        around = over(pixels, alpha, background)[~changed]
        seen[background] = float(around.std(0).sum()) if len(around) else 0.0
    return BLACK if seen[BLACK] > seen[WHITE] else WHITE
