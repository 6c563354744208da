"""Anonymizing one video file: two passes, then one file put together from what they left.

Nothing is written under the target's name before all frames are done. What a killed job leaves is a hidden
folder beside the target, with which the same command goes on.
"""

import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from concurrent import futures
from fractions import Fraction
from typing import Any

import dp3_jax
from dp3_jax.common.stages import Progress, Stage
from dp3_jax.detection import tracks
from dp3_jax.detection.tracks import Tracking
from dp3_jax.detection.vector_meter import VectorMeter, meter_for
from dp3_jax.media import image_sequences
from dp3_jax.media.names import as_one
from dp3_jax.media.video import encoding, sequence_writing
from dp3_jax.media.video.reading import VideoInfo
from dp3_jax.pipelines.allowlist import Allowlist
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.video import (
    backdrops,
    detection_pass,
    face_tracks,
    rendering_pass,
    target_pass,
    track_file,
    work_folder,
)
from dp3_jax.pipelines.video.face_tracks import Given, Tracked
from dp3_jax.pipelines.video.output import Kept, Output, choose_output
from dp3_jax.pipelines.video.time_ranges import TimeRange
from dp3_jax.replacement import key_derivation
from dp3_jax.replacement.clip_rendering import Renderer
from dp3_jax.replacement.coherence import Coherence
from dp3_jax.replacement.face_actions import Done, FaceAction, FaceResult, Settings
from dp3_jax.replacement.generation import FaceCheck, FaceRenderer
from dp3_jax.replacement.other_targets import OutlineReader


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

    @property
    def given(self) -> Given:
        """What is said of the faces."""
        return Given(
            boxes=self.given_boxes,
            tracks=self.given_tracks,
            overrides=self.overrides,
            allowed=self.allowed,
        )

    @property
    def kept(self) -> Kept:
        """What goes into the result besides frames."""
        return Kept(
            audio=self.video.audio, subtitles=self.video.subtitles, metadata=self.keep_metadata
        )


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


def _rule_identity(rule: str) -> Any:
    """Tells a rule of --keep from others; of a photo also from an earlier one of its name."""
    photo = pathlib.Path(rule)
    return [rule, work_folder.source_identity(photo) if photo.is_file() else None]


def _identity(
    request: Request, given: Sequence[str], anonymizer: Anonymizer, output: Output
) -> dict[str, Any]:
    """What a work folder must agree with to be gone on with; a record of the whole request."""
    key = request.master_key
    targets = anonymizer.targets
    return {
        **({} if targets.only_faces else {"targets": repr(targets)}),
        "source": work_folder.source_identity(request.source),
        "given": [work_folder.source_identity(pathlib.Path(file)) for file in given],
        "version": dp3_jax.__version__,
        "settings": dataclasses.asdict(anonymizer.settings),
        "least": anonymizer.min_confidence,
        "overrides": dict(request.overrides),
        "keep": [_rule_identity(rule) for rule in request.allowlist_rules],
        "video": repr(request.video),
        "encoding": repr(output.encoding),
        "secret": None if key is None else key_derivation.track_key(key, 0).hex(),
    }


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
      request: what to do; taken apart here, each part of the work is given what it needs of it.
      anonymizer: detector, generator and settings.
      progress: told how many frames are done, of each Stage.

    Returns:
      One outcome for each track (the worst of its frames), and a summary.

    Raises:
      UserError: the video cannot be read or written, or what was given does not fit it.
    """
    source, target, video, given = request.source, request.target, request.video, request.given
    settings, encoder = anonymizer.settings, video.encoder
    opened = sequence_writing.open_input(source, video.rate, video.deinterlace)
    marks = {"mark": request.mark, "generates": settings.method == "generate"}
    output = choose_output(opened, target, encoder, request.kept, **marks)
    info, meter = output.info, _meter(anonymizer, video.motion, output.info.rate)
    identity = _identity(request, given.files, anonymizer, output)
    with (
        work_folder.work_folder(target, identity) as folder,
        futures.ThreadPoolExecutor(1) as pool,
    ):
        started, master_key = time.monotonic(), request.master_key or folder.master_key()
        preparation = _Preparation(anonymizer, pool)
        find = functools.partial(
            face_tracks.find_tracks,
            info,
            anonymizer.min_confidence,
            given.allowed,
            folder,
            lambda count: progress(Stage.DETECTION, count, info.frames_estimate),
            saw=preparation.saw,
            meter=meter,
        )
        faces = face_tracks.tracked(given, info, master_key, settings, meter=meter, find=find)
        found = _with_targets(faces, info, anonymizer, folder, master_key)
        middle = time.monotonic()
        shown = detection_pass.treated(found.tracking, found.settings)
        parts = preparation.parts() if _makes(shown, found.settings) else (None, None)
        made = parts, anonymizer.finder.outline
        rendering = _rendering_pass(output, shown, found, made, video, folder=folder)
        segments, tally = rendering.run(
            lambda count: progress(Stage.RENDERING, count, found.tracking.frames)
        )
        face_results = [_face_result(track, tally, found.keys) for track in shown.tracks]
        generated = any(face_result.done == Done.GENERATED for face_result in face_results)
        remarks = output.assemble(folder.path / "result", segments, rendering, generated=generated)
        work_folder.check_unchanged(source, identity["source"])
        if request.sidecar:
            _write_sidecar(folder, sidecar_path(target), found, parts[0], anonymizer)
        folder.release("result", as_one(target))
        seconds = middle - started, time.monotonic() - middle
        notes = (*_other_weights(found, anonymizer, given.tracks), *remarks)
    frames, damage = found.tracking.frames, rendering.damage
    return face_results, Summary(frames, seconds, folder.resumed, notes, damage)


def _with_targets(
    found: Tracked,
    info: VideoInfo,
    anonymizer: Anonymizer,
    folder: work_folder.WorkFolder,
    master_key: bytes,
) -> Tracked:
    """What was found, with all targets that are no faces."""
    if anonymizer.targets.only_faces or found.is_given:
        return found
    return target_pass.with_targets(
        found,
        info,
        anonymizer.targets,
        anonymizer.finder,
        folder=folder,
        master_key=master_key,
    )


def _meter(anonymizer: Anonymizer, motion: str, rate: Fraction) -> VectorMeter | None:
    """What measures the faces' vectors; the builtin generator takes none."""
    told = "none" if anonymizer.identity.wanted == "builtin" else motion
    return meter_for(anonymizer.settings.method, told, float(rate))


