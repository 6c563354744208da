"""Anonymizing a video in one pass, for pipes: frames go out while later ones are still to come.

Faces are found and followed as in live video (`live.watching`), but every frame is taken, looked at
thoroughly and written: one that cannot be made safe ends the job. Sound and subtitles go past the frames,
packet by packet.
"""

import functools
import pathlib
import time
from collections.abc import Generator, Iterable, Mapping
from fractions import Fraction

import av
import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.common.prefetch import Prefetcher
from dp3_jax.common.stages import Background, Progress
from dp3_jax.detection import tracks
from dp3_jax.media import marking
from dp3_jax.media.video import clocks, encoding, writing
from dp3_jax.media.video.canvas import Canvas
from dp3_jax.media.video.copying import Copies, Wanted
from dp3_jax.media.video.encoding import EncoderSettings, Encoding
from dp3_jax.media.video.interlacing import DEINTERLACED
from dp3_jax.media.video.pipes import PIPE, Source, opened_source, opened_target
from dp3_jax.media.video.reading import CAPTIONS, Frame, VideoInfo
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.live.pipeline import Painter
from dp3_jax.pipelines.live.quality_controller import LEVELS
from dp3_jax.pipelines.live.release_policy import TrackedFrame, new_release_policy
from dp3_jax.pipelines.live.track_keys import Keys
from dp3_jax.pipelines.video import time_ranges
from dp3_jax.pipelines.video.job import Request, Summary, VideoOptions
from dp3_jax.pipelines.video.output import Kept
from dp3_jax.pipelines.video.rendering_pass import Tally
from dp3_jax.replacement import key_derivation
from dp3_jax.replacement.clip_rendering import Renderer
from dp3_jax.replacement.face_actions import FaceAction, FaceResult

_AHEAD = 6  # frames decoded ahead, looked at ahead, and waiting to be encoded
_DELAY = 0.5  # s of later frames that are looked at before one is written: for faces that come in
_DELAY_BYTES = 200e6  # that these frames have at most
_UNWRITTEN = ("gif", "avi")  # containers that need to know all frames, or hold no times


def process(
    request: Request, anonymizer: Anonymizer, progress: Progress
) -> tuple[list[FaceResult], Summary]:
    """Makes one anonymized video.

    Args:
      request: what to do, of which only what needs one pass; the path "-" is standard input, or output.
      anonymizer: generator and settings.
      progress: told how many frames are done.

    Returns:
      One outcome for each track (the worst of its frames), and a summary.

    Raises:
      UserError: the video cannot be read or written, or a frame could not be made safe. A file is not
        written then; standard output has got the frames before.
    """
    started = time.monotonic()
    video, kept = request.video, request.kept
    mark = request.mark and anonymizer.settings.method == "generate"
    with opened_source(request.source, video.deinterlace) as source:
        chosen = _encoding(source.info, request.target, video.encoder, kept)
        record = _Record(Keys(request.master_key or key_derivation.new_master_key()))
        source.info = encoding.as_written(source.info, chosen)
        frames = _Frames(video, anonymizer, source.info, record)
        with (
            opened_target(request.target) as target,
            av.open(
                target,
                "w",
                format=chosen.container,
                container_options=writing.container_options(source.info, chosen),
            ) as output,
        ):
            writer = _Writer(output, source, chosen, kept, mark)
            count = _run(source, frames, writer, progress)
    left_out = [*writer.left_out, *([CAPTIONS] if source.captions else [])]
    notes = (*(f"left out: {what}" for what in left_out), *writer.remarks, *chosen.remarks)
    notes += (DEINTERLACED,) if source.info.deinterlace else ()
    if source.jumps:
        notes = (*notes, clocks.restarted(len(source.jumps)))
    seconds = (0.0, time.monotonic() - started)
    return record.face_results(), Summary(count, seconds, False, notes, source.damage)


