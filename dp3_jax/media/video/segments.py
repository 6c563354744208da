"""Encoded pieces of a video, the unit in which a long job is resumed.

A segment file holds the packets of one closed group of frames and, at its end, their exact times, so that
half a file cannot be taken for a whole one and nothing is rounded to some container's tick:

    b"dp3 segment 1\\n", the packets, JSON (see `Segment`), the JSON's length (u64, little-endian), b"end\\n"
"""

import abc
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import struct
from collections.abc import Iterator
from typing import Self

import av
import numpy as np
from av.filter import Graph

from dp3_jax.common.errors import UserError
from dp3_jax.common.files import atomic_target
from dp3_jax.media.video import encoding as encoders
from dp3_jax.media.video.encoding import Encoding
from dp3_jax.media.video.levels import has_alpha
from dp3_jax.media.video.probing import VideoInfo

SEGMENT_SUFFIX = ".segment"

_MAGIC = b"dp3 segment 1\n"
_TAIL = struct.Struct("<Q4s")
_END = b"end\n"


@dataclasses.dataclass(frozen=True)
class Segment:
    """What the end of a segment file says.

    Attributes:
      path: the file.
      extradata: the codec's headers.
      packets: (bytes, pts, duration, is_keyframe) of each, in decoding order; times in ticks of the source.
      wrapped: the packets are in a Matroska file of so many bytes, as more than their bytes belongs to them:
        VP9's transparency lies beside them. 0 if they are not.
    """

    path: pathlib.Path
    extradata: bytes
    packets: tuple[tuple[int, int, int, bool], ...]
    wrapped: int = 0

    @property
    def first(self) -> int:
        """When the first frame is shown, in ticks."""
        return min(pts for _, pts, _, _ in self.packets)

    def payloads(self) -> Iterator[bytes]:
        """The packets, in decoding order."""
        with open(self.path, "rb") as file:
            file.seek(len(_MAGIC))
            for size, *_ in self.packets:
                yield file.read(size)

    def encoded(self) -> Iterator[av.Packet | bytes]:
        """The same, as packets where they are wrapped."""
        if not self.wrapped:
            yield from self.payloads()
            return
        with open(self.path, "rb") as file:
            file.seek(len(_MAGIC))
            content = io.BytesIO(file.read(self.wrapped))
        with av.open(content, format="matroska") as container:
            yield from (packet for packet in container.demux(video=0) if packet.size)


def read_segment(path: str | os.PathLike) -> Segment:
    """Reads the end of a segment file.

    Raises:
      UserError: it is not there, or not a whole segment.
    """
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as file:
            magic = file.read(len(_MAGIC))
            length, end = _TAIL.unpack(_last(file, _TAIL.size))
            if magic != _MAGIC or end != _END:
                raise ValueError("no magic")
            index = json.loads(_last(file, length + _TAIL.size)[: -_TAIL.size])
        packets = tuple(tuple(packet) for packet in index["packets"])
        wrapped = index.get("wrapped", 0)
        return Segment(path, bytes.fromhex(index["extradata"]), packets, wrapped)
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise UserError(f"{path} is not a whole segment of a video; render it again") from error


def _last(file, size: int) -> bytes:
    file.seek(-size, os.SEEK_END)
    return file.read(size)


