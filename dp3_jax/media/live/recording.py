"""Live frames encoded into a file or a stream (PyAV)."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.common.files import atomic_target
from dp3_jax.media.live.sources import without_password
from dp3_jax.media.video import encoding as encoders
from dp3_jax.media.video.colours import FromRgb
from dp3_jax.media.video.encoding import EncoderSettings, Encoding
from dp3_jax.media.video.probing import VideoInfo, plain_info

_TICK = Fraction(1, 1000)  # s: live frames come when they come
_FORMATS = {"rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp"}  # "mpegts" elsewhere
_CARRIED = ("h264", "hevc")  # what all of these can carry
_KEY_SECONDS = 2  # between the frames at which who joins a stream may begin
_TIMEOUT = 10.0  # s in which a stream must open


def _info(width: int, height: int, rate: float) -> VideoInfo:
    """What a live picture is like, in the words of a file."""
    rate = Fraction(rate).limit_denominator(1001)
    return plain_info(pathlib.Path("live"), width, height, rate, _TICK)


def _for_streams(chosen: Encoding, scheme: str) -> Encoding:
    """The encoding with nothing held back for later."""
    options = dict(chosen.options)
    if chosen.encoder == "libx264":
        options.pop("x264-params", None)
        options["tune"] = "zerolatency"
        options["g"] = str(max(1, round(_KEY_SECONDS * chosen.rate)))
    container = _FORMATS.get(scheme, "mpegts")
    if chosen.codec not in _CARRIED:
        raise UserError(
            f"a {scheme} stream carries {' or '.join(_CARRIED)}, not {chosen.codec}; choose another --codec"
        )
    return dataclasses.replace(chosen, container=container, options=tuple(sorted(options.items())))


class Recording:
    """A sink that encodes frames."""

    def __init__(
        self,
        target: str,
        container: av.container.OutputContainer,
        chosen: Encoding,
        info: VideoInfo,
    ):
        """Begins the stream in an open container; `target` is its name for people."""
        self.name = target
        self._container = container
        self._stream = container.add_stream(chosen.encoder, rate=chosen.rate)
        context = self._stream.codec_context
        encoders.configure(context, info, chosen)
        context.time_base = _TICK
        self._stream.time_base = _TICK
        self._convert = FromRgb(chosen.colours, *chosen.size, chosen.pixel_format)
        self._last = -1

    @property
    def begun(self) -> bool:
        """Whether there is any frame in it."""
        return self._last >= 0

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Encodes u8[h, w, 3], to be shown at a time, or right after the last one if that is later."""
        self._last = max(self._last + 1, round(seconds / _TICK))
        frame = self._convert(image)
        frame.pts, frame.time_base = self._last, _TICK
        self._mux(frame)

    def finish(self) -> None:
        """Encodes what the encoder has held back."""
        self._mux(None)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        with _told(self.name):
            self._container.mux(self._stream.encode(frame))


@contextlib.contextmanager
def record_file(
    target: str, width: int, height: int, rate: float, settings: EncoderSettings
) -> Iterator[Recording]:
    """A file, which gets its name when the block ends well.

    Raises:
      UserError: its ending, the codec or the place is impossible, or there was no frame.
    """
    info = _info(width, height, rate)
    chosen = encoders.choose_encoding(info, pathlib.Path(target).suffix, settings)
    with (
        atomic_target(target) as temporary,
        av.open(f"file:{temporary}", "w", format=chosen.container) as container,
    ):
        recording = Recording(target, container, chosen, info)
        yield recording
        if not recording.begun:
            raise UserError(f"no frame was shown, so {target} is not written")
        recording.finish()


@contextlib.contextmanager
def send_stream(
    address: str, width: int, height: int, rate: float, settings: EncoderSettings
) -> Iterator[Recording]:
    """A stream: rtmp://, rtsp://, or MPEG-TS over udp://, srt:// and tcp://.

    Raises:
      UserError: the other side does not answer, or the codec is impossible.
    """
    name = without_password(address)
    info = _info(width, height, rate)
    chosen = encoders.choose_encoding(info, ".mkv", settings)
    chosen = _for_streams(chosen, address.split(":", 1)[0].lower())
    with _told(name), av.open(address, "w", format=chosen.container, timeout=_TIMEOUT) as container:
        recording = Recording(name, container, chosen, info)
        container.start_encoding()  # connects
        yield recording
        recording.finish()


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """FFmpeg's complaints about a target as UserErrors."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        reason = without_password(error.strerror or str(error))
        raise UserError(
            f"cannot write to {name}: {reason}; check it, or choose another --to"
        ) from error
