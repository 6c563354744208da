"""Many photos and videos, one after the other: what the command does with its files."""

import dataclasses
import pathlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from dp3_jax import files
from dp3_jax.anonymization import outputs, secrets, sidecar
from dp3_jax.anonymization.anonymize import Anonymizer, Result
from dp3_jax.anonymization.boxes import Boxes
from dp3_jax.anonymization.keeping import Keeper
from dp3_jax.anonymization.photos import read_photo, write_photo
from dp3_jax.anonymization.plans import Outcome, Plan, Settings, plan_faces
from dp3_jax.anonymization.preview import write_preview
from dp3_jax.errors import UserError
from dp3_jax.video.names import is_video_name
from dp3_jax.video.stages import Progress

DONE, INCOMPLETE = 0, 1  # exit statuses


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


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of one photo or video, without its pixels; `error` is empty when it was written.

    The outcomes are of its faces, in a video of its tracks; `frames` is 0 for a photo. `damage` says what of
    the file could not be read.
    """

    task: outputs.Task
    seconds: float
    outcomes: tuple[Outcome, ...] = ()
    error: str = ""
    notes: tuple[str, ...] = ()
    frames: int = 0
    damage: str = ""


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
        if anonymizer.settings.method == "generate" and options.faces is None:
            _ = anonymizer.generator

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

    def _plans(
        self, task: outputs.Task, frame: np.ndarray
    ) -> tuple[list[Plan], Settings, tuple[str, ...]]:
        """What to do with the faces of a photo, and remarks on it."""
        options, settings = self._options, self._anonymizer.settings
        secret = options.secret or secrets.fresh_secret()
        if options.faces is not None:
            plans, settings, used = sidecar.read(options.faces, frame.shape, secret)
            settings = dataclasses.replace(settings, **options.overrides)
            return plans, settings, self._other_weights(used, settings)
        if self._boxes is not None:
            faces = self._boxes.of(task.source)
        else:
            faces = self._anonymizer.detector.detect(frame)
        plans = plan_faces(faces, secret)
        if self._keeper is not None:
            reasons = self._keeper.decide(frame, faces)
            plans = [
                dataclasses.replace(plan, keep=bool(reason), reason=reason)
                for plan, reason in zip(plans, reasons, strict=True)
            ]
        return plans, settings, ()

    def _other_weights(self, used: str | None, settings: Settings) -> tuple[str, ...]:
        if (
            used
            and settings.method == "generate"
            and used != self._anonymizer.generator.fingerprint
        ):
            return (f"{self._options.faces} was made with other weights: the faces will differ",)
        return ()

    def process(self, task: outputs.Task, progress: Progress | None = None) -> Report:
        """Reads, anonymizes and writes one file; whatever goes wrong is in the report.

        Args:
          task: the file.
          progress: of a video, see `video.job`.
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
            photo = read_photo(task.source)
            plans, settings, notes = self._plans(task, photo.pixels)
            result = self._anonymizer.render(photo.pixels, plans, settings)
            after = photo.with_pixels(result.frame)
            write_photo(task.target, after, keep_metadata=self._options.keep_metadata)
            self._write_extras(task, photo.pixels, result, settings)
        except UserError as error:
            return Report(task, time.monotonic() - start, error=str(error))
        except Exception as error:  # one file that hits a bug does not stop a thousand others
            reason = " ".join(str(error).split())
            message = f"{task.source}: {type(error).__name__}: {reason} (please report this)"
            return Report(task, time.monotonic() - start, error=message)
        outcomes = tuple(result.outcomes)
        return Report(task, time.monotonic() - start, outcomes, notes=notes)

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
            video=options.video or job.VideoOptions(),
        )
        if options.one_pass:
            from dp3_jax.video import one_pass

            return one_pass.process(request, self._anonymizer, progress)
        return job.process(request, self._anonymizer, progress)

    def _write_extras(
        self, task: outputs.Task, before: np.ndarray, result: Result, settings: Settings
    ) -> None:
        if self._options.sidecar:
            drawn = any(outcome.done == "generated" for outcome in result.outcomes)
            fingerprint = self._anonymizer.generator.fingerprint if drawn else None
            content = sidecar.describe(before.shape, result.outcomes, settings, fingerprint)
            sidecar.write(sidecar_path(task), content)
        if self._options.preview:
            write_preview(preview_path(task), before, result)


