"""What can be measured on a picture of one face: pose, expression, gaze, age, sex, tone of skin and hair.

Left and right are the viewer's; lengths are in eye distances unless something else is said.
"""

import dataclasses

import cv2
import numpy as np

from dp3_jax.detection.face_detection import Detector
from dp3_jax.models import iris
from dp3_jax.models.age_sex import AgeSex
from dp3_jax.models.mesh import FaceMesh, expression, five_points, yaw_pitch_roll

_DETECTED_SIDE = 256  # px, at which a whole portrait's face has a size that YuNet knows well
# Of the mesh, round each cheek: below the eye, beside the nose, above the corner of the mouth.
_CHEEKS = (117, 118, 101, 36, 205, 187, 123), (346, 347, 330, 266, 425, 411, 352)
_NOSE = 168, 122, 196, 3, 51, 5, 281, 248, 419, 351  # its ridge and sides
# Three parts of the forehead, below its upper outline.
_FOREHEAD = (109, 67, 69, 108), (109, 10, 338, 337, 151, 108), (338, 297, 299, 337)
# Below the nose, each with its mirror image: beside the mouth, below its corners, chin, jaw, upper lip.
_LOWER = (
    ((186, 216, 212, 57), (410, 436, 432, 287)),
    ((43, 106, 204, 202), (273, 335, 424, 422)),
    ((194, 201, 208, 32, 211, 204), (418, 421, 428, 262, 431, 424)),
    ((210, 169, 170, 211, 202), (430, 394, 395, 431, 422)),
    ((165, 92, 206, 203), (391, 322, 426, 423)),
)
_TOP, _CHIN = 10, 152  # of the face's outline
_JAW = 172, 397
_HAIR_DIFFERENCE = 18.0  # CIE76 units; what differs less from the hair above the forehead is hair
_MIN_B = 5.0  # of Lab: a grey picture tells no hue, and the angle is that of its lightness


@dataclasses.dataclass(frozen=True, eq=False)
class Attributes:
    """Of one face.

    Attributes:
      five: f32[5, 2] px, in YuNet's order, from the mesh.
      mesh: f32[468, 3] px.
      confidence: YuNet's, 0 to 1.
      score: how sure the mesh's network is that there is a face, 0 to 1.
      yaw, pitch, roll: degrees (`dp3_jax.models.mesh.Pose`).
      mouth_opening, mouth_width, eye_opening: in eye distances (`mesh.Expression`).
      gaze_x, gaze_y: in widths of the eye (`iris.gaze`).
      age: years.
      female: probability, 0 to 1.
      ita: individual typology angle of the cheeks as lit, degrees; above 55 very light, below -30 dark.
      lightness: L of Lab of the cheeks.
      redness, yellowness: a and b of Lab of the cheeks; far from usual ones the light is coloured.
      light: L of the left cheek less that of the right one: where the light comes from.
      fringe: how far the colour of some part of the forehead is from the cheeks' (CIE76): below 15 for bare
        foreheads; hair, a hat or a shadow on it make it 20 and more.
      hair_lightness: L of Lab above the forehead: of hair, a hat, or a bald head.
      hair_length: share of the places beside the neck that look like the hair above.
      unevenness: by how much a and b of some part of the lower face differ more from its mirror image's than
        the cheeks' do: an object at the mouth. A hand has the colour of a face.
      mixed_hues: largest distance in a and b between cheeks and nose: lights of several colours.
      shadow: largest difference in L between them: a hard light.
    """

    five: np.ndarray
    mesh: np.ndarray
    confidence: float
    score: float
    yaw: float
    pitch: float
    roll: float
    mouth_opening: float
    mouth_width: float
    eye_opening: float
    gaze_x: float
    gaze_y: float
    age: float
    female: float
    ita: float
    lightness: float
    redness: float
    yellowness: float
    light: float
    fringe: float
    hair_lightness: float
    hair_length: float
    unevenness: float = 0.0
    mixed_hues: float = 0.0
    shadow: float = 0.0


# What a survey holds, and directions may be fitted to.
_NOT_SURVEYED = "five", "mesh", "redness", "yellowness", "unevenness", "mixed_hues", "shadow"
NAMES = tuple(f.name for f in dataclasses.fields(Attributes) if f.name not in _NOT_SURVEYED)


