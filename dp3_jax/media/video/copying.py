"""What goes into a new video beside its pictures: sound, and subtitles on request.

A copied stream keeps its packets, times, language and dispositions, and nothing else: its header is rebuilt
(`sound_headers`, `subtitle_text`), and side data of packets, names and tags stay behind. Sound of which the
source hides a part (`heard`), or whose header holds more than is known, is encoded anew.
"""

import dataclasses
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

import av

from dp3_jax.common.errors import UserError
from dp3_jax.media.video import audio_encoding, fonts, sound_headers
from dp3_jax.media.video import encoding as encoders
from dp3_jax.media.video.clocks import BROADCAST, PacketTimes
from dp3_jax.media.video.probing import codec_name, opened
from dp3_jax.media.video.subtitle_text import Subtitles, cue_settings

# Their streams, copied from a header that an AVI file had, would get the wrong times in another.
_WRONG_IN_AVI = ("aac", "ac3", "mp3")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-([A-Z]{2}|[0-9]{3}|[A-Z][a-z]{3}))?")
_FONTS = (
    "font/",
    "application/x-truetype-font",
    "application/vnd.ms-opentype",
    "application/x-font",
)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which streams beside the pictures are taken over; sound `anew`, where it could not be copied."""

    audio: bool = True
    subtitles: bool = False
    anew: bool = False


def start_shift(source: av.container.InputContainer) -> Fraction:
    """Seconds that are taken from all times."""
    if source.format.name.split(",", maxsplit=1)[0] in BROADCAST and source.start_time:
        return Fraction(source.start_time, av.time_base)
    return Fraction(0)


def check(path: str | os.PathLike, container: str, wanted: Wanted) -> None:
    """Looks, before hours of work, whether the streams of a file can be taken over.

    Raises:
      UserError: as of `Copies`.
    """
    with opened(path) as source, av.open(io.BytesIO(), "w", format=container) as output:
        Copies(output, source, container, wanted=wanted, hidden={})


class Copies:
    """The streams of one source in one output.

    Attributes:
      left_out: streams that are not taken over, in words.
      remarks: what was done to others, in words; complete after `rest`.
      shift: seconds taken from all times.
    """

    def __init__(
        self,
        output: av.container.OutputContainer,
        source: av.container.InputContainer,
        container: str,
        *,
        wanted: Wanted,
        hidden: Mapping[int, audio_encoding.Heard],
        jumps: Sequence[Fraction] = (),
    ):
        """Adds the streams to an output that is not yet begun.

        Args:
          output: where they go.
          source: where they are from.
          container: FFmpeg's name of the output's format.
          wanted: which of them.
          hidden: of sound, see `audio_encoding.scan`.
          jumps: see `clocks.Restarts`; of the pictures.

        Raises:
          UserError: sound can be neither copied nor encoded anew.
        """
        self.left_out: list[str] = []
        self.remarks: list[str] = []
        self.shift = start_shift(source)
        self._jumps = jumps
        self._output = output
        self._source = source
        self._container = container
        self._anew = wanted.anew
        self._lanes: dict[int, _Lane] = {}
        for stream in source.streams:
            name = f"{stream.type} (stream {stream.index})"
            if stream.type == "audio" and wanted.audio:
                self._add_sound(stream, hidden.get(stream.index, audio_encoding.Heard()))
            elif stream.type == "subtitle" and wanted.subtitles:
                self._add_subtitles(stream)
            elif stream.type == "attachment" and wanted.subtitles:
                self._add_font(stream)
            elif stream.type in ("audio", "attachment"):
                self.left_out.append(name)
            elif stream.type == "subtitle":
                self.left_out.append(f"{_described(stream)}; --subtitles copy keeps it")

    @property
    def streams(self) -> list[int]:
        """Numbers of the source's streams whose packets are wanted."""
        return list(self._lanes)

    def packets(self, packet: av.Packet) -> Iterator[tuple[av.Packet, av.stream.Stream]]:
        """Packets for the output, with the stream they belong to, of one of the source."""
        lane = self._lanes.get(packet.stream_index)
        if lane is None or (packet.size == 0 and packet.pts is None and packet.dts is None):
            return  # that marks the end
        for made in lane.take(packet):
            yield made, lane.stream

    def rest(self) -> Iterator[tuple[av.Packet, av.stream.Stream]]:
        """What comes after the last packet of the source."""
        for index, lane in self._lanes.items():
            for made in lane.finish():
                yield made, lane.stream
            if lane.times.repaired:
                self.remarks.append(
                    f"sound or subtitles (stream {index}): {lane.times.repaired} times were missing"
                    " or did not rise, and were repaired"
                )

    def _times(self, stream: av.stream.Stream) -> PacketTimes:
        sparse = stream.type == "subtitle"
        return PacketTimes(stream.time_base, self._source.format.name, self._jumps, sparse)

    def _add_sound(self, stream: av.audio.stream.AudioStream, hidden: audio_encoding.Heard) -> None:
        codec, reason = codec_name(stream), ""
        header = None
        if stream.codec_context is not None:
            header = sound_headers.clean(codec, stream.codec_context.extradata or b"")
        if codec == "aac" and header == b"":  # in a pipe its first frame may not have come yet
            header = sound_headers.from_frame(hidden.first)
        if not encoders.holds(self._container, codec):
            reason = f"{self._container} cannot hold {codec}"
        elif self._anew:
            reason = "its packets cannot be copied"
        elif header is None:
            reason = "its header is not known well enough to be copied"
        elif audio_encoding.is_cut(codec, hidden):
            reason = "part of it is cut away and never heard"
        if not reason:
            copy = _copy(self._output, stream, header)
            self._lanes[stream.index] = _Copied(copy, self._times(stream), stream, self.shift)
            return
        try:
            encoder = audio_encoding.Encoder(self._output, stream, hidden.end)
        except ValueError as error:
            raise UserError(
                f"cannot copy the {codec} sound (stream {stream.index}) safely: {reason};"
                " --audio drop leaves it out"
            ) from error
        _label(encoder.stream, stream)
        self._lanes[stream.index] = _Encoded(encoder, self._times(stream), self.shift)
        self.remarks.append(f"sound (stream {stream.index}) was encoded anew: {reason}")

    def _add_subtitles(self, stream: av.stream.Stream) -> None:
        codec = codec_name(stream)
        if not encoders.holds(self._container, codec):
            self.left_out.append(f"{_described(stream)}, which {self._container} cannot hold")
            return
        try:
            cleaner = Subtitles(codec, stream.codec_context.extradata or b"")
        except ValueError:
            self.left_out.append(f"{_described(stream)}, which may hold more than its text")
            return
        copy = _copy(self._output, stream, cleaner.header)
        self._lanes[stream.index] = _Text(copy, self._times(stream), cleaner, self.shift)

    def _add_font(self, stream: av.stream.Stream) -> None:
        is_font = (stream.mimetype or "").startswith(_FONTS) and self._container == "matroska"
        font = fonts.clean(stream.data) if is_font else None
        if font is None:
            self.left_out.append(f"attachment (stream {stream.index})")
            return
        content, ending = font
        self._output.add_attachment(f"font{stream.index}.{ending}", f"font/{ending}", content)


