"""Reading video files: their frames, upright, with exact numbers and times (PyAV)."""

import functools
import os
import pathlib
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction

import av

from dp3_jax.media.names import is_pattern, is_video_name
from dp3_jax.media.video import alpha
from dp3_jax.media.video.canvas import Canvas
from dp3_jax.media.video.clocks import CorruptPackets, Restarts
from dp3_jax.media.video.frames import Frame, FrameReader
from dp3_jax.media.video.interlacing import progressive
from dp3_jax.media.video.probing import (
    StreamSummary,
    VideoInfo,
    codec_name,
    only_packets,
    open_video,
    opened,
    video_stream,
)
from dp3_jax.media.video.sequence_reading import SequenceReader
from dp3_jax.media.video.wholeness import is_whole

__all__ = [
    "Frame",
    "FrameReader",
    "Reader",
    "StreamSummary",
    "VideoInfo",
    "codec_name",
    "is_video_name",
    "open_video",
    "opened",
    "read_frames",
    "video_stream",
]

CAPTIONS = "captions inside the pictures (CEA-608 or 708)"
# Seconds, and share of the duration, by which sound may go on after the pictures of an undamaged file.
_FLASH = (
    16  # frames in the time of a usual one: what is said to be shorter follows from a wrong rate
)
_SLACK = (0.5, 0.1)


def has_captions(frame: av.VideoFrame) -> bool:
    """Whether a decoded frame carries television's closed captions, which a new picture has not."""
    return frame.side_data.get("A53_CC") is not None


class Clock:
    """The times of a clip's frames, repaired as `read_frames` says."""

    def __init__(self, info: VideoInfo):
        self._info = info
        self._step = max(1, round(1 / (info.rate * info.time_base)))
        self._first = 0  # or before
        self._last: int | None = None
        self._lasting = self._step
        self._restarts = Restarts(info.time_base, info.container)

    @property
    def jumps(self) -> list[Fraction]:
        """See `Restarts`; grows meanwhile."""
        return self._restarts.jumps

    def time(self, frame: av.VideoFrame) -> int:
        """When the next frame is shown, in ticks."""
        pts = frame.pts if frame.pts is not None else frame.dts
        if self._last is not None:
            expected = self._last + self._step
            pts = expected if pts is None else self._restarts.moved(pts, self._last, expected)
            pts = max(pts, self._last + 1)
        self._last = 0 if pts is None else pts
        self._first = min(self._first, self._last)
        self._lasting = self.lasting(frame) or self._step
        return self._last

    def lasting(self, frame: av.VideoFrame) -> int | None:
        """How many ticks a frame is shown; None if the file does not say, or nothing that can be."""
        return frame.duration if frame.duration and frame.duration * _FLASH > self._step else None

    def cut_off(self, is_whole: Callable[[float], bool]) -> str | None:
        """After the last frame: in words, that it came much before the end that the file promises.

        Args:
          is_whole: whether the file is there to its end, where it promises pictures, sound or text up to so
            many seconds, a little less than it does.
        """
        ticks = (self._last or 0) + self._lasting - self._first
        end = float(ticks * self._info.time_base)
        promised = self._info.duration_seconds or 0
        slack = max(_SLACK[0], _SLACK[1] * promised)
        if promised - end <= slack or is_whole(promised - slack):
            return None
        return f"{self._info.path} may be cut off: pictures for {end:.2f} of {promised:.2f} s"


class Reader(FrameReader):
    """The frames of a file.

    Attributes:
      info: what the file says of itself.
    """

    def __init__(
        self,
        info: VideoInfo,
        start: int,
        threads: bool,
        *,
        stored: bool = False,
        lazy: bool = False,
    ):
        self.info = info
        super().__init__(self._read(start, threads, stored=stored, lazy=lazy))

    def _read(self, start: int, threads: bool, *, stored: bool, lazy: bool) -> Generator[Frame]:
        canvas, clock = Canvas(self.info, stored), Clock(self.info)
        self.jumps = clock.jumps
        decoded = progressive(self._decode(threads), self.info.deinterlace)
        for number, frame in enumerate(decoded):
            pts = clock.time(frame)
            self.captions = self.captions or has_captions(frame)
            if number >= start:
                shown = (canvas.lazily(frame),) if lazy else canvas(frame)
                yield Frame(number, pts, clock.lasting(frame), *shown)
        self.damage = self.damage or clock.cut_off(functools.partial(is_whole, self.info.path))

    def _decode(self, threads: bool) -> Iterator[av.VideoFrame]:
        damaged, corrupt = 0, CorruptPackets()
        with opened(self.info.path) as container:
            stream = container.streams[self.info.stream]
            stream.thread_type = "AUTO" if threads else "NONE"
            packets, seen, decode = only_packets(container, stream), 0, alpha.decoding(stream)
            while True:
                try:
                    packet = next(packets, None)
                    if packet is None:
                        break
                    seen += packet.size > 0
                    corrupt.add(packet)
                    yield from decode(packet)
                except (av.error.FFmpegError, OSError):
                    damaged += 1
            promised = len(stream.index_entries) if stream.frames else 0
        damaged += corrupt.count
        if damaged:
            self.damage = f"{self.info.path} is damaged: {damaged} packets could not be read whole"
        elif seen < promised:
            self.damage = f"{self.info.path} is damaged: it ends after {seen} of {promised} frames"


def read_frames(
    source: str | os.PathLike | VideoInfo,
    start: int = 0,
    *,
    threads: bool = True,
    stored: bool = False,
    lazy: bool = False,
) -> FrameReader:
    """The frames of a video, upright RGB, numbered and timed.

    Every frame before `start` is decoded too, but not converted: that costs 1 to 2 ms per frame of
    1280x720, and no index or seek in a file is as sure to give the same numbers again. A missing time is
    filled in, and a time that is not above the one before is raised by a tick. Where the file is damaged
    the frames that can be decoded are given, and `FrameReader.damage` says so.

    Args:
      source: the file, what is known of it, or the pattern of numbered pictures (see
        `sequence_reading.SequenceReader`).
      start: number of the first frame to give.
      threads: decode several frames at once; without, frames come out with less delay.
      stored: give the stored pictures too.
      lazy: where that can be, give pictures that are converted where they are looked at; not with `stored`.

    Raises:
      UserError: see `open_video`.
    """
    path = source.path if isinstance(source, VideoInfo) else source
    if is_pattern(path):
        return SequenceReader(pathlib.Path(path), start)
    info = source if isinstance(source, VideoInfo) else open_video(path)
    return Reader(info, start, threads, stored=stored, lazy=lazy)
