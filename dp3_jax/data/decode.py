"""From the bytes of a picture file to the square u8 image that everything else works on.

This is the reference: every source and every feed decodes with `load_image`, the tf.data pipeline
too (inside `tf.numpy_function`, where Pillow releases the GIL). Decoding with TensorFlow's own
operations is not faster, its resize differs from Pillow's by up to 16 grey levels on real photos
(Pillow rounds and clips to u8 between the horizontal and the vertical pass), and one operation that
fails on a damaged file ends the whole pipeline.
"""

import io
import os

import numpy as np
from PIL import Image, ImageOps

from dp3_jax.data.options import DataOptions

EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".webp")
_FORMATS = ("JPEG", "PNG", "WEBP")  # JPEG includes the multi-picture files that phones write.
# An image enlarged more than this holds no detail worth learning.
_MAX_ENLARGEMENT = 4


class UnreadableImage(Exception):
    """A file that gives no usable image; the text says why."""


def load_image(source: str | os.PathLike | bytes, options: DataOptions) -> np.ndarray:
    """Decodes, uprights, crops and resizes one picture.

    Greyscale, palette, CMYK and 16-bit pictures become 8-bit RGB, EXIF orientation is applied,
    transparency is laid over white; of an animation the first frame is taken.

    Args:
      source: path of a JPEG, PNG or WebP file, or its bytes.
      options: `image_size` (S) and `crop` are used.

    Returns:
      u8[S, S, 3], RGB, resized with Pillow's antialiased Lanczos filter.

    Raises:
      UnreadableImage: damaged, not a picture, smaller than the crop, or so small that it would be
        enlarged more than four times.
    """
    try:
        with Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS
        ) as opened:
            opened.load()
            image = to_rgb(ImageOps.exif_transpose(opened))
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files.
        raise UnreadableImage(_reason(error)) from error
    image = image.crop(_crop_box(image.size, options))
    side = options.image_size
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns an 8-bit RGB copy of a decoded picture of any mode (or the picture itself)."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips at 255.
        grey = np.asarray(image).astype(np.float64) * (255 / 65535)
        return Image.fromarray(np.rint(grey).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _crop_box(size: tuple[int, int], options: DataOptions) -> tuple[int, int, int, int]:
    width, height = size
    if options.crop is None:
        side = min(size)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
    else:
        box = options.crop
        if box[2] > width or box[3] > height:
            raise UnreadableImage(f"{width}x{height} pixels, smaller than the crop {box}")
    if min(box[2] - box[0], box[3] - box[1]) * _MAX_ENLARGEMENT < options.image_size:
        raise UnreadableImage(f"{width}x{height} pixels, too small")
    return box


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a JPEG, PNG or WebP picture"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
