"""From encoded segments and the source's sound to the final file, without encoding anything again."""

import dataclasses
import functools
import heapq
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import av
from PIL import Image

from dp3_jax.common.errors import UserError
from dp3_jax.common.files import atomic_target
from dp3_jax.media import marking
from dp3_jax.media.video import audio_encoding, reading
from dp3_jax.media.video import encoding as encoders
from dp3_jax.media.video.copying import Copies, Wanted
from dp3_jax.media.video.encoding import Encoding
from dp3_jax.media.video.reading import VideoInfo
from dp3_jax.media.video.segments import SEGMENT_SUFFIX, Segment, SegmentWriter, read_segment

__all__ = ["SEGMENT_SUFFIX", "SegmentWriter", "assemble"]

# Of the file's metadata, and only with `keep_metadata`: what took the video and when, as for photos. Titles,
# comments, names, places and serial numbers never.
_SAFE = ("creation_time", "make", "model")
_APPLE = "com.apple.quicktime."
_SLACK = 0.5  # s by which headers may say another length
_GIF_HEADER = 13  # bytes: signature and screen descriptor; there is no palette for all frames


def assemble(
    target: str | os.PathLike,
    info: VideoInfo,
    encoding: Encoding,
    segments: Sequence[str | os.PathLike],
    *,
    source: str | os.PathLike | None,
    audio: str = "copy",
    subtitles: str = "drop",
    keep_metadata: bool = False,
    mark: bool = False,
    jumps: Sequence[Fraction] = (),
    until: float | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[str, ...]:
    """Writes the final video, atomically and streaming (memory does not grow with the length).

    Frames are shown at the source's times, upright, with its pixel aspect and colour tags. Sound, and
    subtitles with their fonts if wanted, are taken over with their times, languages and dispositions (see
    `copying`); chapters keep their times and titles. Cover art, thumbnails, data, further video streams and
    all other metadata (place, device, dates, names) are left out.

    Args:
      target: the file; its container is `encoding`'s.
      info: of the source.
      encoding: with which the segments were written.
      segments: files of `SegmentWriter`, in order.
      source: where sound, subtitles and chapters come from; None: from nowhere.
      audio: "copy" or "drop".
      subtitles: "copy" or "drop".
      keep_metadata: keep when and with what the video was taken.
      mark: say in the file that parts of it were generated (see `marking`).
      jumps: of the source's pictures, see `clocks.Restarts`.
      until: seconds up to which the last frame is shown, if longer than its own duration.
      note: told in words what was done to other streams than to copy them.

    Returns:
      What was left out, in words.

    Raises:
      UserError: the container cannot hold the sound, a segment is damaged, or the file cannot be written.
    """
    if audio == "copy" and source is not None:
        encoders.check_audio(info, encoding)
    timeline = _timeline(segments)
    if until is not None:
        ticks = 1 / info.time_base
        timeline = timeline.shown_until(round(until * ticks), round(_SLACK * ticks))
    hidden = audio_encoding.scan(source) if audio == "copy" and source is not None else {}
    wanted = Wanted(audio == "copy", subtitles == "copy")
    streams = functools.partial(Copies, hidden=hidden, jumps=jumps)
    more = {"keep_metadata": keep_metadata, "mark": mark, "note": note}
    with atomic_target(target) as temporary:
        write = functools.partial(_write, temporary, info, encoding, timeline, **more)
        try:
            return _tried(write, source, streams, wanted)
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(temporary)) from error
            raise UserError(f"cannot write {target}: {' '.join(str(error).split())}") from error


def _tried(
    write: Callable[..., tuple[str, ...]],
    source: str | os.PathLike | None,
    streams: Callable[..., Copies],
    wanted: Wanted,
) -> tuple[str, ...]:
    """What `write` returns; sound whose packets it refuses is encoded anew, not to lose hours of drawing."""
    if source is None:
        return write(source=None, streams=streams)
    for anew in (False, True):
        asked = dataclasses.replace(wanted, anew=anew)
        try:
            with reading.opened(source) as original:
                return write(source=original, streams=functools.partial(streams, wanted=asked))
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, OSError) or anew or not wanted.audio:
                raise
    raise AssertionError("the second time returns or raises")


