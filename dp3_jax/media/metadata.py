"""The part of a photo's EXIF that says how it was taken, and not of whom, by whom or where."""

from PIL import ExifTags, Image

# Names from the EXIF 2.32 standard. Not in the list, and so never written: the thumbnail and its directory,
# GPS, maker notes, descriptions, comments, names of artist and owner, copyright (a name), serial numbers,
# unique ids, software and host names, and everything private or unknown.
_BASE = (
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.DateTime,
)
_CAMERA = (
    ExifTags.Base.DateTimeOriginal,
    ExifTags.Base.DateTimeDigitized,
    ExifTags.Base.OffsetTime,
    ExifTags.Base.OffsetTimeOriginal,
    ExifTags.Base.OffsetTimeDigitized,
    ExifTags.Base.ExposureTime,
    ExifTags.Base.FNumber,
    ExifTags.Base.ExposureProgram,
    ExifTags.Base.ISOSpeedRatings,
    ExifTags.Base.ShutterSpeedValue,
    ExifTags.Base.ApertureValue,
    ExifTags.Base.BrightnessValue,
    ExifTags.Base.ExposureBiasValue,
    ExifTags.Base.MeteringMode,
    ExifTags.Base.LightSource,
    ExifTags.Base.Flash,
    ExifTags.Base.FocalLength,
    ExifTags.Base.FocalLengthIn35mmFilm,
    ExifTags.Base.ColorSpace,
    ExifTags.Base.WhiteBalance,
    ExifTags.Base.ExposureMode,
    ExifTags.Base.SceneCaptureType,
    ExifTags.Base.LensModel,
)
_LONGEST = 64  # characters or numbers: longer values hide something else


def safe_exif(image: Image.Image) -> bytes:
    """An EXIF block made anew with camera, lens, exposure, colour space and time of the picture.

    Returns:
      The block as Pillow's `save(exif=...)` takes it; empty when the source has none of these tags.
    """
    try:
        source = image.getexif()
        camera = source.get_ifd(ExifTags.IFD.Exif)
    except Exception:  # damaged EXIF is no reason to refuse the picture
        return b""
    kept = Image.Exif()
    _copy(source, kept, _BASE)
    _copy(camera, kept.get_ifd(ExifTags.IFD.Exif), _CAMERA)
    try:
        return kept.tobytes() if len(kept) or len(kept.get_ifd(ExifTags.IFD.Exif)) else b""
    except Exception:
        return b""


def _copy(source, target, tags) -> None:
    for tag in tags:
        value = source.get(tag)
        sized = isinstance(value, str | tuple)
        if value is None or isinstance(value, bytes) or (sized and len(value) > _LONGEST):
            continue
        target[int(tag)] = value
