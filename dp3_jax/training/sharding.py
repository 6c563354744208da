"""Data parallelism: one mesh axis over all devices of all processes; state replicated, batches split.

`jit` with these shardings computes what one device would on the whole batch: losses are means over the
global batch, and so are batch statistics, without any collective written by hand.
"""

import dataclasses

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dp3_jax.errors import UserError

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


def make_layout() -> Layout:
    """The layout over all devices of all processes."""
    mesh = jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))
    return Layout(mesh)


def any_process(flag: bool) -> bool:
    """Whether `flag` is true on any process; every process must call it at the same point of the run."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


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
        return
    try:
        if address == "auto":
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(address, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"cannot join the run at {address} as process {process_id} of {num_processes}: {reason}"
        ) from error
