"""Both ends of a video that is read and written once, as it comes: files, or standard input and output."""

import contextlib
import dataclasses
import io
import itertools
import os
import pathlib
import select
import sys
from collections.abc import Generator, Iterator
from typing import Any

import av

from dp3_jax.common.errors import UserError
from dp3_jax.common.files import atomic_target
from dp3_jax.media.video import alpha, audio_encoding, probing, rates, wholeness
from dp3_jax.media.video.canvas import Canvas
from dp3_jax.media.video.clocks import CorruptPackets
from dp3_jax.media.video.interlacing import progressive, to_deinterlace
from dp3_jax.media.video.probing import VideoInfo
from dp3_jax.media.video.reading import Clock, Frame, has_captions

PIPE = "-"
STANDARD_INPUT = "standard input"  # its name for people

_USUAL_RATE = 120  # frames per second that a header is believed
_POLL = 0.2  # s between two looks whether reading is to end


class _Input(io.RawIOBase):
    """Standard input where it cannot be searched; ends when `stopped` is set.

    Attributes:
      head: the first bytes.
      count: of all bytes that came.
    """

    def __init__(self):
        super().__init__()
        self._descriptor = sys.stdin.fileno()
        self.head = b""
        self.count = 0
        self.stopped = False

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """What has come, up to `size` bytes; b"" at the end."""
        while not self.stopped:
            if select.select([self._descriptor], [], [], _POLL)[0]:
                data = os.read(self._descriptor, size if size > 0 else io.DEFAULT_BUFFER_SIZE)
                self.head += data[: wholeness.HEAD - len(self.head)]
                self.count += len(data)
                return data
        return b""


