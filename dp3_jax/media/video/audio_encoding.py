"""What is heard of a sound stream, and encoding that anew.

A file may hold sound that no player plays: an edit list (MP4, QuickTime) or a delay (Matroska) cuts it away,
as phones do when their owner trims a recording. The packets are still there, and copied into another
container they would be heard. Nearly every compressed sound has a little of that in front, which its
decoder needs to get started.
"""

import dataclasses
import itertools
import os
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import numpy as np

from dp3_jax.media.video import encoding as encoders
from dp3_jax.media.video.probing import codec_name, opened

# Samples that encoders put in front and behind, of a frame's size and more; with less the sound is copied.
_PADDING = {
    "aac": 5200,
    "opus": 3840,
    "mp3": 2400,
    "mp2": 1700,
    "vorbis": 4096,
    "ac3": 1536,
    "eac3": 1536,
}
_ENCODERS = {"mp3": "libmp3lame", "opus": "libopus"}
_INSTEAD = {"webm": "libopus", "avi": "libmp3lame"}  # "aac" elsewhere
_MIN_BIT_RATE = 64000  # bits per second and channel, where the source does not say
_SLACK = 0.04  # s: sound that comes so much late or early is joined; else silence or a cut makes up for it
_SKIPPED = struct.Struct("<II")  # samples at the start and the end of a packet that are not heard


@dataclasses.dataclass
class Heard:
    """What of one sound stream is not heard.

    Attributes:
      hidden: samples that are there and that no player plays.
      end: seconds at which it ends, where it is cut before its last sample; None elsewhere.
      first: the first packet; b"" if it is not known yet.
    """

    hidden: int = 0
    end: Fraction | None = None
    first: bytes = b""


def padding(codec: str) -> int:
    """Samples that an encoder may put before and behind the sound, and that nobody needs to hide."""
    return _PADDING.get(codec, 1152)


def is_cut(codec: str, heard: Heard) -> bool:
    """Whether more is hidden than an encoder's padding."""
    return heard.hidden > padding(codec)


def skipped(packet: av.Packet) -> tuple[int, int]:
    """Samples at the start and the end of a packet that are not heard, as its container says."""
    if not packet.has_sidedata("skip_samples"):
        return 0, 0
    return _SKIPPED.unpack(bytes(packet.get_sidedata("skip_samples"))[: _SKIPPED.size])


def scan(path: str | os.PathLike) -> dict[int, Heard]:
    """Reads all sound packets of a file, without decoding them; by the number of the stream.

    Raises:
      UserError: it cannot be opened.
    """
    with opened(path) as source:
        streams = [stream for stream in source.streams.audio if stream.codec_context is not None]
        for stream in source.streams:
            if stream not in streams:
                stream.discard = av.stream.Discard.all
        sums = {stream.index: _Sum(stream) for stream in streams}
        try:
            for packet in source.demux(streams) if streams else ():
                if packet.stream_index in sums:  # it is 0 in the mark of any stream's end
                    sums[packet.stream_index].add(packet)
        except av.error.FFmpegError:
            pass  # the rest of a damaged source, which is not copied either
        found = {index: total.heard() for index, total in sums.items()}
        edited = source.format.name.startswith("mov")
    return _with_ends(path, found, sums) if edited else found


def of_beginning(
    source: av.container.InputContainer, packets: Iterable[av.Packet]
) -> dict[int, Heard]:
    """As `scan`, of what cannot be read twice: from its index, if that came first, and its first packets."""
    sums = {
        stream.index: _Sum(stream)
        for stream in source.streams.audio
        if stream.codec_context is not None
    }
    for index, total in sums.items():
        entries = list(source.streams[index].index_entries)
        for entry, following in itertools.pairwise(entries):
            total.count(following.timestamp - entry.timestamp, entry.is_discard)
    for packet in packets:
        if packet.stream_index in sums:
            sums[packet.stream_index].skip(packet)
    return {index: total.heard() for index, total in sums.items()}


class _Sum:
    """Adds up one stream."""

    def __init__(self, stream: av.audio.stream.AudioStream):
        self._stream = stream
        self._discarded = 0  # ticks
        self._skipped = 0
        self.shown = 0  # ticks
        self._first = b""

    def add(self, packet: av.Packet) -> None:
        self.skip(packet)
        self.count(packet.duration or 0, packet.is_discard)

    def skip(self, packet: av.Packet) -> None:
        self._first = self._first or bytes(packet)
        self._skipped += sum(skipped(packet))

    def count(self, duration: int, is_discard: bool) -> None:
        """Adds a packet of so many ticks."""
        if is_discard:
            self._discarded += duration
        else:
            self.shown += duration

    def heard(self) -> Heard:
        rate = self._stream.codec_context.sample_rate or 1
        discarded = round(self._discarded * self._stream.time_base * rate)
        return Heard(max(discarded, self._skipped), first=self._first)


