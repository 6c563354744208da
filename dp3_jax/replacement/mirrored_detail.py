"""Detail for what the fusion network draws round a new face: that of the photo beside the mask, mirrored.

The network draws at 128 px. In a larger face hair, cloth and walls were soft inside the mask, which showed
its outline. What the photo has there that is finer is copied from as far outside of the edge as the place
lies inside, where both have about one colour: hair goes on as hair, a wall's grain as grain. Strong edges do
not: parts of collars and letters came up as scratches, above all in small faces. Only pixels of the
background-filled frame have a part in it.
"""

import dataclasses

import cv2
import numpy as np

from dp3_jax.vision.geometry import Region

_COARSE = 1.5  # canonical px, standard deviation: what a blur by this takes away is detail
_ALIKE = 25.0  # levels by which colours may differ until detail counts 1/e
_MAX_DETAIL = 14.0  # levels that detail nears but does not exceed
# Standard deviation of detail, levels, between which it is no texture any more but the edge of a thing: half
# limited, letters on a wall showed as pale mirrored ones.
_EDGES = 24.0, 40.0
_DEPTH = 11.0  # canonical px inside the mask where detail has fallen to 1/e
MIN_SCALE, _WHOLLY = 1.5, 2.5  # frame px for each canonical px between which it comes in
_REACH = 24.0  # canonical px outside of the mask that are looked at: as deep as it is beside a face
_LARGEST = 1024  # px of a part up to which the nearest place outside is looked for at its own size


@dataclasses.dataclass(frozen=True, eq=False)
class MirroredDetail:
    """The surroundings of one face, as they are needed for `at`.

    Attributes:
      top, left: px, where in the frame they begin.
      part: u8[h, w, 3] of the background-filled frame.
      known: u8[h, w], 1 outside of the face's region.
      coarse: u8[.., .., 3], the part without its detail, `ratio` times as large.
      texture: f32 of that size, from 0 where there are edges of things to 1.
      ratio: of sizes.
      nearest: f32[.., .., 2], (x, y) in px of the part of the nearest place outside, for each `step` px.
      step: px.
      fades: px, the depth where detail has fallen to 1/e.
      share: of detail that is added.
    """

    top: int
    left: int
    part: np.ndarray
    known: np.ndarray
    coarse: np.ndarray
    texture: np.ndarray
    ratio: float
    nearest: np.ndarray
    step: int
    fades: float
    share: np.float32

    def at(self, target: Region, colour: np.ndarray) -> np.ndarray:
        """f32[h, w, 3], levels to add in a part of the frame.

        Args:
          target: the part; its `inside` does not matter.
          colour: f32[h, w, 3], levels that are shown there without detail.
        """
        height, width = target.inside.shape
        x = np.arange(width, dtype=np.float32) + np.float32(target.left - self.left)
        y = np.arange(height, dtype=np.float32) + np.float32(target.top - self.top)
        x, y = np.meshgrid(x, y)
        outside = cv2.remap(
            self.nearest,
            x / self.step,
            y / self.step,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        deep = cv2.magnitude(outside[..., 0] - x, outside[..., 1] - y) / np.float32(self.fades)
        x, y = 2 * outside[..., 0] - x, 2 * outside[..., 1] - y
        fine = cv2.remap(self.part, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        known = cv2.remap(self.known, x, y, cv2.INTER_NEAREST)
        places = (x + 0.5) * self.ratio - 0.5, (y + 0.5) * self.ratio - 0.5
        how = {"interpolation": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}
        coarse = cv2.remap(self.coarse, *places, **how).astype(np.float32)
        known = known * cv2.remap(self.texture, *places, **how)
        apart = cv2.absdiff(colour, coarse).max(-1) / np.float32(_ALIKE)
        share = self.share * np.exp(-apart * apart - deep * deep) * known
        finer = np.float32(_MAX_DETAIL) * np.tanh((fine - coarse) / np.float32(_MAX_DETAIL))
        return cv2.multiply(finer, cv2.merge([share] * 3))


def look(background_fill: np.ndarray, own: Region, scale: float) -> MirroredDetail:
    """The detail round a face's region.

    Args:
      background_fill: u8[H, W, 3], the frame.
      own: the face's region.
      scale: frame px for each canonical px, 1 or more.
    """
    margin = int(np.ceil(_REACH * scale))
    height, width = own.inside.shape
    top, left = max(own.top - margin, 0), max(own.left - margin, 0)
    rows = slice(top, min(own.top + height + margin, background_fill.shape[0]))
    columns = slice(left, min(own.left + width + margin, background_fill.shape[1]))
    part = np.ascontiguousarray(background_fill[rows, columns])
    known = np.ones(part.shape[:2], np.uint8)
    inside = known[own.top - top :, own.left - left :][:height, :width]
    inside[own.inside] = 0
    ratio = 1 / scale
    size = [max(1, round(n * ratio)) for n in part.shape[1::-1]]
    coarse = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    coarse = cv2.GaussianBlur(coarse, (0, 0), _COARSE)
    texture = _texture(part, size)
    step = -(-max(part.shape[:2]) // _LARGEST)
    nearest = _nearest(known[::step, ::step]) * np.float32(step)
    share = np.float32(np.interp(scale, (MIN_SCALE, _WHOLLY), (0, 1)))
    return MirroredDetail(
        top, left, part, known, coarse, texture, ratio, nearest, step, _DEPTH * scale, share
    )


def _texture(part: np.ndarray, size: list[int]) -> np.ndarray:
    """f32[size]: 0 where a part u8[h, w, 3] has edges of things, 1 where it has texture."""
    luma = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY).astype(np.float32)

    def mean(layer: np.ndarray) -> np.ndarray:
        small = cv2.resize(layer, size, interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(small, (0, 0), _COARSE)

    deviation = np.sqrt(np.maximum(mean(luma * luma) - mean(luma) ** 2, 0))
    low, high = _EDGES
    return np.clip((high - deviation) / (high - low), 0, 1).astype(np.float32)


def _nearest(known: np.ndarray) -> np.ndarray:
    """f32[h, w, 2]: (x, y) of the nearest place where u8[h, w] is 1; the place itself where there is none."""
    y, x = np.indices(known.shape, np.float32)
    if known.all() or not known.any():
        return np.stack([x, y], -1)
    _, label = cv2.distanceTransformWithLabels(
        1 - known, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    places = np.zeros((int(label.max()) + 1, 2), np.float32)
    places[label[known > 0]] = np.stack([x, y], -1)[known > 0]
    return places[label]
