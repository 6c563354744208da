"""What a redrawn body wears: colours and patterns from its key, drawn from outline, pose and light alone.

Nothing of the person's pixels has a part in it. What is left of the person is the outline and the pose.
"""

import dataclasses

import cv2
import numpy as np

from dp3_jax.replacement import key_derivation
from dp3_jax.replacement.body_parts import Canvas, Part

# sRGB; as clothes, skin and hair are, from dark to light.
_CLOTHES = np.array(
    [
        (28, 28, 32), (52, 55, 63), (92, 96, 102), (150, 152, 155), (214, 212, 205), (33, 43, 74),
        (48, 74, 118), (98, 136, 176), (46, 88, 92), (38, 72, 50), (86, 104, 62), (128, 124, 84),
        (176, 160, 122), (120, 84, 56), (84, 58, 46), (112, 36, 40), (158, 58, 52), (190, 104, 66),
        (206, 158, 74), (142, 96, 128), (88, 66, 110), (196, 140, 146),
    ],
    np.float32,
)  # fmt: skip
_SHOES = np.array(
    [(24, 24, 26), (60, 46, 38), (98, 74, 54), (150, 150, 150), (208, 206, 200)], np.float32
)
_SKIN = np.array(
    [
        (228, 188, 164),
        (214, 168, 140),
        (190, 142, 112),
        (152, 108, 80),
        (112, 76, 56),
        (78, 52, 40),
    ],
    np.float32,
)
_HAIR = np.array(
    [(24, 20, 18), (48, 36, 28), (84, 60, 42), (128, 98, 64), (172, 144, 98), (140, 138, 136)],
    np.float32,
)

_ARMS = (Part.LEFT_UPPER_ARM, Part.RIGHT_UPPER_ARM)
_FOREARMS = (Part.LEFT_FOREARM, Part.RIGHT_FOREARM)
_HANDS = (Part.LEFT_HAND, Part.RIGHT_HAND)
_THIGHS = (Part.LEFT_THIGH, Part.RIGHT_THIGH)
_SHINS = (Part.LEFT_SHIN, Part.RIGHT_SHIN)
_FEET = (Part.LEFT_FOOT, Part.RIGHT_FOOT)


@dataclasses.dataclass(frozen=True)
class Wardrobe:
    """What the key says.

    Attributes:
      top, second, bottom, shoes, skin, hair: f32[3] RGB.
      pattern: of the top: 0 plain, 1 stripes across, 2 stripes down, 3 checks.
      period: trunk lengths from stripe to stripe.
      short_sleeves, short_legs: whether forearms and shins are bare.
    """

    top: np.ndarray
    second: np.ndarray
    bottom: np.ndarray
    shoes: np.ndarray
    skin: np.ndarray
    hair: np.ndarray
    pattern: int
    period: float
    short_sleeves: bool
    short_legs: bool


def wardrobe(key: bytes) -> Wardrobe:
    """What the person of a key wears."""
    random = key_derivation.grain_generator(key_derivation.derived_key(key, "dp3 clothes"))
    top, second, bottom = (_CLOTHES[i] for i in random.choice(len(_CLOTHES), 3, replace=False))
    return Wardrobe(
        top,
        second,
        bottom,
        *(colours[random.integers(len(colours))] for colours in (_SHOES, _SKIN, _HAIR)),
        pattern=int(random.choice(4, p=(0.5, 0.2, 0.12, 0.18))),
        period=float(random.uniform(0.12, 0.3)),
        short_sleeves=bool(random.random() < 0.3),
        short_legs=bool(random.random() < 0.12),
    )


def drawn(canvas: Canvas, key: bytes, has_face: bool) -> np.ndarray:
    """f32[n, n, 3]: the body of a key, dressed, in white light.

    Args:
      canvas: its parts and light.
      key: of the body.
      has_face: show skin where its face will be; else hair, as from behind.
    """
    worn = wardrobe(key)
    colours = np.empty((len(Part), 3), np.float32)
    colours[Part.HEAD] = worn.hair
    colours[[Part.TRUNK, *_ARMS]] = worn.top
    colours[list(_FOREARMS)] = worn.skin if worn.short_sleeves else worn.top
    colours[list(_HANDS)] = worn.skin
    colours[list(_THIGHS)] = worn.bottom
    colours[list(_SHINS)] = worn.skin if worn.short_legs else worn.bottom
    colours[list(_FEET)] = worn.shoes
    picture = colours[canvas.labels]
    if has_face:
        picture[canvas.face] = worn.skin
    dressed = [Part.TRUNK, *_ARMS, *(() if worn.short_sleeves else _FOREARMS)]
    patterned = np.isin(canvas.labels, dressed) & _pattern(canvas, worn)
    picture[patterned] = worn.second
    cloth = np.isin(canvas.labels, [*dressed, *_THIGHS, *_SHINS])
    light = canvas.light * np.where(cloth, _folds(canvas.labels.shape, key), 1.0)
    soft = cv2.GaussianBlur(picture, (0, 0), 0.7)
    return soft * light[..., None]


def _pattern(canvas: Canvas, worn: Wardrobe) -> np.ndarray:
    """bool[n, n], where the second colour is."""
    across, down = (((at / worn.period) % 1) < 0.4 for at in (canvas.across, canvas.down))
    nothing = np.zeros_like(across)
    return (nothing, down, across, across ^ down)[worn.pattern]


def _folds(shape: tuple[int, ...], key: bytes) -> np.ndarray:
    """f32[n, n], about 1: how folds of cloth catch the light; where they lie is the key's."""
    random = key_derivation.grain_generator(key_derivation.derived_key(key, "dp3 folds"))
    coarse = random.standard_normal((9, 7)).astype(np.float32)
    smooth = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return 1 + 0.07 * smooth
