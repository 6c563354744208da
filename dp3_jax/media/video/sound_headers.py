"""Headers of compressed sound without what people wrote into them.

A decoder needs numbers from a stream's header; comments, pictures and whatever follows lie beside them: the
comment header of Vorbis (also in Matroska and MP4), the metadata blocks of FLAC, the comment in AAC's program
config element. What is copied is rebuilt from the numbers. Layouts: ISO/IEC 14496-3 (1.6.2.1, 4.4.1.1),
Vorbis I (4.2), RFC 7845 (5.1), RFC 9639 (8), Apple's ALACMagicCookieDescription.
"""

import re
import struct

import av

# Decoded without a header; what a file has there is not needed.
_WITHOUT = frozenset(
    ("mp1", "mp2", "mp3", "ac3", "eac3", "dts", "truehd", "mlp", "amr_nb", "amr_wb")
)
# Numbers only, so many bytes of them.
_NUMBERS = {"wmav1": 4, "wmav2": 10, "wmapro": 18, "wmalossless": 18, "wavpack": 2, "tta": 22}
_NO_COMMENTS = b"\x03vorbis" + struct.pack("<II", 0, 0) + b"\x01"
_GENERAL_AUDIO = frozenset((1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22, 23))  # AAC's object types
_RESILIENT = frozenset((17, 19, 20, 21, 22, 23))


def clean(codec: str, header: bytes) -> bytes | None:
    """The header of a stream with its numbers only.

    Args:
      codec: FFmpeg's name.
      header: what FFmpeg calls extradata.

    Returns:
      Bytes from which the stream can be decoded as before; None where this codec or header is not known
      well enough to vouch for what is in it.
    """
    if codec in _WITHOUT or codec.startswith("pcm_"):
        return b""
    if codec in _NUMBERS:
        return header[: _NUMBERS[codec]]
    make = {"aac": _aac, "alac": _alac, "flac": _flac, "opus": _opus, "vorbis": _vorbis}.get(codec)
    try:
        return make(header) if make else None
    except (ValueError, IndexError, struct.error):
        return None


def _opus(header: bytes) -> bytes | None:
    if len(header) < 19 or not header.startswith(b"OpusHead"):
        return None
    channels, family = header[9], header[18]
    size = 19 if family == 0 else 21 + channels  # with the table of its channels
    return header[:size] if len(header) >= size else None


def _flac(header: bytes) -> bytes | None:
    if header.startswith(b"fLaC"):
        header = header[8:]  # STREAMINFO is the first block
    return header[:34] if len(header) >= 34 else None


def _alac(header: bytes) -> bytes | None:
    if len(header) < 36 or header[4:8] != b"alac":
        return None
    return struct.pack(">I4sI", 36, b"alac", 0) + header[12:36]


def _vorbis(header: bytes) -> bytes | None:
    parts = xiph_parts(header)
    if [part[:7] for part in parts] != [b"\x01vorbis", b"\x03vorbis", b"\x05vorbis"]:
        return None
    return xiph_laced((parts[0][:30], _NO_COMMENTS, _whole_setup(parts[0][:30], parts[2])))


def _whole_setup(first: bytes, setup: bytes) -> bytes:
    """The least part of Vorbis' third header that can be decoded: all of it but what was put behind."""
    least, most = 0, len(setup)
    while least < most:
        middle = (least + most) // 2
        if _opens(xiph_laced((first, _NO_COMMENTS, setup[:middle]))):
            most = middle
        else:
            least = middle + 1
    return setup[:least]