def _encoding(
    info: VideoInfo, target: pathlib.Path, settings: EncoderSettings, kept: Kept
) -> Encoding:
    suffix = ".mkv" if str(target) == PIPE else target.suffix
    chosen = encoding.choose_encoding(info, suffix, settings)
    if chosen.container in _UNWRITTEN:
        raise UserError(
            f"--one-pass cannot write {chosen.container}; choose a name that ends in .mkv or .mp4"
        )
    if kept.audio == "copy":
        encoding.check_audio(info, chosen)
    return chosen


def _run(source: Source, frames: "_Frames", writer: "_Writer", progress: Progress) -> int:
    """Reads, looks, draws and writes, each in a thread of its own; the number of frames."""
    count = 0
    with (
        Background(lambda call: call(), _AHEAD) as written,
        Prefetcher(source.items(), _AHEAD) as items,
        Prefetcher(frames.looked(items), _AHEAD) as looked,
    ):
        try:
            for item in looked:
                if isinstance(item, av.Packet):
                    written.put(functools.partial(writer.copy, item))
                    continue
                image = frames.drawn(item)
                written.put(functools.partial(writer.write, image, item.frame))
                count += 1
                progress("anonymizing", 1, source.info.frames_estimate)
        finally:
            source.stop()
    writer.finish()
    return count


class _Record:
    """What was done with each track."""

    def __init__(self, keys: Mapping[int, bytes]):
        self.keys = keys
        self._tally = Tally()
        self._best: dict[int, tracks.Track] = {}

    def add(self, tracked: TrackedFrame, face_results: list[FaceResult]) -> None:
        """Counts one frame."""
        self._tally.add(list(tracked.faces), face_results)
        for number, track in tracked.faces.items():
            best = self._best.get(number)
            if (
                best is None
                or track.observations[-1].confidence >= best.observations[-1].confidence
            ):
                self._best[number] = track

    def face_results(self) -> list[FaceResult]:
        """One for each track that was seen."""
        found = []
        for number, track in self._best.items():
            face = tracks.to_face(track.observations[-1])
            action = FaceAction(face, self.keys[number], method=track.method, reason=track.reason)
            found.append(self._tally.face_result(number, action))
        return [face_result for face_result in found if face_result is not None]


class _Frames:
    """Finds the faces in frames and hides them."""

    def __init__(
        self, video: VideoOptions, anonymizer: Anonymizer, info: VideoInfo, record: _Record
    ):
        settings = anonymizer.settings
        makes = settings.method == "generate"
        face_renderer, is_face = anonymizer.parts() if makes else (None, None)
        size, rate = info.canvas_size, float(info.rate)
        delay = max(1, min(round(_DELAY * rate), int(_DELAY_BYTES / (3 * size[0] * size[1]))))
        least = anonymizer.min_confidence
        takes_vector = face_renderer is not None and face_renderer.takes_vector
        motion = video.motion if takes_vector else "none"
        self._policy = new_release_policy(
            size, rate, settings.method, least, delay=delay, motion=motion
        )
        self._painter = Painter(
            functools.partial(
                Renderer,
                settings,
                face_renderer,
                record.keys,
                video.coherence,
                is_face,
                motion=video.motion,
                causal=True,
            )
        )
        self._record = record
        self._masked_times = video.masked_times
        self._time_base = info.time_base
        self._first: int | None = None

    def looked(self, items: Iterable[Frame | av.Packet]) -> Generator[TrackedFrame | av.Packet]:
        """Finds the faces in frames; packets go past.

        Raises:
          UserError: the detector failed: where the faces are in this frame, nobody knows.
        """
        for item in items:
            if isinstance(item, av.Packet):
                yield item
                continue
            yield from self._policy.take(item, LEVELS[0])
            if self._policy.failures:
                raise UserError(f"frame {item.number}: {self._policy.failure}; it cannot be shown")
        yield from self._policy.finish()

    def drawn(self, tracked: TrackedFrame) -> np.ndarray:
        """The frame without its faces, u8[h, w, 3].

        Raises:
          UserError: it failed.
        """
        frame = tracked.frame
        self._first = frame.pts if self._first is None else self._first
        if not time_ranges.masked_at(
            self._masked_times, float((frame.pts - self._first) * self._time_base)
        ):
            return frame.image
        try:
            image, face_results = self._painter.paint(tracked)
        except Exception as error:  # whatever it is, a frame with a face in it is not written
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"frame {frame.number}: {reason}; it cannot be shown") from error
        self._record.add(tracked, face_results)
        return image


