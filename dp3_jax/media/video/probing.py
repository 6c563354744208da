"""What is in a video file: opening it, and checking what it says of itself (PyAV)."""

import contextlib
import dataclasses
import io
import os
import pathlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.media.video import alpha, mastering, rates
from dp3_jax.media.video.colours import Colours
from dp3_jax.media.video.interlacing import to_deinterlace
from dp3_jax.media.video.mastering import Mastering

_MAX_ASPECT = 8  # width of a pixel by its height, or the inverse; more is nonsense
_SQUARE = 0.01  # by which it may differ from 1 where nobody sees it
_FASTEST = 1000  # frames per second; higher rates in a header are nonsense
# Of FFmpeg's formats: text, play lists and pictures, which it "recognizes" in nearly anything.
_NOT_VIDEO = ("tty", "hls", "concat", "image2", "lrc", "srt", "ass", "webvtt", "subviewer")


@dataclasses.dataclass(frozen=True)
class StreamSummary:
    """A stream beside the video: its number in the file, what it is, codec, language (may be "")."""

    index: int
    kind: str  # "audio" | "subtitle"
    codec: str
    language: str


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself, checked by decoding its first frame.

    Attributes:
      path: the file.
      container: FFmpeg's name of the format, e.g. "mov,mp4,m4a,3gp,3g2,mj2".
      codec: of the video, e.g. "h264".
      stream: number of the video stream in the file.
      width, height: px of the picture shown, after rotation.
      coded_width, coded_height: px before rotation.
      rotation: degrees clockwise by which players turn the stored picture: 0, 90, 180 or 270.
      mirrored: the stored picture is flipped left to right before it is turned.
      time_base: seconds per tick; the unit of all `pts` and durations.
      average_rate: frames per second, by the header or the first frames' times; None if unknown.
      frames_estimate: number of frames by the header, or by duration and rate; None if unknown.
      duration_seconds: of the video stream, else of the file; None if unknown.
      pixel_format: FFmpeg's name, e.g. "yuv420p10le".
      sample_aspect_ratio: width of a pixel by its height as shown (after rotation); None if unknown.
      colours: the tags.
      bit_depth: bits per component. More than 8 are rounded to 8 in `Frame.image`.
      bit_rate: bits per second of the video stream; None if unknown.
      audio, subtitles: the other streams that are copied.
      left_out: what a copy will lack, in words: cover art, further video streams, data streams.
      has_alpha: the pictures can be transparent.
      mastering: of HDR10, see there.
      deinterlace: which frames are deinterlaced when they are read, see `interlacing.Deinterlacer`.
      squared: they are stretched to square pixels, as the others' aspect cannot be told where they go.
      flattened: their transparency is laid over black, as there is no room for it where they go.
    """

    path: pathlib.Path
    container: str
    codec: str
    stream: int
    width: int
    height: int
    coded_width: int
    coded_height: int
    rotation: int
    mirrored: bool
    time_base: Fraction
    average_rate: Fraction | None
    frames_estimate: int | None
    duration_seconds: float | None
    pixel_format: str
    sample_aspect_ratio: Fraction | None
    colours: Colours
    bit_depth: int
    bit_rate: int | None
    audio: tuple[StreamSummary, ...]
    subtitles: tuple[StreamSummary, ...]
    left_out: tuple[str, ...]
    has_alpha: bool = False
    mastering: Mastering = Mastering()  # noqa: RUF009 - immutable
    deinterlace: str = ""
    squared: bool = False
    flattened: bool = False

    @property
    def canvas_size(self) -> tuple[int, int]:
        """(width, height) in px of the upright picture in square pixels, never smaller than the stored one.

        Faces are found and drawn there (see `canvas.Canvas`); boxes and tracks count its pixels.
        """
        aspect = self.sample_aspect_ratio or 1
        if not 1 / Fraction(_MAX_ASPECT) <= aspect <= _MAX_ASPECT or abs(aspect - 1) < _SQUARE:
            return self.width, self.height
        if aspect > 1:
            return round(self.width * aspect), self.height
        return self.width, round(self.height / aspect)

    @property
    def rate(self) -> Fraction:
        """Frames per second, 25 where the file does not say."""
        return self.average_rate or Fraction(25)


def plain_info(
    path: pathlib.Path, width: int, height: int, rate: Fraction, time_base: Fraction, **known: Any
) -> VideoInfo:
    """Of pictures that are in no video file: little more is known than their size, and how many a second.

    Args:
      path, width, height, time_base: as of VideoInfo.
      rate: frames per second.
      known: other attributes of VideoInfo; by default upright pictures of 8 bits without any tags.
    """
    unknown = {
        "container": "",
        "codec": "",
        "stream": 0,
        "coded_width": width,
        "coded_height": height,
        "rotation": 0,
        "mirrored": False,
        "frames_estimate": None,
        "duration_seconds": None,
        "pixel_format": "yuv420p",
        "sample_aspect_ratio": None,
        "colours": Colours(),
        "bit_depth": 8,
        "bit_rate": None,
        "audio": (),
        "subtitles": (),
        "left_out": (),
        "has_alpha": False,
    }
    given = {"path": path, "width": width, "height": height, "time_base": time_base}
    return VideoInfo(**given, average_rate=rate, **(unknown | known))


@contextlib.contextmanager
def opened(
    path: str | os.PathLike, options: dict[str, str] | None = None
) -> Iterator[av.container.InputContainer]:
    """A container for reading; FFmpeg's complaints about the file become UserErrors.

    Args:
      path: the file.
      options: of FFmpeg's demuxer.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; give one video")
    if not path.is_file():
        raise UserError(f"there is no file {path}; check the path")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty; is the copy complete?")
    # "file:" keeps FFmpeg from reading a protocol or a pattern into the name.
    with opened_input(f"file:{path}", path, options) as container:
        yield container


