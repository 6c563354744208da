"""From encoded segments and the source's sound to the final file, without encoding anything again."""

import contextlib
import dataclasses
import heapq
import os
import pathlib
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
from PIL import Image

from dp3_jax.anonymization import marking
from dp3_jax.errors import UserError
from dp3_jax.files import atomic_target
from dp3_jax.video import encoding as encoders
from dp3_jax.video import reading
from dp3_jax.video.encoding import Encoding
from dp3_jax.video.reading import VideoInfo
from dp3_jax.video.segments import SEGMENT_SUFFIX, Segment, SegmentWriter, read_segment

__all__ = ["SEGMENT_SUFFIX", "SegmentWriter", "assemble"]

# Of the file's metadata, and only with `keep_metadata`: what took the video and when, as for photos. Titles,
# comments, names, places and serial numbers never.
_SAFE = ("creation_time", "make", "model")
_APPLE = "com.apple.quicktime."
_FONTS = (
    "font/",
    "application/x-truetype-font",
    "application/vnd.ms-opentype",
    "application/x-font",
)
_GIF_HEADER = 13  # bytes: signature and screen descriptor; there is no palette for all frames
# Their streams, copied from a header that an AVI file had, would get the wrong times in another.
_WRONG_IN_AVI = ("mp3", "ac3")
_START_ANYWHERE = ("mpegts", "mpeg")  # containers whose times are of a broadcast, not of the file


def assemble(
    target: str | os.PathLike,
    info: VideoInfo,
    encoding: Encoding,
    segments: Sequence[str | os.PathLike],
    *,
    source: str | os.PathLike | None,
    audio: str = "copy",
    keep_metadata: bool = False,
    mark: bool = False,
) -> tuple[str, ...]:
    """Writes the final video, atomically and streaming (memory does not grow with the length).

    Frames are shown at the source's times, upright, with its pixel aspect and colour tags. Sound, subtitles
    and fonts are copied packet by packet with their times, languages and dispositions; chapters keep their
    times and titles. Cover art, thumbnails, data, further video streams and all other metadata (place,
    device, dates, names) are left out.

    Args:
      target: the file; its container is `encoding`'s.
      info: of the source.
      encoding: with which the segments were written.
      segments: files of `SegmentWriter`, in order.
      source: where sound, subtitles and chapters come from; None: from nowhere.
      audio: "copy" or "drop".
      keep_metadata: keep when and with what the video was taken.
      mark: say in the file that parts of it were generated (see `marking`).

    Returns:
      What was left out, in words.

    Raises:
      UserError: the container cannot hold the sound, a segment is damaged, or the file cannot be written.
    """
    if audio == "copy" and source is not None:
        encoders.check_audio(info, encoding)
    plan = _plan(segments)
    target = pathlib.Path(target)
    with atomic_target(target) as temporary, contextlib.ExitStack() as stack:
        original = stack.enter_context(reading.opened(source)) if source is not None else None
        try:
            return _write(
                temporary,
                info,
                encoding,
                plan,
                source=original,
                with_audio=audio == "copy",
                keep_metadata=keep_metadata,
                mark=mark,
            )
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(temporary)) from error
            raise UserError(f"cannot write {target}: {' '.join(str(error).split())}") from error


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What must be known of all segments before the first packet is written; times in ticks.

    Attributes:
      paths: the segment files.
      start: when the first frame is shown.
      delay: by how much decoding must begin before it.
      last: how long the last frame is shown.
    """

    paths: tuple[pathlib.Path, ...]
    start: int
    delay: int
    last: int


def _plan(paths: Sequence[str | os.PathLike]) -> _Plan:
    """Reads the ends of all segments once, one at a time.

    Raises:
      UserError: one is damaged, out of order, or was encoded with other settings.
    """
    start, end, extradata, delay, last = None, None, b"", 0, 0
    for segment, following in _in_order(paths):
        if start is None:
            start, extradata = segment.first, segment.extradata
        elif segment.first <= end:
            raise UserError(f"{segment.path} overlaps the segment before it; render both again")
        if segment.extradata != extradata:
            raise UserError(f"{segment.path} was encoded with other settings; render all again")
        durations = _durations(segment, following)
        delay = max(delay, _lead(segment, durations))
        end, last = max((p[1], d) for p, d in zip(segment.packets, durations, strict=True))
    if start is None:
        raise ValueError("no segments")
    return _Plan(tuple(map(pathlib.Path, paths)), start, delay, last)


def _in_order(paths: Sequence[str | os.PathLike]) -> Iterator[tuple[Segment, int | None]]:
    """Each segment, and when the first frame of the one after it is shown."""
    segment = None
    for path in paths:
        following = read_segment(path)
        if segment is not None:
            yield segment, following.first
        segment = following
    if segment is not None:
        yield segment, None


def _write(
    path: pathlib.Path,
    info: VideoInfo,
    encoding: Encoding,
    plan: _Plan,
    *,
    source: av.container.InputContainer | None,
    with_audio: bool,
    keep_metadata: bool,
    mark: bool,
) -> tuple[str, ...]:
    options = container_options(info, encoding, plan.last)
    with av.open(
        f"file:{path}", "w", format=encoding.container, container_options=options
    ) as output:
        output.flags |= av.container.Flags.bitexact.value  # no names and dates of programs
        video = output.add_stream(encoding.encoder, rate=encoding.rate)
        encoders.configure(video.codec_context, info, encoding)
        video.time_base = info.time_base
        left_out = list(info.left_out)
        copies = {}
        taken = Fraction(0)
        if source is not None:
            copies = add_copies(output, source, encoding.container, with_audio, left_out)
            taken = start_shift(source)
            set_chapters(output, source, taken)
            if keep_metadata:
                output.metadata.update(safe_metadata(source.metadata))
        if mark:
            output.metadata.update(marking.video_metadata())
        lead = _avi_lead(info) if encoding.container == "avi" else round(taken / info.time_base)
        pictures = _pictures(plan, info.time_base, lead, encoding.container == "gif")
        copied = _copied(source, copies, taken) if copies else iter(())
        for packet, stream in heapq.merge(pictures, copied, key=lambda item: _time(item[0])):
            packet.stream = stream or video
            output.mux_one(packet)
    return tuple(left_out)


def container_options(info: VideoInfo, encoding: Encoding, last: int = 0) -> dict[str, str]:
    """Of the muxer; `last`: ticks for which the last frame of a GIF is shown."""
    if encoding.container in ("mp4", "mov"):
        ticks = (
            info.time_base.denominator
        )  # of edit lists too, else they are rounded to milliseconds
        return {"movflags": "+faststart", "movie_timescale": str(ticks * max(1, 1000 // ticks))}
    if encoding.container == "gif":
        delay = round(last * info.time_base * 100)  # in the muxer's hundredths of a second
        return {"loop": str(_loops(info.path)), "final_delay": str(delay)}
    return {}


def _loops(path: pathlib.Path) -> int:
    """How often a GIF is repeated in the muxer's count: 0 for ever, -1 not at all."""
    if path.suffix.lower() != ".gif":
        return 0
    with Image.open(path) as image:
        return image.info.get("loop", -1)


