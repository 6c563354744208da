"""Speed of anonymizing videos, pass by pass and live, beside an older build and deface on the same clips.

    python benchmarks/video.py CLIP [CLIP ...] [--baseline FOLDER] [--deface COMMAND] [--recall N]

Every repeat runs dp3 with new faces, dp3 with blur, the same of the build in FOLDER (`git worktree add FOLDER
COMMIT`; it runs with this Python) and deface (pip install deface onnxruntime; left out where COMMAND is not
found) one after the other on each clip, so that what else the machine does meets all of them. Numbers are
medians; run it on an otherwise idle machine. "Whole" is the process from its start to its end, with all of
Python's and JAX's loading; a pass counts from its own start, drawing from its first finished frame. The
first run on a machine compiles the network; a run of each build that does not count goes before all others.

`--recall N` searches every Nth frame for faces with all passes of the photo detector and says which share of
them, and of their area, each build covers (see `recall.py`).
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import av

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
METHODS = ("generate", "blur")
Row = dict[str, Any]


def timed(
    line: Sequence[str],
    folder: pathlib.Path,
    *,
    build: pathlib.Path = REPOSITORY,
    stdout: Any = subprocess.DEVNULL,
    ok: Sequence[int] = (0,),
) -> Row:
    """Seconds, CPU seconds and peak MB of a command and of all that it starts.

    Args:
      line: of the command.
      folder: in which it runs: in a checkout Python would take that one's package.
      build: the checkout whose package it takes.
      stdout: as of `subprocess`.
      ok: its exit status if it went well.

    Raises:
      SystemExit: its exit status is not in `ok`.
    """
    environment = {**os.environ, "PYTHONPATH": str(build)}
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(line, env=environment, stdout=stdout, stderr=errors, cwd=folder)
        # The usage that wait4 gives holds that of the process's own children too.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        errors.seek(0)
        if process.returncode not in ok:
            sys.exit(f"{' '.join(line)} failed: {errors.read().decode(errors='replace')[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu": cpu, "memory_mb": usage.ru_maxrss / 1e3}


def inside(report: pathlib.Path, arguments: Sequence[str]) -> int:
    """Runs `dp3` with `arguments` in this process and writes what its passes took to `report`, as JSON."""
    try:
        from dp3_jax.cli.main import main
        from dp3_jax.pipelines.video import face_tracks, rendering_pass

        rendering = rendering_pass.RenderingPass
    except ImportError:  # an older build, whose modules had other names
        from dp3_jax.video import job as face_tracks
        from dp3_jax.video import second_pass

        from dp3_jax.cli import main

        rendering = second_pass.SecondPass

    passes: dict[str, Row] = {}

    def measured(name: str, function: Callable) -> Callable:
        def wrapped(*given: Any, **named: Any) -> Any:
            *rest, progress = given
            state = {"frames": 0, "from": time.perf_counter(), "first": None}

            def counted(frames: int) -> None:
                state["frames"] += frames
                if frames and state["first"] is None:
                    state["first"] = time.perf_counter()
                progress(frames)

            used = time.process_time()
            result = function(*rest, counted, **named)
            passes[name] = {
                "frames": state["frames"],
                "seconds": time.perf_counter() - state["from"],
                "after_first": time.perf_counter() - (state["first"] or state["from"]),
                "cpu": time.process_time() - used,
            }
            return result

        return wrapped

    face_tracks.find_tracks = measured("finding", face_tracks.find_tracks)
    rendering.run = measured("drawing", rendering.run)
    status = main(arguments)
    report.write_text(json.dumps(passes))
    return status


def ours(
    clip: pathlib.Path,
    method: str,
    folder: pathlib.Path,
    more: Sequence[str],
    build: pathlib.Path = REPOSITORY,
) -> Row:
    """One run of a build's `dp3 anonymize`: as `timed`, and its passes; its tracks lie beside its result."""
    report, target = folder / "passes.json", folder / f"ours{clip.suffix}"
    for old in (report, target):
        old.unlink(missing_ok=True)
    line = [
        sys.executable,
        __file__,
        "--inside",
        str(report),
        "anonymize",
        str(clip),
        "-o",
        str(target),
    ]
    more = ["--quiet", "--seed", "1", "--sidecar", "--method", method, *more]
    row = timed([*line, *more], folder, build=build, ok=(0, 1))
    if not report.exists():
        sys.exit(f"{clip.name}: nothing was measured; run {' '.join([*line, *more])} in {build}")
    passes = json.loads(report.read_text())
    finding, drawing = passes["finding"], passes["drawing"]
    frames = drawing["frames"]
    both = finding["seconds"] + drawing["after_first"]
    return row | {
        "frames": frames,
        "whole_fps": frames / row["seconds"],
        "finding_fps": frames / finding["seconds"],
        "drawing_fps": (frames - 1) / max(drawing["after_first"], 1e-9),
        "both_fps": frames / both,
        "cpu_ms": 1000 * row["cpu"] / frames,
        "finding_cpu_ms": 1000 * finding["cpu"] / frames,
        "drawing_cpu_ms": 1000 * drawing["cpu"] / frames,
    }


