"""One photo or video of many: what the command does with a file."""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.common.stages import Progress
from dp3_jax.media.names import is_video_name
from dp3_jax.media.photos import Photo, container_of, decode_photo, read_bytes, replace_file
from dp3_jax.pipelines import manifest, outputs, records, sidecar
from dp3_jax.pipelines.allowlist import Allowlist
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.boxes import Boxes
from dp3_jax.pipelines.preview import write_preview
from dp3_jax.pipelines.reports import Report, preview_path, sidecar_path
from dp3_jax.replacement import key_derivation
from dp3_jax.replacement.face_actions import FaceAction, FaceResult, Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to do with each photo and video.

    Attributes:
      master_key: what new faces are drawn from; None for a fresh one for each photo.
      boxes: file with faces instead of detection.
      faces: sidecar with faces instead of detection, of the one photo.
      overrides: settings given by the user, which go before those of a sidecar.
      keep: rules of faces to leave.
      sidecar: write one beside each result.
      preview: write before | boxes | after beside each result.
      keep_metadata: write the safe subset of EXIF; of a video the time and the camera's name.
      mark: say in each result that holds generated faces that it does (see `marking`).
      video: what only videos need; its class is in video.job, which takes time to import. None: defaults.
      one_pass: read each video once, and write it meanwhile.
    """

    master_key: bytes | None = None
    boxes: str | None = None
    faces: str | None = None
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    keep: tuple[str, ...] = ()
    sidecar: bool = False
    preview: bool = False
    keep_metadata: bool = False
    mark: bool = True
    video: Any = None
    one_pass: bool = False


@dataclasses.dataclass(frozen=True)
class PipeTask(outputs.Task):
    """A video that is read from standard input, written to standard output, or both: "-"."""

    @property
    def is_video(self) -> bool:
        """Whatever its names."""
        return True


def pipe_task(source: str, target: str | None) -> PipeTask:
    """The task with "-" as one of its ends.

    Raises:
      UserError: there is no target, it does not end like a video, or it is a terminal or closed.
    """
    if target is None:
        raise UserError("say where the video goes: -o FILE, or -o - for standard output")
    if target != "-" and not is_video_name(target):
        raise UserError(f"-o {target} does not end like a video")
    if source == "-":
        files.standard(sys.stdin, "standard input")
    if target == "-" and files.standard(sys.stdout, "standard output").isatty():
        raise UserError("-o - writes a video to this terminal; lead it on: ... -o - > FILE")
    return PipeTask(pathlib.Path(source), pathlib.Path(target))


def check(tasks: Sequence[outputs.Task], options: Options, boxes: Boxes | None) -> None:
    """Raises UserError where the options cannot be meant for these files; `boxes` are those of photos."""
    if len(tasks) > 1 and options.boxes and any(task.is_video for task in tasks):
        raise UserError(f"--boxes {options.boxes} with a video takes one input, not {len(tasks)}")
    if len(tasks) > 1 and boxes is not None and not boxes.names_photos:
        raise UserError(
            f"{options.boxes} does not say which of the {len(tasks)} photos its boxes belong to; "
            "add their file names"
        )
    photos = [task for task in tasks if not task.is_video]
    if options.preview:
        extras = [(preview_path(task), outputs.is_preview) for task in photos]
        outputs.check_extras(tasks, extras, "--preview")
    if options.sidecar:
        extras = [(sidecar_path(task), sidecar.is_sidecar) for task in photos]
        outputs.check_extras(tasks, extras, "--sidecar")


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A photo that was read, and what its file is known by."""

    photo: Photo
    print: manifest.FilePrint


def read_source(path: pathlib.Path) -> Source:
    """Reads a photo; raises as `read_photo`."""
    content = read_bytes(path)
    return Source(decode_photo(content, str(path)), manifest.print_of(path, content))


def _prints(task: outputs.Task) -> tuple[manifest.FilePrint, manifest.FilePrint] | None:
    """What a video's files are known by, without reading them; None for pipes and numbered pictures."""
    if not (task.source.is_file() and task.target.is_file()):
        return None
    return manifest.print_of(task.source), manifest.print_of(task.target)


