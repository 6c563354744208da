"""Where live frames come from: a camera, a stream, a file or pictures at their own rate, or raw frames."""

import dataclasses
import io
import itertools
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction

import av
import cv2
import numpy as np

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.common.opencv import quiet_opencv
from dp3_jax.media import image_sequences
from dp3_jax.media.video import probing, reading, sequence_writing
from dp3_jax.media.video.canvas import Canvas

_TIMEOUT = 10.0  # s in which a stream must open, and then give its next packet
_USUAL_RATE = 120  # frames per second that a stream is believed
_MEASURED = 8  # frames by whose times other rates are checked
_RATE = 30.0  # frames a second, of cameras that do not say
# Not "nobuffer", which throws the frames away that the format is told from, the first key frame among them.
_LOW_DELAY = {"rtsp_transport": "tcp", "flags": "low_delay", "analyzeduration": "1000000"}
_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """A live frame.

    Attributes:
      number: in the order of the source, from 0.
      seconds: when it is shown, since the first one.
      image: u8[h, w, 3] RGB, upright.
      arrived: when it came out of the source decoded, as `time.perf_counter` counts.
    """

    number: int
    seconds: float
    image: np.ndarray
    arrived: float = dataclasses.field(default_factory=time.perf_counter)


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """An open source.

    Attributes:
      name: for people; without passwords.
      width, height: of all its frames, px.
      rate: frames a second, about.
      frames: to be read once, by one thread; closes the source at its end.
    """

    name: str
    width: int
    height: int
    rate: float
    frames: Generator[Frame]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is asked of a source.

    Attributes:
      size: (width, height) in px: of raw frames, or asked of a camera; None if it is to choose.
      rate: frames a second, in the same way, or of numbered pictures.
      paced: give the frames of a file at its own rate, not as fast as possible.
    """

    size: tuple[int, int] | None = None
    rate: float | None = None
    paced: bool = True


def is_address(text: str) -> bool:
    """Whether it is the address of a stream, such as rtsp://host/path."""
    return re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE) is not None


def without_password(address: str) -> str:
    """The address as it may be shown."""
    return _CREDENTIALS.sub("", address)


def open_source(text: str, wanted: Wanted, wait: Callable[[float], object] = time.sleep) -> Source:
    """Opens what the user named: a camera's number, "-", an address, a file, or numbered pictures.

    Args:
      text: as on the command line.
      wanted: what is asked of it.
      wait: called with the seconds until the next frame of a file is due.

    Raises:
      UserError: it cannot be opened, or `wanted` lacks something.
    """
    if text == "-":
        return _pipe(wanted)
    if text.isdecimal() or text.startswith("/dev/video"):
        return _camera(text, wanted)
    if is_address(text):
        return _stream(text)
    return _file(text, wanted, wait)


def pace(
    frames: Iterable[tuple[float, np.ndarray]],
    wait: Callable[[float], object],
    clock: Callable[[], float] = time.perf_counter,
) -> Generator[Frame]:
    """Gives (seconds, image) pairs as frames, each not before its time after the first.

    One that comes late is given at once, and does not make the later ones late.
    """
    start: float | None = None
    for number, (seconds, image) in enumerate(frames):
        if start is None:
            start = clock() - seconds
        left = start + seconds - clock()
        if left > 0:
            wait(left)
        yield Frame(number, seconds, image)


def _unpaced(frames: Iterable[tuple[float, np.ndarray]]) -> Generator[Frame]:
    for number, (seconds, image) in enumerate(frames):
        yield Frame(number, seconds, image)


def _file(text: str, wanted: Wanted, wait: Callable[[float], object]) -> Source:
    reader = reading.read_frames(text)
    if isinstance(reader, reading.Reader):
        info = reader.info
    else:
        rate = Fraction(wanted.rate or image_sequences.RATE).limit_denominator(1001)
        info = sequence_writing.open_sequence(pathlib.Path(text), rate)

    def timed() -> Iterator[tuple[float, np.ndarray]]:
        with reader:
            first = None
            for frame in reader:
                first = frame.pts if first is None else first
                yield float((frame.pts - first) * info.time_base), frame.image
        if reader.damage:
            raise UserError(f"{reader.damage}; what could be read was shown")

    frames = pace(timed(), wait) if wanted.paced else _unpaced(timed())
    return Source(text, *info.canvas_size, float(info.rate), frames)


