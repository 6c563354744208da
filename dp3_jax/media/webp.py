"""How strongly a WebP file was compressed, which Pillow does not tell: from its chunks and frame header."""

_HEADER = (
    256  # bytes of the compressed frame that are read; what is looked for lies in the first 60
)


class _Bits:
    """The boolean decoder of VP8 (RFC 6386, section 7) for even odds, which headers are written with."""

    def __init__(self, content: bytes):
        """Begins at the first byte."""
        self._next = iter(content)
        self._value = next(self._next) << 8 | next(self._next)
        self._range, self._count = 255, 0

    def number(self, bits: int) -> int:
        """The next unsigned number. Raises StopIteration at the end of the content."""
        found = 0
        for _ in range(bits):
            split = 1 + ((self._range - 1) * 128 >> 8)
            bit = self._value >= split << 8
            self._value -= split << 8 if bit else 0
            self._range = self._range - split if bit else split
            while self._range < 128:
                self._value, self._range, self._count = (
                    self._value << 1,
                    self._range << 1,
                    self._count + 1,
                )
                if self._count == 8:
                    self._value, self._count = self._value | next(self._next), 0
            found = found << 1 | bit
        return found

    def optional(self, bits: int) -> int:
        """A signed number behind a flag that says whether it is there; else 0."""
        if not self.number(1):
            return 0
        size = self.number(bits)
        return -size if self.number(1) else size


def _quantizer(frame: bytes) -> float | None:
    """The mean over its segments of a key frame's quantizer index, 0 (finest) to 127 (RFC 6386, 9.6)."""
    if len(frame) < 12 or frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a":
        return None
    bits = _Bits(frame[10:])
    bits.number(2)  # colour space, clamping
    absolute, segments = False, None
    if bits.number(1):
        new_map, new_values = bits.number(1), bits.number(1)
        if new_values:
            absolute = bool(bits.number(1))
            segments = [bits.optional(7) for _ in range(4)]
            for _ in range(4):
                bits.optional(6)  # loop filter
        if new_map:
            for _ in range(3):
                if bits.number(1):
                    bits.number(8)
    bits.number(1 + 6 + 3)  # loop filter: type, level, sharpness
    if bits.number(1) and bits.number(1):
        for _ in range(8):
            bits.optional(6)
    bits.number(2)  # partitions
    base = bits.number(7)
    if segments is None:
        return float(base)
    used = [value if absolute else base + value for value in segments]
    return sum(used) / len(used)


def _quality(quantizer: float) -> int:
    """The quality from 0 to 100 at which libwebp would choose this quantizer index for average content.

    libwebp takes 127 (1 - c), where c^3 grows with two slopes from 0 to 0.5 at quality 75 and to 1 at 100.
    """
    share = (1 - min(max(quantizer, 0.0), 127.0) / 127) ** 3
    return round(100 * (1.5 * share if share < 0.5 else (share + 1) / 2))


def compression(content: bytes) -> int | None:
    """The quality, 0 to 100, that a WebP file was written with; None when it is lossless.

    Good to 4 units for what libwebp writes by default, to 12 for its fastest method.

    Raises:
      ValueError: the content is no WebP picture's, or its header is damaged.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        raise ValueError("this is no WebP file")
    at = 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8
        if name == b"VP8L":
            return None
        if name == b"VP8 ":
            try:
                found = _quantizer(content[at : at + min(size, _HEADER)])
            except StopIteration:
                found = None
            if found is None:
                break
            return _quality(found)
        at += size + size % 2
    raise ValueError("there is no readable WebP frame")