def deface(clip: pathlib.Path, command: str, frames: int, folder: pathlib.Path) -> Row:
    """One run of deface, as `timed`; it blurs."""
    target = folder / f"deface{clip.suffix}"
    target.unlink(missing_ok=True)
    row = timed([command, str(clip), "-o", str(target)], folder)
    with av.open(target) as written:
        count = sum(1 for _ in written.decode(video=0))
    if count != frames:  # it reads at a constant rate
        sys.exit(f"{command} wrote {count} of the {frames} frames of {clip}")
    cpu_ms = 1000 * row["cpu"] / frames
    return row | {"frames": frames, "whole_fps": frames / row["seconds"], "cpu_ms": cpu_ms}


def live(
    clip: pathlib.Path, fast: bool, folder: pathlib.Path, more: Sequence[str], build: pathlib.Path
) -> Row:
    """What `dp3 live` says of itself: at the clip's own rate, or of every frame as fast as it can."""
    line = [sys.executable, "-m", "dp3_jax.cli", "live", str(clip), "--to", "null", "--json", *more]
    with tempfile.TemporaryFile() as output:
        line += ["--as-fast-as-possible"] if fast else []
        timed(line, folder, build=build, stdout=output, ok=(0, 1))
        output.seek(0)
        found = json.load(output)
    return {
        "live_fps": found["fps"],
        "p50_ms": found["latency_ms"]["p50"],
        "p95_ms": found["latency_ms"]["p95"],
        "dropped": found["frames"].get("dropped", 0),
        "arrived": found["frames"].get("arrived", 0),
        "cpu_ms": found["cpu_ms_per_frame"]["all"],
        "detect_ms": found["cpu_ms_per_frame"].get("detect", 0.0),
        "render_ms": found["cpu_ms_per_frame"].get("render", 0.0),
    }