class _Writer:
    """Encodes frames and copies packets into an open container, which interleaves them by their times."""

    def __init__(
        self,
        output: av.container.OutputContainer,
        source: Source,
        chosen: Encoding,
        kept: Kept,
        mark: bool,
    ):
        info = source.info
        output.flags |= av.container.Flags.bitexact.value  # no names and dates of programs
        self._output = output
        self._encoding = chosen
        self._time_base = info.time_base
        self._step = max(1, round(1 / (info.rate * info.time_base)))
        self._video = output.add_stream(chosen.encoder, rate=chosen.rate)
        encoding.configure(self._video.codec_context, info, chosen)
        self._video.time_base = info.time_base
        self._canvas = Canvas(info, chosen.keeps_stored)
        self._convert = encoding.converter(info, chosen)
        source.stored = chosen.keeps_stored
        self._copies = Copies(
            output,
            source.container,
            chosen.container,
            wanted=Wanted(kept.audio == "copy", kept.subtitles == "copy"),
            hidden=source.hidden,
            jumps=source.jumps,
        )
        self.left_out = [*info.left_out, *self._copies.left_out]
        self._shift = self._copies.shift
        writing.set_chapters(output, source.container, self._shift)
        if kept.metadata:
            output.metadata.update(writing.safe_metadata(source.container.metadata))
        if mark:  # the header is written before the first face
            output.metadata.update(marking.video_metadata())
        self._lead = round(self._shift / info.time_base)
        self._times: dict[int, tuple[int, int]] = {}  # pts and duration by number, while needed
        self._count = 0

    @property
    def remarks(self) -> list[str]:
        """What was done to other streams than to copy them; complete after `finish`."""
        return self._copies.remarks

    def copy(self, packet: av.Packet) -> None:
        """Copies a packet of the source, if its stream is copied."""
        self._mux_copies(self._copies.packets(packet))

    def _mux_copies(self, made: Iterable[tuple[av.Packet, av.stream.Stream]]) -> None:
        for packet, stream in made:
            packet.stream = stream
            self._output.mux_one(packet)

    def write(self, image: np.ndarray, frame: Frame) -> None:
        """Encodes u8[h, w, 3], to be shown when `frame` is."""
        if frame.stored is not None:
            image = self._canvas.merged(frame.stored, frame.image, image)
        picture = self._convert(image)
        picture.pts, picture.time_base = self._count, 1 / self._encoding.rate
        self._times[self._count] = frame.pts - self._lead, frame.duration or self._step
        self._count += 1
        self._mux(self._video.encode(picture))

    def finish(self) -> None:
        """Encodes what the encoder has held back."""
        self._mux(self._video.encode(None))
        self._mux_copies(self._copies.rest())

    def _mux(self, packets: Iterable[av.Packet]) -> None:
        """Writes packets at the source's times: the encoder has only numbered the frames.

        A frame is decoded when the one is shown that the encoder has given its place to, before the first
        frame in steps of the usual length.
        """
        for packet in packets:
            shown = self._number(packet.pts, packet.time_base)
            decoded = shown if packet.dts is None else self._number(packet.dts, packet.time_base)
            pts, duration = self._times[shown]
            first = self._times[0][0] if decoded < 0 else 0
            dts = first + decoded * self._step if decoded < 0 else self._times[decoded][0]
            for number in [n for n in self._times if 0 < n < decoded]:
                del self._times[number]
            packet.time_base = self._time_base
            packet.pts, packet.dts, packet.duration = pts, dts, duration
            self._output.mux_one(packet)

    def _number(self, ticks: int, time_base: Fraction) -> int:
        return round(ticks * time_base * self._encoding.rate)
