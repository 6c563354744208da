"""Licence plates drawn by code, with known places: of several countries' layouts, by day and by night.

A plate is drawn flat, seen in perspective by a camera, lit, blurred and made noisy with its surroundings.
Its characters are DejaVu Sans (which comes with matplotlib) and OpenCV's strokes; those of scripts that
these lack are random strokes of their size. Nothing here comes from a real plate.
"""

import dataclasses
import functools
import pathlib
import string
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
BLACK, WHITE, INK = (18, 18, 20), (236, 236, 232), (24, 26, 30)
BLUE, GREEN, YELLOW, RED = (20, 60, 150), (20, 110, 60), (244, 196, 40), (170, 30, 40)
_PER_MM = 1.0  # px of the flat drawing


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    fonts = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / "DejaVuSans-Bold.ttf"), size)


class Drawing:
    """A flat plate of width x height mm, at one px a mm."""

    def __init__(self, width: int, height: int, ground: Colour, rng: np.random.Generator):
        self.size = (width, height)
        self.rng = rng
        self.image = Image.new("RGB", self.size, ground)
        self.draw = ImageDraw.Draw(self.image)

    def text(self, words: str, box: tuple[float, float, float, float], ink: Colour) -> None:
        """Characters that fill a box (x, y, width, height) in mm."""
        x, y, w, h = box
        glyphs = self._pillow(words) if self.rng.random() < 0.75 else self._strokes(words)
        mask = cv2.resize(
            glyphs, (max(1, round(w)), max(1, round(h))), interpolation=cv2.INTER_AREA
        )
        self.image.paste(
            Image.new("RGB", mask.shape[::-1], ink), (round(x), round(y)), Image.fromarray(mask)
        )

    def _pillow(self, words: str) -> np.ndarray:
        font = _font(120)
        left, top, right, bottom = font.getbbox(words)
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).text((-left, -top), words, font=font, fill=255)
        return np.asarray(mask)

    def _strokes(self, words: str) -> np.ndarray:
        face, thickness = cv2.FONT_HERSHEY_SIMPLEX, 12
        (width, height), _ = cv2.getTextSize(words, face, 4, thickness)
        mask = np.zeros((height + 24, width + 24), np.uint8)
        cv2.putText(mask, words, (12, height + 12), face, 4, 255, thickness, cv2.LINE_AA)
        return mask

    def sign(self, box: tuple[float, float, float, float], ink: Colour) -> None:
        """A character of a script that the fonts lack: strokes along, down and aslant."""
        x, y, w, h = box
        thick = max(2, round(0.11 * min(w, h)))
        for _ in range(self.rng.integers(4, 8)):
            a, b = self.rng.random(2)
            kind = self.rng.integers(3)
            ends = {
                0: ((x, y + a * h), (x + w, y + a * h)),
                1: ((x + a * w, y), (x + a * w, y + h)),
                2: ((x + a * w, y), (x + b * w, y + h)),
            }[int(kind)]
            self.draw.line(ends, fill=ink, width=thick)

    def border(self, ink: Colour, width: int = 4) -> None:
        """A line along the edge, `width` mm."""
        self.draw.rounded_rectangle(
            (2, 2, self.size[0] - 3, self.size[1] - 3), 12, None, ink, width
        )


def _letters(rng: np.random.Generator, number: int) -> str:
    return "".join(rng.choice(list(string.ascii_uppercase), number))


def _digits(rng: np.random.Generator, number: int) -> str:
    return "".join(rng.choice(list(string.digits), number))


def words(rng: np.random.Generator, number: int) -> str:
    """So many random letters and digits."""
    return "".join(rng.choice(list(string.ascii_letters + string.digits), number))