def _opens(header: bytes) -> bool:
    """Whether FFmpeg's decoder of Vorbis accepts a header."""
    context = av.CodecContext.create("vorbis", "r")
    context.extradata = header
    try:
        context.open()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def xiph_laced(parts: tuple[bytes, bytes, bytes]) -> bytes:
    """Three headers in one, as Matroska has them: their number less one, sizes in steps of 255, contents."""
    sizes = b"".join(b"\xff" * (len(p) // 255) + bytes([len(p) % 255]) for p in parts[:-1])
    return bytes([len(parts) - 1]) + sizes + b"".join(parts)


def xiph_parts(header: bytes) -> list[bytes]:
    """The headers in `xiph_laced`, or each after its size in 16 bits, as FFmpeg has them from Ogg."""
    parts = []
    if header[:2] == b"\0\x1e":
        while header and len(parts) < 3:
            (size,) = struct.unpack(">H", header[:2])
            parts.append(header[2 : 2 + size])
            header = header[2 + size :]
        return parts
    if header[:1] != b"\x02":
        return []
    at, sizes = 1, []
    while len(sizes) < 2:
        size = 0
        while header[at] == 255:
            size, at = size + 255, at + 1
        sizes.append(size + header[at])
        at += 1
    for size in sizes:
        parts.append(header[at : at + size])
        at += size
    return [*parts, header[at:]]


class _Bits:
    """Reads bits from the front; `taken` are those read, as text."""

    def __init__(self, data: bytes):
        self._text = "".join(f"{byte:08b}" for byte in data)
        self.at = 0

    def read(self, count: int) -> int:
        """The next bits as a number.

        Raises:
          ValueError: there are not so many.
        """
        if self.at + count > len(self._text):
            raise ValueError("too short")
        self.at += count
        return int(self._text[self.at - count : self.at] or "0", 2)

    def peek(self, count: int) -> int:
        """The next bits, which stay; -1 if there are not so many."""
        piece = self._text[self.at : self.at + count]
        return int(piece, 2) if len(piece) == count else -1

    def text(self, start: int, end: int) -> str:
        """Bits between two places."""
        return self._text[start:end]


def _aac(header: bytes) -> bytes | None:
    """An AudioSpecificConfig up to its last number, without a comment. Empty where frames have headers."""
    if not header:
        return b""
    bits, kept = _Bits(header), ""
    kind = _object_type(bits)
    _frequency(bits)
    channels = bits.read(4)
    extended = kind in (5, 29)  # of spectral band replication
    if extended:
        _frequency(bits)
        kind = _object_type(bits)
        if kind == 22:
            bits.read(4)
    if kind not in _GENERAL_AUDIO:
        return None
    bits.read(1)
    bits.read(14 if bits.read(1) else 0)
    more = bits.read(1)
    start = 0
    if channels == 0:
        _channel_table(bits)
        kept = bits.text(0, bits.at) + "0" * (-bits.at % 8) + "0" * 8  # a comment of 0 bytes
        bits.read(-bits.at % 8)
        bits.read(8 * bits.read(8))
        start = bits.at
    if kind in (6, 20):
        bits.read(3)
    if more:
        bits.read({22: 17, 17: 4, 19: 4, 20: 4, 23: 4}.get(kind, 1))
    if kind in _RESILIENT and bits.read(2) > 1:
        return None
    if not extended and bits.peek(11) == 0x2B7:
        _late_extension(bits)
    kept += bits.text(start, bits.at)
    kept += "0" * (-len(kept) % 8)
    return int(kept, 2).to_bytes(len(kept) // 8, "big")


def from_frame(packet: bytes) -> bytes | None:
    """The header of AAC whose frames have headers of their own (ADTS), from the first of them.

    Returns:
      An AudioSpecificConfig; None where the frame holds a table of channels, and perhaps a comment with it.
    """
    if len(packet) < 7 or packet[0] != 255 or packet[1] & 0xF6 != 0xF0:
        return None
    kind, frequency = (packet[2] >> 6) + 1, packet[2] >> 2 & 15
    channels = (packet[2] & 1) << 2 | packet[3] >> 6
    return (kind << 11 | frequency << 7 | channels << 3).to_bytes(2, "big") if channels else None


def _object_type(bits: _Bits) -> int:
    kind = bits.read(5)
    return 32 + bits.read(6) if kind == 31 else kind


def _frequency(bits: _Bits) -> None:
    if bits.read(4) == 15:
        bits.read(24)


def _late_extension(bits: _Bits) -> None:
    """What says at the end that there is spectral band replication, and parametric stereo, or not."""
    bits.read(11)
    if bits.read(5) != 5:
        raise ValueError("another extension")
    if bits.read(1):
        _frequency(bits)
        if bits.peek(11) == 0x548:
            bits.read(12)


def _channel_table(bits: _Bits) -> None:
    """A program config element up to the comment."""
    bits.read(10)
    front, side, back = bits.read(4), bits.read(4), bits.read(4)
    low, data, coupled = bits.read(2), bits.read(3), bits.read(4)
    for size in (4, 4, 3):  # mono, stereo and matrix mixdown
        bits.read(size if bits.read(1) else 0)
    bits.read(5 * (front + side + back + coupled) + 4 * (low + data))


def clean_packet(codec: str, data: bytes) -> bytes:
    """A packet of sound without tags and headers between the sound; b"" if nothing of it is sound."""
    if codec == "vorbis":
        return b"" if data[:1] and data[0] & 1 else data  # an odd first byte: a header
    if codec == "opus":
        return b"" if data.startswith((b"OpusHead", b"OpusTags")) else _without_padding(data)
    if codec == "flac":
        return data if data[:1] == b"\xff" else b""
    if codec in ("mp1", "mp2", "mp3"):
        return _frames(data)
    if codec == "aac" and data[:1] and data[0] >> 5 in (*_NO_SOUND, 7):
        return _quiet(data)
    return data


def _without_padding(data: bytes) -> bytes:
    """A packet of Opus whose padding is zeros (RFC 6716, 3.2.5)."""
    if len(data) < 3 or data[0] & 3 != 3 or not data[1] & 0x40:
        return data
    at, size = 2, 0
    while at < len(data) and data[at] == 255:
        at, size = at + 1, size + 254
    size += data[at] if at < len(data) else 0
    return data[:-size] + bytes(size) if 0 < size <= len(data) - at - 1 else data


_DATA, _TABLE, _FILL = 4, 5, 6
_NO_SOUND = (_DATA, _TABLE, _FILL)  # elements of AAC that hold bytes for anything
_MAX_ELEMENTS = 64
_ENCODER = re.compile(rb"\0*(Lavc|libfaac )[\d.]*\0*")  # the program that made the sound may say so


def _quiet(data: bytes) -> bytes:
    """A packet of AAC in which what stands in front of the sound is zeros (ISO/IEC 14496-3, 4.4.2)."""
    head = b""
    if data[0] == 255 and len(data) > 9 and data[1] & 0xF6 == 0xF0:  # a header of its own (ADTS)
        size = 7 if data[1] & 1 else 9
        head, data = data[:size], data[size:]
    bits, kept, done = _Bits(data), bytearray(data), 0
    try:
        for _ in range(_MAX_ELEMENTS):
            kind = bits.read(3)
            if kind not in _NO_SOUND:
                break
            start, size = _payload(bits, kind)
            bits.read(size)
            done = bits.at
            if _ENCODER.fullmatch(data[-(-start // 8) : done // 8]):
                continue
            for at in range(start, done):
                kept[at // 8] &= ~(128 >> at % 8) & 255
    except ValueError:
        return head + bytes(kept) if done else head + data
    return head + bytes(kept)


def _payload(bits: "_Bits", kind: int) -> tuple[int, int]:
    """Where the bytes of an element begin, and how many bits they have; reads up to them."""
    if kind == _TABLE:
        _channel_table(bits)
        bits.read(-bits.at % 8)
        count = bits.read(8)
    elif kind == _DATA:
        bits.read(4)
        aligned = bits.read(1)
        count = bits.read(8)
        count += bits.read(8) if count == 255 else 0
        bits.read(-bits.at % 8 if aligned else 0)
    else:
        count = bits.read(4)
        count += bits.read(8) - 1 if count == 15 else 0
        if count and bits.peek(4) > 2:  # limits of loudness, for example
            bits.read(8 * count)
            count = 0
    return bits.at, 8 * count


_RATES = (  # kbit/s by version 1 or not, layer and index
    ((0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
     (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
     (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)),
    ((0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
     (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
     (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)),
)  # fmt: skip


def _frames(data: bytes) -> bytes:
    """The MPEG audio frames in `data` (ISO 11172-3); tags and what else lies around them are left out."""
    at = data.find(b"\xff")
    while at >= 0 and not 0 < _frame_size(data[at : at + 4]) <= len(data) - at:
        at = data.find(b"\xff", at + 1)
    data = data[at:] if at >= 0 else data
    end = 0
    while size := _frame_size(data[end : end + 4]):
        end += min(size, len(data) - end)
    frames = data[:end]
    # The first frame of a file may be no sound, but the encoder's notes: an empty one in its place.
    notes = any(word in frames[4:44] for word in (b"Xing", b"Info", b"VBRI"))
    return frames[:4] + bytes(len(frames) - 4) if notes else frames


def _frame_size(head: bytes) -> int:
    """Bytes of a frame by its header; 0: it is none."""
    if len(head) < 4 or head[0] != 255 or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate, hertz = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or rate in (0, 15) or hertz == 3:
        return 0
    bits = 1000 * _RATES[version != 3][layer - 1][rate]
    frequency = (44100, 48000, 32000)[hertz] // {3: 1, 2: 2, 0: 4}[version]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return 4 * (12 * bits // frequency + padding)
    samples = 72 if layer == 3 and version != 3 else 144
    return samples * bits // frequency + padding
