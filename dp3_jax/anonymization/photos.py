"""Photo files: upright RGB pixels in, the same kind of file out, nothing else of the original in it.

What is written is a new file made of pixels alone, so everything that can hold the original face or say who
and where it was stays behind: EXIF with its thumbnail, GPS and maker notes, XMP, IPTC, comments, embedded
previews, and the second pictures that phones append to a JPEG. Kept are the format, transparency, the colour
profile, and how strongly the source was compressed. See also `metadata.safe_exif`.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from dp3_jax.anonymization import marking, webp
from dp3_jax.anonymization.metadata import safe_exif
from dp3_jax.errors import UserError
from dp3_jax.files import atomic_target

# File name endings and Pillow's name of the format that is written for them.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
# "JPEG" also opens MPO, a JPEG with more pictures behind it.
_READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")

MAX_PIXELS = 250_000_000  # more is taken for a decompression bomb

# When the source does not say: high enough that a second compression is not seen.
_JPEG_QUALITY = 95
_WEBP_QUALITY = 90

_MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "P": "RGB",  # the new face has colours of its own
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBX": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
}
_LOSSLESS_TIFF = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate")


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photo's pixels, upright, and how to write its like.

    Attributes:
      pixels: u8[h, w, 3] RGB.
      alpha: u8[h, w], or None when the photo is opaque.
      grey: whether the source has no colours.
      format: Pillow's name: JPEG, PNG, WEBP, TIFF or BMP.
      icc_profile: colour profile, or None.
      encoding: Pillow's options that give a file like the source.
      exif: EXIF block with the safe subset of the source's tags; empty when there are none.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    grey: bool
    format: str
    icc_profile: bytes | None
    encoding: dict[str, Any]
    exif: bytes

    def with_pixels(self, pixels: np.ndarray) -> "Photo":
        """This photo with other pixels of the same size."""
        if pixels.shape != self.pixels.shape or pixels.dtype != np.uint8:
            raise ValueError(f"expected u8{self.pixels.shape}, got {pixels.dtype}{pixels.shape}")
        return dataclasses.replace(self, pixels=pixels)


@contextlib.contextmanager
def _size_limit() -> Iterator[None]:
    """Pillow's own limit is lower, warns first, and is a global setting."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, which is dropped anyway
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def is_photo_name(path: str | os.PathLike) -> bool:
    """Whether the file's name ends as those of the formats that are handled do."""
    return pathlib.Path(path).suffix.lower() in FORMATS


def _png_bits(path: pathlib.Path) -> int:
    """Bits a channel; Pillow reads 16-bit colour as 8 without a word. The 25th byte of every PNG."""
    with path.open("rb") as opened:
        return opened.read(25)[24]


def _refuse_unusual(image: Image.Image, path: pathlib.Path) -> None:
    """Raises UserError for pictures that cannot be written back as what they are."""
    advice = "convert it first"
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise UserError(
            f"{path} holds {image.n_frames} pictures (animated or multi-page); {advice}"
        )
    bits = 8
    if image.format == "PNG":
        bits = _png_bits(path)
    elif image.format == "TIFF":
        bits = max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,)))
    if bits > 8 or image.mode.startswith(("I", "F")):
        raise UserError(f"{path} has more than 8 bits a channel; {advice} to 8 bits")
    if image.mode not in _MODES:
        raise UserError(f"{path} has the colours {image.mode}; {advice} to RGB")


def _encoding(image: Image.Image, path: pathlib.Path) -> dict[str, Any]:
    """Pillow's options that give a file like the source."""
    if image.format in ("JPEG", "MPO"):
        # The very tables that the source was quantized with: the same quality, and for pixels that did
        # not change nearly no further loss.
        options: dict[str, Any] = {"progressive": bool(image.info.get("progressive"))}
        sampling = JpegImagePlugin.get_sampling(image)
        if sampling >= 0:
            options["subsampling"] = sampling
        tables = image.quantization
        if tables and max(max(table) for table in tables.values()) < 256:
            return {**options, "qtables": [tables[key] for key in sorted(tables)]}
        return {**options, "quality": _JPEG_QUALITY}
    if image.format == "WEBP":
        try:
            quality = webp.compression(path)
        except ValueError:
            return {"quality": _WEBP_QUALITY}
        return {"lossless": True} if quality is None else {"quality": quality}
    if image.format == "TIFF":
        used = image.info.get("compression", "raw")
        return {"compression": used if used in _LOSSLESS_TIFF else "tiff_adobe_deflate"}
    return {}


