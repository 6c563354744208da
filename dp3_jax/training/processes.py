"""Whether the processes of a run belong together: one folder, which all see, and one config.

Orbax's processes write their parts of a checkpoint into one folder and wait for each other; with a folder
each they would wait for ever.
"""

import hashlib
import json
import pathlib
import socket
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

from dp3_jax.common.errors import UserError
from dp3_jax.training.run_config import Record
from dp3_jax.training.sharding import failing_together

# Network file systems may show another machine's new file a little late.
MAX_SECONDS = 20.0
# What each process may have of its own, such as a copy of the data on a disk of its own.
OWN = ("path", "donors", "clips", "workers")


def check(workdir: pathlib.Path, record: Record, seconds: float = MAX_SECONDS) -> None:
    """Raises UserError, on every process, where the processes of a run do not belong together.

    Every process must call it at the same point of the run. Nothing is left in `workdir`.

    Args:
      workdir: of the run, as this process knows it.
      record: the config of the run, as this process was given it.
      seconds: how long a process waits for the first one's file to appear in its `workdir`.
    """
    if jax.process_count() == 1:
        return
    token, same = _of_the_first(record)
    mark = workdir / f".shared-{token}"
    with failing_together(f"the first process cannot write to {workdir}"):
        if jax.process_index() == 0:
            _write(mark)
    try:
        with failing_together(
            f"--workdir={workdir} is not one folder that all processes see; name one on a shared disk"
        ):
            if not _appears(mark, seconds):
                raise UserError(
                    f"--workdir={workdir} of process {jax.process_index()} on {socket.gethostname()} is not "
                    "the folder of the first process; name one on a disk that all processes share"
                )
        with failing_together(
            "the processes were started with different configs; give all the same"
        ):
            if not same:
                raise UserError(
                    f"process {jax.process_index()} was started with another config than the first one; "
                    "give all the same --config and --config.* flags"
                )
    finally:
        if jax.process_index() == 0:
            mark.unlink(missing_ok=True)


def _of_the_first(record: Record) -> tuple[str, bool]:
    """A random name that the first process chose, and whether its config is this one."""
    data = {key: value for key, value in record["data"].items() if key not in OWN}
    shared = {**record, "data": data}
    digest = hashlib.sha256(json.dumps(shared, sort_keys=True).encode())
    own = np.frombuffer(digest.digest()[:8], np.uint32)
    token = np.random.default_rng().integers(2**32, size=2, dtype=np.uint32)
    told = np.asarray(multihost_utils.broadcast_one_to_all(np.concatenate([token, own])))
    return "".join(f"{part:08x}" for part in told[:2]), bool((told[2:] == own).all())


def _write(mark: pathlib.Path) -> None:
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        raise UserError(f"cannot write to {mark.parent}: {error.strerror}") from error


def _appears(mark: pathlib.Path, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not mark.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True