def _described(stream: av.stream.Stream) -> str:
    """A subtitle stream in words."""
    if codec_name(stream) == "eia_608":
        return f"captions (CEA-608, stream {stream.index})"
    return f"{stream.type} (stream {stream.index}, {codec_name(stream)})"


def _copy(
    output: av.container.OutputContainer, stream: av.stream.Stream, header: bytes
) -> av.stream.Stream:
    """A new stream like another, with another header."""
    codec = codec_name(stream)
    if output.format.name == "avi" and codec in _WRONG_IN_AVI:
        sound = stream.codec_context
        copy = output.add_stream(
            codec,
            rate=sound.sample_rate,
            layout=sound.layout.name,
            bit_rate=sound.bit_rate or 0,
        )
        copy.codec_context.open()  # which knows the size of its frames; its header is another
    else:
        copy = output.add_stream_from_template(stream, opaque=True)
    copy.codec_context.extradata = header or None
    _label(copy, stream)
    return copy


def _label(copy: av.stream.Stream, stream: av.stream.Stream) -> None:
    copy.disposition = stream.disposition
    if stream.language and _LANGUAGE.fullmatch(stream.language):
        copy.metadata["language"] = stream.language


class _Lane:
    """What becomes of the packets of one stream."""

    def __init__(self, stream: av.stream.Stream, times: PacketTimes, shift: Fraction):
        self.stream = stream
        self.times = times
        self.shift = shift

    def take(self, packet: av.Packet) -> Iterator[av.Packet]:
        """Of one packet of the source, what is written."""
        raise NotImplementedError

    def finish(self) -> Iterator[av.Packet]:
        """After the last."""
        return iter(())

    def _again(self, packet: av.Packet, content: bytes) -> Iterator[av.Packet]:
        """A packet with the times that it is to have, without anything but its content."""
        if not content:
            return
        times = self.times.fit(packet.pts, packet.dts, packet.duration or 0)
        if times is None:
            return
        offset = round(self.shift / packet.time_base)
        again = av.Packet(content)
        again.time_base = packet.time_base
        again.pts, again.dts = (time - offset for time in times)
        again.duration, again.is_keyframe = packet.duration or 0, packet.is_keyframe
        yield again


