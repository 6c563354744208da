"""Face-like drawings, made on the fly from formulas: no download, no TensorFlow, nobody's likeness.

For smoke runs and tests. They are drawn shapes, not photos: numbers measured on them say that the
program works, nothing about faces.
"""

import functools

import numpy as np

from dp3_jax.data import order
from dp3_jax.data.catalog import Catalog
from dp3_jax.data.options import SPLITS, DataOptions

_SIZES = (20_000, 1_000, 1_000)  # Examples per split; drawing them is what costs, not listing them.
_KEPT = 8192  # Drawings kept in memory: at most 400 MB at 128 pixels.
_DRAWINGS = 7  # Stream number of order.random_bits, apart from those of the order.

# sRGB 0..1, from light to dark; a drawing mixes two neighbours.
_SKIN = np.array(
    [
        (0.98, 0.86, 0.77),
        (0.94, 0.76, 0.63),
        (0.84, 0.63, 0.47),
        (0.68, 0.47, 0.33),
        (0.50, 0.33, 0.23),
        (0.34, 0.22, 0.16),
    ]
)
_HAIR = np.array(
    [
        (0.90, 0.78, 0.50),
        (0.70, 0.50, 0.28),
        (0.58, 0.27, 0.14),
        (0.36, 0.22, 0.14),
        (0.16, 0.11, 0.09),
        (0.07, 0.06, 0.07),
        (0.66, 0.65, 0.64),
    ]
)
_IRIS = np.array([(0.32, 0.20, 0.11), (0.24, 0.42, 0.60), (0.28, 0.45, 0.28), (0.15, 0.10, 0.07)])


def open_shapes(options: DataOptions) -> Catalog:
    """Returns the catalog of drawings; nothing is drawn yet. `options.crop` is not used."""
    del options
    names = tuple(
        f"{split}/{number:05d}"
        for split, size in zip(SPLITS, _SIZES, strict=True)
        for number in range(size)
    )

    @functools.lru_cache(maxsize=_KEPT)
    def load(example: int, image_size: int) -> np.ndarray:
        return draw(example, image_size)

    return Catalog(
        title="drawn shapes, not photos",
        names=names,
        partitions=np.repeat(np.arange(3, dtype=np.int8), _SIZES),
        identities=None,
        load=lambda example, options: load(example, options.image_size),
        partition_note="every drawing is different",
    )


def draw(number: int, size: int) -> np.ndarray:
    """Returns drawing `number` as u8[size, size, 3]: a face, eyes and mouth where CelebA has them."""
    chance = _Chance(number)
    canvas = _Canvas(size)
    skin = chance.between_neighbours(_SKIN)
    hair = chance.between_neighbours(_HAIR)
    # Centre and half axes of the face, in image widths; the eyes lie at (0.5 +- 0.11, 0.51).
    centre, half = (0.5 + chance(-0.02, 0.02), 0.58), (chance(0.25, 0.29), chance(0.34, 0.39))
    long_hair = chance(0, 1) < 0.5
    _background(canvas, chance)
    if long_hair:
        canvas.ellipse((centre[0], 0.66), (half[0] + chance(0.06, 0.12), chance(0.46, 0.6)), hair)
    _body(canvas, chance, centre, skin)
    _head(canvas, chance, centre, half, skin)
    _eyes(canvas, chance, centre, hair, skin)
    _nose_and_mouth(canvas, chance, centre, skin)
    _hair(canvas, chance, centre, half, hair)
    if chance(0, 1) < 0.2:
        _glasses(canvas, chance, centre)
    return canvas.pixels(chance)


class _Chance:
    """Random numbers of one drawing: numbers drawn in sequence from a stream that NumPy keeps."""

    def __init__(self, number: int):
        bits = order.random_bits(number, _DRAWINGS, 0, 256)
        self._uniform = iter((bits >> np.uint64(11)) * 2.0**-53)
        self._noise_seed = int(bits[0] & np.uint64(0xFFFF))

    def __call__(self, low: float, high: float) -> float:
        return low + (high - low) * float(next(self._uniform))

    def colour(self, low: float, high: float) -> np.ndarray:
        return np.array([self(low, high) for _ in range(3)])

    def between_neighbours(self, palette: np.ndarray) -> np.ndarray:
        place = self(0, len(palette) - 1)
        low, share = int(place), place % 1
        return palette[low] * (1 - share) + palette[min(low + 1, len(palette) - 1)] * share


