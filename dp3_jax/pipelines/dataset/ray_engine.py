"""Shards on Ray: an actor for each worker, which holds compiled models; every death is seen and made good.

Actors and not Ray Data: its writers are tried again after a failure and may leave a file twice, and its
driver does not know what an earlier one has done, while here the part that is written last decides (see
`rows`).
Nothing but names and numbers passes through Ray; pictures are read and written by the workers.
"""

import contextlib
import dataclasses
import logging
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from dp3_jax.common.cores import available_cores
from dp3_jax.common.errors import UserError
from dp3_jax.pipelines.dataset import storage
from dp3_jax.pipelines.dataset.rows import Shard
from dp3_jax.pipelines.dataset.worker import Said, Work, Worker, give_up

OBJECT_STORE = 80 << 20  # bytes; the least that Ray takes is 75 MiB
_TRIES = 2  # deaths at one record until it is left out
_MAX_DEATHS = 4  # at one place of a shard until all of it is given up
_MAX_IDLE_DEATHS = 6  # of workers one after the other, without a record between them
_ALONE = {"include_dashboard": False, "object_store_memory": OBJECT_STORE, "log_to_driver": False}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine:
    """Where the work is done.

    Attributes:
      workers: processes; None for one on each core, or on each GPU.
      gpus: share of a GPU for each worker; None for a whole one where there are some.
      address: of a running Ray cluster; None for this machine alone.
    """

    workers: int | None = None
    gpus: float | None = None
    address: str | None = None


class Progress(NamedTuple):
    """What the caller is told.

    Attributes:
      shard: of which.
      said: how far it is.
      died: a worker that was at it ended, and it begins anew.
    """

    shard: Shard
    said: Said
    died: bool = False


def import_ray() -> Any:
    """The package `ray`.

    Raises:
      UserError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import pyarrow  # noqa: F401
        import ray
    except ImportError as error:
        raise UserError(
            f"dp3 dataset needs the package {error.name}; pip install 'dp3_jax[ray]'"
        ) from error
    return ray


@contextlib.contextmanager
def _started(ray: Any, engine: Engine) -> Iterator[None]:
    """Ray on this machine, without a server, or a connection to a cluster; ended with the block."""
    address = engine.address or os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():
        yield
        return
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            cores = max(engine.workers or 0, available_cores())
            ray.init(num_cpus=cores, logging_level=logging.ERROR, **_ALONE)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"cannot start Ray at {address or 'this machine'}: {reason}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _counts(ray: Any, engine: Engine, shards: int) -> tuple[int, float]:
    """Workers, and the share of a GPU that each of them has."""
    there = ray.cluster_resources()
    gpus = engine.gpus
    if gpus is None:
        gpus = 1.0 if there.get("GPU", 0) else 0.0
    if gpus > there.get("GPU", 0):
        raise UserError(f"--gpus-per-worker {gpus:g}: there are {there.get('GPU', 0):g} GPUs")
    room = there.get("GPU", 0) // gpus if gpus else there.get("CPU", 1)
    workers = engine.workers or int(room)
    if workers > room:
        what = "GPUs" if gpus else "cores"
        raise UserError(f"--workers {workers}: there is room for {room:g} with the {what} at hand")
    return max(1, min(workers, shards)), gpus


class _Actor:
    """The process of a worker."""

    def __init__(self, work: Work):
        self._work = work

    def node(self) -> str:
        """Of the machine that it is on."""
        import ray

        return ray.get_runtime_context().get_node_id()

    def load(self, number: int, count: int) -> tuple[str, str]:
        """Takes share `number` of `count` of the machine's cores and loads; as of `Worker.decided`."""
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            mine = set(cores[number % count :: count]) or {cores[number % len(cores)]}
            os.sched_setaffinity(0, mine)  # which OpenCV and XLA count as well
        self._worker = Worker(self._work)
        return self._worker.decided

    def process(self) -> int:
        """Its number."""
        return os.getpid()

    def run(self, shard: Shard, skipped: dict[int, str], every_step: bool) -> Iterator[Said]:
        """As of `Worker.run`."""
        yield from self._worker.run(shard, skipped, every_step=every_step)


@dataclasses.dataclass
class _Task:
    """A shard on its way: where workers have died at it."""

    shard: Shard
    step: int = 0
    deaths: dict[int, int] = dataclasses.field(default_factory=dict)
    skipped: dict[int, str] = dataclasses.field(default_factory=dict)

    @property
    def is_careful(self) -> bool:
        """Whether it is to be known exactly where a worker dies, which takes a word before each record."""
        return bool(self.deaths)

    def died(self) -> None:
        """Counts a death at the step that it was at."""
        step = self.step if self.is_careful else -1  # words on their way are lost with a worker
        self.deaths[step] = self.deaths.get(step, 0) + 1
        if step >= 0 and self.deaths[step] >= _TRIES:
            self.skipped[step] = "a worker ended at it, again and again"
        self.step = 0

    @property
    def is_hopeless(self) -> bool:
        """Whether leaving records out does not help."""
        return max(self.deaths.values(), default=0) >= _MAX_DEATHS