@dataclasses.dataclass(frozen=True)
class _Timeline:
    """What must be known of all segments before the first packet is written; times in ticks.

    Attributes:
      paths: the segment files.
      start: when the first frame is shown.
      delay: by how much decoding must begin before it.
      end: when the last frame is shown.
      last: for how long.
    """

    paths: tuple[pathlib.Path, ...]
    start: int
    delay: int
    end: int
    last: int

    def shown_until(self, time: int, slack: int) -> "_Timeline":
        """The same with a last frame that is shown until `time`, if that is longer by more than `slack`."""
        longer = time - self.end - self.last > slack
        return dataclasses.replace(self, last=time - self.end) if longer else self


def _timeline(paths: Sequence[str | os.PathLike]) -> _Timeline:
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
    return _Timeline(tuple(map(pathlib.Path, paths)), start, delay, end, last)


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
    timeline: _Timeline,
    *,
    source: av.container.InputContainer | None,
    streams: Callable[..., Copies],
    keep_metadata: bool,
    mark: bool,
    note: Callable[[str], None],
) -> tuple[str, ...]:
    options = container_options(info, encoding, timeline.last)
    with av.open(
        f"file:{path}", "w", format=encoding.container, container_options=options
    ) as output:
        output.flags |= av.container.Flags.bitexact.value  # no names and dates of programs
        video = output.add_stream(encoding.encoder, rate=encoding.rate)
        encoders.configure(video.codec_context, info, encoding)
        video.time_base = info.time_base
        left_out = list(info.left_out)
        copies, taken = None, Fraction(0)
        if source is not None:
            copies = streams(output, source, encoding.container)
            left_out += copies.left_out
            taken = copies.shift
            set_chapters(output, source, taken)
            if keep_metadata:
                output.metadata.update(safe_metadata(source.metadata))
        if mark:
            output.metadata.update(marking.video_metadata())
        lead = _avi_lead(info) if encoding.container == "avi" else round(taken / info.time_base)
        pictures = _pictures(timeline, info.time_base, lead, encoding.container == "gif")
        copied = iter(()) if copies is None else _copied(source, copies)
        for packet, stream in heapq.merge(pictures, copied, key=lambda item: _time(item[0])):
            packet.stream = stream or video
            output.mux_one(packet)
    for remark in copies.remarks if copies is not None else ():
        note(remark)
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
    timeline: _Timeline, time_base: Fraction, offset: int, is_gif: bool
) -> Iterator[tuple[av.Packet, None]]:
    """The packets of all segments with their times of decoding and showing.

    A frame lasts until the next one is shown. The time of decoding is the sum of the durations of all
    frames decoded before, less the delay that keeps it from coming after the time of showing. So it rises
    strictly, also from segment to segment and where B-frames change the order, and the differences, which
    are what MP4 stores, are the frames' own durations. `offset` ticks are taken from all times.
    """
    clock = timeline.start - timeline.delay - offset
    for number, (segment, following) in enumerate(_in_order(timeline.paths)):
        durations = _durations(segment, following)
        for i, payload in enumerate(segment.encoded()):
            whole = not (is_gif and number and i == 0)
            packet = payload
            if not isinstance(payload, av.Packet):
                packet = av.Packet(payload if whole else payload[_GIF_HEADER:])
            packet.time_base = time_base
            packet.pts, packet.dts = segment.packets[i][1] - offset, clock
            packet.duration = timeline.last if packet.pts + offset == timeline.end else durations[i]
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
    source: av.container.InputContainer, copies: Copies
) -> Iterator[tuple[av.Packet, av.stream.Stream]]:
    """All packets of the streams beside the pictures, as they are to be written."""
    wanted = copies.streams
    for stream in source.streams:
        if stream.index not in wanted:
            stream.discard = av.stream.Discard.all
    packets = source.demux([source.streams[i] for i in wanted]) if wanted else iter(())
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            break  # The rest of a damaged source; reading its frames has said so.
        if packet is None:
            break
        yield from copies.packets(packet)
    yield from copies.rest()


def _time(packet: av.Packet) -> Fraction:
    ticks = packet.dts if packet.dts is not None else packet.pts
    return (ticks or 0) * packet.time_base