def eu(rng: np.random.Generator) -> Drawing:
    """One line on white, a blue band at the left: 520 x 110 mm."""
    plate = Drawing(520, 110, WHITE, rng)
    plate.draw.rectangle((0, 0, 44, 110), fill=BLUE)
    plate.text(_letters(rng, 1), (12, 70, 20, 26), WHITE)
    plate.draw.ellipse((10, 16, 34, 40), outline=YELLOW, width=4)
    words = f"{_letters(rng, 2)} {_letters(rng, 2)} {_digits(rng, int(rng.integers(2, 5)))}"
    plate.text(words, (60, 18, 445, 74), INK)
    plate.border(INK)
    return plate


def uk(rng: np.random.Generator) -> Drawing:
    """One line on yellow or white: 520 x 111 mm."""
    plate = Drawing(520, 111, YELLOW if rng.random() < 0.7 else WHITE, rng)
    plate.text(f"{_letters(rng, 2)}{_digits(rng, 2)} {_letters(rng, 3)}", (24, 18, 472, 76), INK)
    return plate


def us(rng: np.random.Generator) -> Drawing:
    """A picture, the state's name above, a motto below: 305 x 152 mm."""
    plate = Drawing(305, 152, (225, 228, 235), rng)
    top, bottom = rng.integers(120, 255, (2, 3))
    for row in range(152):
        mix = (row / 152 * bottom + (1 - row / 152) * top).astype(int)
        plate.draw.line((0, row, 305, row), fill=tuple(int(v) for v in mix))
    hill = [
        (0, 110),
        (80, int(rng.integers(60, 100))),
        (170, 105),
        (240, 75),
        (305, 110),
        (305, 152),
        (0, 152),
    ]
    plate.draw.polygon(hill, fill=tuple(int(v) for v in rng.integers(110, 230, 3)))
    ink = (BLUE, INK, RED, GREEN)[int(rng.integers(4))]
    plate.text(_letters(rng, int(rng.integers(4, 11))), (80, 8, 145, 22), ink)
    words = (
        f"{_letters(rng, 3)} {_digits(rng, 4)}"
        if rng.random() < 0.5
        else f"{_digits(rng, 1)}{_letters(rng, 3)}{_digits(rng, 3)}"
    )
    plate.text(words, (16, 42, 273, 68), ink)
    plate.text(_letters(rng, 12), (70, 128, 165, 14), ink)
    plate.border((90, 90, 100), 3)
    return plate


def two_lines(rng: np.random.Generator) -> Drawing:
    """A motorcycle's, two lines on white: 220 x 200 mm, or 340 x 200 mm."""
    width = 220 if rng.random() < 0.6 else 340
    plate = Drawing(width, 200, WHITE if rng.random() < 0.7 else YELLOW, rng)
    plate.text(f"{_letters(rng, 2)} {_letters(rng, 1)}", (0.18 * width, 20, 0.64 * width, 72), INK)
    plate.text(_digits(rng, 4), (0.1 * width, 108, 0.8 * width, 74), INK)
    plate.border(INK)
    return plate


def japan(rng: np.random.Generator) -> Drawing:
    """A small line above, four large digits with a hyphen below: 330 x 165 mm."""
    ground, ink = ((WHITE, GREEN), (YELLOW, INK), (GREEN, WHITE))[int(rng.integers(3))]
    plate = Drawing(330, 165, ground, rng)
    for i in range(2):
        plate.sign((85 + 46 * i, 14, 38, 38), ink)
    plate.text(_digits(rng, 3), (185, 14, 84, 38), ink)
    plate.sign((14, 92, 34, 34), ink)
    plate.text(f"{_digits(rng, 2)}-{_digits(rng, 2)}", (62, 64, 252, 86), ink)
    return plate


