"""Which encoder writes a video, and how: like the source unless told otherwise.

Measured on two shared cores with lp_source_s18 (1280x720), CPU time per frame: x264 5.4 ms, SVT-AV1 10 ms,
VP9 10 ms, VP8 7 ms, x265 16 ms, MPEG-4 and MJPEG 3 ms. x264's "superfast" does without macroblock-tree rate
control, which costs nearly nothing and saves up to half of the bits, so it is switched on where it is
deterministic: where the width is not a multiple of 8 macroblocks (128 px), its vector code reads past
the ends of rows, and some runs give other bits (seen with libx264 of PyAV 18.1 on AVX-512).
"""

import dataclasses
import functools
import io
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np

from dp3_jax.common.cores import available_cores
from dp3_jax.common.errors import UserError
from dp3_jax.media.video import mastering, pixel_formats
from dp3_jax.media.video.codecs import CODECS, PRESETS, X264_ANY_WIDTH, Codec
from dp3_jax.media.video.colours import FULL, LIMITED, Colours, FromRgb, is_yuv, samples
from dp3_jax.media.video.lazy_pictures import Image, LazyPicture
from dp3_jax.media.video.levels import Levels, Pack
from dp3_jax.media.video.probing import VideoInfo
from dp3_jax.media.video.tones import is_hdr

# The muxer for each ending that can be written.
CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".gif": "gif",
}
SEQUENCE = "image2"  # FFmpeg's name of what `VideoInfo.container` is for numbered pictures
_ALIASES = {"h265": "hevc", "x264": "h264", "x265": "hevc", "avc": "h264", "mpeg2": "mpeg2video"}
_ONLY_FOR_ALPHA = (
    "qtrle",
    "png",
)  # lossless and large: without transparency another codec is chosen
_FALLBACK = {"webm": "vp9", "avi": "mpeg4", "gif": "gif"}  # "h264" elsewhere
_SLOWEST = Fraction(1, 1000)  # frames a second that an encoder reckons with: time lapse has fewer
# Containers and codecs that say the aspect of pixels; PyAV cannot write it into Matroska's own headers.
_WITH_ASPECT = ("mp4", "mov", "h264", "hevc", "mpeg4", "mpeg2video")
_HEADERS_APART = ("mp4", "mov", "matroska", "webm")  # codec headers go into the container's


@dataclasses.dataclass(frozen=True)
class EncoderSettings:
    """What the user asks of the encoder; None: like the source, or the default.

    Attributes:
      codec: "h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "mpeg2video", "prores", "ffv1", "qtrle",
        "png" or "gif".
      crf: the quality, smaller is better; of MPEG-4, MPEG-2 and MJPEG the quantizer, from 1.
      preset: speed against size in the encoder's own words, e.g. "veryfast" of x264.
      hardware: use an encoder of the graphics card or processor; refused if none works.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    hardware: bool = False


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How a video is written; made by `choose`.

    Attributes:
      codec, encoder: e.g. "h264" and "libx264".
      container: FFmpeg's name of the muxer.
      pixel_format: of the frames given to the encoder.
      options: of the encoder.
      colours: tags to write, and how RGB is converted.
      rate: frames per second that the encoder reckons with; the times in the file are the source's.
      keeps_stored: frames are given as the source stores them (`canvas.Canvas.merged`), not as RGB.
      size: (width, height) in px of what is written: the source's, or in square pixels where their aspect
        cannot be written.
      aspect: width of a pixel by its height; None for square ones.
      flattens: transparency is laid over black.
      remarks: for the user: what of the pictures is not kept.
    """

    codec: str
    encoder: str
    container: str
    pixel_format: str
    options: tuple[tuple[str, str], ...]
    colours: Colours
    rate: Fraction
    size: tuple[int, int]
    aspect: Fraction | None = None
    keeps_stored: bool = False
    flattens: bool = False
    remarks: tuple[str, ...] = ()


