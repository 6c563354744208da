"""The hair that is seen round a masked region: a new person's own is to be of a kind with it.

Only what lies outside of the mask has a part in it. The network that tells persons from their background
expects a face, and finds nobody round a hole or a blur in half of the photos; so a drawn one is put there,
the same for everybody.
"""

import dataclasses
import functools
from collections.abc import Callable

import cv2
import numpy as np

from dp3_jax.models import mesh as face_mesh
from dp3_jax.replacement.attributes import cheeks
from dp3_jax.replacement.identities import Classes, Rendering, hair_band
from dp3_jax.vision.masks import SIZE, inside_of

_SPREAD = 8.0  # px, standard deviation by which the surroundings are carried into the mask
_NEAR, _FAR = 1.0, 14.0  # canonical px outside of the mask between which hair is looked for
_LOWEST = 80  # canonical px from above: below there are necks and collars
_SURELY = 180  # levels of 255 from which on a pixel shows the person
_ENOUGH = 150  # px of it
# CIE Lab that hair has: what is whiter, greener or bluer is a wall, a hat or dyed.
_MAX_LIGHTNESS, _MIN_RED, _MIN_YELLOW, _MAX_CHROMA = 85.0, -5.0, -8.0, 40.0
_STEP = 4  # of Lab, in which a colour is passed on
_APART = 25.0  # of L that hair has to be darker than skin to be moved
_MAX_CHANGE = np.float32([18.0, 12.0, 14.0])  # of Lab
_SOFT = 0.01  # sides of the picture over which a change comes in at the face's outline
_OWN_SHARE = 0.1  # of the face's size that hair has to have
_SKIN = 198, 152, 128  # sRGB of the drawn face


# How surely each pixel of a square picture u8[S, S, 3] shows a person: u8[S, S], levels of 255.
Heads = Callable[[np.ndarray], np.ndarray]


