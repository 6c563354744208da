"""PNG files chunk by chunk: what Pillow needs to decode one, and the colour chunks that it drops.

Pillow refuses a picture for more than 1 MiB of text or colour profile, which editors do write, and loses the
chunks that say what the colours mean. Names, order, contents: PNG specification, third edition (W3C, 2025).
"""

import dataclasses
import struct
import zlib
from collections.abc import Iterator, Sequence

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_TO_DECODE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"acTL", b"fcTL", b"fdAT")
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
# Of all text only these can say how the picture is turned: XMP, and EXIF as ImageMagick writes it.
_TURNING = (b"XML:com.adobe.xmp", b"Raw profile type exif", b"Raw profile type APP1")
_MAX_TURNING = 1 << 19  # bytes of it that are kept; Pillow's limit is 1 MiB
_MAX_PROFILE = 1 << 26  # bytes of a colour profile; the largest in use have some MB

_WHITE_TO_BLUE = 200_000  # cHRM: units of 0.00001; twice the largest real coordinate
_COORDINATE = 50_000  # mDCV: units of 0.00002
_LUMINANCE = 200_000_000  # mDCV, cLLI: units of 0.0001 cd/m2; PQ ends at 10,000 cd/m2


@dataclasses.dataclass(frozen=True)
class Parts:
    """A PNG file in its parts.

    Attributes:
      picture: a PNG file for the decoder: pixels, palette, transparency, orientation, further frames.
      icc_profile: colour profile, or None.
      colours: (name, content) of the other chunks that say what the colours mean.
      bits: a channel; Pillow reads 16-bit colour as 8 without a word.
    """

    picture: bytes
    icc_profile: bytes | None
    colours: tuple[tuple[bytes, bytes], ...]
    bits: int


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def _walk(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of every chunk, with its length and its check; the last one may be cut off."""
    at = len(SIGNATURE)
    while at + 8 <= len(content):
        (size,) = struct.unpack_from(">I", content, at)
        yield content[at + 4 : at + 8], at, min(at + 12 + size, len(content))
        at += 12 + size


def split(content: bytes) -> Parts:
    """Takes a file apart; whatever is damaged is left for the decoder to complain of.

    Args:
      content: that begins with SIGNATURE.
    """
    kept, colours, profile = [SIGNATURE], [], None
    for name, start, end in _walk(content):
        body = content[start + 8 : end - 4]
        if name in _TO_DECODE:
            kept.append(content[start:end])
        elif name in _TEXT:
            kept += _turning(name, body)
        elif name == b"iCCP":
            profile = _profile(body)
        elif name in _VALID and _VALID[name](body):
            colours.append((name, body))
    bits = content[24] if len(content) > 24 else 8
    return Parts(b"".join(kept), profile, tuple(colours), bits)


def with_colours(content: bytes, colours: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A complete PNG file with these chunks added, right behind its header."""
    end_of_header = len(SIGNATURE) + 12 + 13
    added = b"".join(_chunk(name, body) for name, body in colours)
    return content[:end_of_header] + added + content[end_of_header:]


def _inflated(packed: bytes, most: int) -> bytes:
    """The first `most` bytes of what is packed; fewer where it is damaged."""
    try:
        return zlib.decompressobj().decompress(packed, most)
    except zlib.error:
        return b""


def _turning(name: bytes, body: bytes) -> list[bytes]:
    """The chunk, made anew and short, if it can say how the picture is turned."""
    keyword, _, rest = body.partition(b"\0")
    if keyword not in _TURNING:
        return []
    if name == b"zTXt":
        rest = _inflated(rest[1:], _MAX_TURNING)
    elif name == b"iTXt":
        packed, (_, _, rest) = rest[:1] == b"\1", (rest[2:].split(b"\0", 2) + [b""] * 3)[:3]
        rest = _inflated(rest, _MAX_TURNING) if packed else rest
    rest = rest[:_MAX_TURNING]
    if keyword == _TURNING[0]:
        return [_chunk(b"iTXt", keyword + bytes(5) + rest)]
    return [_chunk(b"tEXt", keyword + b"\0" + rest)]


def _profile(body: bytes) -> bytes | None:
    _, _, rest = body.partition(b"\0")
    found = _inflated(rest[1:], _MAX_PROFILE + 1)
    return found if 0 < len(found) <= _MAX_PROFILE else None


def _numbers(form: str, body: bytes) -> tuple[int, ...] | None:
    return struct.unpack(form, body) if len(body) == struct.calcsize(form) else None


def _gamma(body: bytes) -> bool:
    found = _numbers(">I", body)
    return found is not None and 0 < found[0] <= 10_000_000  # units of 0.00001


def _chromaticities(body: bytes) -> bool:
    found = _numbers(">8I", body)
    return found is not None and max(found) <= _WHITE_TO_BLUE


def _intent(body: bytes) -> bool:
    return len(body) == 1 and body[0] <= 3


def _code_points(body: bytes) -> bool:
    """ITU-T H.273: primaries, transfer, matrix (0 in PNG), full range."""
    return len(body) == 4 and body[2] == 0 and body[3] <= 1


def _mastering(body: bytes) -> bool:
    found = _numbers(">8H2I", body)
    return found is not None and max(found[:8]) <= _COORDINATE and max(found[8:]) <= _LUMINANCE


def _light_level(body: bytes) -> bool:
    found = _numbers(">2I", body)
    return found is not None and max(found) <= _LUMINANCE


# Numbers in the ranges that they can have: a chunk of text by such a name is no colour.
_VALID = {
    b"gAMA": _gamma,
    b"cHRM": _chromaticities,
    b"sRGB": _intent,
    b"cICP": _code_points,
    b"mDCV": _mastering,
    b"cLLI": _light_level,
}
