"""Bodies anonymized: what is to be done with each, and doing it.

A body's pixels are filled from its surroundings first, like those of faces that get new ones. `background`
leaves that, or what other frames show there; `silhouette` and `generate` draw into it, from the outline, the
pose, the key and the light round the body. The obfuscations show the body's own pixels, averaged.
"""

import dataclasses
import functools
from collections.abc import Sequence

import cv2
import numpy as np

from dp3_jax.detection.body_outline import Outline
from dp3_jax.replacement import clothing, obfuscation
from dp3_jax.replacement.body_parts import Part, canvas
from dp3_jax.replacement.face_actions import Done
from dp3_jax.vision import blending
from dp3_jax.vision.geometry import Alignment, Region, feather, place, region
from dp3_jax.vision.masks import SIZE
from dp3_jax.vision.target_frames import HEAD_CENTRE

DONE = {
    "blur": Done.BLURRED,
    "pixelate": Done.PIXELATED,
    "solid": Done.SOLID,
    "silhouette": Done.SILHOUETTE,
    "background": Done.REMOVED,
    "generate": Done.REDRAWN,
}

_SILHOUETTE = np.array((92, 128, 176), np.float32)
# Shades of it, so that each limb is told from the next and left from right.
_SHADES = {
    Part.HEAD: 1.3, Part.TRUNK: 0.85,
    Part.LEFT_UPPER_ARM: 1.1, Part.LEFT_FOREARM: 1.3, Part.LEFT_HAND: 1.45,
    Part.RIGHT_UPPER_ARM: 0.62, Part.RIGHT_FOREARM: 0.48, Part.RIGHT_HAND: 0.36,
    Part.LEFT_THIGH: 1.05, Part.LEFT_SHIN: 1.25, Part.LEFT_FOOT: 1.4,
    Part.RIGHT_THIGH: 0.66, Part.RIGHT_SHIN: 0.5, Part.RIGHT_FOOT: 0.36,
}  # fmt: skip

# Hair in the canonical frame of faces: half axes and middle of its ellipse, and how far down it goes.
_HAIR, _HAIR_ENDS = (52.0, 64.0, 60.0), 84.0
_HAIR_EDGE = 6.0  # canonical px over which it begins
_PADDING = 64  # canonical px round that frame

_EDGE = 1.5  # px over which a drawn body takes over from what is behind it
_USUAL_LIGHT = 118.0  # levels of the surroundings in which clothes have the colours of `clothing`
_DARKEST, _LIGHTEST = 0.3, 1.25
_TINT = 0.5  # of the surroundings' colour cast that falls on a body
_AROUND = 0.25  # of a body's size: how far round it the light counts


@dataclasses.dataclass(eq=False)
class BodyTask:
    """What is to be done with a body, or with the part of a head that no new face covers.

    Attributes:
      method: one of `choices.BODY_METHODS`.
      key: what it is drawn from.
      box: (x, y, width, height) in px.
      outline: of it.
      target: its pixels, with those of faces that belong to it.
      scale: as of `Alignment.scale`, in its kind's frame.
      has_face: a new face is put into it later.
      hair: of a head, the pixels of its new hair; None of a body.
      backdrop: u8[h, w, 3] and bool[h, w], the scene without persons and where that is known; None: nobody
        has seen it.
    """

    method: str
    key: bytes
    box: Sequence[float]
    outline: Outline
    target: Region
    scale: float
    has_face: bool = False
    hair: Region | None = None
    backdrop: tuple[np.ndarray, np.ndarray] | None = None


def head_task(key: bytes, alignment: Alignment, target: Region, shape: Sequence[int]) -> BodyTask:
    """A head to be drawn anew, under its new face: filled from its surroundings, with hair from the key.

    Args:
      key: of the face.
      alignment: of it, into the face's canonical frame.
      target: pixels of the head.
      shape: of the frame.
    """
    height, width = target.inside.shape
    box = (target.left, target.top, width, height)
    hair = region(alignment.shifted(_PADDING, _PADDING), _hair_mask(), shape)
    outline = Outline(target, by_box=True)
    return BodyTask("generate", key, box, outline, target, alignment.scale, hair=hair)


