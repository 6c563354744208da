"""The light on a person's renderings: coloured light goes, and its strength brings the tone asked for.

Some of the prior's portraits stand in the orange of a sunset or the violet of a stage. Such a cast does not
become the photo's, whatever the fusion network says of the colours: it goes as a camera's white balance takes
it out. Others are lit so weakly or strongly that skin leaves the band of tone that was asked for; the moves
along the prior's directions reach it only on average, so what is left is exposed longer or shorter.
Lights of several colours on one face become one.
"""

import cv2
import numpy as np

from dp3_jax.models import mesh as meshes
from dp3_jax.replacement.attributes import Attributes, cheeks, ita, patches
from dp3_jax.vision.masks import inside_of

# a and b of Lab of the cheeks. Of 296 held-out photos of CelebA the middle 90% have 8 to 25 and 9 to 30, and
# the prior's persons 13 to 29 and 7 to 29.
_RED, _YELLOW = (8.0, 23.0), (9.0, 27.0)
_MAX_GAIN = 1.4
# Of the levels of a picture: sRGB is nearly a power of 2.2 and Lab's f a cube root, so levels that are
# multiplied by g multiply L + 16, a and b by g to this.
_LAB_POWER = 2.2 / 3
# Distance in a and b between cheeks and nose that skin has in one light; half of 120 renderings have
# more.
_ONE_HUE = 6.0
_SIDE = 128  # px, at which hues are looked at
# Levels of Lab above the cheeks' from which on a pixel glares: paler and yellower, or yellow as no skin is.
_PALE, _YELLOWER, _VERY_YELLOW, _DARKER = 22.0, 8.0, 20.0, 10.0
_BETWEEN = 0.25  # eye distances, standard deviation over which one hue goes over into the other
EXPOSED = 0.62, 1.6  # times that levels are multiplied by


def _usual(own: Attributes) -> tuple[float, float]:
    """The a and b nearest to a person's that skin has in white light."""
    return float(np.clip(own.redness, *_RED)), float(np.clip(own.yellowness, *_YELLOW))


def cast(own: Attributes) -> float:
    """How far a person's skin is from what it has in white light, units of Lab."""
    red, yellow = _usual(own)
    return float(np.hypot(own.redness - red, own.yellowness - yellow))


def hues(slack: float) -> dict[str, tuple[float, float]]:
    """Ranges of redness and yellowness that skin has in light of which `cast` is no more than `slack`."""
    usual = {"redness": _RED, "yellowness": _YELLOW}
    return {name: (low - slack, high + slack) for name, (low, high) in usual.items()}


def gains(own: Attributes) -> np.ndarray:
    """f32[3] for red, green and blue: what brings a person's cheeks to a usual colour of their lightness."""
    pair = np.array(
        [[(own.lightness, own.redness, own.yellowness), (own.lightness, *_usual(own))]], np.float32
    )
    shown, wanted = cv2.cvtColor(pair, cv2.COLOR_Lab2RGB)[0]
    return (wanted.clip(0.01) / shown.clip(0.01)).clip(1 / _MAX_GAIN, _MAX_GAIN)


def balanced(image: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """u8[h, w, 3] with its channels multiplied by f32[3]."""
    if (factors == 1).all():
        return image
    levels = np.arange(256, dtype=np.float32)[:, None] * factors
    return cv2.LUT(image, np.rint(levels).clip(0, 255).astype(np.uint8)[None])


def one_hue(image: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """u8[S, S, 3] with cheeks and nose in one hue, where they differ by more than _ONE_HUE.

    Some persons stand in lights of two colours, a yellow nose between blue cheeks, more so when they are
    turned than in their own pose. What is left is a difference of _ONE_HUE; lightness stays.

    Args:
      image: u8[S, S, 3], a rendering.
      mesh: f32[468, 3] px.
    """
    found = patches(image, mesh)
    hues = np.array([colour[1:] for _, colour in found], np.float32)
    spread = float(np.linalg.norm(hues[:, None] - hues[None], axis=-1).max()) if found else 0.0
    if spread <= _ONE_HUE:
        return image
    points = (np.asarray(mesh, np.float32)[:, :2] + 0.5) * (_SIDE / len(image)) - 0.5
    sigma = _BETWEEN * float(np.linalg.norm(points[33] - points[263])) / 1.4
    change = np.zeros((_SIDE, _SIDE, 2), np.float32)
    total = np.full((_SIDE, _SIDE, 1), 1e-6, np.float32)
    for (corners, _), hue in zip(found, hues, strict=True):
        near = _soft((corners + 0.5) * (_SIDE / len(image)) - 0.5, sigma)
        change += near * (hues.mean(0) - hue)
        total += near
    change *= (1 - _ONE_HUE / spread) * _soft(meshes.outline(points), sigma) / total
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    lab[..., 1:] += cv2.resize(change, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.rint(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB) * 255).clip(0, 255).astype(np.uint8)


def _soft(corners: np.ndarray, sigma: float) -> np.ndarray:
    """f32[_SIDE, _SIDE, 1]: a polygon's convex hull, blurred."""
    filled = np.zeros((_SIDE, _SIDE), np.float32)
    hull = cv2.convexHull(np.rint(corners).astype(np.int32))
    cv2.fillConvexPoly(filled, hull, 1.0)
    return cv2.GaussianBlur(filled, (0, 0), sigma)[..., None]


def glare(image: np.ndarray, mesh: np.ndarray) -> float:
    """The share of a face, 0 to 1, that glares yellow: in some poses the prior lights a flame beside one.

    Args:
      image: u8[S, S, 3].
      mesh: f[468, 2 or more] px.
    """
    scale = _SIDE / len(image)
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    points = (np.asarray(mesh, np.float64)[:, :2] + 0.5) * scale - 0.5
    inside = inside_of(meshes.outline(points), _SIDE)
    if not inside.any():
        return 0.0
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[inside > 0]
    lightness, _, yellow = (lab - cheeks(small, points)).T
    pale = (lightness > _PALE) & (yellow > _YELLOWER)
    return float((pale | ((yellow > _VERY_YELLOW) & (lightness > -_DARKER))).mean())


def exposure_gain(colour: np.ndarray, tone: tuple[float, float]) -> float:
    """The factor for the levels of a picture that brings skin into a range of tone, within _EXPOSED.

    Args:
      colour: f[3], CIE Lab of skin in the picture.
      tone: degrees of the individual typology angle, the least and the most.
    """
    lightness, _, b = (float(part) for part in colour)
    angle = ita(lightness, b)
    wanted = float(np.clip(angle, *tone))
    if wanted == angle:
        return 1.0
    # tan(wanted) = (L' - 50) / b' with L' + 16 = (L + 16) s and b' = b s.
    left = lightness + 16.0 - np.tan(np.radians(wanted)) * max(b, 1.0)
    factor = (66.0 / left) ** (1 / _LAB_POWER) if left > 0 else np.inf
    return float(np.clip(factor, *EXPOSED))