@contextlib.contextmanager
def opened_input(
    file: str | io.RawIOBase, path: str | os.PathLike, options: dict[str, str] | None = None
) -> Iterator[av.container.InputContainer]:
    """As `opened`, from what FFmpeg or PyAV can open; `path` is its name for people."""
    try:
        container = av.open(
            file,
            metadata_errors="replace",
            # Nothing from the network.
            container_options={"protocol_whitelist": "file", **(options or {})},
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UserError(
            f"cannot read {path} as a video: {_reason(error)}; it may be cut off, or something else"
        ) from error
    with container:
        name = container.format.name.split(",")[0]
        if name in _NOT_VIDEO or name.endswith("_pipe"):  # of single pictures
            raise UserError(f"{path} is not a video, it looks like {container.format.name}")
        yield container


def video_stream(
    container: av.container.InputContainer, path: str | os.PathLike
) -> av.video.stream.VideoStream:
    """The stream to show: the default one that is not cover art, or a thumbnail.

    Raises:
      UserError: there is none, or nothing here decodes it.
    """
    streams = [s for s in container.streams.video if not is_still(s)]
    if not streams:
        has = "only audio" if container.streams.audio else "no video"
        raise UserError(f"{path} holds {has}; choose a file with moving pictures")
    stream = max(streams, key=lambda s: bool(s.disposition & av.stream.Disposition.default))
    if stream.codec_context is None:
        raise UserError(f"{path} is in a video format that FFmpeg cannot decode; convert it first")
    return stream


def is_still(stream: av.stream.Stream) -> bool:
    """Whether a video stream is cover art or a strip of thumbnails."""
    kinds = av.stream.Disposition
    return bool(stream.disposition & (kinds.attached_pic | kinds.timed_thumbnails))


def open_video(path: str | os.PathLike, deinterlace: bool = False) -> VideoInfo:
    """Reads the headers and decodes one frame.

    Interlaced video is refused unless it is to be deinterlaced, which `reading.read_frames` then does.

    Raises:
      UserError: no such file, not a video, no frame in it, interlaced, or in a format unknown to FFmpeg.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        times: list[int | None] = []
        frame = _first_frame(container, stream, path, times)
        which = to_deinterlace(frame, deinterlace, path)
        info = describe(pathlib.Path(path), container, stream, frame, times)
        return dataclasses.replace(info, deinterlace=which)


def _first_frame(
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    path: object,
    times: list[int | None],
) -> av.VideoFrame:
    """The first frame; the times of the first packets are added to `times`."""
    problem, first, decode = "no frame in it", None, alpha.decoding(stream)
    packets = only_packets(container, stream)
    while first is None or len(times) < rates.MEASURED:
        try:
            packet = next(packets)
            times.append(packet.pts)
            frames = [] if first is not None else decode(packet)
        except StopIteration:
            break
        except (av.error.FFmpegError, OSError) as error:
            if first is not None:
                break
            problem = _reason(error)
            continue
        if frames:
            first = frames[0]
    if first is None:
        raise UserError(f"cannot decode {path}: {problem}; it may be damaged or encrypted")
    return first


def only_packets(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> Iterator[av.Packet]:
    """The packets of one stream; the others are skipped while reading."""
    for other in container.streams:
        if other is not stream:
            other.discard = av.stream.Discard.all
    return container.demux(stream)


def describe(
    path: pathlib.Path,
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    frame: av.VideoFrame,
    times: Sequence[int | None] = (),
) -> VideoInfo:
    """What the headers of an open container and the first frame of its video stream say.

    `times`: of the first frames, in ticks, to check the header's rate with.
    """
    colours = Colours(
        int(frame.colorspace),
        int(frame.color_primaries),
        int(frame.color_trc),
        2 if frame.format.name.startswith("yuvj") else int(frame.color_range),
    )
    colours.check(str(path))
    rotation, mirrored = orientation(frame)
    turned = rotation in (90, 270)
    aspect = stream.sample_aspect_ratio or None
    rate = stream.average_rate or stream.guessed_rate
    rate = rate if rate and 0 < rate <= _FASTEST else None
    rate = rates.believed(rate, rates.measured(times, stream.time_base))
    duration = stream.duration and float(stream.duration * stream.time_base)
    if not duration and container.duration:
        duration = container.duration / av.time_base
    estimate = stream.frames or (round(duration * rate) if duration and rate else None)
    return VideoInfo(
        path=path,
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        stream=stream.index,
        width=frame.height if turned else frame.width,
        height=frame.width if turned else frame.height,
        coded_width=frame.width,
        coded_height=frame.height,
        rotation=rotation,
        mirrored=mirrored,
        time_base=stream.time_base,
        average_rate=rate,
        frames_estimate=estimate,
        duration_seconds=duration or None,
        pixel_format=frame.format.name,
        sample_aspect_ratio=1 / aspect if aspect and turned else aspect,
        colours=colours,
        bit_depth=max(component.bits for component in frame.format.components),
        bit_rate=stream.bit_rate,
        audio=_summaries(container.streams.audio),
        subtitles=_summaries(container.streams.subtitles),
        left_out=_left_out(container, stream),
        has_alpha=alpha.is_transparent(stream, frame),
        mastering=mastering.of(frame),
    )


def _summaries(streams: tuple[av.stream.Stream, ...]) -> tuple[StreamSummary, ...]:
    return tuple(
        StreamSummary(s.index, s.type, codec_name(s), s.metadata.get("language", ""))
        for s in streams
    )


def codec_name(stream: av.stream.Stream) -> str:
    """FFmpeg's name of a stream's codec, "unknown" if it has no decoder for it."""
    return stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"


def _left_out(
    container: av.container.InputContainer, video: av.video.stream.VideoStream
) -> tuple[str, ...]:
    found = []
    for stream in container.streams:
        # Sound that nothing here decodes has no name, not even None.
        if getattr(stream, "name", None) == "bin_data" and container.chapters():
            continue  # QuickTime's track of chapters, which are kept
        if stream.type == "video" and stream.index != video.index:
            what = "cover art" if is_still(stream) else "a second video stream"
            found.append(f"{what} (stream {stream.index})")
        elif stream.type not in ("video", "audio", "subtitle", "attachment"):
            found.append(f"{stream.type} (stream {stream.index})")
    return tuple(found)


def orientation(frame: av.VideoFrame) -> tuple[int, bool]:
    """(degrees clockwise, mirrored first) from the frame's display matrix, to the nearest 90 degrees."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 0, False
    # Nine numbers of 32 bits; (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(np.float64)
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    degrees = np.degrees(np.arctan2(b - c, a + d))
    return int(round(degrees / 90) * 90) % 360, bool(mirrored)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