class _Canvas:
    """An RGB picture in 0..1 that smooth-edged shapes are laid on; coordinates are 0..1, y down."""

    def __init__(self, size: int):
        line = (np.arange(size, dtype=np.float32) + 0.5) / size
        self.x, self.y = line[None, :], line[:, None]
        self.rgb = np.zeros((size, size, 3), np.float32)
        self._edge = 1.5 / size  # Width over which a shape fades out.

    def lay(self, distance: np.ndarray, colour, opacity: float | np.ndarray = 1.0) -> None:
        """Paints where the signed distance (0..1 units, negative inside) is below zero."""
        cover = np.clip(0.5 - distance / self._edge, 0, 1) * np.asarray(opacity, np.float32)
        # Most shapes are small: blend within their bounding box only.
        rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
        if len(rows):
            box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            self.rgb[box] += cover[box][..., None] * (
                np.asarray(colour, np.float32) - self.rgb[box]
            )

    def ellipse_distance(self, centre, half) -> np.ndarray:
        """Approximate signed distance to an axis-parallel ellipse, exact in its zero line."""
        dx, dy = (self.x - centre[0]) / half[0], (self.y - centre[1]) / half[1]
        return (np.sqrt(dx * dx + dy * dy) - 1) * min(half)

    def ellipse(self, centre, half, colour, opacity: float = 1.0) -> None:
        self.lay(self.ellipse_distance(centre, half), colour, opacity)

    def pixels(self, chance: _Chance) -> np.ndarray:
        """Returns u8[size, size, 3], with light from one side and a little grain."""
        light = 1 + chance(-0.2, 0.2) * (self.x - 0.5) + chance(-0.15, 0.05) * (self.y - 0.5)
        side = len(self.rgb)
        grain = order.random_bits(chance._noise_seed, _DRAWINGS, 1, side * side) >> np.uint64(56)
        grain = (grain.reshape(side, side, 1).astype(np.float32) - 127.5) * 0.04
        return np.clip(self.rgb * light[..., None] * 255 + grain, 0, 255).round().astype(np.uint8)


def _background(canvas: _Canvas, chance: _Chance) -> None:
    grey = chance(0.15, 0.85)  # Muted: real backgrounds rarely glow.
    top, bottom = ((chance.colour(0, 1) + 2 * grey) / 3 for _ in range(2))
    slant = np.clip(canvas.y + chance(-0.6, 0.6) * (canvas.x - 0.5), 0, 1)[..., None]
    canvas.rgb[:] = top * (1 - slant) + bottom * slant
    for _ in range(3):  # Something out of focus.
        place, size = (chance(0, 1), chance(0, 0.8)), chance(0.08, 0.3)
        blob = np.exp(-((canvas.x - place[0]) ** 2 + (canvas.y - place[1]) ** 2) / (size * size))[
            ..., None
        ]
        canvas.rgb += (
            np.float32(0.6) * blob * (chance.colour(0.1, 1).astype(np.float32) - canvas.rgb)
        )


def _body(canvas: _Canvas, chance: _Chance, centre, skin) -> None:
    canvas.ellipse((centre[0], 1.19), (chance(0.4, 0.55), 0.25), chance.colour(0.05, 0.9))
    canvas.ellipse((centre[0], 0.95), (chance(0.13, 0.16), 0.14), skin * 0.82)


def _head(canvas: _Canvas, chance: _Chance, centre, half, skin) -> None:
    for side in (-1, 1):
        ear = (centre[0] + side * half[0], 0.57)
        canvas.ellipse(ear, (0.035, 0.065), skin * 0.9)
    canvas.ellipse(centre, half, skin * 0.9)
    canvas.ellipse((centre[0], centre[1] - 0.02), (half[0] * 0.93, half[1] * 0.93), skin, 0.7)
    blush = skin * np.array([1.05, 0.85, 0.85])
    strength = chance(0, 0.6)
    for side in (-1, 1):
        cheek = (centre[0] + side * 0.13, 0.67)
        for radius in (0.06, 0.045, 0.03):
            canvas.ellipse(cheek, (radius, radius * 0.8), blush, strength * 0.4)
    if chance(0, 1) < 0.2:  # A beard's shadow.
        lower = np.maximum(canvas.ellipse_distance(centre, half), 0.70 - canvas.y)
        canvas.lay(lower, skin * 0.45, chance(0.3, 0.8))


