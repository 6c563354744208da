"""From encoded segments and the source's sound to the final file, without encoding anything again."""

import contextlib
import heapq
import os
import pathlib
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
from PIL import Image

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

    Returns:
      What was left out, in words.

    Raises:
      UserError: the container cannot hold the sound, a segment is damaged, or the file cannot be written.
    """
    if audio == "copy" and source is not None:
        encoders.check_audio(info, encoding)
    read = [read_segment(path) for path in segments]
    _check(read)
    target = pathlib.Path(target)
    with atomic_target(target) as temporary, contextlib.ExitStack() as stack:
        original = stack.enter_context(reading.opened(source)) if source is not None else None
        try:
            return _write(
                temporary,
                info,
                encoding,
                read,
                source=original,
                with_audio=audio == "copy",
                keep_metadata=keep_metadata,
            )
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(temporary)) from error
            raise UserError(f"cannot write {target}: {' '.join(str(error).split())}") from error


def _check(segments: Sequence[Segment]) -> None:
    if not segments:
        raise ValueError("no segments")
    last = None
    for segment in segments:
        times = sorted(pts for _, pts, _, _ in segment.packets)
        if last is not None and times[0] <= last:
            raise UserError(f"{segment.path} overlaps the segment before it; render both again")
        last = times[-1]
        if segment.extradata != segments[0].extradata:
            raise UserError(
                f"{segment.path} was encoded with other settings; render the video again"
            )


def _write(
    path: pathlib.Path,
    info: VideoInfo,
    encoding: Encoding,
    segments: Sequence[Segment],
    *,
    source: av.container.InputContainer | None,
    with_audio: bool,
    keep_metadata: bool,
) -> tuple[str, ...]:
    options = _container_options(info, encoding, segments)
    with av.open(
        f"file:{path}", "w", format=encoding.container, container_options=options
    ) as output:
        output.flags |= av.container.Flags.bitexact.value  # no names and dates of programs
        video = output.add_stream(encoding.encoder, rate=encoding.rate)
        encoders.configure(video.codec_context, info, encoding)
        video.time_base = info.time_base
        left_out = list(info.left_out)
        copies = {}
        shift = 0
        if source is not None:
            copies = _add_copies(output, source, encoding.container, with_audio, left_out)
            shift = _shift(source)
            _set_chapters(output, source, shift)
            if keep_metadata:
                output.metadata.update(_safe_metadata(source.metadata))
        pictures = _pictures(segments, info.time_base, shift, encoding.container == "gif")
        copied = _copied(source, copies, shift) if copies else iter(())
        for packet, stream in heapq.merge(pictures, copied, key=lambda item: _time(item[0])):
            packet.stream = stream or video
            output.mux_one(packet)
    return tuple(left_out)


def _container_options(
    info: VideoInfo, encoding: Encoding, segments: Sequence[Segment]
) -> dict[str, str]:
    if encoding.container in ("mp4", "mov"):
        return {"movflags": "+faststart"}
    if encoding.container == "gif":
        duration = max(segments[-1].packets, key=lambda packet: packet[1])[2]
        delay = round(duration * info.time_base * 100)
        return {"loop": str(_loops(info.path)), "final_delay": str(delay)}
    return {}


def _loops(path: pathlib.Path) -> int:
    """How often a GIF is repeated in the muxer's count: 0 for ever, -1 not at all."""
    if path.suffix.lower() != ".gif":
        return 0
    with Image.open(path) as image:
        return image.info.get("loop", -1)


def _add_copies(
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
    copy = output.add_stream_from_template(stream, opaque=True)
    copy.disposition = stream.disposition
    if stream.language:
        copy.metadata["language"] = stream.language
    return copy


def _shift(source: av.container.InputContainer) -> Fraction:
    """Seconds that are taken from all times."""
    if source.format.name.split(",")[0] in _START_ANYWHERE and source.start_time:
        return Fraction(source.start_time, av.time_base)
    return Fraction(0)


def _set_chapters(
    output: av.container.OutputContainer, source: av.container.InputContainer, shift: Fraction
) -> None:
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


def _safe_metadata(metadata: dict[str, str]) -> dict[str, str]:
    return {
        key.removeprefix(_APPLE): value
        for key, value in metadata.items()
        if key.removeprefix(_APPLE) in _SAFE
    }


def _pictures(
    segments: Sequence[Segment], time_base: Fraction, shift: Fraction, is_gif: bool
) -> Iterator[tuple[av.Packet, None]]:
    """The packets of all segments with their times of decoding and showing.

    The time of decoding is the time of showing of the frame that is `delay` earlier in the order of
    showing, where `delay` is the most that a frame is moved forward in any segment. So both rise strictly,
    and no frame is decoded after it is shown.
    """
    offset = round(shift / time_base)
    delay = max(_delay(segment) for segment in segments)
    first = min(packet[1] for packet in segments[0].packets)
    step = max(1, segments[0].packets[0][2])
    queue = [first - step * (delay - i) for i in range(delay)]
    for number, segment in enumerate(segments):
        queue += sorted(packet[1] for packet in segment.packets)
        for i, (payload, (_, pts, duration, key)) in enumerate(
            zip(segment.payloads(), segment.packets, strict=True)
        ):
            if is_gif and number and i == 0:
                payload = payload[_GIF_HEADER:]  # noqa: PLW2901
            packet = av.Packet(payload)
            packet.time_base = time_base
            packet.pts, packet.dts = pts - offset, queue[i] - offset
            packet.duration = duration
            packet.is_keyframe = bool(key)
            yield packet, None
        del queue[: len(segment.packets)]


def _delay(segment: Segment) -> int:
    """By how many frames a segment's order of decoding runs ahead of its order of showing, at most."""
    times = [packet[1] for packet in segment.packets]
    rank = {pts: i for i, pts in enumerate(sorted(times))}
    return max(i - rank[pts] for i, pts in enumerate(times))


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
            if packet.size == 0 and packet.pts is None and packet.dts is None:
                continue  # marks the end
            offset = round(shift / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - offset
            packet.dts = None if packet.dts is None else packet.dts - offset
            yield packet, copies[packet.stream_index]
    except av.error.FFmpegError:
        return  # The rest of a damaged source; reading its frames has said so.


def _time(packet: av.Packet) -> Fraction:
    ticks = packet.dts if packet.dts is not None else packet.pts
    return (ticks or 0) * packet.time_base
