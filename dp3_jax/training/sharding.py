"""Data parallelism: one mesh axis over all devices of all processes; state replicated, batches split.

`jit` with these shardings computes what one device would on the whole batch: losses are means over the
global batch, and so are batch statistics, without any collective written by hand.
"""

import collections
import contextlib
import dataclasses
import os
import re
import socket
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dp3_jax.common.errors import UserError

AXIS = "data"


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where things live: `replicated` for state, `split` for batches (along their first axis)."""

    mesh: jax.sharding.Mesh

    @property
    def replicated(self) -> NamedSharding:
        """The whole array on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def split(self) -> NamedSharding:
        """Equal shares of the first axis, one per device."""
        return NamedSharding(self.mesh, PartitionSpec(AXIS))

    def global_batch(self, local: np.ndarray) -> jax.Array:
        """The global array of which this process holds the rows `local`; rows are ordered by process."""
        return jax.make_array_from_process_local_data(self.split, local)

    def replicate(self, value: np.ndarray) -> jax.Array:
        """`value`, which every process holds whole, on every device."""
        return jax.make_array_from_process_local_data(self.replicated, value, value.shape)


def in_order(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """Devices by process, and within one by number.

    So the rows of a batch lie in the order of processes, on which their place in the run's order rests.
    `jax.make_mesh` promises no order (on TPUs it follows the links between the chips), nor does
    `jax.devices()`.
    """
    return sorted(devices, key=lambda device: (device.process_index, device.id))


def make_layout() -> Layout:
    """The layout over all devices of all processes."""
    devices = np.array(in_order(jax.devices()))
    return Layout(jax.sharding.Mesh(devices, (AXIS,), axis_types=(AxisType.Auto,)))


def any_process(flag: bool) -> bool:
    """Whether `flag` is true on any process; every process must call it at the same point of the run."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def told_by_all(value: int) -> dict[int, int]:
    """What each process gives for `value`, an i32, by the number of the process.

    Every process must call it at the same point of the run.
    """
    if jax.process_count() == 1:
        return {0: value}
    own = np.array([jax.process_index(), value], np.int32)
    # Each row says whose it is: the order in which they are gathered is not promised either.
    return {int(row[0]): int(row[1]) for row in multihost_utils.process_allgather(own)}


@contextlib.contextmanager
def failing_together(otherwise: str) -> Iterator[None]:
    """Lets no process go on where one has failed within; it would wait for the others for ever.

    Within, processes must not wait for each other.

    Args:
      otherwise: what to tell on a process that itself has not failed.

    Raises:
      UserError: on processes that have not failed, if another has.
    """
    problem: Exception | None = None
    try:
        yield
    except Exception as error:
        problem = error
    failed = sorted(index for index, bad in told_by_all(int(problem is not None)).items() if bad)
    if problem:
        raise problem
    if failed:
        raise UserError(f"{otherwise} (process {', '.join(map(str, failed))})")


def join(address: str | None, num_processes: int, process_id: int) -> None:
    """Joins this process to the others of a run; does nothing without an address.

    Args:
      address: "auto" where the cluster tells (TPU pods, Slurm, Open MPI), or HOST:PORT of process 0.
      num_processes: how many there are, with HOST:PORT.
      process_id: which one this is, from 0, with HOST:PORT.

    Raises:
      UserError: the processes did not find each other.
    """
    if address is None:
        check_backend()
        return
    if address != "auto":
        _check_address(address, num_processes, process_id)
        logging.info("process %d waits for the %d at %s", process_id, num_processes, address)
    try:
        if address == "auto":
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(address, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        if address == "auto":
            raise UserError(
                f"--distributed=auto: nothing here tells of a cluster such as Slurm or a TPU pod ({reason}); "
                "give each process --distributed=HOST:PORT --num_processes=N --process_id=I"
            ) from error
        raise UserError(
            f"cannot join the run at {address} as process {process_id} of {num_processes}: {reason}; "
            "are all of them started, with the same HOST:PORT of the first?"
        ) from error
    check_backend()
    _check_equal_devices()


def check_backend() -> None:
    """Raises UserError where JAX has nothing to compute on: JAX_PLATFORMS names what is not here."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # an assertion where no plugin knows the name
        reason = str(error).strip().splitlines()[:1] or ["no such plugin is installed"]
        raise UserError(
            f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')} has no device here ({reason[0]}); install "
            "dp3_jax[gpu] or dp3_jax[tpu] on a machine that has one, or leave JAX_PLATFORMS away"
        ) from error


def _check_equal_devices() -> None:
    """Raises UserError, on every process, where they do not all have as many devices."""
    # Not by asking: with unequal numbers `process_allgather` itself fails.
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        told = ", ".join(f"process {index}: {count}" for index, count in sorted(counts.items()))
        raise UserError(
            f"the processes have different numbers of devices ({told}); each must have as many, as batches "
            "are shared out equally"
        )


def _check_address(address: str, num_processes: int, process_id: int) -> None:
    host, _, port = address.rpartition(":")
    if not (re.fullmatch(r"\S+:\d{1,5}", address) and 0 < int(port) < 2**16):
        raise UserError(
            f"--distributed={address} is neither auto nor HOST:PORT; name a free port of the first process's "
            f"host, as in --distributed={address.partition(':')[0] or 'localhost'}:9876"
        )
    try:
        socket.getaddrinfo(host.strip("[]"), int(port))
    except OSError as error:
        raise UserError(
            f"--distributed={address}: no host {host} is known here ({error.strerror}); name the first "
            "process's host as this one reaches it"
        ) from error
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id={process_id} of --num_processes={num_processes}: processes are numbered from 0 to "
            f"{max(num_processes, 1) - 1}; give each its own number"
        )
