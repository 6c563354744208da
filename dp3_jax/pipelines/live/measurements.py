"""What live video is like: counts, rates, latencies and the work of each stage."""

import collections
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from dp3_jax.common.cores import available_cores

_MAX_MS = 10_000


def percentile(counts: np.ndarray, share: float) -> float:
    """The least ms that `share` of the values do not exceed; counts[i] values lie in (i - 1, i] ms."""
    total = int(counts.sum())
    if not total:
        return 0.0
    return float(np.searchsorted(np.cumsum(counts), share * total))


class Meter:
    """Counts from several threads; memory does not grow with time."""

    def __init__(self):
        self.first: float | None = None  # when the first frame was shown, by `time.perf_counter`
        self._lock = threading.Lock()
        self._latency = np.zeros(_MAX_MS + 1, np.int64)
        self._counts: collections.Counter[str] = collections.Counter()
        self._busy: collections.Counter[str] = collections.Counter()
        self._cpu: collections.Counter[str] = collections.Counter()
        self._face_results: collections.Counter[str] = collections.Counter()
        self._process = time.process_time()
        self._start = time.perf_counter()
        self._last = self._present()

    def count(self, what: str, number: int = 1) -> None:
        """Counts frames: arrived, shown, dropped or withheld."""
        with self._lock:
            self._counts[what] += number

    def shown(self, latency: float) -> None:
        """Counts a frame that was handed over `latency` seconds after it arrived."""
        with self._lock:
            if self.first is None:
                self.first = time.perf_counter()
            self._counts["shown"] += 1
            self._latency[min(_MAX_MS, max(0, int(np.ceil(latency * 1000))))] += 1

    def done(self, face_results: Iterator[str]) -> None:
        """Counts what was done with faces: generated, covered, ..."""
        with self._lock:
            self._face_results.update(face_results)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures the block as work of a stage: its time, and the CPU time of its own thread."""
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
            with self._lock:
                self._busy[name] += wall
                self._cpu[name] += cpu

    def _present(self) -> tuple[float, float, np.ndarray, collections.Counter, collections.Counter]:
        """Times and all that is counted up to now."""
        times = time.perf_counter(), time.process_time()
        return (*times, self._latency.copy(), self._counts.copy(), self._busy.copy())

    def interval(self) -> dict[str, Any]:
        """What happened since the last call: seconds, counts, busy by stage, p50 and p95 in ms.

        "cpu" is the share of the time of all cores that this process used.
        """
        with self._lock:
            before, cpu, latency, counts, busy = self._last
            now, cpu_now, *_ = self._last = self._present()
            recent = self._latency - latency
            seconds = max(now - before, 1e-9)
            return {
                "seconds": seconds,
                "cpu": (cpu_now - cpu) / seconds / available_cores(),
                "counts": {name: self._counts[name] - counts[name] for name in self._counts},
                "busy": {name: (self._busy[name] - busy[name]) / seconds for name in self._busy},
                "p50": percentile(recent, 0.50),
                "p95": percentile(recent, 0.95),
            }

    def total(self) -> dict[str, Any]:
        """Everything since the beginning, for JSON."""
        with self._lock:
            seconds = max(time.perf_counter() - self._start, 1e-9)
            shown = self._counts["shown"]
            cpu = time.process_time() - self._process
            each = {name: 1000 * value / max(shown, 1) for name, value in self._cpu.items()}
            # XLA, OpenCV and the codecs work in threads of their own.
            each["other threads"] = max(0.0, 1000 * cpu / max(shown, 1) - sum(each.values()))
            each["all"] = 1000 * cpu / max(shown, 1)
            names = ("arrived", "shown", "dropped", "withheld")
            slowest = np.flatnonzero(self._latency)
            return {
                "seconds": round(seconds, 3),
                "frames": {name: self._counts[name] for name in names},
                "fps": round(shown / seconds, 2),
                "latency_ms": {
                    "p50": percentile(self._latency, 0.50),
                    "p95": percentile(self._latency, 0.95),
                    "max": float(slowest[-1]) if len(slowest) else 0.0,
                },
                "cpu_ms_per_frame": {name: round(value, 2) for name, value in each.items()},
                "faces": dict(self._face_results),
            }
