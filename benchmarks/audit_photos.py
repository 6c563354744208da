"""How long `dp3 audit` takes on a folder of photos, what memory it needs, whether it goes on after a kill.

    python benchmarks/audit_photos.py FOLDER [--photos 100] [--method generate] [--work DIR]

takes the first photos below FOLDER, anonymizes them (not timed), audits them by the real command, and once
more with a kill when half of them were looked at. The aim is 3 minutes for 100 photos on two cores without
attacks that train (--attacks adds some), peak memory that does not grow with their number, and the same
report after a kill.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from dp3_jax.common import files  # noqa: E402
from dp3_jax.evaluation.audit.store import FOLDER  # noqa: E402
from dp3_jax.media.photos import is_photo_name  # noqa: E402

AIM = 180.0  # s
FINE = (0, 3, 4)  # statuses of an audit that came to its end


def command(*arguments: object) -> subprocess.Popen:
    """A `dp3` that runs."""
    line = [sys.executable, "-m", "dp3_jax.cli", *map(str, arguments)]
    return subprocess.Popen(line, cwd=REPOSITORY, stdout=subprocess.DEVNULL)


def ended(process: subprocess.Popen, statuses: tuple[int, ...]) -> tuple[float, float]:
    """(processor seconds, peak memory in GB) of a process, which is waited for."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in statuses:
        raise SystemExit(f"{' '.join(process.args)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6


def told(report: pathlib.Path) -> dict:
    """audit.json without what differs from run to run."""
    content = json.loads((report / "audit.json").read_text())
    del content["seconds"]
    return content


def whole(arguments: list, report: pathlib.Path) -> None:
    """One audit from its beginning to its end, timed."""
    start = time.perf_counter()
    used, memory = ended(command(*arguments, "-o", report), FINE)
    wall = time.perf_counter() - start
    seconds = json.loads((report / "audit.json").read_text())["seconds"]
    print(f"whole: {wall:.1f} s (aim {AIM:.0f}), {used:.1f} CPU s, peak {memory:.2f} GB")
    print("  " + ", ".join(f"{name} {value} s" for name, value in seconds.items()))


def killed(arguments: list, report: pathlib.Path, photos: int) -> None:
    """One audit that is killed half way, and the same command again."""
    process = command(*arguments, "-o", report)
    while process.poll() is None and len(list(report.glob(f"{FOLDER}/*.npz"))) < photos // 2:
        time.sleep(0.05)
    process.kill()
    ended(process, (-signal.SIGKILL,))
    kept = len(list(report.glob(f"{FOLDER}/*.npz")))
    start = time.perf_counter()
    used, memory = ended(command(*arguments, "-o", report), FINE)
    wall = time.perf_counter() - start
    print(f"killed after {kept}, the rest: {wall:.1f} s, {used:.1f} CPU s, peak {memory:.2f} GB")


def main() -> None:
    """Anonymizes, audits, kills, audits again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--method", default="generate")
    parser.add_argument("--attacks", default="")
    parser.add_argument("--work", type=pathlib.Path, help="kept, so that nothing is made twice")
    asked = parser.parse_args()
    found = sorted(p for p in files.walk(asked.folder).files if is_photo_name(p))[: asked.photos]
    work = asked.work or pathlib.Path(tempfile.mkdtemp())
    originals, results = work / "originals", work / f"results_{asked.method}"
    originals.mkdir(parents=True, exist_ok=True)
    for path in found:
        shutil.copy(path, originals / path.name)
    line = ["anonymize", originals, "-o", results, "--method", asked.method, "--sidecar", "--quiet"]
    ended(command(*line), (0,))
    print(f"{len(found)} photos, {asked.method}")
    arguments = ["audit", originals, results, "--quiet"]
    arguments += ["--attacks", asked.attacks] if asked.attacks else []
    reports = [work / "report", work / "report_killed"]
    for report in reports:
        shutil.rmtree(report, ignore_errors=True)
    whole(arguments, reports[0])
    killed(arguments, reports[1], len(found))
    print("the same report:", told(reports[0]) == told(reports[1]))
    if asked.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