def middle(rows: Sequence[Row]) -> Row:
    """The median of each number."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def measure(
    clip: pathlib.Path, options: argparse.Namespace, folder: pathlib.Path
) -> dict[str, Row]:
    """The medians for a clip, by what was run."""
    more = ["--weights", options.weights] if options.weights else []
    builds = {"": REPOSITORY} | ({"baseline, ": options.baseline} if options.baseline else {})
    faces = None
    if options.recall:
        import recall  # only here: an older build, which runs this file too, has not what it needs

        faces = recall.reference(clip, options.recall)
    runs: dict[str, list[Row]] = {}

    def add(name: str, row: Row) -> Row:
        runs.setdefault(name, []).append(row)
        each = f"{row['whole_fps']:.1f}" if "whole_fps" in row else f"{row['live_fps']:.1f}"
        print(
            f"  {clip.name}: {name} {each} fps, {row['cpu_ms']:.0f} CPU ms a frame", file=sys.stderr
        )
        return row

    for _ in range(options.repeats):
        frames = 0
        for method in METHODS:
            for name, build in builds.items():
                row = ours(clip, method, folder, more, build)
                if faces is not None:
                    tracks = folder / f"ours{clip.suffix}.tracks.json"
                    row |= recall.of_tracks(tracks, faces)
                frames = add(f"{name}dp3 {method}", row)["frames"]
        if shutil.which(options.deface):
            add("deface", deface(clip, options.deface, frames, folder))
        if not options.no_live:
            for name, build in builds.items():
                add(f"{name}live, every frame", live(clip, True, folder, more, build))
                add(f"{name}live, own rate", live(clip, False, folder, more, build))
    return {name: middle(rows) for name, rows in runs.items()}


def machine() -> str:
    """Processor, cores and what ran, in words."""
    model = platform.processor()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if "model name" in line), model
        )
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    names = ("jax", "opencv-python-headless", "av")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return f"{model}, {cores} cores, {platform.system()}, Python {platform.python_version()}, {versions}"


def number(row: Row, name: str, form: str = ".1f") -> str:
    """A cell of the table."""
    return format(row[name], form) if name in row else ""


def ratio(rows: dict[str, Row], name: str, other: str) -> str:
    """A cell: how many times faster the whole is than of another row."""
    if other not in rows or other == name:
        return ""
    return f"{rows[name]['whole_fps'] / rows[other]['whole_fps']:.2f}"


FILES = {
    "whole, fps": ("whole_fps", ".1f"),
    "finding": ("finding_fps", ".1f"),
    "drawing": ("drawing_fps", ".1f"),
    "both passes": ("both_fps", ".1f"),
    "CPU ms a frame": ("cpu_ms", ".0f"),
    "of finding": ("finding_cpu_ms", ".0f"),
    "of drawing": ("drawing_cpu_ms", ".0f"),
    "MB": ("memory_mb", ".0f"),
    "faces covered": ("faces_covered", ".1%"),
    "of their area": ("area_covered", ".1%"),
}
LIVE = {
    "fps": ("live_fps", ".1f"),
    "p50 ms": ("p50_ms", ".0f"),
    "p95 ms": ("p95_ms", ".0f"),
    "dropped": ("dropped", ".0f"),
    "of": ("arrived", ".0f"),
    "CPU ms a frame": ("cpu_ms", ".0f"),
    "of detection": ("detect_ms", ".0f"),
    "of rendering": ("render_ms", ".0f"),
}


def table(found: dict[str, dict[str, Row]], columns: dict[str, tuple[str, str]], key: str) -> str:
    """Markdown of the rows that have the number `key`."""
    ratios = ["x baseline", "x deface"] if columns is FILES else []
    heads = ["clip", "what", *columns, *ratios]
    lines = [f"| {' | '.join(heads)} |", "| --- | --- " + "| ---: " * (len(heads) - 2) + "|"]
    for clip, rows in found.items():
        for name, row in rows.items():
            if key not in row:
                continue
            cells = [clip, name, *(number(row, *column) for column in columns.values())]
            if ratios:
                method = name.removeprefix("baseline, ")
                cells += [ratio(rows, name, f"baseline, {method}"), ratio(rows, name, "deface")]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Runs all measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=pathlib.Path, metavar="CLIP")
    parser.add_argument("--baseline", type=pathlib.Path, help="a checkout of an older build")
    parser.add_argument("--deface", default="deface", help="its command; default: deface")
    parser.add_argument("--weights", help="generator; default: the shipped one")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--recall", type=int, default=0, metavar="N", help="see above; 0: not")
    parser.add_argument("--no_live", action="store_true", help="files only")
    parser.add_argument("--json", type=pathlib.Path, help="write all numbers to this file")
    options = parser.parse_args()
    clips = [clip.resolve() for clip in options.clips]
    if options.baseline:
        options.baseline = options.baseline.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        more = ["--weights", options.weights] if options.weights else []
        for build in (REPOSITORY, options.baseline) if options.baseline else (REPOSITORY,):
            ours(clips[0], METHODS[0], folder, more, build)
        found = {clip.name: measure(clip, options, folder) for clip in clips}
    where = machine()
    files, lives = table(found, FILES, "whole_fps"), table(found, LIVE, "live_fps")
    print(f"{where}; medians of {options.repeats}\n\n{files}\n\n{lives}")
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "clips": found}, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        _, _, passes_file, *arguments_inside = sys.argv
        sys.argv = ["dp3", *arguments_inside]  # the package looks there for the command
        sys.exit(inside(pathlib.Path(passes_file), arguments_inside))
    main()