class _Output:
    """Standard output, for PyAV.

    Attributes:
      error: why it could not be written, which PyAV keeps to itself.
    """

    def __init__(self):
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Writes all of it."""
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(sys.stdout.fileno(), left) :]
        except OSError as error:
            self.error = error
            raise
        return len(data)


class Source:
    """An open video that is read once, in its own order.

    Attributes:
      container: for what its headers say of other streams.
      info: of the video.
      hidden: of the sound, see `audio_encoding.scan`.
      damage: after the last of `items`, what could not be read, in words; empty if all could.
      jumps: see `clocks.Restarts`; grows meanwhile.
      stored: give the stored pictures too, as `reading.read_frames`; to be set before `items`.
      captions: after the last of `items`, whether there were some inside the pictures.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        name: pathlib.Path,
        file: _Input | None = None,
        *,
        deinterlace: bool = False,
    ):
        """Reads up to the first frame.

        Args:
          container: just opened.
          name: for people.
          file: what the container reads, if it is to be stopped.
          deinterlace: as of `probing.open_video`.

        Raises:
          UserError: as `probing.open_video`.
        """
        self.container = container
        self.damage = ""
        self._file = file
        self._damaged = 0
        self._corrupt = CorruptPackets()
        self._stream = probing.video_stream(container, name)
        self._stream.thread_type = "AUTO"
        self._items = self._read()
        self._early: list[av.VideoFrame | av.Packet] = []
        frames = self._first_frames(name)
        which = to_deinterlace(frames[0], deinterlace, name)
        self.info: VideoInfo = dataclasses.replace(
            probing.describe(name, container, self._stream, frames[0], [f.pts for f in frames]),
            deinterlace=which,
        )
        packets = [early for early in self._early if isinstance(early, av.Packet)]
        in_file = file is None and str(name) != STANDARD_INPUT
        self.hidden = (
            audio_encoding.scan(name)
            if in_file
            else audio_encoding.of_beginning(container, packets)
        )
        self._clock = Clock(self.info)
        self.jumps = self._clock.jumps
        self.captions = False
        self.stored = False
        self._reached = 0.0  # s, up to which there is sound or text

    def _first_frames(self, name: pathlib.Path) -> list[av.VideoFrame]:
        """The first frame; with those after it where the header's rate is no usual one."""
        stated = self._stream.average_rate or self._stream.guessed_rate
        wanted = 1 if stated and stated <= _USUAL_RATE else rates.MEASURED
        frames: list[av.VideoFrame] = []
        for item in self._items:
            self._early.append(item)
            if isinstance(item, av.VideoFrame):
                frames.append(item)
            if len(frames) == wanted:
                return frames
        if not frames:
            raise UserError(f"cannot decode {name}: no frame in it; it may be damaged or encrypted")
        return frames

    def _read(self) -> Iterator[av.VideoFrame | av.Packet]:
        """Frames of the video, and packets of all streams that may be copied."""
        streams = [self._stream]
        for stream in self.container.streams:
            if stream.type in ("audio", "subtitle"):
                streams.append(stream)
            elif stream is not self._stream:
                stream.discard = av.stream.Discard.all
        packets, decode = self.container.demux(streams), alpha.decoding(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                # Not `packet.stream_index`: in the marks of the ends of all streams that is 0.
                if packet.stream.index == self._stream.index:
                    self._corrupt.add(packet)
                    yield from decode(packet)
                else:
                    yield packet
            except (av.error.FFmpegError, OSError):
                self._damaged += 1

    def items(self) -> Generator[Frame | av.Packet]:
        """Frames as `reading.read_frames` gives them, and packets of the other streams as they come."""
        info = self.info
        canvas, clock = Canvas(info, self.stored), self._clock
        number = 0
        early, self._early = self._early, []
        for item in progressive(itertools.chain(early, self._items), info.deinterlace):
            if isinstance(item, av.Packet):
                self._reached = max(self._reached, wholeness.end_of(item))
                yield item
                continue
            pts = clock.time(item)
            self.captions = self.captions or has_captions(item)
            yield Frame(number, pts, clock.lasting(item), *canvas(item))
            number += 1
        self.damage = clock.cut_off(self._is_whole) or ""
        if damaged := self._damaged + self._corrupt.count:
            self.damage = f"{info.path} is damaged: {damaged} packets could not be read whole"

    def _is_whole(self, seconds: float) -> bool:
        if self._file is None and self.info.path.is_file():
            return wholeness.is_whole(self.info.path, seconds)
        size = None if self._file is None else wholeness.matroska_size(self._file.head)
        return self._reached >= seconds if size is None else self._file.count >= size

    def stop(self) -> None:
        """Lets reading end, also where it waits for input that may never come."""
        if self._file is not None:
            self._file.stopped = True


@contextlib.contextmanager
def opened_source(path: pathlib.Path, deinterlace: bool = False) -> Iterator[Source]:
    """A video file, or standard input for "-"; `deinterlace`: as of `probing.open_video`.

    Raises:
      UserError: as `probing.open_video`, or it cannot be read in order.
    """
    if str(path) != PIPE:
        with probing.opened(path) as container:
            yield Source(container, path, deinterlace=deinterlace)
        return
    name = pathlib.Path(STANDARD_INPUT)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(sys.stdin.fileno(), "rb", buffering=0, closefd=False))
        piped = None if file.seekable() else _Input()
        try:
            container = stack.enter_context(probing.opened_input(piped or file, name))
            source = Source(container, name, piped, deinterlace=deinterlace)
        except UserError as error:
            if piped is not None and not piped.head:
                raise UserError(
                    "nothing came on standard input; does what feeds it fail?"
                ) from error
            if piped is None or b"ftyp" not in piped.head:
                raise
            raise UserError(
                "this MP4 cannot be read from a pipe, as its index is at its end: give the file's name, "
                "or first move it: ffmpeg -i IN -c copy -movflags +faststart OUT"
            ) from error
        yield source


@contextlib.contextmanager
def opened_target(path: pathlib.Path) -> Iterator[Any]:
    """What PyAV is to write to: a file that gets its name at the end, or standard output for "-".

    Raises:
      UserError: what the block wrote there was refused.
    """
    if str(path) != PIPE:
        with atomic_target(path) as temporary:
            try:
                yield f"file:{temporary}"
            except (av.error.FFmpegError, OSError) as error:
                raise UserError(f"cannot write {path}: {_reason(error)}") from error
        return
    output = _Output()
    try:
        yield output
    except (av.error.FFmpegError, OSError) as error:
        if isinstance(output.error, BrokenPipeError):
            raise UserError(
                "nobody reads standard output any more; it got the beginning"
            ) from error
        reason = _reason(output.error or error)
        raise UserError(f"cannot write to standard output: {reason}") from error


def _reason(error: OSError) -> str:
    return " ".join(str(error.strerror or error).split())