def choose_encoding(info: VideoInfo, target_suffix: str, settings: EncoderSettings) -> Encoding:
    """Decides container, codec, pixel format and quality.

    A target that ends like the source gets the source's container, whatever the ending says. H.264 and
    H.265 of an odd width or height are written with full colour resolution (4:4:4), because their usual
    4:2:0 has even sizes only. Bits and transparency: see `pixel_formats`.

    Raises:
      UserError: the ending, codec, quality or preset is unknown or impossible here.
    """
    container = _container(info, target_suffix)
    if container == "avi" and info.container not in ("avi", SEQUENCE):
        raise UserError(
            "an .avi file cannot hold this video's times; choose a name that ends in .mp4 or .mkv"
        )
    name, codec = _codec(info, container, settings)
    encoder = codec.encoder
    if settings.hardware:
        encoder = _hardware(name, codec)
    elif encoder not in av.codecs_available:
        raise UserError(f"this installation of PyAV has no {encoder}; choose another --codec")
    _check_rates(info.rate, name)
    pixels = pixel_formats.choose_pixel_format(info, name, codec.encoder, container, codec.chroma)
    if settings.hardware:
        if is_hdr(info.colours.transfer):
            raise UserError(
                f"{info.path} is HDR, which is not written with --hardware; leave it out"
            )
        pixels = dataclasses.replace(pixels, name="nv12", deep=False, alpha=False)
    size = info.width, info.height
    if not (carries := container in _WITH_ASPECT or name in _WITH_ASPECT):
        size = info.canvas_size
    drawn_apart = pixels.deep or pixels.alpha or size != info.canvas_size
    encoding = Encoding(
        codec=name,
        encoder=encoder,
        container=container,
        pixel_format=pixels.name,
        options=_options(
            name,
            codec=codec,
            settings=settings,
            container=container,
            info=info,
            pixel_format=pixels.name,
        ),
        colours=_colours(info, name, codec, pixels.name),
        rate=max(info.rate.limit_denominator(1001), _SLOWEST),
        size=size,
        aspect=info.sample_aspect_ratio if carries else None,
        keeps_stored=drawn_apart or is_hdr(info.colours.transfer),
        flattens=info.has_alpha and not pixels.alpha,
        remarks=pixels.remarks + mastering.unwritten(info.mastering, name),
    )
    if settings.preset is not None:
        _try(info, encoding)
    return encoding


def configure(context: av.VideoCodecContext, info: VideoInfo, encoding: Encoding) -> None:
    """Sets up an encoder; frames given to it count 0, 1, 2, ... in `pts`."""
    context.width, context.height = encoding.size
    context.pix_fmt = encoding.pixel_format
    context.framerate = encoding.rate
    context.time_base = 1 / encoding.rate
    context.thread_type = "AUTO"
    context.thread_count = _threads(encoding.codec)
    if encoding.aspect:
        context.sample_aspect_ratio = encoding.aspect
    colours = encoding.colours
    context.colorspace, context.color_primaries = colours.matrix, colours.primaries
    context.color_trc, context.color_range = colours.transfer, colours.range
    if encoding.container in _HEADERS_APART:
        context.flags |= av.codec.context.Flags.global_header
    if encoding.codec == "hevc" and encoding.container in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # Apple's players take no other label; FFmpeg would write hev1
    context.options = dict(encoding.options)


def as_written(info: VideoInfo, encoding: Encoding) -> VideoInfo:
    """The source, to be read as it is to be written."""
    squared = encoding.size != (info.width, info.height)
    return dataclasses.replace(info, squared=squared, flattened=encoding.flattens)


def stored_levels(info: VideoInfo) -> Levels:
    """Those of the source's stored pictures."""
    return Levels.of(info.colours, info.pixel_format, info.coded_width, info.coded_height)


def takes_planes(info: VideoInfo, encoding: Encoding) -> bool:
    """Whether the encoder takes the planes of pictures that are converted where they are looked at."""
    stored = info.colours.resolved(info.coded_width, info.coded_height)
    return (
        encoding.pixel_format in ("yuv420p", "yuvj420p")
        and not encoding.keeps_stored
        and stored == encoding.colours.resolved(*encoding.size)
    )


def _of_planes(picture: LazyPicture, pixel_format: str) -> av.VideoFrame:
    """A frame of what is stored."""
    height, width = picture.shape[:2]
    frame = av.VideoFrame(width, height, pixel_format)
    for plane, own in zip(frame.planes, picture.planes, strict=True):
        samples(plane, 8)[:] = own
    return frame


