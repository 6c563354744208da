"""Subtitles without what is in them for no viewer: authors, folders, speakers' names, translators' notes.

The text itself is copied. Of everything else only what changes how it is shown is written again: of ASS
scripts known settings with known values, styles under other names, and events without the names of actors;
of QuickTime's timed text the styles of letters; of DVDs size and palette. Fonts keep the names that styles
know them by.
"""

import re
import struct
from collections.abc import Mapping

TEXTS = frozenset(("ass", "subrip", "text", "webvtt", "mov_text"))
PICTURES = frozenset(("dvb_subtitle", "dvd_subtitle", "hdmv_pgs_subtitle"))

_NUMBER = r"-?[\d.]{1,12}"
_SETTINGS = {
    "ScriptType": r"v4\.00\+{0,2}",
    "PlayResX": _NUMBER,
    "PlayResY": _NUMBER,
    "LayoutResX": _NUMBER,
    "LayoutResY": _NUMBER,
    "PlayDepth": _NUMBER,
    "Timer": r"[\d.,]{1,12}",
    "WrapStyle": r"\d",
    "Collisions": "(?i:normal|reverse)",
    "ScaledBorderAndShadow": "(?i:yes|no)",
    "Kerning": "(?i:yes|no)",
    "YCbCr Matrix": r"(?i:none|[tp][vc]\.(601|709|fcc|240m))",
}
_STYLE_FIELDS = (
    "Name", "Fontname", "Fontsize", "PrimaryColour", "SecondaryColour", "TertiaryColour", "OutlineColour",
    "BackColour", "Bold", "Italic", "Underline", "StrikeOut", "ScaleX", "ScaleY", "Spacing", "Angle",
    "BorderStyle", "Outline", "Shadow", "Alignment", "MarginL", "MarginR", "MarginV", "AlphaLevel",
    "Encoding",
)  # fmt: skip
_STYLE_VALUE = re.compile(r"(&[Hh])?[-+0-9A-Fa-f.]{0,12}&?")
_DEFAULT = "Default"
_EVENTS = "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text"
_EFFECT = re.compile(r"(?i:(banner|scroll up|scroll down)(;\d{1,6}){0,4})")
_BRACES = re.compile(r"\{([^}]*)\}")
_OTHER_STYLE = re.compile(r"\\r([^\\}]*)")
_CUE = re.compile(
    r"(?i:(vertical|line|position|size|align):[\d.,%-]*(start|center|middle|end|left|right|rl|lr)?)"
)
_DVD = re.compile(
    rb"(?i:size: *\d{1,5}x\d{1,5}|palette: *[0-9a-f]{1,6}( *, *[0-9a-f]{1,6}){0,15})[ \t]*\r?$",
    re.M,
)
_MOV_STYLE = 30  # bytes of flags, places, colours and one style before the names of fonts


class Subtitles:
    """Rebuilds one stream: its header at once, then its packets."""

    def __init__(self, codec: str, header: bytes):
        """Takes FFmpeg's name of the codec, and its extradata.

        Raises:
          ValueError: subtitles of a kind of which it is not known what else is in them.
        """
        if codec not in TEXTS | PICTURES:
            raise ValueError(codec)
        self._codec = codec
        self._styles: dict[str, str] = {}
        self.header = b""
        if codec == "ass":
            text, self._styles = clean_script(header.decode("utf-8", "replace"))
            self.header = text.encode()
        elif codec == "mov_text":
            self.header = _mov_header(header)
        elif codec == "dvd_subtitle":
            self.header = b"".join(found[0].strip() + b"\n" for found in _DVD.finditer(header))
        elif codec == "dvb_subtitle":
            self.header = header[:5]  # numbers of pages

    def packet(self, data: bytes) -> bytes:
        """A packet's content; b"" if nothing of it is shown."""
        if self._codec == "ass":
            return clean_event(data.decode("utf-8", "replace"), self._styles).encode()
        return _mov_text(data) if self._codec == "mov_text" else data