def _with_ends(
    path: str | os.PathLike, found: dict[int, Heard], sums: dict[int, _Sum]
) -> dict[int, Heard]:
    """Also what an edit list cuts off at the end, whose packets are read only if it is ignored."""
    with opened(path, {"ignore_editlist": "1"}) as whole, opened(path) as edited:
        for index, heard in found.items():
            stream, shown = whole.streams[index], edited.streams[index]
            entries = stream.index_entries
            if len(entries) < 2 or not shown.duration:
                continue
            rate = stream.codec_context.sample_rate or 1
            # Up to the last packet, which may be shorter than others.
            rest = entries[-1].timestamp - entries[0].timestamp - sums[index].shown
            rest = round(rest * stream.time_base * rate)
            if rest > heard.hidden:
                end = ((shown.start_time or 0) + shown.duration) * shown.time_base
                found[index] = dataclasses.replace(heard, hidden=rest, end=end)
    return found


class Encoder:
    """Encodes what is heard of a stream into a new one of the output, at the times it is heard.

    Attributes:
      stream: of the output.
    """

    def __init__(
        self,
        output: av.container.OutputContainer,
        source: av.audio.stream.AudioStream,
        end: Fraction | None = None,
    ):
        """Adds the stream.

        Args:
          output: not yet begun.
          source: the stream; in its own codec if that can be written, else in one that the container holds.
          end: seconds, by the source's times, after which nothing is heard.

        Raises:
          ValueError: nothing here decodes or encodes it.
        """
        container = output.format.name.split(",", maxsplit=1)[0]
        name, rate, layout, bit_rate = _writable(source, container)
        self.stream = output.add_stream(name, rate=rate, layout=layout, bit_rate=bit_rate)
        self._context = self.stream.codec_context
        self._decoder = source.codec_context
        self._end = None if end is None else round(end * rate)
        self._to_float = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        self._rate = rate
        self._next: int | None = None  # sample that comes next, counted from time 0

    @property
    def codec(self) -> str:
        """FFmpeg's name of what is written."""
        return self._context.codec.canonical_name

    def feed(self, packet: av.Packet | None, offset: Fraction) -> Iterator[av.Packet]:
        """Packets for the output.

        Args:
          packet: of the source with its own times; None after the last.
          offset: seconds added to them.
        """
        self._context.open(strict=False)
        try:
            frames = self._decoder.decode(packet)
        except av.error.FFmpegError:
            frames = []  # a damaged packet: silence takes its place
        for frame in frames:
            ticks = frame.dts if frame.pts is None else frame.pts
            time = None if ticks is None else ticks * frame.time_base
            for part in self._to_float.resample(frame):
                yield from self._add(part.to_ndarray(), time, offset)
                time = None  # the rest of a frame follows its beginning
        if packet is None:
            yield from self._context.encode(None)

    def _add(
        self, samples: np.ndarray, time: Fraction | None, offset: Fraction
    ) -> Iterator[av.Packet]:
        """Encodes f32[channels, n], which begin at `time`, or where the ones before end."""
        start = self._next if time is None else round((time + offset) * self._rate)
        if self._next is None:
            self._next = start or 0
        late = 0 if start is None else start - self._next
        if late > _SLACK * self._rate:
            yield from self._silence(late)
        elif late < -_SLACK * self._rate:
            samples = samples[:, -late:]
        if self._end is not None:
            samples = samples[:, : max(0, self._end + round(offset * self._rate) - self._next)]
        yield from self._encode(samples)

    def _silence(self, count: int) -> Iterator[av.Packet]:
        """As many samples, a second at a time."""
        channels = len(self._context.layout.channels)
        while count > 0:
            yield from self._encode(np.zeros((channels, min(count, self._rate)), np.float32))
            count -= self._rate

    def _encode(self, samples: np.ndarray) -> Iterator[av.Packet]:
        if not samples.shape[1]:
            return
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format="fltp", layout=self._context.layout.name
        )
        frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
        frame.pts = self._next
        self._next += samples.shape[1]
        yield from self._context.encode(frame)


def _writable(
    source: av.audio.stream.AudioStream, container: str
) -> tuple[str, int, str, int | None]:
    """Encoder, rate, layout and bit rate for a stream in a container.

    Raises:
      ValueError: there is none.
    """
    given, codec = source.codec_context, codec_name(source)
    if given is None or not given.sample_rate:
        raise ValueError(codec)
    names = [_INSTEAD.get(container, "aac")]
    if encoders.holds(container, codec):
        names.insert(0, _ENCODERS.get(codec, codec))
    for name in names:
        for layout in (given.layout.name, "stereo"):
            rate = _rate(name, given.sample_rate)
            if rate and _opens(name, rate, layout):
                return name, rate, layout, _bit_rate(source, given.layout.nb_channels)
    raise ValueError(codec)


def _rate(name: str, wanted: int) -> int | None:
    """The rate that an encoder writes for another; None: there is no such encoder."""
    if name not in av.codecs_available:
        return None
    try:
        rates = av.Codec(name, "w").audio_rates
    except ValueError:
        return None
    return wanted if not rates or wanted in rates else 48000


def _opens(name: str, rate: int, layout: str) -> bool:
    context = av.CodecContext.create(name, "w")
    try:
        context.sample_rate, context.layout = rate, layout
        context.time_base = Fraction(1, rate)
        if formats := context.codec.audio_formats:
            context.format = formats[0]
        context.open()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _bit_rate(source: av.audio.stream.AudioStream, channels: int) -> int:
    return max(source.codec_context.bit_rate or 0, _MIN_BIT_RATE * channels)
