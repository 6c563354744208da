"""Anonymizing one video file: two passes, then one file put together from what they left.

Nothing is written under the target's name before all frames are done. What a killed job leaves is a hidden
folder beside the target, with which the same command goes on.
"""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from fractions import Fraction
from typing import Any

import numpy as np

import dp3_jax
from dp3_jax.common import allocator
from dp3_jax.common.errors import UserError
from dp3_jax.common.stages import Progress, Stage
from dp3_jax.detection import tracks
from dp3_jax.detection.keyframes import interval
from dp3_jax.detection.sequence_detection import VideoDetector
from dp3_jax.detection.tracks import Tracking
from dp3_jax.detection.vector_meter import VectorMeter, meter_for
from dp3_jax.media import image_sequences
from dp3_jax.media.names import as_one, is_pattern
from dp3_jax.media.video import clocks, copying, encoding, reading, sequence_writing, writing
from dp3_jax.media.video.interlacing import DEINTERLACED
from dp3_jax.pipelines.allowlist import Allowlist
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.video import (
    boxes,
    detection_pass,
    rendering_pass,
    track_file,
    work_folder,
)
from dp3_jax.pipelines.video.time_ranges import TimeRange
from dp3_jax.replacement import key_derivation
from dp3_jax.replacement.clip_rendering import Renderer
from dp3_jax.replacement.coherence import Coherence
from dp3_jax.replacement.face_actions import Done, FaceAction, FaceResult, Settings
from dp3_jax.replacement.generation import FaceCheck, FaceRenderer


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """What only videos need.

    Attributes:
      encoder: codec, quality and speed; None for ones like the input's.
      audio: "copy" or "drop".
      subtitles: "copy" or "drop".
      masked_times: when faces are hidden; always if empty.
      coherence: what is steadied over time.
      motion: what new faces follow: "face", "head" or "none" (see `vectors.limited_to`).
      rate: of numbered pictures, how many a second.
      deinterlace: make whole frames of interlaced ones.
    """

    encoder: encoding.EncoderSettings = dataclasses.field(default_factory=encoding.EncoderSettings)
    audio: str = "copy"
    subtitles: str = "drop"
    masked_times: tuple[TimeRange, ...] = ()
    coherence: Coherence = dataclasses.field(default_factory=Coherence)
    motion: str = "face"
    rate: Fraction = image_sequences.RATE
    deinterlace: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One video to be made.

    Attributes:
      source, target: files, or patterns of numbered pictures.
      master_key: what new faces are drawn from; None for a fresh one.
      given_boxes: file with boxes instead of detection.
      given_tracks: sidecar with tracks instead of detection.
      overrides: settings given by the user, which go before those of a sidecar.
      allowlist_rules: texts of --keep, part of what makes this job this job.
      allowed: decides by them; None without any.
      sidecar: write one beside the result.
      keep_metadata: write the time and the camera's name, if the source says them.
      mark: say in the result that it holds generated faces, where it does.
      video: see VideoOptions.
    """

    source: pathlib.Path
    target: pathlib.Path
    master_key: bytes | None = None
    given_boxes: str | None = None
    given_tracks: str | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    allowlist_rules: tuple[str, ...] = ()
    allowed: Allowlist | None = None
    sidecar: bool = False
    keep_metadata: bool = False
    mark: bool = True
    video: VideoOptions = dataclasses.field(default_factory=VideoOptions)


@dataclasses.dataclass(frozen=True)
class Summary:
    """What became of a video.

    Attributes:
      frames: in it.
      seconds_of_passes: s that the first and the second pass took in this run.
      resumed: whether an earlier run had begun.
      notes: remarks for the user.
      damage: what of the source could not be read, in words; empty if all could.
    """

    frames: int
    seconds_of_passes: tuple[float, float]
    resumed: bool
    notes: tuple[str, ...]
    damage: str = ""


def sidecar_path(target: pathlib.Path) -> pathlib.Path:
    """Beside the result: NAME.EXT.tracks.json, of pictures FOLDER.tracks.json."""
    target = as_one(target)
    return target.with_name(target.name + track_file.SUFFIX)


class _VideoJob:
    """The parts of one job that several steps need."""

    def __init__(self, request: Request, anonymizer: Anonymizer, progress: Progress):
        self.request = request
        self.anonymizer = anonymizer
        self.progress = progress
        self.is_sequence = is_pattern(request.source)
        self.info = sequence_writing.open_input(
            request.source, request.video.rate, request.video.deinterlace
        )
        self.encoding = self._encoding()
        if isinstance(self.encoding, encoding.Encoding):
            self.info = encoding.as_written(self.info, self.encoding)
        if request.video.audio == "copy":
            encoding.check_audio(self.info, self.encoding)
        if self.info.audio and isinstance(self.encoding, encoding.Encoding):
            wanted = copying.Wanted(request.video.audio == "copy")
            copying.check(request.source, self.encoding.container, wanted)
        told = "none" if anonymizer.identity.wanted == "builtin" else request.video.motion
        self.meter = meter_for(anonymizer.settings.method, told, self.info.rate)
        self.times: np.ndarray | None = None  # i64, of the frames as the first pass saw them

    def _encoding(self) -> encoding.Encoding | sequence_writing.Pictures:
        request, settings = self.request, self.request.video.encoder
        if is_pattern(request.target):
            mark = request.mark and self.anonymizer.settings.method == "generate"
            return sequence_writing.choose(
                request.source, request.target, settings, request.keep_metadata, mark
            )
        return encoding.choose(self.info, request.target.suffix, settings)

    def identity(self) -> dict[str, Any]:
        """What a work folder must agree with to be gone on with."""
        request = self.request
        given = [f for f in (request.given_boxes, request.given_tracks) if f is not None]
        master_key = (
            None
            if request.master_key is None
            else key_derivation.track_key(request.master_key, 0).hex()
        )
        return {
            "source": work_folder.source_identity(request.source),
            "given": [work_folder.source_identity(pathlib.Path(file)) for file in given],
            "version": dp3_jax.__version__,
            "settings": dataclasses.asdict(self.anonymizer.settings),
            "least": self.anonymizer.min_confidence,
            "overrides": dict(request.overrides),
            "keep": [_rule_identity(rule) for rule in request.allowlist_rules],
            "video": repr(request.video),
            "encoding": repr(self.encoding),
            "secret": master_key,
        }

    def tracks(
        self, folder: work_folder.WorkFolder, master_key: bytes, preparation: "_Preparation"
    ) -> tuple[Tracking, dict[int, bytes], Settings, tuple[str, ...]]:
        """Tracks, the keys of their faces, settings and remarks: from a file, or found."""
        request, settings = self.request, self.anonymizer.settings
        if request.given_tracks is not None:
            read = track_file.read(request.given_tracks)
            if (read.tracking.width, read.tracking.height) != self.info.canvas_size:
                raise UserError(
                    f"{request.given_tracks} is of a video of {read.tracking.width}x{read.tracking.height}, "
                    f"{request.source} has {'x'.join(map(str, self.info.canvas_size))} in square pixels"
                )
            settings = dataclasses.replace(read.settings, **request.overrides)
            keys = _keys(read.tracking, master_key) | dict(read.keys)
            return read.tracking, keys, settings, self._other_weights(read, settings)
        given = request.given_boxes is not None
        found = self._given() if given else self._find(folder, preparation)
        return found, _keys(found, master_key), settings, ()

    def _given(self) -> Tracking:
        """Tracks of the boxes in a file."""
        with reading.read_frames(self.info) as decoded:
            frames = sum(1 for _ in decoded)  # headers only estimate it
        width, height = self.info.canvas_size
        scale = width / self.info.width, height / self.info.height
        faces = boxes.read(self.request.given_boxes, frames, scale)
        found = detection_pass.given(self.info, frames, faces, self.request.allowed, self.meter)
        return detection_pass.link(self.info, found)

    def _find(self, folder: work_folder.WorkFolder, preparation: "_Preparation") -> Tracking:
        found, self.times = find_tracks(
            self.info,
            self.anonymizer.min_confidence,
            self.request.allowed,
            folder,
            lambda count: self.progress(Stage.DETECTION, count, self.info.frames_estimate),
            saw=preparation.saw,
            meter=self.meter,
        )
        return found

    def assemble(
        self,
        target: pathlib.Path,
        segments: Sequence[pathlib.Path],
        generated: bool,
        rendered: rendering_pass.RenderingPass,
    ) -> tuple[str, ...]:
        """Writes the whole video, in which faces were `generated` or not; returns remarks for the user."""
        if isinstance(self.encoding, sequence_writing.Pictures):
            sequence_writing.assemble(target, self.encoding, segments)
            return ()
        remarks = list(self.encoding.remarks)
        remarks += [DEINTERLACED] if self.info.deinterlace else []
        left_out = writing.assemble(
            target,
            self.info,
            self.encoding,
            segments,
            source=None if self.is_sequence else self.request.source,
            audio=self.request.video.audio,
            subtitles=self.request.video.subtitles,
            keep_metadata=self.request.keep_metadata,
            mark=self.request.mark and generated,
            jumps=rendered.jumps,
            until=self._until(rendered),
            note=remarks.append,
        )
        left_out += (reading.CAPTIONS,) if rendered.captions else ()
        if rendered.jumps:
            remarks.append(clocks.restarted(len(rendered.jumps)))
        return (*(f"left out: {what}" for what in left_out), *remarks)

    def _until(self, rendered: rendering_pass.RenderingPass) -> float | None:
        """Seconds up to which an undamaged file shows its last frame, where nothing else tells its length."""
        if rendered.damage or rendered.jumps or self.info.audio or self.is_sequence:
            return None
        return self.info.duration_seconds

    def _other_weights(self, read: track_file.TrackFile, settings: Settings) -> tuple[str, ...]:
        drew = read.generator is not None and settings.method == "generate"
        if not drew or read.generator == self.anonymizer.renderer.fingerprint:
            return ()
        return (f"{self.request.given_tracks} was made with other weights: the faces will differ",)


def _rule_identity(rule: str) -> Any:
    """Tells a rule of --keep from others; of a photo also from an earlier one of its name."""
    photo = pathlib.Path(rule)
    return [rule, work_folder.source_identity(photo) if photo.is_file() else None]


def find_tracks(
    info: reading.VideoInfo,
    min_confidence: float,
    allowed: Allowlist | None,
    folder: work_folder.WorkFolder,
    progress: Callable[[int], None],
    *,
    saw: Callable[[detection_pass.FrameDetections], None] | None = None,
    meter: VectorMeter | None = None,
) -> tuple[Tracking, np.ndarray]:
    """The first pass: arguments as of `detection_pass.detect`, and the least confidence of a detection.

    Returns:
      The tracks, and i64[frames] the frames' times in ticks.
    """
    detector = VideoDetector(min_confidence, every=interval(float(info.rate), *info.canvas_size))
    found = detection_pass.detect(info, detector, allowed, folder, progress, saw=saw, meter=meter)
    return detection_pass.link(info, found), np.array([one.pts for one in found], np.int64)


def _keys(tracking_: Tracking, master_key: bytes) -> dict[int, bytes]:
    return {t.number: key_derivation.track_key(master_key, t.number) for t in tracking_.tracks}


class _Preparation:
    """Loads what draws faces while they are looked for."""

    def __init__(self, anonymizer: Anonymizer, pool: futures.Executor):
        self._anonymizer = anonymizer
        self._pool = pool
        self._most = 0
        self._last: futures.Future | None = None

    def saw(self, found: detection_pass.FrameDetections) -> None:
        """Told of each frame: the network is made ready for as many faces at once."""
        if len(found.faces) > self._most and self._anonymizer.settings.method == "generate":
            self._most = len(found.faces)
            self._last = self._pool.submit(self._warm, self._most)

    def _warm(self, count: int) -> None:
        self._anonymizer.renderer.warm(count)

    def parts(self) -> tuple[FaceRenderer, FaceCheck | None]:
        """As of the anonymizer, when all is ready."""
        if self._last is not None:
            self._last.result()
        return self._anonymizer.parts()


def process(
    request: Request, anonymizer: Anonymizer, progress: Progress
) -> tuple[list[FaceResult], Summary]:
    """Makes one anonymized video.

    Args:
      request: what to do.
      anonymizer: detector, generator and settings.
      progress: told how many frames are done, of each Stage.

    Returns:
      One outcome for each track (the worst of its frames), and a summary.

    Raises:
      UserError: the video cannot be read or written, or what was given does not fit it.
    """
    job = _VideoJob(request, anonymizer, progress)
    identity = job.identity()
    allocator.keep_freed_memory()  # pictures are made and thrown away all the time
    with (
        work_folder.work_folder(request.target, identity) as folder,
        futures.ThreadPoolExecutor(1) as pool,
    ):
        master_key = request.master_key or folder.master_key()
        started = time.monotonic()
        preparation = _Preparation(anonymizer, pool)
        found, keys, settings, notes = job.tracks(folder, master_key, preparation)
        shown = detection_pass.treated(found, settings)
        middle = time.monotonic()
        makes = any((t.method or settings.method) == "generate" for t in shown.tracks if not t.keep)
        face_renderer, is_face = preparation.parts() if makes else (None, None)
        fingerprint = None if face_renderer is None else face_renderer.fingerprint
        how = {"motion": request.video.motion, "cuts": shown.cuts}
        use = request.video.coherence
        renderer = Renderer(settings, face_renderer, keys, use, is_face, **how)
        render = rendering_pass.RenderingPass(
            job.info,
            shown,
            renderer,
            job.encoding,
            folder,
            weights=fingerprint,
            times=job.times,
            masked_times=request.video.masked_times,
        )
        segments, tally = render.run(lambda n: progress(Stage.RENDERING, n, found.frames))
        face_results = [_face_result(track, tally, keys) for track in shown.tracks]
        generated = any(face_result.done == Done.GENERATED for face_result in face_results)
        remarks = job.assemble(folder.path / "result", segments, generated, render)
        work_folder.check_unchanged(request.source, identity["source"])
        if request.sidecar:
            track_file.write(folder.path / "tracks", found, settings, keys, fingerprint)
            os.replace(folder.path / "tracks", sidecar_path(request.target))
        folder.release("result", as_one(request.target))
        seconds = (middle - started, time.monotonic() - middle)
        summary = Summary(found.frames, seconds, folder.resumed, (*notes, *remarks), render.damage)
    return face_results, summary


def _face_result(
    track: tracks.Track, tally: rendering_pass.Tally, keys: Mapping[int, bytes]
) -> FaceResult:
    """What was done with a track: what was done most, or the fall-back if there was one."""
    action = FaceAction(
        tracks.to_face(max(track.observations, key=lambda s: s.confidence)),
        keys[track.number],
        keep=track.keep,
        method=track.method,
        reason=track.reason,
    )
    # None: wholly outside the spans.
    return tally.face_result(track.number, action) or FaceResult(
        action, Done.KEPT, reason="outside the time ranges"
    )
