"""What a file, a member of an archive or a value of a column is: a picture, a clip, or neither.

By its name and by its first bytes: what is called otherwise and is a picture all the same is treated as one,
so that nothing passes because of its name.
"""

import enum
import io
import pathlib

import numpy as np

from dp3_jax.media.names import is_video_name
from dp3_jax.media.photos import is_photo_name

MAX_VALUES = 4096  # in an array that is no picture: states, actions, embeddings
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"II*\0", b"MM\0*")
_UNREAD = (b"\0\0\x01\0", b"\xff\x0a")  # icons, JPEG XL
_CLIPS = (b"\x1aE\xdf\xa3", b"GIF8", b"FLV\x01", b"OggS", b"\0\0\x01\xba", b"\0\0\x01\xb3")
_MEDIA_BOXES = (b"avif", b"heic", b"heix", b"mif1", b"msf1")  # pictures in the container of MP4
_ARRAYS = (".npy", ".npz", ".pt", ".pth", ".pkl", ".pickle", ".ten", ".mat", ".h5", ".hdf5")
# Names of pictures in formats that are not read: refused, never copied.
_OTHER_PICTURES = (
    ".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".ppm", ".pgm", ".pnm", ".exr", ".hdr",
    ".dng", ".raw", ".cr2", ".nef", ".arw", ".psd", ".tga", ".ico", ".svg", ".pdf", ".bag", ".mcap",
    ".zip", ".tar", ".gz", ".zst", ".xz", ".bz2", ".7z",
)  # fmt: skip


class Kind(enum.Enum):
    """What a content is."""

    PICTURE = "picture"
    CLIP = "clip"
    OTHER = "other"  # is copied
    UNKNOWN = "unknown"  # may hold pictures that nobody can look into


def kind_of(name: str, content: bytes) -> Kind:
    """What a content with a name is; of a content of which only the beginning is at hand, likewise.

    `name`: with an ending, or "" for a value without one.
    """
    ending = pathlib.PurePosixPath(name).suffix.lower()
    by_content = _by_content(content)
    if by_content is not None:
        return by_content
    if is_photo_name(name):
        return Kind.PICTURE
    if is_video_name(name):
        return Kind.CLIP
    if ending in _OTHER_PICTURES:
        return Kind.UNKNOWN
    if ending in _ARRAYS:
        return Kind.OTHER if ending == ".npy" and _is_small(content) else Kind.UNKNOWN
    return Kind.OTHER


def _by_content(content: bytes) -> Kind | None:
    bitmap = content[:2] == b"BM" and content[6:10] == bytes(4)
    if content.startswith(_PICTURES) or bitmap:
        return Kind.PICTURE
    if content[:4] == b"RIFF":
        return Kind.PICTURE if content[8:12] == b"WEBP" else Kind.CLIP
    if content[4:8] == b"ftyp":
        return Kind.UNKNOWN if content[8:12] in _MEDIA_BOXES else Kind.CLIP
    if content.startswith(_CLIPS):
        return Kind.CLIP
    return Kind.UNKNOWN if content.startswith(_UNREAD) else None


def _is_small(content: bytes) -> bool:
    """Whether a file of NumPy holds numbers that are too few for a picture."""
    opened = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(opened)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(opened)
    except (ValueError, EOFError):
        return False
    return not dtype.hasobject and int(np.prod(shape)) <= MAX_VALUES