@functools.cache
def _hair_mask() -> np.ndarray:
    """f32[256, 256] on a canvas with _PADDING px round the canonical frame of faces."""
    y, x = np.mgrid[0 : SIZE + 2 * _PADDING, 0 : SIZE + 2 * _PADDING] - _PADDING
    inside = ((x - HEAD_CENTRE[0]) / _HAIR[0]) ** 2 + ((y - _HAIR[2]) / _HAIR[1]) ** 2 <= 1
    return (inside & (y <= _HAIR_ENDS)).astype(np.float32)


def paint(frame: np.ndarray, background_fill: np.ndarray, tasks: Sequence[BodyTask]) -> None:
    """Draws bodies into a frame that is filled where they were, in place; the nearest one last.

    Args:
      frame: u8[h, w, 3], what the obfuscations average.
      background_fill: u8[h, w, 3], the same with its bodies and faces filled.
      tasks: for each body.
    """
    empty = background_fill.copy()
    for task in sorted(tasks, key=lambda one: one.box[1] + one.box[3]):
        if not task.target.inside.any():  # out of the frame
            continue
        if task.method in ("blur", "pixelate", "solid"):
            shown = obfuscation.apply(task.method, frame, task.target, task.scale)
            place(background_fill, task.target, shown)
        elif task.method == "background":
            _uncover(background_fill, task)
        else:
            _draw(background_fill, empty, task)


def _uncover(background_fill: np.ndarray, task: BodyTask) -> None:
    """Shows what other frames do where a body was; what none does stays filled."""
    if task.backdrop is None:
        return
    scene, known = task.backdrop
    part = task.target.slices
    # Lamps and clouds change the light between frames.
    around, own = blending.neighbourhood(task.target, background_fill.shape, _AROUND)
    seen = ~own & known[around]
    change = np.zeros(3)
    if seen.any():
        change = background_fill[around][seen].mean(0) - scene[around][seen].mean(0)
    shown = np.clip(np.round(scene[part] + change), 0, 255).astype(np.uint8)
    inside = task.target.inside & known[part]
    place(background_fill, dataclasses.replace(task.target, inside=inside), shown)


def _draw(background_fill: np.ndarray, empty: np.ndarray, task: BodyTask) -> None:
    """Draws a silhouette, a dressed body, or hair."""
    if task.hair is not None:
        colour = clothing.wardrobe(task.key).hair * light_round(empty, task.target)
        hair = np.broadcast_to(colour, (*task.hair.inside.shape, 3))
        _mix(background_fill, task.hair, hair, max(_EDGE, _HAIR_EDGE / task.scale))
        return
    own = canvas(task.outline, task.box, task.target)
    if task.method == "silhouette":
        shades = np.array([_SHADES[part] for part in Part], np.float32)
        picture = cv2.GaussianBlur(shades[own.labels], (0, 0), 0.7)[..., None] * _SILHOUETTE
    else:
        picture = clothing.drawn(own, task.key, task.has_face) * light_round(empty, task.target)
    _mix(background_fill, task.target, own.shown(picture, task.target).astype(np.float32), _EDGE)


def _mix(background_fill: np.ndarray, target: Region, shown: np.ndarray, edge: float) -> None:
    """Puts f32[h, w, 3] into a region, in place, over `edge` px inside its edge."""
    alpha = feather(np.pad(target.inside, 1), edge)[1:-1, 1:-1, None]
    behind = background_fill[target.slices].astype(np.float32)
    mixed = np.clip(np.round(behind + alpha * (shown - behind)), 0, 255).astype(np.uint8)
    place(background_fill, target, mixed)


def light_round(background_fill: np.ndarray, target: Region) -> np.ndarray:
    """f32[3], about 1: the light round a region, by what is round it."""
    around, own = blending.neighbourhood(target, background_fill.shape, _AROUND)
    seen = background_fill[around][~own]
    if not len(seen):
        return np.ones(3, np.float32)
    mean = seen[:: max(1, len(seen) // 5000)].astype(np.float32).mean(0)
    level = float(mean.mean())
    cast = np.clip(mean / max(level, 1.0), 0.5, 1.5) ** _TINT
    return (np.clip(0.35 + 0.65 * level / _USUAL_LIGHT, _DARKEST, _LIGHTEST) * cast).astype(
        np.float32
    )