def read_photo(path: str | os.PathLike) -> Photo:
    """Reads a photo and turns it upright.

    Raises:
      UserError: the file is missing, damaged, of another kind, animated, 16-bit, CMYK or too large.
    """
    path = pathlib.Path(path)
    try:
        with _size_limit(), Image.open(path, formats=_READABLE) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{path} has {image.width}x{image.height} pixels; scale it down")
            _refuse_unusual(image, path)
            image.load()
            return _photo(image, _encoding(image, path))
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}; check the path") from error
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path} is not a JPEG, PNG, WebP, TIFF or BMP picture; convert it first"
        ) from error
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{path} does not fit into memory; scale it down") from error
    except Exception as error:  # Pillow's parsers raise all kinds on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot read {path}: {reason}; is the file complete?") from error


def _photo(image: Image.Image, encoding: dict[str, Any]) -> Photo:
    mode = _MODES[image.mode]
    if "transparency" in image.info and image.mode in ("1", "L", "P", "RGB"):
        mode = "LA" if mode == "L" else "RGBA"
    upright = _upright(image)
    array = np.asarray(upright if upright.mode == mode else upright.convert(mode))
    grey = mode in ("L", "LA")
    if grey:
        pixels = np.repeat(array.reshape(*array.shape[:2], -1)[..., :1], 3, -1)
    else:
        pixels = np.ascontiguousarray(array[..., :3])
    return Photo(
        pixels=pixels,
        alpha=array[..., -1].copy() if mode in ("LA", "RGBA") else None,
        grey=grey,
        format="JPEG" if image.format == "MPO" else image.format,
        icc_profile=image.info.get("icc_profile") or None,
        encoding=encoding,
        exif=safe_exif(image),
    )


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; damaged EXIF turns nothing."""
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # Pillow's parser raises all kinds
        return image
    return ImageOps.exif_transpose(image) if turned else image


def _image(photo: Photo, container: str) -> Image.Image:
    """The photo as a Pillow image without any info, in a mode that `container` can hold."""
    image = Image.fromarray(photo.pixels)
    if photo.alpha is not None and container == "JPEG":
        white = Image.new("RGB", image.size, "white")
        image = Image.composite(image, white, Image.fromarray(photo.alpha))
    if photo.grey and container not in ("WEBP", "BMP"):
        image = image.convert("L")
    if photo.alpha is not None and container != "JPEG":
        image.putalpha(Image.fromarray(photo.alpha))
    return image


def write_photo(
    path: str | os.PathLike, photo: Photo, *, keep_metadata: bool = False, mark: bool = False
) -> None:
    """Writes a photo, atomically, in the format that the name ends in.

    Args:
      path: the file; an existing one is replaced and its permissions are kept.
      photo: what to write. Where the format changes, its usual settings are used; JPEG shows what is
        transparent as white.
      keep_metadata: write the safe subset of the source's EXIF (see `metadata.safe_exif`).
      mark: say in the file that a part of it was generated (see `marking`).

    Raises:
      UserError: the name's ending is unknown or the file cannot be written.
    """
    path = pathlib.Path(path)
    container = FORMATS.get(path.suffix.lower())
    if container is None:
        raise UserError(f"cannot write {path}: its name must end in one of {', '.join(FORMATS)}")
    defaults = {"JPEG": {"quality": _JPEG_QUALITY}, "WEBP": {"quality": _WEBP_QUALITY}}
    options = dict(photo.encoding if container == photo.format else defaults.get(container, {}))
    if container == "PNG":
        options["compress_level"] = 6
    if photo.icc_profile and container != "BMP":
        options["icc_profile"] = photo.icc_profile
    if keep_metadata and photo.exif and container != "BMP":
        options["exif"] = photo.exif
    if mark:
        options |= marking.photo_options(container, options.get("exif", b""))
    with atomic_target(path) as temporary, _size_limit():
        try:
            _image(photo, container).save(temporary, format=container, **options)
        except ValueError as error:  # e.g. more pixels on a side than the format can count
            raise UserError(f"cannot write {path} as {container}: {error}") from error
        if path.is_file():
            shutil.copymode(path, temporary)