class PacketWriter(abc.ABC):
    """Writes one segment file, packet by packet; a context manager.

    The file appears under its name when the block ends well, and not at all when it raises.
    """

    def __init__(self, path: str | os.PathLike):
        """Opens the file.

        Raises:
          UserError: it cannot be written.
        """
        self._stack = contextlib.ExitStack()
        temporary = self._stack.enter_context(atomic_target(path))
        self._file = self._stack.enter_context(temporary.open("wb"))
        self._file.write(_MAGIC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            extradata, packets = self._index()
            index = {"extradata": extradata.hex(), "packets": packets, "wrapped": self._wrapped()}
            content = json.dumps(index, separators=(",", ":")).encode()
            self._file.write(content + _TAIL.pack(len(content), _END))

    def _add(self, packet: bytes | av.Packet) -> None:
        """Writes the next packet."""
        self._file.write(packet)

    def _wrapped(self) -> int:
        """Writes the packets if they had to be collected; see `Segment`."""
        return 0

    @abc.abstractmethod
    def _index(self) -> tuple[bytes, list[tuple[int, int, int, bool]]]:
        """Writes the last packets; what `Segment` says of all: extradata and packets."""


class SegmentWriter(PacketWriter):
    """Encodes upright RGB frames into one segment file."""

    def __init__(self, path: str | os.PathLike, info: VideoInfo, encoding: Encoding):
        """Opens the encoder.

        Args:
          path: of the segment file.
          info: of the source.
          encoding: from `encoding.choose_encoding`.

        Raises:
          UserError: the encoder refuses its settings, or the file cannot be written.
        """
        self._info = info
        self._encoding = encoding
        self._times: list[tuple[int, int | None]] = []
        self._packets: list[tuple[int, int, bool]] = []  # size, number of the frame, is keyframe
        size = encoding.size
        self._graph = None
        if encoding.pixel_format == "pal8":
            self._graph = _palette_graph(*size, "rgba" if encoding.keeps_stored else "rgb24")
        self._convert = encoders.converter(info, encoding)
        self._stored = encoders.stored_levels(info).dtype
        self._context = av.CodecContext.create(encoding.encoder, "w")
        encoders.configure(self._context, info, encoding)
        try:
            self._context.open()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise UserError(
                f"{encoding.encoder} cannot encode {size[0]}x{size[1]} {encoding.pixel_format}:"
                f" {error}; choose another --codec"
            ) from error
        self._wrapper: tuple[io.BytesIO, av.container.OutputContainer] | None = None
        if encoding.codec == "vp9" and has_alpha(encoding.pixel_format):
            self._wrapper = _wrapper(info, encoding)
        super().__init__(path)

    def write(self, image: np.ndarray, pts: int, duration: int | None = None) -> None:
        """Encodes one frame.

        Args:
          image: u8[h, w, 3], RGB, upright, in the size of the encoding; where that keeps what is stored,
            components as `canvas.Canvas.merged` gives them.
          pts: when it is shown, in ticks of `info.time_base`; above the one before.
          duration: ticks; None: until the next frame.
        """
        fits = image.shape[1::-1] == self._encoding.size
        plain = image.shape[2] == 3 and image.dtype == np.uint8
        if not fits or not (image.dtype == self._stored if self._encoding.keeps_stored else plain):
            raise ValueError(f"a frame of {image.dtype}{list(image.shape)} does not fit the video")
        if self._times and pts <= self._times[-1][0]:
            raise ValueError(f"the time {pts} is not above {self._times[-1][0]}")
        frame = self._convert(image)
        if self._graph:
            self._graph.push(frame)
            frame = self._graph.pull()
        frame.pts = len(self._times)
        frame.time_base = 1 / self._encoding.rate
        self._times.append((pts, duration))
        self._store(self._context.encode(frame))

    def _store(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            number = round(packet.pts * packet.time_base * self._encoding.rate)
            self._packets.append((packet.size, number, packet.is_keyframe))
            if self._wrapper is None:
                self._add(packet)
            else:
                packet.stream = self._wrapper[1].streams[0]
                self._wrapper[1].mux_one(packet)

    def _index(self) -> tuple[bytes, list[tuple[int, int, int, bool]]]:
        if not self._times:
            raise ValueError("a segment without frames")
        self._store(self._context.encode(None))
        if sorted(number for _, number, _ in self._packets) != list(range(len(self._times))):
            raise RuntimeError(f"{self._encoding.encoder} lost or doubled frames")
        packets = [
            (size, self._times[number][0], self._duration(number), key)
            for size, number, key in self._packets
        ]
        return self._context.extradata or b"", packets

    def _wrapped(self) -> int:
        if self._wrapper is None:
            return 0
        content, container = self._wrapper
        container.close()
        self._file.write(content.getbuffer())
        return len(content.getbuffer())

    def _duration(self, number: int) -> int:
        pts, duration = self._times[number]
        if duration is not None:
            return duration
        if number + 1 < len(self._times):
            return self._times[number + 1][0] - pts
        return max(1, round(1 / (self._info.rate * self._info.time_base)))


def _wrapper(
    info: VideoInfo, encoding: Encoding
) -> tuple[io.BytesIO, av.container.OutputContainer]:
    """A Matroska file in memory for one stream of packets."""
    content = io.BytesIO()
    container = av.open(content, "w", format="matroska")
    stream = container.add_stream(encoding.encoder, rate=encoding.rate)
    encoders.configure(stream.codec_context, info, encoding)
    return content, container


def _palette_graph(width: int, height: int, pixel_format: str) -> Graph:
    """Gives each RGB frame a palette of its own, with error diffusion."""
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=pixel_format, time_base="1/25")
    nodes = {
        "split": graph.add("split"),
        "generate": graph.add("palettegen", stats_mode="single"),
        "use": graph.add("paletteuse", new="1", dither="sierra2_4a"),
        "sink": graph.add("buffersink"),
    }
    source.link_to(nodes["split"])
    nodes["split"].link_to(nodes["generate"], 0, 0)
    nodes["split"].link_to(nodes["use"], 1, 0)
    nodes["generate"].link_to(nodes["use"], 0, 1)
    nodes["use"].link_to(nodes["sink"])
    graph.configure()
    return graph