def converter(info: VideoInfo, encoding: Encoding) -> Callable[[Image], av.VideoFrame]:
    """What makes frames for the encoder of u8[h, w, 3] RGB, or of what is stored if that is kept.

    Pictures that are converted where they are looked at go the short way if the encoder takes their planes.
    Frames for a palette are in RGB still.
    """
    name = encoding.pixel_format
    if name == "pal8":
        name = "rgba" if encoding.keeps_stored else "rgb24"
    if encoding.keeps_stored:
        target = Levels.of(encoding.colours, name, *encoding.size)
        convert: Callable = Pack(stored_levels(info), target, name)
    else:
        convert = FromRgb(encoding.colours, *encoding.size, name)

    as_stored = takes_planes(info, encoding)

    def made(image: Image) -> av.VideoFrame:
        if not isinstance(image, LazyPicture):
            return convert(image)
        if as_stored:
            return _of_planes(image, encoding.pixel_format)
        return convert(np.asarray(image))

    def tagged(image: Image) -> av.VideoFrame:
        frame, colours = made(image), encoding.colours
        if encoding.codec == "prores":  # which writes what its frames say, not what the stream does
            frame.colorspace, frame.color_primaries = colours.matrix, colours.primaries
            frame.color_trc, frame.color_range = colours.transfer, colours.range
        return frame

    return tagged


def _threads(codec: str) -> int:
    """Of an encoder; 0 for as many as it likes."""
    # VP8's threads wait by spinning. x264 with three threads takes 40% more processor time than with one,
    # which two cores that draw faces do not have to spare.
    return 1 if codec == "vp8" or (codec == "h264" and available_cores() <= 2) else 0


def holds(container: str, codec: str) -> bool:
    """Whether files of a muxer can hold streams of a codec."""
    return codec in _supported(container)


def check_audio(info: VideoInfo, encoding: Encoding) -> None:
    """Raises UserError if the container cannot hold a sound track of the source, and another could.

    What none can hold is encoded anew (`copying`).
    """
    for stream in info.audio:
        others = any(holds(name, stream.codec) for name in ("mp4", "mov", "matroska"))
        if others and not holds(encoding.container, stream.codec):
            raise UserError(
                f"a {encoding.container} file cannot hold the {stream.codec} sound of {info.path};"
                " choose another ending, for example .mkv, or --audio drop"
            )


@functools.lru_cache(maxsize=16)
def _supported(container: str) -> frozenset[str]:
    with av.open(io.BytesIO(), "w", format=container) as probe:
        return frozenset(probe.supported_codecs)


def _container(info: VideoInfo, suffix: str) -> str:
    suffix = suffix.lower()
    family = info.container.split(",")[0]
    if suffix == info.path.suffix.lower():
        if family == "mov":
            return "mov" if suffix == ".mov" else "mp4"
        if family == "matroska":
            return "webm" if suffix == ".webm" else "matroska"
        if family in ("avi", "gif"):
            return family
    if suffix not in CONTAINERS:
        raise UserError(
            f"cannot write a video named *{suffix}; choose one of {', '.join(CONTAINERS)}"
        )
    return CONTAINERS[suffix]


def _codec(info: VideoInfo, container: str, settings: EncoderSettings) -> tuple[str, Codec]:
    if settings.codec is None:
        name = info.codec
        if info.has_alpha and container in pixel_formats.ALPHA_CODECS:
            if not (pixel_formats.holds_alpha(name, container) and _fits(container, name)):
                name = pixel_formats.ALPHA_CODECS[container]
        elif name in _ONLY_FOR_ALPHA or name not in CODECS or not _fits(container, name):
            name = _FALLBACK.get(container, "h264")
        return name, CODECS[name]
    name = settings.codec.lower()
    name = _ALIASES.get(name, name)
    if name not in CODECS:
        raise UserError(f"unknown --codec {settings.codec}; there are {', '.join(CODECS)}")
    if not _fits(container, name):
        raise UserError(
            f"a {container} file cannot hold {name} video; choose another --codec or ending"
        )
    return name, CODECS[name]