def clean_script(header: str) -> tuple[str, dict[str, str]]:
    """The header of an ASS script.

    Returns:
      The new one, and what styles are called in it by their old names.
    """
    section, settings, styles, names = "", [], [], {}
    fields: list[str] = []
    for line in (given.strip("\ufeff \t") for given in header.splitlines()):
        if line.startswith("["):
            section = line.lower()
        elif section == "[script info]":
            key, _, value = map(str.strip, line.partition(":"))
            if key in _SETTINGS and re.fullmatch(_SETTINGS[key], value):
                settings.append(f"{key}: {value}")
        elif section in ("[v4+ styles]", "[v4 styles]") and line.startswith("Format:"):
            fields = [field.strip() for field in line[7:].split(",")]
            known = all(field in _STYLE_FIELDS for field in fields)
            fields = fields if known and "Name" in fields else []
            styles += [section.title(), f"Format: {', '.join(fields)}"]
        elif fields and line.startswith("Style:") and section.endswith("styles]"):
            values = [value.strip() for value in line[6:].split(",")]
            if len(values) == len(fields):
                styles.append(_style(dict(zip(fields, values, strict=True)), names))
    lines = ["[Script Info]", *settings, "", *styles, "", "[Events]", _EVENTS, ""]
    return "\r\n".join(lines), names


def _style(values: dict[str, str], names: dict[str, str]) -> str:
    """The line of a style, with a new name, which is added to `names`."""
    name = values["Name"].lstrip("*")
    new = _DEFAULT if name == _DEFAULT else f"Style{len(names) + 1}"
    names.setdefault(name, new)
    known = {
        field: value if field == "Fontname" or _STYLE_VALUE.fullmatch(value) else "0"
        for field, value in values.items()
    }
    return f"Style: {','.join((known | {'Name': names[name]}).values())}"


def clean_event(event: str, styles: Mapping[str, str]) -> str:
    """A line of dialogue as Matroska has it: number, layer, style, name, three margins, effect, text."""
    parts = event.rstrip("\r\n\0").split(",", 8)
    numbers = [parts[i] for i in (0, 1, 4, 5, 6)] if len(parts) == 9 else [""]
    if not all(re.fullmatch(r"-?\d{1,9}", number) for number in numbers):
        return ""
    order, layer, style, _, left, right, vertical, effect, text = parts
    style = styles.get(style.lstrip("*"), _DEFAULT)
    effect = effect if _EFFECT.fullmatch(effect) else ""
    text = _BRACES.sub(lambda found: _override(found[1], styles), text)
    return ",".join((order, layer, style, "", left, right, vertical, effect, text))


def _override(block: str, styles: Mapping[str, str]) -> str:
    """What is between braces, from its first tag on; a comment is nothing."""
    _, tag, rest = block.partition("\\")
    if not tag:
        return ""
    rest = _OTHER_STYLE.sub(lambda found: "\\r" + styles.get(found[1].strip(), ""), "\\" + rest)
    return f"{{{rest}}}"


def cue_settings(settings: str) -> str:
    """Of a WebVTT cue where it is shown."""
    return " ".join(word for word in settings.split() if _CUE.fullmatch(word))


def _boxes(data: bytes):
    """(type, content) of each box in QuickTime's way of writing."""
    while len(data) >= 8:
        size, kind = struct.unpack(">I4s", data[:8])
        if size < 8:
            return
        yield kind, data[8:size]
        data = data[size:]


def _mov_header(header: bytes) -> bytes:
    """A TextSampleEntry whose fonts all have the usual name (3GPP TS 26.245, 5.16)."""
    if len(header) < _MOV_STYLE:
        return b""
    name = b"Sans-Serif"
    fonts = [b"\0\1"]
    for kind, content in _boxes(header[_MOV_STYLE:]):
        if kind == b"ftab" and len(content) >= 2:
            fonts, at = [], 2
            while at + 3 <= len(content):
                fonts.append(content[at : at + 2])
                at += 3 + content[at + 2]
    table = struct.pack(">H", len(fonts))
    table += b"".join(number + bytes([len(name)]) + name for number in fonts)
    return header[:_MOV_STYLE] + struct.pack(">I4s", 8 + len(table), b"ftab") + table


def _mov_text(data: bytes) -> bytes:
    """A sample of text and the styles of its letters; addresses and unknown boxes are left out."""
    if len(data) < 2:
        return b""
    end = 2 + int.from_bytes(data[:2], "big")
    kept = data[:end]
    for kind, content in _boxes(data[end:]):
        if kind == b"styl" and len(content) == 2 + 12 * int.from_bytes(content[:2], "big"):
            kept += struct.pack(">I4s", 8 + len(content), kind) + content
    return kept
