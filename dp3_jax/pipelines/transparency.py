"""Faces in transparent photos: looked for in what viewers show, and taken out of the transparency too.

A viewer lays a transparent photo over white, black or something else, and some show its colours alone. So a
face can lie in the colours, in the transparency (the colours may be all black), or half in each.

What the transparency is inside a face decides how it is treated:
- one outline through it, or none, as where a person is cut out: it stays, like hair and ears outside;
- a fade, such as at the border of a vignette: it is continued from outside the face;
- anything else may be a picture of the face: the face becomes opaque, drawn in the photo as it is shown.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from dp3_jax.detection.detections import Detection, merge, once_each
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.detection.kinds import BODY, HEAD
from dp3_jax.media.alpha import BLACK, FADE_SHARE, MAX_FADE, NEAR, WHITE, is_outline, over
from dp3_jax.pipelines.anonymize import Anonymizer, Result
from dp3_jax.replacement import generation, obfuscation
from dp3_jax.replacement.face_actions import FaceAction, Settings, obfuscation_of
from dp3_jax.replacement.targets import as_face
from dp3_jax.vision import blending
from dp3_jax.vision.geometry import Region

_BODY_REACH = 0.2  # of the longer side of a body's box, that its outline does not reach beyond it


def find(anonymizer: Anonymizer, pixels: np.ndarray, alpha: np.ndarray | None) -> list[Detection]:
    """The faces of a photo, as `Anonymizer.find`, in its colours and in it over white and over black."""
    faces = list(anonymizer.find(pixels))
    if alpha is None or alpha.min() == 255:
        return faces
    for background in (WHITE, BLACK):
        faces += anonymizer.find(over(pixels, alpha, background))
    kinds = dict.fromkeys(face.kind for face in faces)
    own = ([face for face in faces if face.kind is kind] for kind in kinds)
    return [face for of_kind in own for face in once_each(merge(of_kind))]


def render(
    anonymizer: Anonymizer,
    pixels: np.ndarray,
    alpha: np.ndarray | None,
    actions: Sequence[FaceAction],
    settings: Settings,
) -> tuple[Result, np.ndarray | None]:
    """Treats the faces of a photo, as `Anonymizer.render`, in its colours and in its transparency.

    Args:
      anonymizer: models.
      pixels: u8[h, w, 3].
      alpha: u8[h, w]; None for an opaque photo.
      actions, settings: as of `Anonymizer.render`.

    Returns:
      The result; and the new alpha, which differs from `alpha` only inside the faces.
    """
    if alpha is None or alpha.min() == 255:
        return anonymizer.render(pixels, actions, settings), alpha
    actions = _measured_once(anonymizer, over(pixels, alpha, WHITE), actions, settings)
    targets = [_target(action, settings, alpha.shape) for action in actions if not action.keep]
    new_alpha, pictures = _without_faces(alpha, targets)
    if not pictures:
        return anonymizer.render(pixels, actions, settings), new_alpha
    changed = blending.union(targets, alpha.shape)
    shown = over(pixels, alpha, _background(pixels, alpha, changed))
    result = anonymizer.render(shown, actions, settings)
    frame = np.where(changed[..., None], result.frame, pixels)
    return Result(frame, result.face_results), new_alpha


def _measured_once(
    anonymizer: Anonymizer, shown: np.ndarray, actions: Sequence[FaceAction], settings: Settings
) -> Sequence[FaceAction]:
    """The plans with vectors from the photo as it is shown: masks depend on them, so there must be one."""
    measured = anonymizer.measured(shown, actions, settings)
    if measured is actions:
        return actions
    ahead = FaceVector(0.0, 0.0)
    return [dataclasses.replace(action, vector=action.vector or ahead) for action in measured]


def _target(action: FaceAction, settings: Settings, shape: Sequence[int]) -> Region:
    """The pixels that are changed where a face is treated as planned."""
    if action.face.kind is BODY:
        return _round_body(action.face.box, shape)
    if action.face.kind is HEAD:
        face = as_face(action.face)
        return obfuscation.extent(face.alignment(), face.box, "head", shape)
    if obfuscation_of(action, settings)[0]:
        return obfuscation.extent(
            action.face.alignment(), action.face.box, settings.cover, shape, kind=action.face.kind
        )
    return generation.request_for(0, action, shape).target


def _round_body(box: Sequence[float], shape: Sequence[int]) -> Region:
    """A rectangle that holds whatever outline a body in `box` may have."""
    x, y, width, height = box
    more = _BODY_REACH * max(width, height)
    left, top = max(math.floor(x - more), 0), max(math.floor(y - more), 0)
    right, bottom = math.ceil(x + width + more), math.ceil(y + height + more)
    inside = np.ones((min(bottom, shape[0]) - top, min(right, shape[1]) - left), bool)
    return Region(top, left, inside)


def _without_faces(alpha: np.ndarray, targets: Sequence[Region]) -> tuple[np.ndarray, list[Region]]:
    """The alpha u8[h, w] without what it shows of the faces, and those of which it may be a picture."""
    new, pictures = alpha.copy(), []
    continued = None
    for target in targets:
        part, inside = alpha[target.slices], target.inside
        if not inside.any() or np.ptp(part[inside]) == 0:
            continue
        if is_outline(part, inside):
            snapped = np.where(part < NEAR, 0, np.where(part > 255 - NEAR, 255, part))
            new[target.slices][inside] = snapped[inside]
            continue
        if continued is None:
            continued = blending.fill_background(np.repeat(alpha[..., None], 3, -1), targets)[
                ..., 0
            ]
        smooth = continued[target.slices]
        apart = np.abs(part[inside].astype(float) - smooth[inside])
        if np.percentile(apart, FADE_SHARE) <= MAX_FADE:
            new[target.slices][inside] = smooth[inside]
        else:
            new[target.slices][inside] = 255
            pictures.append(target)
    return new, pictures


def _background(pixels: np.ndarray, alpha: np.ndarray, changed: np.ndarray) -> int:
    """The background over which more is to be seen of the photo, but for its faces: white or black."""
    seen = {}
    for background in (WHITE, BLACK):
        around = over(pixels, alpha, background)[~changed]
        seen[background] = float(around.std(0).sum()) if len(around) else 0.0
    return BLACK if seen[BLACK] > seen[WHITE] else WHITE