def add_copies(
    output: av.container.OutputContainer,
    source: av.container.InputContainer,
    container: str,
    with_audio: bool,
    left_out: list[str],
) -> dict[int, av.stream.Stream]:
    """Streams for what is copied, by the number of their original; adds to `left_out`."""
    copies = {}
    for stream in source.streams:
        name = f"{stream.type} (stream {stream.index})"
        if stream.type == "audio" and with_audio:
            copies[stream.index] = _copy_of(output, stream)
        elif stream.type == "audio":
            left_out.append(name)
        elif stream.type == "subtitle":
            if encoders.holds(container, reading.codec_name(stream)):
                copies[stream.index] = _copy_of(output, stream)
            else:
                left_out.append(f"{name}, which {container} cannot hold")
        elif stream.type == "attachment":
            font = (stream.mimetype or "").startswith(_FONTS)
            if font and container == "matroska":
                output.add_attachment(stream.name or "font", stream.mimetype, stream.data)
            else:
                left_out.append(name)
    return copies


def _copy_of(output: av.container.OutputContainer, stream: av.stream.Stream) -> av.stream.Stream:
    codec = reading.codec_name(stream)
    if output.format.name == "avi" and codec in _WRONG_IN_AVI:
        sound = stream.codec_context
        copy = output.add_stream(
            codec,
            rate=sound.sample_rate,
            layout=sound.layout.name,
            bit_rate=sound.bit_rate or 0,
        )
    else:
        copy = output.add_stream_from_template(stream, opaque=True)
    copy.disposition = stream.disposition
    if stream.language:
        copy.metadata["language"] = stream.language
    return copy


def start_shift(source: av.container.InputContainer) -> Fraction:
    """Seconds that are taken from all times."""
    if source.format.name.split(",")[0] in _START_ANYWHERE and source.start_time:
        return Fraction(source.start_time, av.time_base)
    return Fraction(0)


