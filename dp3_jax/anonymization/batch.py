"""Many photos, one after the other: what the command does with its files."""

import dataclasses
import pathlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from dp3_jax.anonymization import outputs, secrets, sidecar
from dp3_jax.anonymization.anonymize import Anonymizer, Result
from dp3_jax.anonymization.boxes import Boxes
from dp3_jax.anonymization.keeping import Keeper
from dp3_jax.anonymization.photos import read_photo, write_photo
from dp3_jax.anonymization.plans import Outcome, Plan, Settings, plan_faces
from dp3_jax.anonymization.preview import write_preview
from dp3_jax.errors import UserError

DONE, INCOMPLETE = 0, 1  # exit statuses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to do with each photo.

    Attributes:
      secret: what new faces are drawn from; None for a fresh one for each photo.
      boxes: file with faces instead of detection.
      faces: sidecar with faces instead of detection, of the one photo.
      overrides: settings given by the user, which go before those of a sidecar.
      keep: rules of faces to leave.
      sidecar: write one beside each result.
      preview: write before | boxes | after beside each result.
      keep_metadata: write the safe subset of EXIF.
    """

    secret: bytes | None = None
    boxes: str | None = None
    faces: str | None = None
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    keep: tuple[str, ...] = ()
    sidecar: bool = False
    preview: bool = False
    keep_metadata: bool = False


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of one photo, without its pixels; `error` is empty when it was written."""

    task: outputs.Task
    seconds: float
    outcomes: tuple[Outcome, ...] = ()
    error: str = ""
    notes: tuple[str, ...] = ()


class Batch:
    """Everything that is loaded once for all photos."""

    def __init__(self, anonymizer: Anonymizer, options: Options):
        """Loads what is needed, so that what is missing is said before the first photo.

        Raises:
          UserError: a file of the options or a model is missing or wrong.
        """
        self._anonymizer = anonymizer
        self._options = options
        self._boxes = Boxes(options.boxes) if options.boxes else None
        finds = self._boxes is None and options.faces is None
        if finds:
            _ = anonymizer.detector
        self._keeper = None
        if options.keep:
            self._keeper = Keeper(options.keep, anonymizer.detector if finds else None)
        if anonymizer.settings.method == "generate" and options.faces is None:
            _ = anonymizer.generator

    def check(self, tasks: Sequence[outputs.Task]) -> None:
        """Raises UserError where the options cannot be meant for these photos."""
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

    def process(self, task: outputs.Task) -> Report:
        """Reads, anonymizes and writes one photo; whatever goes wrong is in the report."""
        start = time.monotonic()
        try:
            photo = read_photo(task.source)
            plans, settings, notes = self._plans(task, photo.pixels)
            result = self._anonymizer.render(photo.pixels, plans, settings)
            after = photo.with_pixels(result.frame)
            write_photo(task.target, after, keep_metadata=self._options.keep_metadata)
            self._write_extras(task, photo.pixels, result, settings)
        except UserError as error:
            return Report(task, time.monotonic() - start, error=str(error))
        except Exception as error:  # one photo that hits a bug does not stop a thousand others
            reason = " ".join(str(error).split())
            message = f"{task.source}: {type(error).__name__}: {reason} (please report this)"
            return Report(task, time.monotonic() - start, error=message)
        outcomes = tuple(result.outcomes)
        return Report(task, time.monotonic() - start, outcomes, notes=notes)

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
    """Beside the result: NAME.EXT.faces.json."""
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
    with tqdm.tqdm(tasks, unit="photo", disable=None if show_progress else True) as progress:
        for task in progress:
            report = batch.process(task)
            reports.append(report)
            for line in _remarks(report):
                tqdm.tqdm.write(line, file=sys.stderr)
    return reports


def _remarks(report: Report) -> list[str]:
    if report.error:
        return [f"skipped: {report.error}"]
    lines = [f"note: {report.task.source}: {note}" for note in report.notes]
    for outcome in report.outcomes:
        if outcome.fell_back:
            x, y = (round(v) for v in outcome.plan.face.box[:2])
            lines.append(f"covered: {report.task.source}, face at {x},{y}: {outcome.reason}")
    return lines


def exit_status(reports: Sequence[Report]) -> int:
    """DONE, or INCOMPLETE when a photo was skipped or a face had to be covered instead of replaced."""
    bad = any(r.error or any(o.fell_back for o in r.outcomes) for r in reports)
    return INCOMPLETE if bad else DONE


def summarize(reports: Sequence[Report], seconds: float) -> dict[str, Any]:
    """Numbers of a run, for people (`summary_line`) and for --json."""
    done = [r for r in reports if not r.error]
    counts = Counter(outcome.done for r in done for outcome in r.outcomes)
    return {
        "photos": len(done),
        "skipped": len(reports) - len(done),
        "without_faces": sum(not r.outcomes for r in done),
        "faces": sum(counts.values()),
        "done": dict(sorted(counts.items())),
        "fallbacks": counts["covered"],
        "seconds": round(seconds, 3),
    }


def summary_line(summary: dict[str, Any], others: int) -> str:
    """One line for the console."""
    parts = [_count(summary["photos"], "photo")]
    faces = _count(summary["faces"], "face")
    if summary["done"]:
        faces += f" ({', '.join(f'{n} {what}' for what, n in summary['done'].items())})"
    parts.append(faces)
    if summary["without_faces"]:
        parts.append(f"{_count(summary['without_faces'], 'photo')} in which no face was found")
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
    if options.sidecar:
        entry["sidecar"] = str(sidecar_path(report.task))
    if options.preview:
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
