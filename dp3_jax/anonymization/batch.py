"""Many photos and videos, one after the other: what the command does with its files."""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

from dp3_jax import files
from dp3_jax.anonymization import outputs, records, secrets, sidecar
from dp3_jax.anonymization.anonymize import Anonymizer
from dp3_jax.anonymization.boxes import Boxes
from dp3_jax.anonymization.keeping import Keeper
from dp3_jax.anonymization.photos import Photo, container_of, read_photo, replace_file
from dp3_jax.anonymization.plans import Outcome, Plan, Settings
from dp3_jax.anonymization.preview import write_preview
from dp3_jax.anonymization.reports import Report, preview_path, remarks, sidecar_path
from dp3_jax.errors import UserError
from dp3_jax.video.names import is_video_name
from dp3_jax.video.stages import Progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to do with each photo and video.

    Attributes:
      secret: what new faces are drawn from; None for a fresh one for each photo.
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

    secret: bytes | None = None
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
        if finds:
            _ = anonymizer.detector
        self._keeper = None
        if options.keep:
            self._keeper = Keeper(options.keep, anonymizer.detector if finds else None)
        self._record_options = records.RecordOptions(
            anonymizer=anonymizer,
            keeper=self._keeper,
            keep_metadata=options.keep_metadata,
            mark=options.mark,
        )
        if anonymizer.settings.method == "generate" and options.faces is None:
            _ = anonymizer.generator if not photos else anonymizer.renderer

    def check(self, tasks: Sequence[outputs.Task]) -> None:
        """Raises UserError where the options cannot be meant for these photos."""
        if len(tasks) > 1 and self._options.boxes and any(task.is_video for task in tasks):
            raise UserError(
                f"--boxes {self._options.boxes} with a video takes one input, not {len(tasks)}"
            )
        if len(tasks) > 1 and self._boxes is not None and not self._boxes.names_photos:
            raise UserError(
                f"{self._options.boxes} does not say which of the {len(tasks)} photos its boxes belong to; "
                "add their file names"
            )
        photos = [task for task in tasks if not task.is_video]
        if self._options.preview:
            extras = [(preview_path(task), outputs.is_preview) for task in photos]
            outputs.check_extras(tasks, extras, "--preview")
        if self._options.sidecar:
            extras = [(sidecar_path(task), sidecar.is_sidecar) for task in photos]
            outputs.check_extras(tasks, extras, "--sidecar")

    def _plans(
        self, task: outputs.Task, photo: Photo
    ) -> tuple[list[Plan], Settings, tuple[str, ...]]:
        """What to do with the faces of a photo, and remarks on it."""
        options, settings = self._options, self._anonymizer.settings
        secret = options.secret or secrets.fresh_secret()
        if options.faces is not None:
            plans, settings, used = sidecar.read(options.faces, photo.pixels.shape, secret)
            settings = dataclasses.replace(settings, **options.overrides)
            return plans, settings, self._other_weights(used, settings)
        faces = None if self._boxes is None else self._boxes.of(task.source)
        return records.plan_record(photo, self._record_options, secret, faces), settings, ()

    def _other_weights(self, used: str | None, settings: Settings) -> tuple[str, ...]:
        if used and settings.method == "generate" and used != self._anonymizer.renderer.fingerprint:
            return (f"{self._options.faces} was made with other weights: the faces will differ",)
        return ()

    def process(
        self,
        task: outputs.Task,
        progress: Progress | None = None,
        read: Callable[[], Photo] | None = None,
    ) -> Report:
        """Reads, anonymizes and writes one file; whatever goes wrong is in the report.

        Args:
          task: the file.
          progress: of a video, see `video.job`.
          read: gives the photo, or raises as `read_photo`; None to read it here.
        """
        start = time.monotonic()
        try:
            if task.is_video:
                outcomes, summary = self._video(task, progress or (lambda *_: None))
                spent = time.monotonic() - start
                return Report(
                    task,
                    spent,
                    tuple(outcomes),
                    notes=(*summary.notes, *self._left_out()),
                    frames=summary.frames,
                    damage=summary.damage,
                )
            outcomes, notes = self._photo(task, read)
        except UserError as error:
            return Report(task, time.monotonic() - start, error=str(error))
        except Exception as error:  # one file that hits a bug does not stop a thousand others
            reason = " ".join(str(error).split())
            message = f"{task.source}: {type(error).__name__}: {reason} (please report this)"
            return Report(task, time.monotonic() - start, error=message)
        return Report(task, time.monotonic() - start, outcomes, notes=notes)

    def _photo(
        self, task: outputs.Task, read: Callable[[], Photo] | None
    ) -> tuple[tuple[Outcome, ...], tuple[str, ...]]:
        """Reads, anonymizes and writes a photo; what was done with its faces, and remarks."""
        container = container_of(task.target)
        photo = read() if read is not None else read_photo(task.source)
        plans, settings, notes = self._plans(task, photo)
        record = records.render_record(
            photo,
            plans,
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
        return tuple(record.result.outcomes), notes

    def _left_out(self) -> tuple[str, ...]:
        return ("--preview is of photos; none was written",) if self._options.preview else ()

    def _video(self, task: outputs.Task, progress: Progress) -> tuple[list[Outcome], Any]:
        from dp3_jax.video import job  # loads FFmpeg

        options = self._options
        request = job.Request(
            source=task.source,
            target=task.target,
            secret=options.secret,
            given_boxes=options.boxes,
            given_tracks=options.faces,
            overrides=options.overrides,
            keep_rules=options.keep,
            keeper=self._keeper,
            sidecar=options.sidecar,
            keep_metadata=options.keep_metadata,
            mark=options.mark,
            video=options.video or job.VideoOptions(),
        )
        if options.one_pass:
            from dp3_jax.video import one_pass

            return one_pass.process(request, self._anonymizer, progress)
        return job.process(request, self._anonymizer, progress)


def run(batch: Batch, tasks: Sequence[outputs.Task], show_progress: bool) -> list[Report]:
    """Processes all photos in order, naming the failures on standard error as they come."""
    import tqdm

    batch.check(tasks)
    reports = []
    # disable=None: no bar where standard error is not a terminal.
    hidden = None if show_progress else True
    with (
        tqdm.tqdm(tasks, unit="file", disable=hidden) as progress,
        futures.ThreadPoolExecutor(1) as pool,
    ):
        ahead = _read_ahead(tasks, pool)
        for task in progress:
            with _FrameBar(task, hidden) as frames:
                report = batch.process(task, frames.update, next(ahead))
            reports.append(report)
            for line in remarks(report):
                tqdm.tqdm.write(line, file=sys.stderr)
    return reports


def _read_ahead(
    tasks: Sequence[outputs.Task], pool: futures.Executor
) -> Iterator[Callable[[], Photo] | None]:
    """What gives the photo of each task, and begins to read the next; None for videos."""

    def begin(task: outputs.Task) -> Callable[[], Photo] | None:
        return None if task.is_video else pool.submit(read_photo, task.source).result

    following = begin(tasks[0]) if tasks else None
    for index in range(len(tasks)):
        current = following
        following = begin(tasks[index + 1]) if index + 1 < len(tasks) else None
        yield current


class _FrameBar:
    """The progress of a video, below that of all files: a bar for each pass, with frames a second and ETA."""

    def __init__(self, task: outputs.Task, disable: bool | None):
        self._name = task.source.name
        self._disable = disable
        self._what = ""
        self._bar: Any = None

    def update(self, what: str, count: int, total: int | None) -> None:
        """`count` more frames, of `total`, of the pass called `what`."""
        import tqdm

        if what != self._what:
            self._close()
            self._what = what
            self._bar = tqdm.tqdm(
                desc=f"{self._name}: {what}",
                total=total,
                unit="frame",
                leave=False,
                disable=self._disable,
            )
        self._bar.update(count)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "_FrameBar":
        return self

    def __exit__(self, *exception) -> None:
        self._close()
