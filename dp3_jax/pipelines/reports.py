"""What became of many photos and videos: for people, for --json, and as an exit status."""

import dataclasses
import pathlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dp3_jax.common import files
from dp3_jax.detection.kinds import FACE
from dp3_jax.pipelines import outputs
from dp3_jax.pipelines.manifest import FilePrint
from dp3_jax.pipelines.sidecar import SUFFIX
from dp3_jax.replacement.face_actions import Done, FaceResult

COMPLETE, INCOMPLETE = 0, 1  # exit statuses
_MAX_NAMES = 3  # of skipped files for each reason
_MAX_ENDINGS = 5  # of other files in a folder that are named
PERSONS = {
    "prior": "persons of the face prior",
    "bank": "persons of the bank",
    "builtin": "faces of the built-in generator",
}


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of one photo or video, without its pixels; `error` is empty when it was written.

    The outcomes are of its faces, in a video of its tracks; `frames` is 0 for a photo. `damage` says what of
    the file could not be read. `prints` are what the files read and written are known by.
    """

    task: outputs.Task
    seconds: float
    face_results: tuple[FaceResult, ...] = ()
    error: str = ""
    notes: tuple[str, ...] = ()
    frames: int = 0
    damage: str = ""
    prints: tuple[FilePrint, FilePrint] | None = None


def sidecar_path(task: outputs.Task) -> pathlib.Path:
    """Beside the result: NAME.EXT.faces.json, of a video NAME.EXT.tracks.json."""
    if task.is_video:
        from dp3_jax.pipelines.video import job

        return job.sidecar_path(task.target)
    return task.target.with_name(files.fitting(task.target.name, SUFFIX))


def preview_path(task: outputs.Task) -> pathlib.Path:
    """Beside the result: NAME.EXT.preview.png."""
    return task.target.with_name(files.fitting(task.target.name, outputs.PREVIEW_ENDING))


def remarks(report: Report) -> list[str]:
    """Lines for standard error."""
    if report.error:
        source = str(report.task.source)
        which = "" if source in report.error else f"{source}: "
        return [f"skipped: {which}{report.error}"]
    lines = [f"note: {report.task.source}: {note}" for note in report.notes]
    if report.damage:
        lines.append(f"damaged: {report.damage}")
    for face_result in report.face_results:
        if face_result.fell_back:
            x, y = (round(v) for v in face_result.action.face.box[:2])
            kind = face_result.action.face.kind.name
            lines.append(f"covered: {report.task.source}, {kind} at {x},{y}: {face_result.reason}")
    return lines


def manifest_entry(report: Report) -> dict[str, Any]:
    """What a manifest says of a file: see `manifest`."""
    if report.error or report.damage or report.prints is None:
        return {"error": report.error or report.damage or "not a single file"}
    before, after = (dataclasses.asdict(one) for one in report.prints)
    counts = Counter(face_result.done for face_result in report.face_results)
    return {
        "input": before,
        "output": after,
        "faces": len(report.face_results),
        "done": dict(sorted(counts.items())),
        "error": "",
    }


def skipped_summary(reports: Sequence[Report]) -> list[str]:
    """Lines on all files that were skipped, by reason; empty where there are not two."""
    failed = [report for report in reports if report.error]
    if len(failed) < 2:
        return []
    groups: dict[str, list[str]] = {}
    for report in failed:
        reason = report.error
        for path in (report.task.source, report.task.target):
            reason = reason.replace(str(path), "FILE")
        reason = re.sub(r"\d+", "N", reason)
        groups.setdefault(reason, []).append(str(report.task.source))
    lines = [f"skipped {len(failed)} of {_count(len(reports), 'file')}:"]
    for reason, names in sorted(groups.items(), key=lambda group: -len(group[1])):
        more = ", ..." if len(names) > _MAX_NAMES else ""
        lines.append(f"  {len(names)}: {reason} ({', '.join(names[:_MAX_NAMES])}{more})")
    return lines


def exit_status(reports: Sequence[Report]) -> int:
    """COMPLETE or INCOMPLETE: a file skipped or damaged, or a face covered as no new one could be made."""
    bad = any(r.error or r.damage or any(o.fell_back for o in r.face_results) for r in reports)
    return INCOMPLETE if bad else COMPLETE


def summarize_earlier(entries: Sequence[Mapping[str, Any]], left: int) -> dict[str, Any]:
    """Numbers of a run that goes on with an earlier one, beside those of `summarize`.

    Args:
      entries: of the manifest, on files that were done before.
      left: how many files were not begun.
    """
    covered = sum(entry.get("done", {}).get(Done.COVERED, 0) for entry in entries)
    return {"done_before": len(entries), "fallbacks_before": covered, "left": left}


def summarize(
    reports: Sequence[Report], seconds: float, identity: str = "", instead: str = ""
) -> dict[str, Any]:
    """Numbers of a run, for people (`summary_line`) and for --json.

    Args:
      reports: of all files.
      seconds: that they took.
      identity: where the new faces come from.
      instead: why not from where "auto" prefers.
    """
    done = [r for r in reports if not r.error]
    found = [face_result for r in done for face_result in r.face_results]
    counts = Counter(face_result.done for face_result in found)
    kinds = Counter(face_result.action.face.kind.name for face_result in found)
    videos = [r for r in done if r.task.is_video]
    return {
        "photos": len(done) - len(videos),
        "videos": len(videos),
        "frames": sum(r.frames for r in videos),
        "skipped": len(reports) - len(done),
        "without_faces": sum(not r.face_results for r in done),
        "faces": len(found),
        "kinds": dict(sorted(kinds.items())),
        "done": dict(sorted(counts.items())),
        "fallbacks": counts[Done.COVERED],
        "seconds": round(seconds, 3),
        "identity": identity,
        "instead": instead,
    }


def _left_alone(endings: Counter[str]) -> str:
    """How many other files there are, and what they are called."""
    named = [ending or "without ending" for ending, _ in endings.most_common(_MAX_ENDINGS)]
    more = ["..."] if len(endings) > _MAX_ENDINGS else []
    count = _count(endings.total(), "other file")
    return f"{count} in the folders left alone ({', '.join(named + more)})"


def summary_line(summary: dict[str, Any], rest: outputs.Rest) -> str:
    """One line for the console; `rest` is what the folders hold besides."""
    parts = []
    if summary["photos"] or not summary["videos"]:
        parts.append(_count(summary["photos"], "photo"))
    if summary["videos"]:
        videos = _count(summary["videos"], "video")
        parts.append(f"{videos} ({_count(summary['frames'], 'frame')})")
    faces = ", ".join(_count(n, kind) for kind, n in summary["kinds"].items()) or "0 faces"
    if summary["done"]:
        faces += f" ({', '.join(f'{n} {what}' for what, n in summary['done'].items())})"
    parts.append(faces)
    if summary["done"].get(Done.GENERATED) and summary["identity"]:
        parts.append(PERSONS[summary["identity"]])
    if summary["without_faces"]:
        nothing = "nothing" if summary["kinds"].keys() - {"face"} else "no face"
        parts.append(f"{_count(summary['without_faces'], 'file')} in which {nothing} was found")
    if summary.get("done_before"):
        parts.append(
            f"{_count(summary['done_before'], 'file')} done before (--redo does them again)"
        )
    if summary.get("left"):
        parts.append(f"{_count(summary['left'], 'file')} left; free space and run the same again")
    if summary["skipped"]:
        parts.append(f"{_count(summary['skipped'], 'file')} skipped")
    if rest.endings:
        parts.append(_left_alone(rest.endings))
    return f"{', '.join(parts)}; {summary['seconds']:.1f} s"


def _count(number: int, noun: str) -> str:
    many = "bodies" if noun == "body" else f"{noun}s"
    return f"{number} {noun if number == 1 else many}"


def as_json(report: Report, *, sidecar: bool, preview: bool) -> dict[str, Any]:
    """A report for --json; whether a sidecar and a preview were written."""
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
    if sidecar:
        entry["sidecar"] = str(sidecar_path(report.task))
    if preview and not report.task.is_video:
        entry["preview"] = str(preview_path(report.task))
    faces = [
        {
            "box": [round(v, 1) for v in face_result.action.face.box],
            "confidence": round(face_result.action.face.confidence, 3),
            "done": face_result.done,
            "reason": face_result.reason,
        }
        | ({} if (kind := face_result.action.face.kind) is FACE else {"kind": kind.name})
        for face_result in report.face_results
    ]
    return {**entry, "faces": faces, "notes": list(report.notes)}