@dataclasses.dataclass(eq=False)
class _Slot:
    """One of the workers, and the share of its machine's cores: number `rank` of `count`."""

    actor: Any
    rank: int
    count: int
    loading: Any = None  # as of `_Actor.load`, until it was looked at


class Pool:
    """Workers on Ray.

    Attributes:
      decided: as of `Anonymizer.decided`, of all of them.
    """

    def __init__(self, ray: Any, work: Work, count: int, gpus: float):
        """Starts all, and lets the first one load before the others, as it fetches what is missing.

        Raises:
          UserError: as of `Worker`.
        """
        self._ray, self._errors = ray, ray.exceptions
        self._output = storage.open_storage(work.output)
        self._work = ray.put(work)
        self._class = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Actor)
        actors = [self._class.remote(self._work) for _ in range(count)]
        nodes = self._get([actor.node.remote() for actor in actors])
        self._slots = [
            _Slot(actor, nodes[:number].count(nodes[number]), nodes.count(nodes[number]))
            for number, actor in enumerate(actors)
        ]
        self.decided = ("", "")
        for slot in self._slots:
            self._load(slot)
            if slot is self._slots[0]:
                self.decided = self._look(slot)
        for slot in self._slots[1:]:
            self._look(slot)

    def _get(self, reference: Any) -> Any:
        """A value; a mistake of the user comes back as what it is."""
        try:
            return self._ray.get(reference)
        except self._errors.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from error
            raise

    def _load(self, slot: _Slot) -> None:
        slot.loading = slot.actor.load.remote(slot.rank, slot.count)

    def _look(self, slot: _Slot) -> tuple[str, str]:
        """What a worker has decided when it loaded.

        Raises:
          UserError: something is missing, or it draws its faces otherwise than the others do.
        """
        try:
            decided = self._get(slot.loading)
        except self._errors.RayActorError as error:
            raise UserError(
                "a worker ended while it loaded, perhaps for want of memory; try fewer --workers"
            ) from error
        slot.loading = None
        if self.decided[0] not in ("", decided[0]):
            raise UserError(
                f"one worker has faces of {self.decided[0]}, another of {decided[0]}; "
                "name one with --identity"
            )
        return decided

    def processes(self) -> list[int]:
        """Numbers of the workers' processes, on their machines."""
        return self._get([slot.actor.process.remote() for slot in self._slots])

    def run(self, shards: Sequence[Shard]) -> Iterator[Progress]:
        """Does all shards; tells how far they are.

        Raises:
          UserError: the output takes no more, or workers die again and again.
        """
        waiting = deque(_Task(shard) for shard in shards)
        idle, idle_deaths = deque(self._slots), 0
        busy: dict[Any, tuple[_Slot, _Task]] = {}
        while waiting or busy:
            while idle and waiting:
                slot, task = idle.popleft(), waiting.popleft()
                busy[self._begin(slot, task)] = slot, task
            for begun in self._ray.wait(list(busy), num_returns=1)[0]:
                slot, task = busy[begun]
                try:
                    said = self._get(next(begun))
                    if slot.loading is not None:
                        self._look(slot)
                    task.step, idle_deaths = said.step, 0
                    yield Progress(task.shard, said)
                except StopIteration:
                    del busy[begun]
                    idle.append(slot)
                except self._errors.RayActorError:
                    del busy[begun]
                    idle_deaths += 1
                    if idle_deaths >= _MAX_IDLE_DEATHS:
                        raise UserError(
                            "workers end again and again, perhaps for want of memory; try fewer --workers"
                        ) from None
                    yield from self._again(slot, task, waiting)
                    idle.append(slot)

    def _begin(self, slot: _Slot, task: _Task) -> Any:
        """Lets a worker begin with a shard."""
        careful = task.is_careful
        method = slot.actor.run.options(
            num_returns="streaming", _generator_backpressure_num_objects=1 if careful else -1
        )
        return method.remote(task.shard, task.skipped, careful)

    def _again(self, slot: _Slot, task: _Task, waiting: deque[_Task]) -> Iterator[Progress]:
        """After a death: another worker in this one's place, and the shard once more."""
        slot.actor = self._class.remote(self._work)
        self._load(slot)
        task.died()
        if task.is_hopeless:
            why = "workers ended at it again and again; is there memory enough?"
            yield Progress(task.shard, give_up(self._output, task.shard, why))
            return
        waiting.appendleft(task)
        yield Progress(task.shard, Said(0, 0), died=True)


@contextlib.contextmanager
def open_pool(engine: Engine, work: Work, shards: int) -> Iterator[Pool]:
    """Workers that are ready, no more than there are shards; ended with the block.

    Raises:
      UserError: Ray is missing or cannot be started, or as of `Pool`.
    """
    ray = import_ray()
    # Ray prints what it says of dead workers; standard output is for results.
    with contextlib.redirect_stdout(sys.stderr), _started(ray, engine):
        yield Pool(ray, work, *_counts(ray, engine, shards))
