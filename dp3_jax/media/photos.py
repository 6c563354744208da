"""Photos: upright RGB pixels in, the same kind of file out, nothing else of the original in it.

What is written is a new file made of pixels alone, so everything that can hold the original face or say who
and where it was stays behind: EXIF with its thumbnail, GPS and maker notes, XMP, IPTC, comments, embedded
previews, and the second pictures that phones append to a JPEG. Kept are the format, transparency, what says
what the colours mean, and how strongly the source was compressed. See also `metadata.safe_exif`.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import shutil
import stat
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from dp3_jax.common.errors import UserError
from dp3_jax.common.files import atomic_target
from dp3_jax.common.shared_settings import SharedSetting
from dp3_jax.media import jpeg, marking, png, webp
from dp3_jax.media.metadata import safe_exif

# File name endings and Pillow's name of the format that is written for them.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".jif": "JPEG",
    ".jfi": "JPEG",
    ".pjpeg": "JPEG",
    ".pjp": "JPEG",
    ".mpo": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".dib": "BMP",
}
# "JPEG" also opens MPO, a JPEG with more pictures behind it.
_READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")

MAX_PIXELS = 250_000_000  # more is taken for a decompression bomb
_MAX_BYTES = 4_000_000_000  # of a file: 16 for each of MAX_PIXELS

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
      colours: other chunks of a PNG that say what its colours mean, (name, content).
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
    colours: tuple[tuple[bytes, bytes], ...] = ()

    def with_pixels(self, pixels: np.ndarray) -> "Photo":
        """This photo with other pixels of the same size."""
        if pixels.shape != self.pixels.shape or pixels.dtype != np.uint8:
            raise ValueError(f"expected u8{self.pixels.shape}, got {pixels.dtype}{pixels.shape}")
        return dataclasses.replace(self, pixels=pixels)


@SharedSetting
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


def _refuse_unusual(image: Image.Image, bits: int, name: str) -> None:
    """Raises UserError for pictures that cannot be written back as what they are."""
    advice = "convert it first"
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise UserError(
            f"{name} holds {image.n_frames} pictures (animated or multi-page); {advice}"
        )
    if image.format == "TIFF":
        bits = max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,)))
    if bits > 8 or image.mode.startswith(("I", "F")):
        raise UserError(f"{name} has more than 8 bits a channel; {advice} to 8 bits")
    if image.mode not in _MODES:
        raise UserError(f"{name} has the colours {image.mode}; {advice} to RGB")


def _encoding(image: Image.Image, content: bytes) -> dict[str, Any]:
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
            quality = webp.compression(content)
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
      UserError: the file cannot be read; also as `decode_photo`.
    """
    return decode_photo(read_bytes(path), str(path))


def read_bytes(path: str | os.PathLike) -> bytes:
    """The content of a photo's file.

    Raises:
      UserError: it is missing, cannot be read, or is larger than a photo can be.
    """
    path = pathlib.Path(path)
    try:
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or path.is_dir()):  # a pipe would be waited for
            raise UserError(f"cannot read {path}: it is no file; name a photo")
        if status.st_size > _MAX_BYTES:
            raise UserError(f"{path} is larger than {_MAX_BYTES // 10**9} GB; scale it down")
        return path.read_bytes()
    except FileNotFoundError as error:
        there = path.is_symlink()
        what = f"{path} is a link to nothing" if there else f"there is no file {path}"
        raise UserError(f"{what}; check the path") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from error
    except MemoryError as error:
        raise UserError(f"{path} does not fit into memory; scale it down") from error


def decode_photo(content: bytes, name: str = "the photo") -> Photo:
    """The photo that a file's content is, upright.

    Args:
      content: of a JPEG, PNG, WebP, TIFF or BMP file.
      name: for messages.

    Raises:
      UserError: it is damaged, of another kind, animated, 16-bit, CMYK or too large.
    """
    try:
        with _size_limit():
            return _decoded(content, name)
    except UnidentifiedImageError as error:
        raise UserError(
            f"{name} is not a JPEG, PNG, WebP, TIFF or BMP picture; convert it first"
        ) from error
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{name} does not fit into memory; scale it down") from error
    except Exception as error:  # Pillow's parsers raise all kinds on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot read {name}: {reason}; is the file complete?") from error


def _decoded(content: bytes, name: str) -> Photo:
    parts = png.split(content) if content.startswith(png.SIGNATURE) else None
    picture = content if parts is None else parts.picture
    with Image.open(io.BytesIO(picture), formats=_READABLE) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UserError(f"{name} has {image.width}x{image.height} pixels; scale it down")
        _refuse_unusual(image, 8 if parts is None else parts.bits, name)
        try:
            image.load()
        except OSError:
            ended = jpeg.with_end(content) if image.format == "JPEG" else None
            if ended is None:
                raise
            return _decoded(ended, name)
        photo = _photo(image, _encoding(image, content))
    if parts is None:
        return photo
    return dataclasses.replace(photo, icc_profile=parts.icc_profile, colours=parts.colours)


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
      photo, keep_metadata, mark: as of `encode_photo`.

    Raises:
      UserError: the name's ending is unknown or the file cannot be written.
    """
    container = container_of(path)
    content = encode_photo(photo, container, keep_metadata=keep_metadata, mark=mark, name=str(path))
    replace_file(path, content)


def container_of(path: str | os.PathLike) -> str:
    """Pillow's name of the format that a file's name ends in.

    Raises:
      UserError: the ending is unknown.
    """
    container = FORMATS.get(pathlib.Path(path).suffix.lower())
    if container is None:
        raise UserError(f"cannot write {path}: its name must end in one of {', '.join(FORMATS)}")
    return container


def replace_file(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file atomically; the permissions of one that it replaces are kept.

    Raises:
      UserError: the file cannot be written.
    """
    path = pathlib.Path(path)
    with atomic_target(path) as temporary:
        temporary.write_bytes(content)
        if path.is_file():
            shutil.copymode(path, temporary)


def encode_photo(
    photo: Photo,
    container: str | None = None,
    *,
    keep_metadata: bool = False,
    mark: bool = False,
    name: str = "the photo",
) -> bytes:
    """The content of a photo's file.

    Args:
      photo: what to write. Where the format changes, its usual settings are used; JPEG shows what is
        transparent as white.
      container: Pillow's name of the format; None for the source's.
      keep_metadata: write the safe subset of the source's EXIF (see `metadata.safe_exif`).
      mark: say in the file that a part of it was generated (see `marking`).
      name: for messages.

    Raises:
      UserError: the format cannot hold this photo.
    """
    container = container or photo.format
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
    with _size_limit():
        try:
            content = _saved(_image(photo, container), container, options)
        except (ValueError, OSError) as error:  # e.g. more pixels on a side than the format counts
            raise UserError(f"cannot write {name} as {container}: {error}") from error
    return png.with_colours(content, photo.colours) if container == "PNG" else content


def _saved(image: Image.Image, container: str, options: dict[str, Any]) -> bytes:
    opened = io.BytesIO()
    try:
        image.save(opened, format=container, **options)
    except OSError:
        if not options.get("progressive"):
            raise
        # Pillow gives a progressive JPEG one byte a pixel; very fine pictures need more.
        opened = io.BytesIO()
        image.save(opened, format=container, **{**options, "progressive": False})
    return opened.getvalue()
