"""Any frame of a video by its number, quickly.

Numbers are those of `reading.read_frames`, to which tracks refer. Where the file's packets say which frame is
shown when, a frame is sought; where they do not (times missing or given twice, clocks that start again,
interlaced or transparent pictures), all frames before it are decoded, which gives the same numbers but takes
longer.
"""

import bisect
import contextlib
import functools
import pathlib
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.media import image_sequences
from dp3_jax.media.photos import read_photo
from dp3_jax.media.video import reading
from dp3_jax.media.video.canvas import Canvas
from dp3_jax.media.video.clocks import BROADCAST
from dp3_jax.media.video.probing import VideoInfo, opened
from dp3_jax.media.video.sequence_reading import shown
from dp3_jax.media.video.sequence_writing import open_sequence
from dp3_jax.review.caches import ByteCache

Picture = Callable[[], np.ndarray]  # a decoded frame, converted when it is called

_AHEAD = 40  # frames that are rather decoded than sought
_BEFORE = 3  # frames before the wanted one that are converted too: one may step back
_MAX_CACHED = 192 << 20  # bytes of frames that are kept


class FrameAccess:
    """The frames of one file; may be asked from several threads."""

    def __init__(self, path: pathlib.Path, frames: int | None = None):
        """Opens a video.

        Args:
          path: of the file.
          frames: how many its tracks are of; where the packets say otherwise, frames are counted by decoding.
            None: not known.

        Raises:
          UserError: it cannot be read.
        """
        self.info = reading.open_video(path)
        self._times, self._keys = _index(self.info)
        if frames is not None and len(self._times) != frames:
            self._times = []
        self._numbers = {pts: number for number, pts in enumerate(self._times)}
        self.frames = (
            frames if frames is not None else len(self._times) or self.info.frames_estimate
        )
        self._canvas = Canvas(self.info)
        self._lock = threading.Lock()
        self._cache = ByteCache(_MAX_CACHED)
        self._next = 0  # number of the frame that `_decoded` gives next
        self._decoded: Iterator[Picture] | None = None

    def frame(self, number: int) -> np.ndarray:
        """u8[h, w, 3] RGB, upright, in square pixels.

        Raises:
          UserError: the file has no such frame, or it cannot be decoded.
        """
        found = self._cache.get(number)
        if found is not None:
            return found
        with self._lock:
            found = self._cache.get(number)
            return self._read(number) if found is None else found

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._decoded is not None:
            self._decoded.close()
        self._decoded = None

    def _read(self, number: int) -> np.ndarray:
        """Decodes on to a frame; from the start where the packets turn out to have said something wrong."""
        trusted = bool(self._times)
        try:
            image = self._decode_to(number)
            if image is None and trusted and not self._times:
                image = self._decode_to(number)
        except (av.error.FFmpegError, OSError) as error:
            self._stop()
            raise UserError(f"{self.info.path}: cannot decode frame {number}: {error}") from error
        if image is None:
            raise UserError(f"{self.info.path} has no frame {number}")
        return image

    def _decode_to(self, number: int) -> np.ndarray | None:
        """Decodes from where the decoder is, or from the key frame before; None: the frames end before."""
        if self._decoded is None or not self._is_near(number):
            self._stop()
            start = self._key_before(number)
            self._decoded, self._next = self._sought(start) if start else self._from_start(number)
        for convert in self._decoded:
            self._next += 1
            if self._next + _BEFORE <= number:
                continue
            image = convert()
            self._cache.put(self._next - 1, image, image.nbytes)
            if self._next > number:
                return image
        self._stop()
        return None

    def _is_near(self, number: int) -> bool:
        return 0 <= number - self._next <= _AHEAD or (
            number >= self._next and self._key_before(number) <= self._next
        )

    def _key_before(self, number: int) -> int:
        """Number of the last frame from which this one can be decoded; 0 where that is not known."""
        if number >= len(self._times):
            return 0
        place = bisect.bisect_right(self._keys, self._times[number])
        return self._numbers[self._keys[place - 1]] if place else 0

    def _from_start(self, number: int) -> tuple[Iterator[Picture], int]:
        """All frames, from shortly before the wanted one."""
        start = max(0, number - _BEFORE)
        return self._images(reading.read_frames(self.info, start, lazy=True)), start

    @staticmethod
    def _images(frames: reading.FrameReader) -> Iterator[Picture]:
        with frames:
            for frame in frames:
                yield functools.partial(np.asarray, frame.image)

    def _sought(self, start: int) -> tuple[Iterator[Picture], int]:
        return self._from_key(self._times[start], start), start

    def _from_key(self, pts: int, number: int) -> Iterator[Picture]:
        """The frames from a key frame on; ends where one has not the time that it should have."""
        with opened(self.info.path) as container:
            stream = container.streams[self.info.stream]
            stream.thread_type = "AUTO"
            container.seek(pts, stream=stream)
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts < pts:
                    continue
                if self._numbers.get(frame.pts) != number:
                    self._times, self._numbers = [], {}  # not as the packets said: never seek again
                    return
                yield functools.partial(self._converted, frame)
                number += 1

    def _converted(self, frame: av.VideoFrame) -> np.ndarray:
        return self._canvas(frame)[0]


class PictureAccess:
    """As `FrameAccess`, of numbered pictures, each of which is read by itself."""

    def __init__(self, pattern: pathlib.Path, rate: Fraction):
        """Finds the pictures; raises UserError where one is missing or the first cannot be read."""
        self.info = open_sequence(pattern, rate)
        self._pictures = image_sequences.files_of(pattern)
        self.frames = len(self._pictures)
        self._cache = ByteCache(_MAX_CACHED)

    def frame(self, number: int) -> np.ndarray:
        """As `FrameAccess.frame`."""
        if not 0 <= number < self.frames:
            raise UserError(f"{self.info.path} has no frame {number}")
        found = self._cache.get(number)
        if found is None:
            found = shown(read_photo(self._pictures[number]))
            self._cache.put(number, found, found.nbytes)
        return found

    def close(self) -> None:
        """There is nothing to close."""


def _index(info: VideoInfo) -> tuple[list[int], list[int]]:
    """The times of all frames, rising, and of key frames, in ticks; empty where they cannot be relied on."""
    plain = not (info.has_alpha or info.deinterlace)
    if not plain or info.container.split(",", maxsplit=1)[0] in BROADCAST:
        return [], []
    times, keys = [], []
    with contextlib.suppress(av.error.FFmpegError, OSError), opened(info.path) as container:
        for packet in container.demux(container.streams[info.stream]):
            if packet.size:
                if packet.pts is None or packet.is_corrupt or packet.is_discard:
                    return [], []
                times.append(packet.pts)
                keys += [packet.pts] if packet.is_keyframe else []
    if len(set(times)) != len(times):
        return [], []
    return sorted(times), sorted(keys)
