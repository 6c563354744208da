"""What HDR10 files say of the display that they were made on, and of their brightest pictures."""

import struct
from fractions import Fraction
from typing import NamedTuple

import av

_DISPLAY, _LIGHT = (
    "MASTERING_DISPLAY_METADATA",
    "CONTENT_LIGHT_LEVEL",
)  # PyAV's names of the side data
# FFmpeg's AVMasteringDisplayMetadata: ten rational numbers (x and y of red, green, blue and white, the least
# and the greatest luminance), and whether the colours and the luminances are known.
_DISPLAY_FORMAT = struct.Struct("20i2i")


class Mastering(NamedTuple):
    """SMPTE ST 2086 and CTA-861.3.

    Attributes:
      display: x and y of red, green, blue and white (CIE 1931), least and greatest luminance (cd/m2); empty
        if unknown.
      light: the greatest light of a pixel, and of a picture on average (cd/m2); empty if unknown.
    """

    display: tuple[Fraction, ...] = ()
    light: tuple[int, ...] = ()

    def for_x265(self) -> tuple[str, ...]:
        """Parameters of x265, which counts colours in 1/50000 and luminances in 1/10000 cd/m2."""
        told = []
        if self.display:
            *colours, least, most = self.display
            x = [round(c * 50_000) for c in colours]
            lights = round(most * 10_000), round(least * 10_000)
            told.append("master-display=" + _written(x, lights))
        if self.light:
            told.append("max-cll={},{}".format(*self.light))
        return tuple(told)

    def for_svt_av1(self) -> tuple[str, ...]:
        """Parameters of SVT-AV1, in plain numbers."""
        told = []
        if self.display:
            *colours, least, most = [f"{float(number):.5f}" for number in self.display]
            told.append("mastering-display=" + _written(colours, (most, least)))
        if self.light:
            told.append("content-light={},{}".format(*self.light))
        return tuple(told)


def _written(colours: list, lights: tuple) -> str:
    red, green, blue, white = (colours[i : i + 2] for i in range(0, 8, 2))
    named = zip(("G", "B", "R", "WP", "L"), (green, blue, red, white, lights), strict=True)
    return "".join(f"{name}({a},{b})" for name, (a, b) in named)


_WRITERS = {  # by codec: the option of its encoder, and what goes there
    "hevc": ("x265-params", Mastering.for_x265),
    "av1": ("svtav1-params", Mastering.for_svt_av1),
}


def add_to(options: dict[str, str], told: Mastering, codec: str) -> None:
    """Adds it to the options of an encoder, where that can write it."""
    if codec in _WRITERS:
        key, write = _WRITERS[codec]
        options[key] = ":".join([options[key], *write(told)])


def unwritten(told: Mastering, codec: str) -> tuple[str, ...]:
    """In words, what there is no way to write with a codec."""
    if told == Mastering() or codec in _WRITERS:
        return ()
    return (
        f"left out: the values of the mastering display, which cannot be written with {codec} here",
    )


def of(frame: av.VideoFrame) -> Mastering:
    """What is known of a decoded frame."""
    display: tuple[Fraction, ...] = ()
    light: tuple[int, ...] = ()
    found = frame.side_data.get(_DISPLAY)
    if found is not None and len(bytes(found)) >= _DISPLAY_FORMAT.size:
        *numbers, has_colours, has_luminance = _DISPLAY_FORMAT.unpack_from(bytes(found))
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        if has_colours and has_luminance and all(below > 0 for _, below in pairs):
            display = tuple(Fraction(*pair) for pair in pairs)
    found = frame.side_data.get(_LIGHT)
    if found is not None and len(bytes(found)) >= 8:
        light = struct.unpack_from("2I", bytes(found))
    return Mastering(display, light)
