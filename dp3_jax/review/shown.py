"""Pictures as the page shows them: JPEG of at most the size of a screen, or a part in full detail."""

import io
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from dp3_jax.media.alpha import WHITE, over
from dp3_jax.media.photos import Photo, read_photo
from dp3_jax.review.caches import ByteCache

MAX_SIDE = 1800  # px of a picture
THUMB = 160  # px
_QUALITY = 88
_MAX_PHOTOS = 256 << 20  # bytes of decoded photos that are kept

_photos = ByteCache(_MAX_PHOTOS)


def photo_of(path: pathlib.Path) -> Photo:
    """A photo as it is on the disk now; raises as `read_photo`."""
    try:
        status = path.stat()
        key = (str(path), status.st_mtime_ns, status.st_size)
    except OSError:
        return read_photo(path)
    photo = _photos.get(key)
    if photo is None:
        photo = read_photo(path)
        _photos.put(key, photo, photo.pixels.nbytes)
    return photo


def photo_jpeg(photo: Photo, side: int, crop: Sequence[int] | None = None) -> bytes:
    """JPEG of a photo, with its colour profile; what is transparent is white.

    Args:
      photo: as read.
      side: px that the longer side has at most.
      crop: left, top, width, height in px of a part; None for the whole.
    """
    pixels, alpha = _part(photo.pixels, crop), photo.alpha
    if alpha is not None:
        pixels = over(pixels, _part(alpha, crop), WHITE)
    return jpeg(pixels, side, photo.icc_profile)


def jpeg(pixels: np.ndarray, side: int, profile: bytes | None = None) -> bytes:
    """JPEG of u8[h, w, 3] whose longer side has at most so many px."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    target = io.BytesIO()
    known = {"icc_profile": profile} if profile else {}
    image.save(target, "JPEG", quality=_QUALITY, **known)
    return target.getvalue()


def thumbnail(path: pathlib.Path) -> bytes:
    """JPEG of a photo of at most THUMB px, decoded no larger than need be; raises as `read_photo`."""
    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (2 * THUMB, 2 * THUMB))
            small = ImageOps.exif_transpose(opened)
            small.thumbnail((THUMB, THUMB))
            if small.mode in ("L", "RGB"):
                return jpeg(np.asarray(small.convert("RGB")), THUMB)
    except (OSError, ValueError, Image.DecompressionBombError):
        pass
    return photo_jpeg(read_photo(path), THUMB)


def _part(array: np.ndarray, crop: Sequence[int] | None) -> np.ndarray:
    if crop is None:
        return array
    left, top, width, height = crop
    return array[max(top, 0) : top + height, max(left, 0) : left + width]


def clipped(crop: Sequence[int], width: int, height: int) -> tuple[int, int, int, int]:
    """The part of a crop that lies in a picture, at least one px."""
    left, top = min(max(crop[0], 0), width - 1), min(max(crop[1], 0), height - 1)
    right = min(max(crop[0] + crop[2], left + 1), width)
    bottom = min(max(crop[1] + crop[3], top + 1), height)
    return left, top, right - left, bottom - top
