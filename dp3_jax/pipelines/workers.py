"""Photos in several processes, each with its own models and its own share of the cores.

Processes rather than threads: a photo on which a decoder crashes, or for which there is not enough memory,
takes one worker with it and not the run.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from dp3_jax.common import compilations
from dp3_jax.common.errors import UserError
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.batch import Batch, Options
from dp3_jax.pipelines.outputs import Task
from dp3_jax.pipelines.reports import Report

MAX_WORKERS = 64
_MAX_DEATHS = 3  # of workers one after the other, without a photo that was done
_PATIENCE = 30.0  # s that a worker has for the photo that it is at when the run ends


def _shares(count: int) -> list[set[int]]:
    """The cores of each worker; every one has one at least."""
    if not hasattr(os, "sched_getaffinity"):
        return [set()] * count
    cores = sorted(os.sched_getaffinity(0))
    return [set(cores[i::count]) or {cores[i % len(cores)]} for i in range(count)]


def _work(
    connection: Connection, settings: dict[str, Any], options: Options, cores: set[int]
) -> None:
    """A worker: takes tasks and gives reports until nobody is at the other end."""
    compilations.let_jax_keep_programs()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run ends it, after the photo that it is at
    if cores:
        os.sched_setaffinity(0, cores)  # which OpenCV and XLA count as well
    try:
        anonymizer = Anonymizer(**settings)
        batch = Batch(anonymizer, options)
        connection.send(anonymizer.decided)
        while True:
            connection.send(batch.process(connection.recv()))
    except UserError as error:
        connection.send(str(error))
    except (EOFError, BrokenPipeError):
        pass


@dataclasses.dataclass
class _Worker:
    process: Any
    connection: Connection
    cores: set[int]
    task: Task | None = None


class Workers:
    """Some processes that anonymize photos.

    Attributes:
      decided: as of `Anonymizer.decided`, of all workers.
    """

    def __init__(self, count: int, settings: dict[str, Any], options: Options):
        """Starts the first one, which fetches what is missing, and then the others.

        Args:
          count: of processes.
          settings: arguments of `Anonymizer`.
          options: for all photos.

        Raises:
          UserError: as of `Batch`.
        """
        self._settings = settings
        self._options = dataclasses.replace(options, video=None)
        self._workers: list[_Worker] = []
        self.decided = ("", "")
        try:
            for number, cores in enumerate(_shares(count)):
                self._workers.append(self._start(cores))
                if number == 0:
                    self.decided = self._ready(self._workers[0])
            for worker in self._workers[1:]:
                self._same(worker)
        except BaseException:
            self.close()
            raise

    def _start(self, cores: set[int]) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._settings, self._options, cores)
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, cores)

    @staticmethod
    def _ready(worker: _Worker) -> tuple[str, str]:
        """What a new worker has decided."""
        try:
            said = worker.connection.recv()
        except EOFError as error:
            worker.process.join()
            raise UserError(f"a worker ended while it loaded: {_why(worker)}") from error
        if isinstance(said, str):
            raise UserError(said)
        return said

    def _same(self, worker: _Worker) -> None:
        """Raises UserError unless a new worker draws its faces as the others do."""
        decided = self._ready(worker)
        if decided[0] != self.decided[0]:
            raise UserError(
                f"one worker has faces of {self.decided[0]}, another of {decided[0]}; "
                "name one with --identity"
            )

    def run(self, tasks: Sequence[Task]) -> Iterator[Report]:
        """The reports of all tasks, as they come.

        Raises:
          UserError: workers die again and again.
        """
        waiting = deque(tasks)
        deaths = 0
        for worker in self._workers:
            self._give(worker, waiting)
        while busy := {w.connection: w for w in self._workers if w.task is not None}:
            for ready in wait(list(busy)):
                worker = busy[ready]
                try:
                    report, deaths = worker.connection.recv(), 0
                except (EOFError, OSError):
                    report, deaths = self._replace(worker), deaths + 1
                    if deaths >= _MAX_DEATHS:
                        raise UserError(f"{report.error}; try fewer --workers") from None
                self._give(worker, waiting)
                yield report

    @staticmethod
    def _give(worker: _Worker, waiting: deque[Task]) -> None:
        worker.task = waiting.popleft() if waiting else None
        if worker.task is not None:
            with contextlib.suppress(OSError):  # it is dead, which is seen when its report is read
                worker.connection.send(worker.task)

    def _replace(self, worker: _Worker) -> Report:
        """Starts a process in the place of one that is dead; the report of what that one was at."""
        worker.process.join()
        task = worker.task
        message = f"{task.source}: the worker that was at it ended: {_why(worker)}"
        worker.connection.close()
        new = self._start(worker.cores)
        worker.process, worker.connection = new.process, new.connection
        self._same(worker)
        return Report(task, 0.0, error=message)

    def close(self) -> None:
        """Lets every worker end its photo, and ends it."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.terminate()
                worker.process.join()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def _why(worker: _Worker) -> str:
    """Why a process has ended, as far as can be seen."""
    code = worker.process.exitcode
    if code is not None and code < 0:
        more = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"signal {-code}{more}"
    return f"exit status {code}"
