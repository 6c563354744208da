"""Whether a file whose pictures end early was cut off, or only shows its last picture for long."""

import os
import pathlib

import av

from dp3_jax.media.video.probing import opened

HEAD = 256  # bytes from which `matroska_size` can tell
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def matroska_size(head: bytes) -> int | None:
    """Bytes that a Matroska or WebM file has, by its first ones; None: it is none, or does not say.

    See RFC 8794, 4: after the header comes one segment with all the rest, in front of which stands its size.
    """
    if not head.startswith(_EBML):
        return None
    header, size = _number(head[4:])
    if header is None:
        return None
    at = 4 + size + header
    if head[at : at + 4] != _SEGMENT:
        return None
    content, size = _number(head[at + 4 :])
    return None if content is None else at + 4 + size + content


def _number(data: bytes) -> tuple[int | None, int]:
    """A size at the front of `data`, None if it is unknown; and how many bytes it takes itself."""
    size = 9 - data[0].bit_length() if data and data[0] else 9
    if size > 8 or len(data) < size:
        return None, 0
    value = int.from_bytes(data[:size], "big") & ((1 << 7 * size) - 1)
    return (None if value == (1 << 7 * size) - 1 else value), size


def is_whole(path: str | os.PathLike, seconds: float) -> bool:
    """Whether a file is there to its end, though its pictures do not last for the promised `seconds`.

    Matroska says how many bytes there are. In others sound or subtitles must last so long.
    """
    path = pathlib.Path(path)
    with path.open("rb") as file:
        size = matroska_size(file.read(HEAD))
    if size is not None:
        return path.stat().st_size >= size
    return _reaches(path, seconds)


def _reaches(path: pathlib.Path, seconds: float) -> bool:
    with opened(path) as source:
        others = [s for s in source.streams if s.type in ("audio", "subtitle")]
        try:
            for packet in source.demux(others) if others else ():
                if end_of(packet) >= seconds:
                    return True
        except av.error.FFmpegError:
            return False
    return False


def end_of(packet: av.Packet) -> float:
    """Seconds at which a packet's sound or text ends; 0 if it has no time."""
    if packet.pts is None:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)