class AttributeReader:
    """Measures portraits; about 30 ms each on an idle core."""

    def __init__(self):
        """Loads the networks, fetching them once.

        Raises:
          UserError: one of them cannot be fetched.
        """
        self._detector = Detector(rotations=False, threads=1)
        self._mesh, self._iris, self._age_sex = FaceMesh(), iris.Iris(), AgeSex()

    def locate(self, image: np.ndarray) -> tuple[np.ndarray, float, float] | None:
        """(mesh f32[468, 3] px, YuNet's confidence, the mesh's score) of the largest face; None without one.

        Args:
          image: u8[S, S, 3] RGB, a portrait.
        """
        side = max(image.shape[:2])
        small = image
        if side > _DETECTED_SIDE:
            small = cv2.resize(
                image, None, fx=_DETECTED_SIDE / side, fy=_DETECTED_SIDE / side,
                interpolation=cv2.INTER_AREA,
            )  # fmt: skip
        rows = self._detector.rows(small, 0.5)
        if not len(rows):
            return None
        row = max(rows, key=lambda r: r[2] * r[3]).astype(np.float64)
        factor = image.shape[1] / small.shape[1]
        five = (row[4:14].reshape(5, 2) + 0.5) * factor - 0.5
        points, score = self._mesh.points(image, row[:4] * factor, five)
        return points, float(min(row[14], 1.0)), score

    def read(self, image: np.ndarray) -> Attributes | None:
        """All attributes of the largest face in a portrait, u8[S, S, 3] RGB; None without a face."""
        located = self.locate(image)
        if located is None:
            return None
        mesh, confidence, score = located
        five = five_points(mesh)
        gaze = iris.gaze(mesh, self._iris.centres(image, mesh))
        age, female = self._age_sex(image, five)
        lightness, *hue = (float(part) for part in cheeks(image, mesh))
        return Attributes(
            five, mesh, confidence, score, *yaw_pitch_roll(mesh), *expression(mesh), *gaze,
            age, female, ita(lightness, hue[1]), lightness, *hue, *light_and_fringe(image, mesh),
            *hair(image, mesh), unevenness(image, mesh), *mixed_light(image, mesh),
        )  # fmt: skip