def _fits(container: str, codec: str) -> bool:
    if "gif" in (container, codec):  # moving GIFs in other containers are read by nothing
        return container == codec
    return holds(container, codec)


def _hardware(name: str, codec: Codec) -> str:
    for encoder in codec.hardware:
        if encoder in av.codecs_available and _works(encoder):
            return encoder
    raise UserError(f"no hardware encoder for {name} works here; leave the hardware option away")


@functools.lru_cache(maxsize=32)
def _works(encoder: str) -> bool:
    """Whether an encoder can be opened and takes a frame."""
    try:
        context = av.CodecContext.create(encoder, "w")
        context.width, context.height, context.pix_fmt = 640, 480, "nv12"
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.encode(av.VideoFrame(640, 480, "nv12"))
        context.encode(None)
    except (av.error.FFmpegError, OSError, ValueError, RuntimeError):
        return False
    return True


def _check_rates(rate: Fraction, name: str) -> None:
    if name == "mpeg2video" and rate not in {
        Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30, 50, Fraction(60000, 1001), 60
    }:  # fmt: skip
        raise UserError(f"MPEG-2 has no frame rate {rate}; choose another --codec, such as h264")


def _options(
    name: str,
    *,
    codec: Codec,
    settings: EncoderSettings,
    container: str,
    info: VideoInfo,
    pixel_format: str,
) -> tuple[tuple[str, str], ...]:
    options = dict(codec.options)
    if name == "h264" and -(-info.width // 16) % 8:
        options["x264-params"] = X264_ANY_WIDTH
    if name == "prores":  # 4444, or 422 HQ
        options["profile"] = "4" if "444" in pixel_format else "3"
    mastering.add_to(options, info.mastering, name)
    quality = codec.crf if settings.crf is None else settings.crf
    if settings.hardware:
        # Constant quality is called differently by each; the bit rate is what all of them know.
        return (("bf", "0"), ("b", "12M"))
    if codec.crf is None:
        if settings.crf is not None:
            raise UserError(f"{name} has no --crf; leave it away")
    elif not (1 if codec.quantizer else 0) <= quality <= codec.worst:
        raise UserError(f"--crf {quality:g} is out of range; {name} takes up to {codec.worst}")
    elif codec.quantizer:
        options |= {"flags": "+qscale", "global_quality": str(round(quality * 118))}  # FF_QP2LAMBDA
    else:
        options["crf"] = f"{quality:g}"
    if settings.preset is not None:
        if not codec.presets:
            raise UserError(f"{name} has no --preset; leave it away")
        if name in ("h264", "hevc") and settings.preset not in PRESETS:
            raise UserError(
                f"{name} has no --preset {settings.preset}; there are {', '.join(PRESETS)}"
            )
        options[codec.presets] = settings.preset
    if container == "avi":
        options["bf"] = "0"  # AVI holds no times, so frames must lie in the order of showing
    return tuple(sorted(options.items()))


def _colours(info: VideoInfo, name: str, codec: Codec, pixel_format: str) -> Colours:
    colours = info.colours
    if name == "gif":
        return colours
    if pixel_formats.is_rgb(pixel_format):
        return dataclasses.replace(colours, matrix=0, range=FULL)
    if not is_yuv(info.pixel_format):
        colours = dataclasses.replace(colours, matrix=0, range=0)  # RGB, palette or grey
    colours = colours.for_yuv(info.width, info.height)
    if name == "mjpeg":
        return dataclasses.replace(colours, matrix=5, range=FULL)  # what JPEG means
    if name == "vp8":
        return dataclasses.replace(colours, matrix=6, range=LIMITED)  # all that VP8 knows
    if colours.range == FULL and not codec.full_range:
        return dataclasses.replace(colours, range=LIMITED)
    return colours


def _try(info: VideoInfo, encoding: Encoding) -> None:
    """Opens the encoder, so that a wrong preset is found before hours of work."""
    context = av.CodecContext.create(encoding.encoder, "w")
    configure(context, info, encoding)
    try:
        context.open()
    except (av.error.FFmpegError, OSError, ValueError) as error:
        preset = dict(encoding.options).get(CODECS[encoding.codec].presets)
        raise UserError(f"{encoding.encoder} refuses --preset {preset}; choose another") from error
