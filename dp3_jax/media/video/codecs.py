"""The codecs that can be written, with their encoders' settings."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Codec:
    """How to write one codec.

    Attributes:
      encoder: FFmpeg's software encoder.
      options: its settings.
      crf: the default quality; None where there is nothing to choose.
      worst: the largest number that `crf` may be.
      quantizer: the quality is a fixed quantizer (`-q:v`, from 1), not a constant rate factor.
      presets: the name of the option that trades speed for size; "" if there is none.
      full_range: full-range colours survive.
      chroma: the subsamplings it writes, the preferred one first.
      hardware: encoders to look for with `hardware`.
    """

    encoder: str
    options: dict[str, str]
    crf: float | None = None
    worst: int = 51
    quantizer: bool = False
    presets: str = ""
    full_range: bool = False
    chroma: tuple[str, ...] = ("yuv420p",)
    hardware: tuple[str, ...] = ()


PRESETS = (  # of x264 and x265
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
    "placebo",
)  # fmt: skip
_ALL_CHROMA = ("yuv420p", "yuv422p", "yuv444p")
_X264 = {"preset": "superfast", "x264-params": "mbtree=1:rc-lookahead=10:b-adapt=0"}
X264_ANY_WIDTH = "mbtree=0:b-adapt=0"
_X265 = {"preset": "ultrafast", "x265-params": "log-level=none:info=0:open-gop=0"}
_VPX = {"deadline": "realtime", "row-mt": "1", "lag-in-frames": "0"}
CODECS = {
    "h264": Codec(
        "libx264", _X264, 18, 51, False, "preset", True, _ALL_CHROMA,
        ("h264_nvenc", "h264_qsv", "h264_amf", "h264_videotoolbox", "h264_vaapi", "h264_v4l2m2m"),
    ),
    "hevc": Codec(
        "libx265", _X265, 20, 51, False, "preset", True, _ALL_CHROMA,
        ("hevc_nvenc", "hevc_qsv", "hevc_amf", "hevc_videotoolbox", "hevc_vaapi", "hevc_v4l2m2m"),
    ),
    "vp8": Codec("libvpx", {**_VPX, "cpu-used": "-8", "b": "20M"}, 10, 63, False, "cpu-used"),
    "vp9": Codec(
        "libvpx-vp9", {**_VPX, "cpu-used": "7", "b": "0"}, 24, 63, False, "cpu-used", True,
        _ALL_CHROMA, ("vp9_qsv",),
    ),
    "av1": Codec(
        "libsvtav1", {"preset": "9", "svtav1-params": "lp=2"}, 24, 63, False, "preset", True,
        ("yuv420p",), ("av1_nvenc", "av1_qsv", "av1_amf"),
    ),
    "mpeg4": Codec("mpeg4", {}, 2, 31, True),
    "mpeg2video": Codec("mpeg2video", {}, 2, 31, True, "", False, ("yuv420p", "yuv422p")),
    "mjpeg": Codec("mjpeg", {}, 2, 31, True, "", True, ("yuvj420p", "yuvj422p", "yuvj444p")),
    "prores": Codec("prores_ks", {}, None, 0, False, "", False, ("yuv422p10le", "yuv444p10le")),
    "ffv1": Codec("ffv1", {"level": "3"}, None, 0, False, "", True, _ALL_CHROMA),
    "qtrle": Codec("qtrle", {}, None, 0, False, "", True, ("rgb24",)),
    "png": Codec("png", {}, None, 0, False, "", True, ("rgb24",)),
    "gif": Codec("gif", {"global_palette": "0"}, None, 0, False, "", True, ("pal8",)),
}  # fmt: skip
