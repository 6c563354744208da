"""Reading video files: their frames, upright, with exact numbers and times (PyAV)."""

import dataclasses
import os
import pathlib
from collections.abc import Generator, Iterator
from typing import Self

import av
import cv2
import numpy as np

from dp3_jax.video.colours import ToRgb
from dp3_jax.video.names import is_pattern, is_video_name
from dp3_jax.video.probing import (
    StreamSummary,
    VideoInfo,
    codec_name,
    only_packets,
    open_video,
    opened,
    video_stream,
)

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

# Seconds, and share of the duration, by which sound may go on after the pictures of an undamaged file.
_SLACK = (0.5, 0.1)
_TURNS = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """A frame as it is shown.

    Attributes:
      number: in the order of showing, from 0.
      pts: when it is shown, in ticks of the stream's `time_base`; strictly rising.
      duration: ticks; None if the file does not say.
      image: u8[height, width, 3], RGB, upright.
    """

    number: int
    pts: int
    duration: int | None
    image: np.ndarray


def upright(image: np.ndarray, rotation: int, mirrored: bool) -> np.ndarray:
    """The picture as shown (see `VideoInfo`), contiguous."""
    if mirrored:
        image = cv2.flip(image, 1)
    return cv2.rotate(image, _TURNS[rotation]) if rotation else image


class Clock:
    """The times of a clip's frames, repaired as `read_frames` says."""

    def __init__(self, info: VideoInfo):
        self._info = info
        self._step = max(1, round(1 / (info.rate * info.time_base)))
        self._last: int | None = None

    def time(self, frame: av.VideoFrame) -> int:
        """When the next frame is shown, in ticks."""
        pts = frame.pts if frame.pts is not None else frame.dts
        if self._last is not None:
            pts = self._last + self._step if pts is None else max(pts, self._last + 1)
        self._last = 0 if pts is None else pts
        return self._last

    def cut_off(self) -> str | None:
        """After the last frame: in words, that it came much before the end that the file promises."""
        end = float(((self._last or 0) + self._step) * self._info.time_base)
        promised = self._info.duration_seconds or 0
        if promised - end <= max(_SLACK[0], _SLACK[1] * promised):
            return None
        return f"{self._info.path} may be cut off: pictures for {end:.2f} of {promised:.2f} s"


class FrameReader(Iterator[Frame]):
    """The frames of a video in order, as a context manager; see `read_frames`.

    Attributes:
      damage: None, or in words what could not be read; final once the iteration has ended.
    """

    def __init__(self, frames: Generator[Frame]):
        self.damage: str | None = None
        self._frames = frames

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Closes what is read; also happens at the end of the iteration."""
        self._frames.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Reader(FrameReader):
    """The frames of a file.

    Attributes:
      info: what the file says of itself.
    """

    def __init__(self, path: str | os.PathLike, start: int, threads: bool):
        self.info = open_video(path)
        super().__init__(self._read(start, threads))

    def _read(self, start: int, threads: bool) -> Generator[Frame]:
        info = self.info
        to_rgb, clock = ToRgb(info.colours, info.coded_width, info.coded_height), Clock(info)
        for number, frame in enumerate(self._decode(threads)):
            pts = clock.time(frame)
            if number >= start:
                image = upright(to_rgb(frame), info.rotation, info.mirrored)
                yield Frame(number, pts, frame.duration or None, image)
        self.damage = self.damage or clock.cut_off()

    def _decode(self, threads: bool) -> Iterator[av.VideoFrame]:
        damaged = 0
        with opened(self.info.path) as container:
            stream = container.streams[self.info.stream]
            stream.thread_type = "AUTO" if threads else "NONE"
            packets, seen = only_packets(container, stream), 0
            while True:
                try:
                    packet = next(packets, None)
                    if packet is None:
                        break
                    seen += packet.size > 0
                    damaged += packet.is_corrupt
                    yield from packet.decode()
                except (av.error.FFmpegError, OSError):
                    damaged += 1
            promised = len(stream.index_entries) if stream.frames else 0
        if damaged:
            self.damage = f"{self.info.path} is damaged: {damaged} packets could not be read whole"
        elif seen < promised:
            self.damage = f"{self.info.path} is damaged: it ends after {seen} of {promised} frames"


def read_frames(path: str | os.PathLike, start: int = 0, *, threads: bool = True) -> FrameReader:
    """The frames of a video, upright RGB, numbered and timed.

    Every frame before `start` is decoded too, but not converted: that costs 1 to 2 ms per frame of
    1280x720, and no index or seek in a file is as sure to give the same numbers again. A missing time is
    filled in, and a time that is not above the one before is raised by a tick. Where the file is damaged
    the frames that can be decoded are given, and `FrameReader.damage` says so.

    Args:
      path: the file, or the pattern of numbered pictures (see `pictures.SequenceReader`).
      start: number of the first frame to give.
      threads: decode several frames at once; without, frames come out with less delay.

    Raises:
      UserError: see `open_video`.
    """
    if is_pattern(path):
        from dp3_jax.video.pictures import SequenceReader  # which takes `Frame` from here

        return SequenceReader(pathlib.Path(path), start)
    return Reader(path, start, threads)