class Batch:
    """Everything that is loaded once for all files."""

    def __init__(self, anonymizer: Anonymizer, options: Options, photos: bool = True):
        """Loads what is needed, so that what is missing is said before the first file.

        Args:
          anonymizer: settings and models.
          options: what to do with each file.
          photos: whether there is a photo among the files; a video's boxes have another form.

        Raises:
          UserError: a file of the options or a model is missing or wrong.
        """
        self._anonymizer = anonymizer
        self._options = options
        self._boxes = Boxes(options.boxes) if options.boxes and photos else None
        finds = options.boxes is None and options.faces is None
        if finds and anonymizer.targets.face:
            _ = anonymizer.detector
        if finds and not anonymizer.targets.only_faces:
            anonymizer.finder.load()
        self._allowed = None
        if options.keep:
            detects = finds and anonymizer.targets.face
            self._allowed = Allowlist(options.keep, anonymizer.detector if detects else None)
        self._record_options = records.RecordOptions(
            anonymizer=anonymizer,
            allowed=self._allowed,
            keep_metadata=options.keep_metadata,
            mark=options.mark,
        )
        if anonymizer.settings.method == "generate" and options.faces is None:
            _ = anonymizer.generator if not photos else anonymizer.renderer

    @property
    def decided(self) -> tuple[str, str]:
        """As of `Anonymizer.decided`."""
        return self._anonymizer.decided

    def _actions(
        self, task: outputs.Task, photo: Photo
    ) -> tuple[list[FaceAction], Settings, tuple[str, ...]]:
        """What to do with the faces of a photo, and remarks on it."""
        options, settings = self._options, self._anonymizer.settings
        master_key = options.master_key or key_derivation.new_master_key()
        if options.faces is not None:
            actions, settings, used = sidecar.read(options.faces, photo.pixels.shape, master_key)
            settings = dataclasses.replace(settings, **options.overrides)
            return actions, settings, self._other_weights(used, settings)
        faces = None if self._boxes is None else self._boxes.of(task.source)
        return records.action_list(photo, self._record_options, master_key, faces), settings, ()

    def _other_weights(self, used: str | None, settings: Settings) -> tuple[str, ...]:
        if used and settings.method == "generate" and used != self._anonymizer.renderer.fingerprint:
            return (f"{self._options.faces} was made with other weights: the faces will differ",)
        return ()

    def process(
        self,
        task: outputs.Task,
        progress: Progress | None = None,
        read: Callable[[], Source] | None = None,
    ) -> Report:
        """Reads, anonymizes and writes one file; whatever goes wrong is in the report.

        Args:
          task: the file.
          progress: of a video, see `video.job`.
          read: gives the photo, or raises as `read_source`; None to read it here.
        """
        start = time.monotonic()
        try:
            if task.is_video:
                face_results, summary = self._video(task, progress or (lambda *_: None))
                spent = time.monotonic() - start
                return Report(
                    task,
                    spent,
                    tuple(face_results),
                    notes=(*((task.note,) if task.note else ()), *summary.notes, *self._left_out()),
                    frames=summary.frames,
                    damage=summary.damage,
                    prints=_prints(task),
                )
            return self._photo(task, start, (read or (lambda: read_source(task.source)))())
        except UserError as error:
            return Report(task, time.monotonic() - start, error=str(error))
        except Exception as error:  # one file that hits a bug does not stop a thousand others
            reason = " ".join(str(error).split())
            message = f"{task.source}: {type(error).__name__}: {reason} (please report this)"
            return Report(task, time.monotonic() - start, error=message)

    def _photo(self, task: outputs.Task, start: float, source: Source) -> Report:
        """Anonymizes and writes a photo; `start` is when it was begun."""
        container = container_of(task.target)
        actions, settings, notes = self._actions(task, source.photo)
        record = records.render_record(
            source.photo,
            actions,
            settings,
            self._record_options,
            container=container,
            name=str(task.target),
        )
        if record.unmarked:
            notes += (f"{task.target.suffix} files cannot say that a face was generated",)
        # The result comes last: where it is, all of the photo is done.
        if self._options.sidecar:
            sidecar.write(sidecar_path(task), record.sidecar)
        if self._options.preview:
            write_preview(preview_path(task), record.before, record.result)
        replace_file(task.target, record.content)
        return Report(
            task,
            time.monotonic() - start,
            tuple(record.result.face_results),
            notes=notes,
            prints=(source.print, manifest.print_of(task.target, record.content)),
        )

    def _left_out(self) -> tuple[str, ...]:
        return ("--preview is of photos; none was written",) if self._options.preview else ()

    def _video(self, task: outputs.Task, progress: Progress) -> tuple[list[FaceResult], Any]:
        from dp3_jax.pipelines.video import job  # loads FFmpeg

        options = self._options
        if options.one_pass and not self._anonymizer.targets.only_faces:
            raise UserError("--one-pass knows faces only; leave --target or --one-pass out")
        request = job.Request(
            source=task.source,
            target=task.target,
            master_key=options.master_key,
            given_boxes=options.boxes,
            given_tracks=options.faces,
            overrides=options.overrides,
            allowlist_rules=options.keep,
            allowed=self._allowed,
            sidecar=options.sidecar,
            keep_metadata=options.keep_metadata,
            mark=options.mark,
            video=options.video or job.VideoOptions(),
        )
        if options.one_pass:
            from dp3_jax.pipelines.video import one_pass

            return one_pass.process(request, self._anonymizer, progress)
        return job.process(request, self._anonymizer, progress)