def china(rng: np.random.Generator) -> Drawing:
    """White on blue, 440 x 140 mm, or dark on green that fades to white, 480 x 140 mm."""
    green = rng.random() < 0.4
    width, ink = (480, INK) if green else (440, WHITE)
    plate = Drawing(width, 140, (15, 60, 160), rng)
    if green:
        for row in range(140):
            mix = row / 140
            plate.draw.line(
                (0, row, width, row),
                fill=(int(235 - 140 * mix), int(240 - 30 * mix), int(235 - 110 * mix)),
            )
    plate.sign((16, 25, 45, 90), ink)
    plate.text(_letters(rng, 1), (73, 25, 45, 90), ink)
    plate.draw.ellipse((127, 65, 137, 75), fill=ink)
    plate.text(_digits(rng, 5 + green), (148, 25, width - 166, 90), ink)
    plate.border(ink, 3)
    return plate


def mercosul(rng: np.random.Generator) -> Drawing:
    """White with a blue band above: 400 x 130 mm."""
    plate = Drawing(400, 130, WHITE, rng)
    plate.draw.rectangle((0, 0, 400, 30), fill=BLUE)
    plate.text("".join(_letters(rng, 6)), (150, 7, 100, 17), WHITE)
    plate.draw.rectangle((350, 6, 380, 24), fill=GREEN)
    words = f"{_letters(rng, 3)}{_digits(rng, 1)}{_letters(rng, 1)}{_digits(rng, 2)}"
    plate.text(words, (24, 42, 352, 72), INK)
    plate.border(INK, 3)
    return plate


def dark(rng: np.random.Generator) -> Drawing:
    """White on black, a small line below: 430 x 135 mm."""
    plate = Drawing(430, 135, BLACK, rng)
    plate.text(f"{_letters(rng, 1)} {_digits(rng, 4)} {_letters(rng, 3)}", (22, 16, 386, 74), WHITE)
    plate.text(f"{_digits(rng, 2)}.{_digits(rng, 2)}", (160, 102, 110, 22), WHITE)
    plate.border(WHITE, 3)
    return plate