def ita(lightness: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Individual typology angle in degrees, of L and b of CIE Lab (Chardon et al., 1991)."""
    angle = np.degrees(np.arctan2(np.asarray(lightness) - 50.0, np.maximum(b, _MIN_B)))
    return float(angle) if np.ndim(angle) == 0 else angle


def _lab(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


def _median_colour(
    image: np.ndarray, mesh: np.ndarray, corners: tuple[int, ...]
) -> tuple[np.ndarray, float] | None:
    """(f32[3] Lab, area in px) of a polygon of a mesh; None where nothing of it lies in the picture."""
    outline = np.asarray(mesh)[list(corners), :2]
    low = np.floor(outline.min(0)).astype(int).clip(0)
    high = np.ceil(outline.max(0)).astype(int) + 1
    part = image[low[1] : high[1], low[0] : high[0]]
    if not part.size:
        return None
    inside = np.zeros(part.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.round(outline - low).astype(np.int32)], 1)
    if not inside.any():
        return None
    area = abs(cv2.contourArea(outline.astype(np.float32))) + 1e-3
    return np.median(_lab(part)[inside > 0], axis=0), area


def light_and_fringe(image: np.ndarray, mesh: np.ndarray) -> tuple[float, float]:
    """See `Attributes`; zeros where cheeks or forehead lie outside of the picture.

    Args:
      image: u8[h, w, 3] RGB.
      mesh: f[468, 2 or more] px.
    """
    cheeks = [_median_colour(image, mesh, part) for part in _CHEEKS]
    forehead = [_median_colour(image, mesh, part) for part in _FOREHEAD]
    if None in cheeks or None in forehead:
        return 0.0, 0.0
    left, right = (colour for colour, _ in cheeks)
    away = [np.linalg.norm(colour - (left + right) / 2) for colour, _ in forehead]
    return float(left[0] - right[0]), float(max(away))


def unevenness(image: np.ndarray, mesh: np.ndarray) -> float:
    """See `Attributes`; 0 where a cheek lies outside of the picture.

    Args:
      image: u8[h, w, 3] RGB.
      mesh: f[468, 2 or more] px.
    """

    def apart(parts: tuple[tuple[int, ...], tuple[int, ...]]) -> np.ndarray | None:
        hulls = (
            cv2.convexHull(np.float32(mesh)[list(part), :2], returnPoints=False) for part in parts
        )
        both = [
            _median_colour(image, mesh, tuple(np.array(part)[hull[:, 0]]))
            for part, hull in zip(parts, hulls, strict=True)
        ]
        return None if None in both else (both[0][0] - both[1][0])[1:]

    usual = apart(_CHEEKS)
    if usual is None:
        return 0.0
    found = [apart(parts) for parts in _LOWER]
    return float(max((np.linalg.norm(d - usual) for d in found if d is not None), default=0.0))


def patches(image: np.ndarray, mesh: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(corners f[n, 2] px, colour f[3] of CIE Lab) of both cheeks and the nose; empty unless all are seen.

    Args:
      image: u8[h, w, 3] RGB.
      mesh: f[468, 2 or more] px.
    """
    found = [_median_colour(image, mesh, part) for part in (*_CHEEKS, _NOSE)]
    if None in found:
        return []
    corners = (np.asarray(mesh)[list(part), :2] for part in (*_CHEEKS, _NOSE))
    return [(outline, colour) for outline, (colour, _) in zip(corners, found, strict=True)]


def mixed_light(image: np.ndarray, mesh: np.ndarray) -> tuple[float, float]:
    """`mixed_hues` and `shadow` of `Attributes`; zeros where a part lies outside of the picture.

    Args:
      image: u8[h, w, 3] RGB.
      mesh: f[468, 2 or more] px.
    """
    colours = np.array([colour for _, colour in patches(image, mesh)])
    if not len(colours):
        return 0.0, 0.0
    apart = np.abs(colours[:, None] - colours[None])
    return float(np.hypot(apart[..., 1], apart[..., 2]).max()), float(apart[..., 0].max())


def cheeks(image: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """f[3], CIE Lab: the median colour of each cheek, averaged by how much of it is seen.

    Args:
      image: u8[h, w, 3] RGB.
      mesh: f[468, 2 or more] px.
    """
    found = [_median_colour(image, mesh, cheek) for cheek in _CHEEKS]
    found = [one for one in found if one is not None]
    if not found:
        return np.array([50.0, 0.0, _MIN_B])
    colours, areas = zip(*found, strict=True)
    return np.average(colours, axis=0, weights=areas)


def skin(image: np.ndarray, mesh: np.ndarray) -> tuple[float, float]:
    """L and b of `cheeks`, which is what `ita` asks for."""
    lightness, _, b = cheeks(image, mesh)
    return float(lightness), float(b)


def hair(image: np.ndarray, mesh: np.ndarray) -> tuple[float, float]:
    """(L of Lab above the forehead, share of the places beside the neck that look like that).

    Rough: a bald head is light hair, a hat's colour is the hat's, a dark background beside the neck of
    somebody with dark hair counts as long hair.

    Args:
      image: u8[h, w, 3] RGB, a portrait with room above the forehead.
      mesh: f[468, 3] px.
    """
    points = np.asarray(mesh, np.float64)[:, :2]
    five = five_points(mesh)
    unit = max(float(np.linalg.norm(mesh[33] - mesh[263])) / 1.4, 1.0)
    up = points[_TOP] - points[_CHIN]
    up /= max(float(np.hypot(*up)), 1e-6)
    across = np.array([-up[1], up[0]])

    def patch(centre: np.ndarray) -> np.ndarray:
        x, y = np.round(centre).astype(int)
        half = max(int(0.15 * unit), 1)
        part = image[
            max(y - half, 0) : max(y + half + 1, 0), max(x - half, 0) : max(x + half + 1, 0)
        ]
        return _lab(part).reshape(-1, 3) if part.size else np.zeros((0, 3), np.float32)

    above = [points[_TOP] + up * (0.45 * unit) + across * (s * unit) for s in (-0.45, 0, 0.45)]
    seen = np.concatenate([patch(centre) for centre in above])
    if not len(seen):
        return 50.0, 0.0
    colour = np.median(seen, axis=0)
    beside = []
    for jaw in _JAW:
        out = np.sign((points[jaw] - five.mean(0)) @ across) * across
        beside += [
            points[jaw] + out * (d * unit) - up * (e * unit) for d in (0.3, 0.6) for e in (0, 0.5)
        ]
    near = np.concatenate([patch(centre) for centre in beside])
    same = np.linalg.norm(near - colour, axis=1) < _HAIR_DIFFERENCE if len(near) else np.zeros(1)
    return float(colour[0]), float(same.mean())