def _eyes(canvas: _Canvas, chance: _Chance, centre, hair, skin) -> None:
    apart, high, open_ = chance(0.1, 0.12), 0.51 + chance(-0.01, 0.01), chance(0.02, 0.032)
    iris, gaze = chance.between_neighbours(_IRIS), chance(-0.012, 0.012)
    brow_arch, brow_high = chance(0.2, 1.2), chance(0.065, 0.085)
    for side in (-1, 1):
        x = centre[0] + side * apart
        canvas.ellipse((x, high), (0.056, open_ + 0.012), skin * 0.75)
        white = canvas.ellipse_distance((x, high), (0.05, open_))
        canvas.lay(white, np.array([0.96, 0.95, 0.93]))
        for radius, colour in ((0.026, iris), (0.012, (0.03, 0.03, 0.03))):
            pupil = canvas.ellipse_distance((x + gaze, high), (radius, radius))
            canvas.lay(np.maximum(pupil, white), colour)
        canvas.ellipse((x + gaze - 0.008, high - 0.008), (0.006, 0.006), (1, 1, 1))
        along = (canvas.x - x) * side
        brow = np.abs(canvas.y - (high - brow_high) - brow_arch * 4 * (along - 0.01) ** 2) - 0.011
        canvas.lay(np.maximum(brow, np.abs(along) - 0.06), hair * 0.8)


def _nose_and_mouth(canvas: _Canvas, chance: _Chance, centre, skin) -> None:
    width = chance(0.03, 0.045)
    canvas.ellipse((centre[0] + width * 0.5, 0.60), (0.012, 0.06), skin * 0.86, 0.7)
    canvas.ellipse((centre[0], 0.655), (width, 0.022), skin * 0.84, 0.8)
    canvas.ellipse((centre[0], 0.645), (width * 0.8, 0.02), skin * 1.04)
    for side in (-1, 1):
        canvas.ellipse((centre[0] + side * width * 0.5, 0.665), (0.009, 0.006), skin * 0.45)
    half_width, smile, thick = chance(0.07, 0.11), chance(-1.0, 4.0), chance(0.014, 0.024)
    lips = skin * np.array([0.95, 0.55, 0.55]) + chance(0, 0.12) * np.array([1, 0, 0.1])
    dx = canvas.x - centre[0]
    middle = 0.755 - smile * (dx * dx - 0.003)
    taper = np.sqrt(np.clip(1 - (dx / half_width) ** 2, 0, 1))
    away, ends = np.abs(canvas.y - middle), np.abs(dx) - half_width
    canvas.lay(np.maximum(away - thick * taper, ends), lips)
    gap = max(smile, 0) * 0.004 * chance(0, 1)
    canvas.lay(np.maximum(away - (0.003 + gap) * taper, ends), (0.35, 0.12, 0.12))
    if gap > 0.004:
        teeth = np.abs(canvas.y - middle + 0.002) - gap * 0.7 * taper
        canvas.lay(np.maximum(teeth, ends), (0.97, 0.96, 0.93))


def _hair(canvas: _Canvas, chance: _Chance, centre, half, hair) -> None:
    if chance(0, 1) < 0.07:
        return  # Bald.
    outer = canvas.ellipse_distance(
        (centre[0], centre[1] - 0.06), (half[0] + 0.05, half[1] + chance(0.0, 0.06))
    )
    part = chance(-0.07, 0.07)
    hairline = 0.36 + chance(-0.03, 0.03) + chance(1.0, 3.5) * (canvas.x - centre[0] - part) ** 2
    cap = np.maximum(outer, canvas.y - hairline)
    canvas.lay(cap, hair)
    strands = 0.5 + 0.5 * np.sin(canvas.x * chance(60, 140) + canvas.y * chance(-30, 30))
    canvas.lay(cap, np.clip(hair * 1.3, 0, 1), 0.25 * strands)


def _glasses(canvas: _Canvas, chance: _Chance, centre) -> None:
    colour, radius = chance.colour(0.02, 0.3), chance(0.07, 0.085)
    for side in (-1, 1):
        ring = canvas.ellipse_distance((centre[0] + side * 0.11, 0.515), (radius, radius * 0.8))
        canvas.lay(np.abs(ring) - 0.006, colour)
    bridge = np.maximum(np.abs(canvas.y - 0.5) - 0.006, np.abs(canvas.x - centre[0]) - 0.03)
    canvas.lay(bridge, colour)