LAYOUTS: dict[str, Callable[[np.random.Generator], Drawing]] = {
    "eu": eu,
    "uk": uk,
    "us": us,
    "two lines": two_lines,
    "japan": japan,
    "china": china,
    "mercosul": mercosul,
    "dark": dark,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """A picture with a made plate.

    Attributes:
      image: u8[H, W, 3] RGB.
      corners: f32[4, 2] px: the plate's upper left, upper right, lower right and lower left one.
      layout: a key of LAYOUTS.
      night: whether it was taken by night.
    """

    image: np.ndarray
    corners: np.ndarray
    layout: str
    night: bool


def car(rng: np.random.Generator, width: int, height: int, plate: float) -> np.ndarray:
    """u8[height, width, 3]: the back of a car on a road, in few strokes, the plate's place in the middle.

    The car is as wide as one with a plate of `plate` px, but not wider than the picture.
    """
    shade = rng.integers(60, 220)
    image = np.full((height, width, 3), shade, np.uint8)
    image[height * 55 // 100 :] = rng.integers(60, 130)  # road
    colour = tuple(int(v) for v in rng.integers(10, 235, 3))
    darker = tuple(v * 2 // 3 for v in colour)
    w = min(1.75 * plate, 0.48 * width)
    h = 0.7 * w
    x, y = width / 2, height / 2

    def box(left, top, right, bottom, fill):
        a = (round(x + left * w), round(y + top * h))
        cv2.rectangle(
            image, a, (round(x + right * w), round(y + bottom * h)), fill, -1, cv2.LINE_AA
        )

    roof = np.array([(-0.7, -1.3), (0.7, -1.3), (0.95, -0.5), (-0.95, -0.5)]) * (w, h) + (x, y)
    cv2.fillPoly(image, [roof.astype(np.int32)], darker, cv2.LINE_AA)
    cv2.fillPoly(
        image,
        [(0.9 * (roof - (x, y - h)) + (x, y - h)).astype(np.int32)],
        (40, 48, 56),
        cv2.LINE_AA,
    )
    box(-1, -0.5, 1, 0.75, colour)
    box(-1, 0.45, 1, 0.75, darker)
    for side in (-1, 1):
        inner, outer = sorted((side * 0.95, side * 0.62))
        box(inner, -0.42, outer, -0.1, (180, 30, 30))
        box(inner, 0.75, outer, 1.0, (25, 25, 25))
    return cv2.GaussianBlur(image, (0, 0), 1.5)


def _homography(size: tuple[int, int], width: float, centre: np.ndarray, rng: np.random.Generator):
    """A camera's view of a plate turned by up to 40 degrees about the vertical: the plate `width` px wide."""
    yaw, pitch = np.radians(rng.uniform(-40, 40)), np.radians(rng.uniform(-12, 25))
    roll = np.radians(rng.normal(0, 5))
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * np.array(size) / size[0] / 2
    points = np.c_[corners, np.zeros(4)]
    turn = cv2.Rodrigues(np.array([0, yaw, 0.0]))[0] @ cv2.Rodrigues(np.array([pitch, 0, 0.0]))[0]
    points = points @ (cv2.Rodrigues(np.array([0, 0, roll]))[0] @ turn).T
    seen = points[:, :2] / (1 + points[:, 2:] / rng.uniform(3, 10))
    seen *= width / np.ptp(seen[:, 0])
    seen += centre - seen.mean(0)
    flat = np.array([(0, 0), (size[0], 0), size, (0, size[1])], np.float32)
    return cv2.getPerspectiveTransform(flat, seen.astype(np.float32)), seen.astype(np.float32)


def _lit(plate: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """f32, 0 to 255: as the light falls: a slope of brightness, dirt."""
    h, w = plate.shape[:2]
    slope = 1 + rng.uniform(-0.25, 0.25) * np.linspace(-1, 1, w)[None, :, None]
    spots = cv2.resize(rng.random((4, 12)).astype(np.float32), (w, h))[..., None]
    return plate * slope * (1 - rng.uniform(0, 0.25) * spots) * rng.uniform(0.55, 1.05)


def scene(
    background: np.ndarray,
    layout: str,
    width: float,
    rng: np.random.Generator,
    place: np.ndarray | None = None,
) -> Made:
    """A plate in a background.

    Args:
      background: u8[H, W, 3] RGB; kept outside the plate but for light, blur and noise.
      layout: a key of LAYOUTS.
      width: px of the plate in the picture.
      place: its middle, px; None for anywhere.
    """
    drawn = LAYOUTS[layout](rng)
    flat = np.asarray(drawn.image)
    height, across = background.shape[:2]
    if place is None:
        free = np.array([across, height]) - 1.1 * width
        place = 0.55 * width + rng.random(2) * np.maximum(free, 0)
    matrix, corners = _homography(drawn.size, width, place, rng)
    shrink = max(1, int(drawn.size[0] / width / 1.5))  # warping does not filter
    small = cv2.resize(flat, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    to_flat = np.diag([drawn.size[0] / small.shape[1], drawn.size[1] / small.shape[0], 1.0])
    image = background.astype(np.float32)
    warped = cv2.warpPerspective(
        _lit(small, rng).astype(np.float32), matrix @ to_flat, (across, height)
    )
    alpha = cv2.warpPerspective(
        np.ones(small.shape[:2], np.float32), matrix @ to_flat, (across, height)
    )[..., None]
    night = bool(rng.random() < 0.3)
    if night:  # the plate is brighter than what is around it: lamps shine on it
        image *= rng.uniform(0.12, 0.35)
        warped *= rng.uniform(0.4, 0.9)
    image = image * (1 - alpha) + warped * alpha
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.4 + 0.006 * width))
    if rng.random() < 0.25:  # motion
        length = max(2, round(width * rng.uniform(0.01, 0.04)))
        image = cv2.blur(image, (length, 1))
    image = image + rng.normal(0, rng.uniform(1, 10 if night else 5), image.shape)
    image = np.clip(image, 0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))]
    image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    return Made(image, corners, layout, night)