class _Copied(_Lane):
    """Sound."""

    def __init__(self, copy, times, stream: av.audio.stream.AudioStream, shift: Fraction):
        super().__init__(copy, times, shift)
        self._codec = codec_name(stream)
        self._rate = stream.codec_context.sample_rate or 1
        self._skip = 0  # samples still to come that are not heard
        self._discarded = 0

    def take(self, packet: av.Packet) -> Iterator[av.Packet]:
        if self._is_hidden(packet):
            return
        for again in self._again(packet, sound_headers.clean_packet(self._codec, bytes(packet))):
            if packet.has_sidedata("skip_samples"):
                again.set_sidedata(packet.get_sidedata("skip_samples"))
            yield again

    def _is_hidden(self, packet: av.Packet) -> bool:
        """Whether a packet is cut away, beyond an encoder's padding.

        Such sound is encoded anew (see `heard`); but what comes through a pipe is not known before.
        """
        samples = round((packet.duration or 0) * packet.time_base * self._rate)
        usual = audio_encoding.padding(self._codec)
        start, _ = audio_encoding.skipped(packet)
        if start > usual:
            self._skip = start
        if self._skip > 0:
            self._skip -= samples
            return True
        self._discarded += samples * packet.is_discard
        return packet.is_discard and self._discarded > usual


class _Encoded(_Lane):
    """Sound, encoded anew."""

    def __init__(self, encoder: audio_encoding.Encoder, times, shift: Fraction):
        super().__init__(encoder.stream, times, shift)
        self._encoder = encoder
        self._offset = -shift

    def take(self, packet: av.Packet) -> Iterator[av.Packet]:
        if packet.is_discard:  # of a time that is not shown, only for the decoder
            yield from self._encoder.feed(packet, self._offset)
            return
        times = self.times.fit(packet.pts, packet.dts, packet.duration or 0)
        if times is None:
            return
        if packet.dts is not None:
            self._offset = (times[1] - packet.dts) * packet.time_base - self.shift
        yield from self._encoder.feed(packet, self._offset)

    def finish(self) -> Iterator[av.Packet]:
        yield from self._encoder.feed(None, self._offset)


class _Text(_Lane):
    """Subtitles."""

    def __init__(self, stream, times, cleaner: Subtitles, shift: Fraction):
        super().__init__(stream, times, shift)
        self._cleaner = cleaner

    def take(self, packet: av.Packet) -> Iterator[av.Packet]:
        if codec_name(packet.stream) == "mov_text" and bytes(packet) == b"\0\0":
            return  # a pause between subtitles, which the muxer writes itself
        for again in self._again(packet, self._cleaner.packet(bytes(packet))):
            if packet.has_sidedata("webvtt_settings"):
                where = packet.get_sidedata("webvtt_settings")
                kept = cue_settings(bytes(where).decode("utf-8", "replace")).encode()
                where.update(kept.ljust(where.data_size))
                again.set_sidedata(where)
            yield again
