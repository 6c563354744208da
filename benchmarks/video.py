"""Speed of anonymizing videos, pass by pass and live, beside deface on the same clips.

    python benchmarks/video.py CLIP [CLIP ...] [--deface COMMAND] [--repeats N] [--json FILE]

Every repeat runs dp3 with new faces, dp3 with blur and deface (pip install deface onnxruntime; left out where
COMMAND is not found) one after the other on each clip, so that what else the machine does meets all of them.
Numbers are medians; run it on an otherwise idle machine. "Whole" is the process from its start to its end,
with all of Python's and JAX's loading; a pass counts from its own start, drawing from its first finished
frame. The first run on a machine compiles the network; a run that does not count goes before all others.
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

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
METHODS = ("generate", "blur")
Row = dict[str, Any]


def timed(line: Sequence[str], stdout: Any = subprocess.DEVNULL, ok: Sequence[int] = (0,)) -> Row:
    """Seconds, CPU seconds and peak MB of a command and of all that it starts.

    Raises:
      SystemExit: its exit status is not in `ok`.
    """
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(line, env=environment, stdout=stdout, stderr=errors)
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
    from dp3_jax import cli
    from dp3_jax.video import job, second_pass

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

    job.find_tracks = measured("finding", job.find_tracks)
    second_pass.SecondPass.run = measured("drawing", second_pass.SecondPass.run)
    status = cli.main(arguments)
    report.write_text(json.dumps(passes))
    return status


def ours(clip: pathlib.Path, method: str, folder: pathlib.Path, more: Sequence[str]) -> Row:
    """One run of `dp3 anonymize`: as `timed`, and its passes."""
    report, target = folder / "passes.json", folder / f"ours{clip.suffix}"
    target.unlink(missing_ok=True)
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
    row = timed([*line, "--quiet", "--seed", "1", "--method", method, *more], ok=(0, 1))
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
    row = timed([command, str(clip), "-o", str(target)])
    cpu_ms = 1000 * row["cpu"] / frames
    return row | {"frames": frames, "whole_fps": frames / row["seconds"], "cpu_ms": cpu_ms}


def live(clip: pathlib.Path, fast: bool, more: Sequence[str]) -> Row:
    """What `dp3 live` says of itself: at the clip's own rate, or of every frame as fast as it can."""
    line = [sys.executable, "-m", "dp3_jax.cli", "live", str(clip), "--to", "null", "--json", *more]
    with tempfile.TemporaryFile() as output:
        timed([*line, "--as-fast-as-possible"] if fast else line, stdout=output, ok=(0, 1))
        output.seek(0)
        found = json.load(output)
    return {
        "live_fps": found["fps"],
        "p50_ms": found["latency_ms"]["p50"],
        "p95_ms": found["latency_ms"]["p95"],
        "dropped": found["frames"].get("dropped", 0),
        "arrived": found["frames"].get("arrived", 0),
        "cpu_ms": found["cpu_ms_per_frame"]["all"],
    }


def middle(rows: Sequence[Row]) -> Row:
    """The median of each number."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def measure(
    clip: pathlib.Path, options: argparse.Namespace, folder: pathlib.Path
) -> dict[str, Row]:
    """The medians for a clip, by what was run."""
    more = ["--weights", options.weights] if options.weights else []
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
            frames = add(f"dp3 {method}", ours(clip, method, folder, more))["frames"]
        if shutil.which(options.deface):
            add("deface", deface(clip, options.deface, frames, folder))
        if not options.no_live:
            add("live, every frame", live(clip, True, more))
            add("live, own rate", live(clip, False, more))
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


def tables(found: dict[str, dict[str, Row]]) -> str:
    """Markdown: files, then live."""
    lines = [
        "| clip | what | whole, fps | finding | drawing | both passes | CPU ms a frame | finding | drawing"
        " | MB | times deface |",
        "| --- | --- " + "| ---: " * 9 + "|",
    ]
    for clip, rows in found.items():
        for name, row in rows.items():
            if "whole_fps" not in row:
                continue
            ratio = ""
            if "deface" in rows:
                ratio = f"{row['whole_fps'] / rows['deface']['whole_fps']:.1f}"
            speeds = ("whole_fps", "finding_fps", "drawing_fps", "both_fps")
            costs = ("cpu_ms", "finding_cpu_ms", "drawing_cpu_ms", "memory_mb")
            cells = [clip, name, *(number(row, one) for one in speeds)]
            lines.append(
                "| " + " | ".join([*cells, *(number(row, c, ".0f") for c in costs), ratio]) + " |"
            )
    lines += ["", "| clip | live | fps | p50 ms | p95 ms | dropped | CPU ms a frame |"]
    lines.append("| --- | --- " + "| ---: " * 5 + "|")
    for clip, rows in found.items():
        for name, row in rows.items():
            if "live_fps" in row:
                dropped = f"{row['dropped']:.0f} of {row['arrived']:.0f}"
                cells = [
                    number(row, "live_fps"),
                    number(row, "p50_ms", ".0f"),
                    number(row, "p95_ms", ".0f"),
                ]
                cells = [clip, name, *cells, dropped, number(row, "cpu_ms", ".0f")]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs all measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=pathlib.Path, metavar="CLIP")
    parser.add_argument("--deface", default="deface", help="its command; default: deface")
    parser.add_argument("--weights", help="generator; default: the shipped one")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no_live", action="store_true", help="files only")
    parser.add_argument("--json", type=pathlib.Path, help="write all numbers to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        more = ["--weights", options.weights] if options.weights else []
        ours(options.clips[0], METHODS[0], folder, more)
        found = {clip.name: measure(clip, options, folder) for clip in options.clips}
    where = machine()
    print(f"{where}; medians of {options.repeats}\n\n{tables(found)}")
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "clips": found}, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        sys.exit(inside(pathlib.Path(sys.argv[2]), sys.argv[3:]))
    main()