def seen_round(view: np.ndarray, mask: np.ndarray, heads: Heads) -> np.ndarray | None:
    """f32[3], CIE Lab of the hair beside and above a masked region; None where none is seen.

    Args:
      view: u8[128, 128, 3], the canonical view; what lies under the mask does not matter.
      mask: f32[128, 128, 1].
      heads: tells who is seen in a view with a face.
    """
    masked = mask[..., 0] > 0
    known = (~masked).astype(np.float32)
    away = cv2.distanceTransform(known.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    beside = (away > _NEAR) & (away < _FAR)
    beside[_LOWEST:] = False
    hair = beside & (heads(_with_face(view, known)) > _SURELY)
    if hair.sum() < _ENOUGH:
        return None
    lab = cv2.cvtColor(view[hair][None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    found = np.median(lab, 0)
    can_be = found[0] <= _MAX_LIGHTNESS and found[1] >= _MIN_RED and found[2] >= _MIN_YELLOW
    return found if can_be and np.hypot(*found[1:]) <= _MAX_CHROMA else None


def _with_face(view: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A view with a drawn face in its masked region, and round that what is beside it, blurred."""
    seen = np.where(known[..., None] > 0, view, np.uint8(0)).astype(np.float32)
    spread = cv2.GaussianBlur(np.dstack([seen, known]), (0, 0), _SPREAD)
    filled = spread[..., :3] / np.maximum(spread[..., 3:], 1e-3)
    face, share = _drawn_face()
    filled = np.rint(filled + share * (face - filled)).clip(0, 255).astype(np.uint8)
    return np.where(known[..., None] > 0, view, filled)


@functools.cache
def _drawn_face() -> tuple[np.ndarray, np.ndarray]:
    """(f32[128, 128, 3] levels, f32[128, 128, 1] where they show) of a face as simple as will do."""
    share = np.zeros((SIZE, SIZE), np.float32)
    cv2.ellipse(share, (64, 80), (29, 39), 0, 0, 360, 1, -1)
    x = np.arange(SIZE, dtype=np.float32)
    shade = 1 - 0.25 * ((x - 64) / 30) ** 2
    face = np.broadcast_to(np.float32(_SKIN) * shade[:, None], (SIZE, SIZE, 3)).copy()
    for across in (50, 78):
        cv2.ellipse(face, (across, 66), (6, 2), 0, 0, 360, (60, 40, 35), -1)  # eyes
        cv2.ellipse(face, (across, 59), (8, 1), 0, 0, 360, (80, 55, 45), -1)  # brows
    cv2.ellipse(face, (64, 84), (5, 2), 0, 0, 360, (150, 100, 85), -1)  # nose
    cv2.ellipse(face, (64, 96), (11, 3), 0, 0, 360, (165, 80, 80), -1)  # mouth
    return cv2.GaussianBlur(face, (0, 0), 1.0), cv2.GaussianBlur(share, (0, 0), 2.0)[..., None]


def known_from(classes: Classes, seen: np.ndarray | None) -> Classes:
    """Classes with what `seen_round` saw, its colour in steps."""
    if seen is None:
        return classes
    colour = tuple(int(_STEP * round(float(value) / _STEP)) for value in seen)
    return classes._replace(hair=hair_band(float(seen[0])), hair_colour=colour)


def worn(rendering: Rendering, classes: Classes, heads: Heads | None) -> Rendering:
    """A rendering with its head, and with hair near to the colour of its classes, if they have one.

    The rendering itself where nothing tells its head.
    """
    if heads is None:
        return rendering
    rendering = dataclasses.replace(rendering, head=heads(rendering.image))
    if classes.hair_colour is None:
        return rendering
    return matched(rendering, np.float32(classes.hair_colour))


def matched(rendering: Rendering, wanted: np.ndarray) -> Rendering:
    """A rendering whose hair is moved towards a colour, no further than hair looks natural.

    What lies between skin and hair in colour moves by its share, so that a hairline stays one. Inside of the
    face's outline nothing changes. The rendering itself where hair and skin are too alike to be told apart.

    Args:
      rendering: with its head.
      wanted: f32[3], CIE Lab of the photo's hair, see `seen_round`.
    """
    image, side = rendering.image, len(rendering.image)
    outline = inside_of(face_mesh.outline(rendering.mesh), side)
    lab = cv2.cvtColor(image.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2LAB)
    skin = cheeks(image, rendering.mesh).astype(np.float32)
    own = _own_hair(lab, skin, outline, rendering)
    if own is None:
        return rendering
    axis = own - skin
    change = np.clip(wanted - own, -_MAX_CHANGE, _MAX_CHANGE).astype(np.float32)
    share = np.clip((lab - skin) @ (axis / (axis @ axis)), 0, 1)
    share *= cv2.GaussianBlur(1 - outline.astype(np.float32), (0, 0), _SOFT * side)
    lab += share[..., None] * change
    shown = np.rint(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255).clip(0, 255).astype(np.uint8)
    return dataclasses.replace(rendering, image=shown)


def _own_hair(
    lab: np.ndarray, skin: np.ndarray, outline: np.ndarray, rendering: Rendering
) -> np.ndarray | None:
    """f32[3], CIE Lab of a rendering's hair above the eyes; None where it is not clearly darker than skin.

    Args:
      lab: f32[S, S, 3], the picture.
      skin: f32[3].
      outline: u8[S, S], 1 on the face.
      rendering: with its head.
    """
    eyes = int(rendering.points[:2, 1].mean())
    place = (outline[:eyes] == 0) & (rendering.head[:eyes] > _SURELY)
    if place.sum() < _OWN_SHARE * outline.sum():
        return None
    seen = lab[:eyes][place]
    away = np.linalg.norm(seen - skin, axis=1)
    own = np.median(seen[away >= np.median(away)], 0)
    return own if skin[0] - own[0] >= _APART else None