def sidecar_path(task: outputs.Task) -> pathlib.Path:
    """Beside the result: NAME.EXT.faces.json, of a video NAME.EXT.tracks.json."""
    if task.is_video:
        from dp3_jax.video import job

        return job.sidecar_path(task.target)
    return task.target.with_name(task.target.name + sidecar.SUFFIX)


def preview_path(task: outputs.Task) -> pathlib.Path:
    """Beside the result: NAME_preview.png."""
    return task.target.with_name(f"{task.target.stem}_preview.png")


def run(batch: Batch, tasks: Sequence[outputs.Task], show_progress: bool) -> list[Report]:
    """Processes all photos in order, naming the failures on standard error as they come."""
    import tqdm

    batch.check(tasks)
    reports = []
    # disable=None: no bar where standard error is not a terminal.
    hidden = None if show_progress else True
    with tqdm.tqdm(tasks, unit="file", disable=hidden) as progress:
        for task in progress:
            with _FrameBar(task, hidden) as frames:
                report = batch.process(task, frames.update)
            reports.append(report)
            for line in _remarks(report):
                tqdm.tqdm.write(line, file=sys.stderr)
    return reports


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


def _remarks(report: Report) -> list[str]:
    if report.error:
        return [f"skipped: {report.error}"]
    lines = [f"note: {report.task.source}: {note}" for note in report.notes]
    if report.damage:
        lines.append(f"damaged: {report.damage}")
    for outcome in report.outcomes:
        if outcome.fell_back:
            x, y = (round(v) for v in outcome.plan.face.box[:2])
            lines.append(f"covered: {report.task.source}, face at {x},{y}: {outcome.reason}")
    return lines


def exit_status(reports: Sequence[Report]) -> int:
    """DONE, or INCOMPLETE: a file skipped or damaged, or a face covered because no new one could be made."""
    bad = any(r.error or r.damage or any(o.fell_back for o in r.outcomes) for r in reports)
    return INCOMPLETE if bad else DONE


def summarize(reports: Sequence[Report], seconds: float) -> dict[str, Any]:
    """Numbers of a run, for people (`summary_line`) and for --json."""
    done = [r for r in reports if not r.error]
    counts = Counter(outcome.done for r in done for outcome in r.outcomes)
    videos = [r for r in done if r.task.is_video]
    return {
        "photos": len(done) - len(videos),
        "videos": len(videos),
        "frames": sum(r.frames for r in videos),
        "skipped": len(reports) - len(done),
        "without_faces": sum(not r.outcomes for r in done),
        "faces": sum(counts.values()),
        "done": dict(sorted(counts.items())),
        "fallbacks": counts["covered"],
        "seconds": round(seconds, 3),
    }


def summary_line(summary: dict[str, Any], others: int) -> str:
    """One line for the console."""
    parts = []
    if summary["photos"] or not summary["videos"]:
        parts.append(_count(summary["photos"], "photo"))
    if summary["videos"]:
        videos = _count(summary["videos"], "video")
        parts.append(f"{videos} ({_count(summary['frames'], 'frame')})")
    faces = _count(summary["faces"], "face")
    if summary["done"]:
        faces += f" ({', '.join(f'{n} {what}' for what, n in summary['done'].items())})"
    parts.append(faces)
    if summary["without_faces"]:
        parts.append(f"{_count(summary['without_faces'], 'file')} in which no face was found")
    if summary["skipped"]:
        parts.append(f"{_count(summary['skipped'], 'file')} skipped")
    if others:
        parts.append(f"{_count(others, 'other file')} in the folders left alone")
    return f"{', '.join(parts)}; {summary['seconds']:.1f} s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def as_json(report: Report, options: Options) -> dict[str, Any]:
    """A report for --json."""
    entry: dict[str, Any] = {
        "input": str(report.task.source),
        "output": None if report.error else str(report.task.target),
        "seconds": round(report.seconds, 3),
    }
    if report.error:
        return {**entry, "error": report.error}
    if report.task.is_video:
        entry["frames"] = report.frames
        entry["damage"] = report.damage
    if options.sidecar:
        entry["sidecar"] = str(sidecar_path(report.task))
    if options.preview and not report.task.is_video:
        entry["preview"] = str(preview_path(report.task))
    faces = [
        {
            "box": [round(v, 1) for v in outcome.plan.face.box],
            "confidence": round(outcome.plan.face.confidence, 3),
            "done": outcome.done,
            "reason": outcome.reason,
        }
        for outcome in report.outcomes
    ]
    return {**entry, "faces": faces, "notes": list(report.notes)}