def _stream(address: str) -> Source:
    name = without_password(address)
    try:
        container = av.open(address, options=_LOW_DELAY, timeout=_TIMEOUT)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"cannot open the stream {name}: {_reason(error)}") from error
    try:
        stream = reading.video_stream(container, name)
        # Threads for whole frames would each hold one back.
        stream.thread_type = "SLICE"
        decoded = container.decode(stream)
        stated = stream.average_rate or stream.guessed_rate
        few = 1 if stated and stated <= _USUAL_RATE else _MEASURED
        early = list(itertools.islice(decoded, few))
        if not early:
            raise UserError(f"the stream {name} ends before its first picture")
    except (av.error.FFmpegError, OSError) as error:
        container.close()
        raise UserError(f"the stream {name} gives no picture: {_reason(error)}") from error
    except BaseException:
        container.close()
        raise
    times = [frame.pts for frame in early]
    info = probing.describe(pathlib.Path(name), container, stream, early[0], times)
    canvas = Canvas(info)

    def frames() -> Generator[Frame]:
        start = time.perf_counter()
        with container:
            try:
                for number, frame in enumerate(itertools.chain(early, decoded)):
                    yield Frame(number, time.perf_counter() - start, canvas(frame)[0])
            except (av.error.FFmpegError, OSError) as error:
                raise UserError(f"the stream {name} broke off: {_reason(error)}") from error

    rate = float(info.average_rate or _RATE)
    return Source(name, *info.canvas_size, rate if 0 < rate <= 240 else _RATE, frames())


def _camera(text: str, wanted: Wanted) -> Source:
    with quiet_opencv():
        capture = cv2.VideoCapture(int(text) if text.isdecimal() else text)
    if not capture.isOpened():
        raise UserError(f"there is no camera {text}, or it is in use; `ls /dev/video*` lists them")
    if wanted.size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.size[1])
    if wanted.rate is not None:
        capture.set(cv2.CAP_PROP_FPS, wanted.rate)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    there, first = capture.read()
    if not there:
        capture.release()
        raise UserError(f"camera {text} gives no picture; is another program using it?")
    height, width = first.shape[:2]

    def frames() -> Generator[Frame]:
        try:
            start, number, bgr = time.perf_counter(), 0, first
            while bgr is not None:
                if bgr.shape[:2] != (height, width):
                    raise UserError(f"camera {text} changed the size of its picture; start again")
                image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
                yield Frame(number, time.perf_counter() - start, image)
                number += 1
                bgr = capture.read()[1]
        finally:
            capture.release()

    rate = capture.get(cv2.CAP_PROP_FPS)
    return Source(f"camera {text}", width, height, rate if 0 < rate <= 240 else _RATE, frames())


def _pipe(wanted: Wanted) -> Source:
    if wanted.size is None or wanted.rate is None:
        raise UserError("raw frames on standard input need --size WxH and --fps N")
    width, height = wanted.size
    rate = wanted.rate
    # Not sys.stdin: its lock, held by a thread that waits for input, would keep the program from ending.
    raw = io.FileIO(os.dup(files.standard(sys.stdin, "standard input").fileno()))

    def frames() -> Generator[Frame]:
        with raw:
            number = 0
            while (image := _read_raw(raw, height, width)) is not None:
                yield Frame(number, number / rate, image)
                number += 1

    return Source("standard input", width, height, rate, frames())


def _read_raw(raw: io.RawIOBase, height: int, width: int) -> np.ndarray | None:
    """The next rgb24 frame, u8[height, width, 3]; None at the end, also in the middle of a frame."""
    image = np.empty((height, width, 3), np.uint8)
    left = memoryview(image).cast("B")
    while left:
        count = raw.readinto(left)
        if not count:
            return None
        left = left[count:]
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, av.error.ExitError):  # what FFmpeg says when it has waited too long
        return f"no answer for {_TIMEOUT:.0f} s"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return without_password(" ".join(str(text).split()))