def _avi_lead(info: VideoInfo) -> int:
    """Ticks by which FFmpeg shows the frames of an AVI file late.

    AVI holds no times of showing, and FFmpeg guesses a delay for codecs that may have B-frames. It will
    guess the same of the copy. Numbered pictures are late in no way.
    """
    if info.container == encoders.SEQUENCE:
        return 0
    with reading.opened(info.path) as source:
        packet = next(source.demux(source.streams[info.stream]))
        return (packet.pts or 0) - (packet.dts or 0)


def set_chapters(
    output: av.container.OutputContainer, source: av.container.InputContainer, shift: Fraction
) -> None:
    """Copies times, less `shift` seconds, and titles of chapters."""
    chapters = []
    for chapter in source.chapters():
        offset = round(shift / chapter["time_base"])
        title = chapter["metadata"].get("title")
        chapters.append(
            {
                "id": chapter["id"],
                "start": chapter["start"] - offset,
                "end": chapter["end"] - offset,
                "time_base": chapter["time_base"],
                "metadata": {"title": title} if title else {},
            }
        )
    if chapters and output.format.name not in ("avi", "gif"):
        output.set_chapters(chapters)


def safe_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """When and with what a video was taken."""
    return {
        key.removeprefix(_APPLE): value
        for key, value in metadata.items()
        if key.removeprefix(_APPLE) in _SAFE
    }


def _pictures(
    plan: _Plan, time_base: Fraction, offset: int, is_gif: bool
) -> Iterator[tuple[av.Packet, None]]:
    """The packets of all segments with their times of decoding and showing.

    A frame lasts until the next one is shown. The time of decoding is the sum of the durations of all
    frames decoded before, less the delay that keeps it from coming after the time of showing. So it rises
    strictly, also from segment to segment and where B-frames change the order, and the differences, which
    are what MP4 stores, are the frames' own durations. `offset` ticks are taken from all times.
    """
    clock = plan.start - plan.delay - offset
    for number, (segment, following) in enumerate(_in_order(plan.paths)):
        durations = _durations(segment, following)
        for i, payload in enumerate(segment.payloads()):
            whole = not (is_gif and number and i == 0)
            packet = av.Packet(payload if whole else payload[_GIF_HEADER:])
            packet.time_base = time_base
            packet.pts, packet.dts = segment.packets[i][1] - offset, clock
            packet.duration = durations[i]
            packet.is_keyframe = segment.packets[i][3]
            clock += durations[i]
            yield packet, None


def _durations(segment: Segment, end: int | None) -> list[int]:
    """Ticks from each frame to the next, in decoding order; `end`: where the next segment begins."""
    times = sorted(pts for _, pts, _, _ in segment.packets)
    following = dict(zip(times, [*times[1:], end], strict=True))
    return [
        given if following[pts] is None else following[pts] - pts
        for _, pts, given, _ in segment.packets
    ]


def _lead(segment: Segment, durations: Sequence[int]) -> int:
    """By how many ticks decoding in a steady flow would come after showing, at most."""
    clock = segment.first
    lead = 0
    for (_, pts, _, _), duration in zip(segment.packets, durations, strict=True):
        lead = max(lead, clock - pts)
        clock += duration
    return lead


def _copied(
    source: av.container.InputContainer, copies: dict[int, av.stream.Stream], shift: Fraction
) -> Iterator[tuple[av.Packet, av.stream.Stream]]:
    streams = []
    for stream in source.streams:
        if stream.index in copies:
            streams.append(stream)
        else:
            stream.discard = av.stream.Discard.all
    try:
        for packet in source.demux(streams):
            if prepare_copy(packet, shift):
                yield packet, copies[packet.stream_index]
    except av.error.FFmpegError:
        return  # The rest of a damaged source; reading its frames has said so.


def prepare_copy(packet: av.Packet, shift: Fraction) -> bool:
    """Takes `shift` seconds from the times of a packet to be copied; whether it is to be copied at all."""
    if packet.size == 0 and packet.pts is None and packet.dts is None:
        return False  # marks the end
    if reading.codec_name(packet.stream) == "mov_text" and bytes(packet) == b"\0\0":
        return False  # a pause between subtitles, which the muxer writes itself
    offset = round(shift / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts - offset
    packet.dts = None if packet.dts is None else packet.dts - offset
    return True


def _time(packet: av.Packet) -> Fraction:
    ticks = packet.dts if packet.dts is not None else packet.pts
    return (ticks or 0) * packet.time_base
