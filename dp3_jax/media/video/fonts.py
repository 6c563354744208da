"""Fonts that come with subtitles: only the tables that draw letters, and the names to find them by.

A font file may also hold its maker's name, address, licence key and user data. See the OpenType
specification, "OpenType font file" and "name - Naming table".
"""

import struct

_DRAWN = (
    "avar", "BASE", "CFF", "CFF2", "cmap", "COLR", "CPAL", "cvt", "fpgm", "fvar", "gasp", "GDEF", "glyf",
    "GPOS", "GSUB", "gvar", "hdmx", "head", "hhea", "hmtx", "HVAR", "kern", "loca", "LTSH", "maxp", "MVAR",
    "OS/2", "post", "prep", "STAT", "VDMX", "vhea", "vmtx", "VORG", "VVAR",
)  # fmt: skip
_NAMES = (1, 2, 4, 6, 16, 17)  # family, style, both, for PostScript, and their typographic forms
_MAGIC = {b"\0\1\0\0": "ttf", b"true": "ttf", b"OTTO": "otf"}


def clean(data: bytes) -> tuple[bytes, str] | None:
    """A font without what draws nothing, and its ending; None if it is no TrueType or OpenType font."""
    kind = _MAGIC.get(data[:4])
    if kind is None:
        return None
    try:
        (count,) = struct.unpack(">H", data[4:6])
        tables = {}
        for i in range(count):
            tag, _, offset, size = struct.unpack(">4sIII", data[12 + 16 * i : 28 + 16 * i])
            content = data[offset : offset + size]
            if len(content) < size:
                return None
            if tag == b"name":
                tables[tag] = _names(content)
            elif tag.decode("latin-1").strip() in _DRAWN:
                tables[tag] = content
    except struct.error:
        return None
    return _font(data[:4], tables), kind


def _names(table: bytes) -> bytes:
    """A naming table of format 0 with `_NAMES` only."""
    _, count, start = struct.unpack(">HHH", table[:6])
    records, strings = [], b""
    for i in range(count):
        *where, name, size, at = struct.unpack(">6H", table[6 + 12 * i : 18 + 12 * i])
        if name in _NAMES and where[0] in (0, 1, 3):
            records.append(struct.pack(">6H", *where, name, size, len(strings)))
            strings += table[start + at : start + at + size]
    return struct.pack(">HHH", 0, len(records), 6 + 12 * len(records)) + b"".join(records) + strings


def _font(magic: bytes, tables: dict[bytes, bytes]) -> bytes:
    """A font file; sums are those of the new contents."""
    power = max(len(tables).bit_length() - 1, 0)
    head = magic + struct.pack(
        ">4H", len(tables), 16 << power, power, 16 * len(tables) - (16 << power)
    )
    at, directory, body = 12 + 16 * len(tables), b"", b""
    for tag, content in sorted(tables.items()):
        padded = content + bytes(-len(content) % 4)
        total = sum(struct.unpack(f">{len(padded) // 4}I", padded)) & 0xFFFFFFFF
        directory += struct.pack(">4sIII", tag, total, at + len(body), len(content))
        body += padded
    return head + directory + body
