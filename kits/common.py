"""What the kits have in common: what may be carried, the clock, and training until a time."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.training import export, loop
from dp3_jax.training.writer import METRICS_FILE, read_metrics

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
MAX_CARRIED = 64 * 2**20  # bytes, the repository and the packs together
_POLL_SECONDS = 0.5


def repository_bytes(repository: pathlib.Path = REPOSITORY) -> int:
    """Size of all files of a checkout that git does not ignore; 0 where git cannot tell."""
    command = ["git", "-C", str(repository), "ls-files", "-coz", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    paths = (repository / os.fsdecode(name) for name in listed.split(b"\0") if name)
    return sum(path.stat().st_size for path in paths if path.is_file())


def check_carried(folder: pathlib.Path, around: int, limit: int = MAX_CARRIED) -> str:
    """One line about the sizes of the files in `folder`.

    Args:
      folder: of the packs.
      around: bytes that are carried with them: the repository.
      limit: bytes.

    Raises:
      UserError: all together are more than `limit`.
    """
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    total = sum(sizes.values())
    line = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
    if total + around > limit:
        raise UserError(
            f"{folder} ({total / 2**20:.1f} MiB) and the repository ({around / 2**20:.1f} MiB) are more than "
            f"{limit / 2**20:.0f} MiB: {line}; pack fewer or smaller photos"
        )
    return f"{folder}: {line}; with the repository {(total + around) / 2**20:.1f} MiB to carry"


class Clock:
    """How much of a time budget is left."""

    def __init__(self, minutes: float, reserve: float):
        """Starts now.

        Args:
          minutes: for everything.
          reserve: seconds to keep for what comes after training.

        Raises:
          UserError: that leaves nothing to train in.
        """
        if not 60.0 * minutes > reserve:
            raise UserError(
                f"--minutes={minutes:g} leaves nothing to train in: {reserve:.0f} s are kept for the export; "
                "give more"
            )
        self._start, self.seconds, self._reserve = time.monotonic(), 60.0 * minutes, reserve

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def to_train(self) -> float:
        """Seconds until training has to end."""
        return self.seconds - self._reserve - self.passed


def use_compilation_cache(folder: pathlib.Path) -> None:
    """Keeps compiled programs in `folder`, unless a place is chosen already, for a second call."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))


def device() -> str:
    """What computes, in words."""
    kinds = sorted({one.device_kind for one in jax.devices()})
    return f"{jax.device_count()} x {', '.join(kinds)} ({jax.default_backend()})"


@contextlib.contextmanager
def _watched(workdir: pathlib.Path, seconds: float) -> Iterator[list[tuple[float, int]]]:
    """Ends a training in the block by SIGTERM after `seconds`; gives (time, step) as they come.

    That signal waits until the loop has taken over SIGTERM, and does nothing if it comes too late.
    """
    ended, sent, seen = threading.Event(), threading.Event(), []

    def handler(number: int, frame: FrameType | None) -> None:
        del frame
        if not sent.is_set():  # it is somebody else's
            sys.exit(128 + number)

    def watch() -> None:
        deadline = time.monotonic() + seconds
        while not ended.wait(_POLL_SECONDS):
            steps = [record["step"] for record in read_metrics(workdir)[-1:]]
            if steps and (not seen or steps[0] > seen[-1][1]):
                seen.append((time.monotonic(), steps[0]))
            if time.monotonic() > deadline and signal.getsignal(signal.SIGTERM) is not handler:
                sent.set()
                os.kill(os.getpid(), signal.SIGTERM)
                return

    before = signal.signal(signal.SIGTERM, handler)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
        signal.signal(signal.SIGTERM, before)


def train_until(config: ConfigDict, workdir: pathlib.Path, seconds: float) -> dict[str, Any]:
    """`loop.train`, ended after `seconds` as by a signal: its state is saved, and can be gone on with.

    Returns:
      What to report: step, images and passes so far, and images/s without compilation.

    Raises:
      UserError: as `loop.train`; there is no time left.
    """
    if seconds <= 0:
        raise UserError(
            f"no time is left to train in; the same command goes on in {workdir}, or give more --minutes"
        )
    before = [record["step"] for record in read_metrics(workdir)[-1:]]
    began = time.monotonic()
    with _watched(workdir, seconds) as seen:
        signal_number = loop.train(config, workdir)
    if signal_number == signal.SIGINT:
        raise KeyboardInterrupt
    micro = config.train.batch_size // config.train.accumulation
    records = [record for record in read_metrics(workdir) if "loss_g" in record]
    step = records[-1]["step"]
    seen = seen[1:] if before else seen  # the first is from before
    rate = None
    if len(seen) > 1:
        rate = micro * (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])
        logging.info("trained with %.0f images/s", rate)
    return {
        "step": step,
        "images": step * micro,
        "passes": records[-1]["epoch"],
        "seconds_in_this_call": round(time.monotonic() - began, 1),
        "images_per_second": rate and round(rate, 1),
        "last": records[-1],
        "skipped": records[-1]["skipped"],
    }


def write_results(
    workdir: pathlib.Path,
    output: pathlib.Path,
    weights: str,
    others: Iterable[tuple[pathlib.Path, str]],
    report: dict[str, Any],
) -> None:
    """The weights in half precision, records, curves, what `others` name, and report.json into `output`.

    Args:
      workdir: of the run.
      output: the folder, made if need be.
      weights: name of the file.
      others: (path, name in the folder); what is not there is left out.
      report: content of report.json.
    """
    files.check_place(output / weights)
    export.export(workdir, output / weights, half=True)
    own = [(workdir / name, name) for name in (METRICS_FILE, "curves.png")]
    for path, name in [*own, *others]:
        if path.is_file():
            with files.atomic_target(output / name) as temporary:
                shutil.copyfile(path, temporary)
    files.write_json(output / "report.json", report)
    size = sum(path.stat().st_size for path in output.iterdir() if path.is_file())
    logging.info("results in %s, %.1f MB", output, size / 1e6)
