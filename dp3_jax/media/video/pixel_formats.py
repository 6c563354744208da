"""In which pixel format a video is written: subsampling, bits, transparency, as far as the codec has them."""

import dataclasses
import functools

import av

from dp3_jax.common.errors import UserError
from dp3_jax.media.video.colours import is_yuv
from dp3_jax.media.video.levels import has_alpha
from dp3_jax.media.video.probing import VideoInfo
from dp3_jax.media.video.tones import is_hdr

_DEEP = (
    "hevc",
    "av1",
    "prores",
    "ffv1",
)  # write more than 8 bits; H.264 only if the source is such H.264
WITH_ALPHA = {  # the formats that hold transparency, the preferred one first
    "vp9": ("yuva420p", "yuva422p", "yuva444p"),
    "prores": ("yuva444p10le",),
    "qtrle": ("argb",),
    "png": ("rgba",),
    "ffv1": ("yuva420p", "yuva422p", "yuva444p"),
    "gif": ("pal8",),
}
ALPHA_CODECS = {
    "webm": "vp9",
    "mov": "prores",
    "matroska": "ffv1",
    "avi": "png",
}  # where the source's cannot


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What is kept of the source's pixels.

    Attributes:
      name: FFmpeg's pixel format.
      deep: more than 8 bits per component are.
      alpha: transparency is.
      remarks: what is not, in words.
    """

    name: str
    deep: bool
    alpha: bool
    remarks: tuple[str, ...] = ()


def holds_alpha(codec: str, container: str) -> bool:
    """Whether transparency can be written; VP9 has it beside the pictures, where only WebM has room."""
    return codec in WITH_ALPHA and (codec != "vp9" or container in ("webm", "matroska"))


def choose_pixel_format(
    info: VideoInfo, codec: str, encoder: str, container: str, chroma: tuple[str, ...]
) -> Chosen:
    """Decides the format for a codec.

    Args:
      info: of the source.
      codec, encoder: e.g. "h264" and "libx264".
      container: FFmpeg's name of the muxer.
      chroma: 8-bit formats that the encoder takes, the preferred one first.

    Raises:
      UserError: HDR, which the codec has too few bits for.
    """
    deep = info.bit_depth > 8 and (codec in _DEEP or codec == info.codec == "h264")
    if is_hdr(info.colours.transfer) and info.bit_depth > 8 and not deep:
        raise UserError(
            f"{info.path} is HDR, for which {codec} has too few bits here; choose {_deeper(container)}"
        )
    alpha = info.has_alpha and holds_alpha(codec, container)
    remarks = []
    if info.has_alpha and not alpha:
        remarks.append(
            f"what is transparent is laid over black, as {codec} in {container} has no transparency; to keep "
            "it, choose a name that ends in .webm or .mov"
        )
    if info.bit_depth > 8 and not deep:
        remarks.append(
            f"written with 8 bits of {info.bit_depth}; to keep 10, choose {_deeper(container)}"
        )
    name = _name(info, codec, encoder, chroma, deep=deep, alpha=alpha)
    return Chosen(name, deep, alpha, tuple(remarks))


def _deeper(container: str) -> str:
    """What to choose for more than 8 bits."""
    if container == "webm":
        return "--codec av1"
    if container in ("mp4", "mov", "matroska"):
        return "--codec hevc or --codec av1"
    return "a name that ends in .mp4 and --codec hevc"


def _name(
    info: VideoInfo, codec: str, encoder: str, chroma: tuple[str, ...], *, deep: bool, alpha: bool
) -> str:
    source = info.pixel_format
    if (deep or alpha) and source in formats_of(encoder) and has_alpha(source) == alpha:
        return source
    name = _like(info, codec, WITH_ALPHA[codec] if alpha else chroma)
    if deep and not name.endswith("le") and f"{name}10le" in formats_of(encoder):
        return f"{name}10le"
    return name


def _like(info: VideoInfo, codec: str, names: tuple[str, ...]) -> str:
    """The one of the source's subsampling, if there is one."""
    for sampling in ("444", "422"):
        if sampling in info.pixel_format:
            wanted = [name for name in names if sampling in name]
            if wanted:
                return wanted[0]
    if codec in ("h264", "hevc") and (info.width % 2 or info.height % 2):
        return next(name for name in names if "444" in name)
    return names[0]


@functools.lru_cache(maxsize=32)
def formats_of(encoder: str) -> frozenset[str]:
    """The pixel formats that an encoder takes."""
    return frozenset(known.name for known in av.codec.Codec(encoder, "w").video_formats or ())


def is_rgb(name: str) -> bool:
    """Whether a pixel format holds R, G and B, and not what is made of them."""
    return not is_yuv(name) and not name.startswith(("pal8", "gray", "ya"))