def _rendering_pass(
    output: Output,
    shown: Tracking,
    found: Tracked,
    made: tuple[tuple[FaceRenderer | None, FaceCheck | None], OutlineReader],
    video: VideoOptions,
    *,
    folder: work_folder.WorkFolder,
) -> rendering_pass.RenderingPass:
    """Of the tracks that are `shown`, of those that were found; `made`: new faces, their check, outlines."""
    (face_renderer, is_face), outlines = made
    renderer = Renderer(
        found.settings,
        face_renderer,
        found.keys,
        video.coherence,
        is_face,
        motion=video.motion,
        cuts=shown.cuts,
        outlines=outlines,
        backdrops=backdrops.Backdrops(output.info, shown),
    )
    return rendering_pass.RenderingPass(
        output.info,
        shown,
        renderer,
        output.encoding,
        folder,
        weights=_fingerprint(face_renderer),
        times=found.times,
        masked_times=video.masked_times,
    )


def _write_sidecar(
    folder: work_folder.WorkFolder,
    path: pathlib.Path,
    found: Tracked,
    face_renderer: FaceRenderer | None,
    anonymizer: Anonymizer,
) -> None:
    identity = None
    if face_renderer is not None:
        identity = dataclasses.replace(anonymizer.identity, source=face_renderer.identity)
    track_file.write(
        folder.path / "tracks",
        found.tracking,
        found.settings,
        found.keys,
        _fingerprint(face_renderer),
        identity=identity,
    )
    os.replace(folder.path / "tracks", path)


def _fingerprint(face_renderer: FaceRenderer | None) -> str | None:
    return None if face_renderer is None else face_renderer.fingerprint


def _makes(shown: Tracking, settings: Settings) -> bool:
    """Whether any track is to get a new face."""
    return any((t.method or settings.method) == "generate" for t in shown.tracks if not t.keep)


def _other_weights(found: Tracked, anonymizer: Anonymizer, file: str | None) -> tuple[str, ...]:
    """A remark where a given file of tracks was rendered with other weights than those at hand."""
    drew = found.generator is not None and found.settings.method == "generate"
    if not drew or found.generator == anonymizer.renderer.fingerprint:
        return ()
    return (f"{file} was made with other weights: the faces will differ",)


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
