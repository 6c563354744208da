"""Checkpoints: `workdir/checkpoints/STEP/` with three items, written by orbax in the background.

  state      everything (GanState): what a run resumes from
  generator  averaged parameters and batch statistics: all that sampling and evaluation read
  data       position in the data and the numbers the run was saved with (JSON)

Orbax writes into a temporary folder and renames it, so a kill leaves the previous checkpoint in place.
"""

import contextlib
import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from dp3_jax.common.errors import UserError
from dp3_jax.training.state import GanState

CONFIG_FILE = "config.json"
RANKING = "ssim"  # the metric by which the best checkpoints are kept; higher is better


def _folder(workdir: pathlib.Path) -> pathlib.Path:
    return workdir.absolute() / "checkpoints"


def open_manager(
    workdir: pathlib.Path, *, keep_latest: int = 1, keep_best: int = 1
) -> ocp.CheckpointManager:
    """A manager that keeps the latest `keep_latest` and the best `keep_best` (by RANKING) checkpoints."""
    policy = checkpoint_managers.AnyPreservationPolicy(
        [
            checkpoint_managers.LatestN(keep_latest),
            checkpoint_managers.BestN(
                get_metric_fn=lambda metrics: metrics[RANKING], reverse=False, n=keep_best
            ),
        ]
    )
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policy, cleanup_tmp_directories=True, create=True
    )
    return ocp.CheckpointManager(_folder(workdir), options=options)


# What the operating system says when it refuses; orbax wraps it into long messages of several kinds.
_REFUSALS = re.compile(
    "No space left on device|Disk quota exceeded|File too large|Permission denied|"
    "Read-only file system|Input/output error"
)


@contextlib.contextmanager
def _explained(manager: ocp.CheckpointManager) -> Iterator[None]:
    """Turns a write that the operating system refused, now or in the background, into a UserError."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        refusal = _REFUSALS.search(str(error))
        if refusal is None:
            raise
        raise UserError(
            f"cannot write a checkpoint to {manager.directory}: {refusal.group()}; the ones before it are "
            "whole; make room and give the same command again"
        ) from error


def finish(manager: ocp.CheckpointManager) -> None:
    """Waits until what `save` started is on disk.

    Raises:
      UserError: it could not be written.
    """
    with _explained(manager):
        manager.wait_until_finished()


def save(
    manager: ocp.CheckpointManager, state: GanState, step: int, metrics: Mapping[str, float]
) -> None:
    """Starts saving `state` as checkpoint `step`; returns once the arrays are copied, before the writing.

    `metrics` (plain floats) must hold RANKING. One that is not a number ranks last: Orbax would take it for
    the best and delete the real best for it (findings/orbax_best_step_with_nan.sh).

    Raises:
      UserError: this one or the one before could not be written.
    """
    if step in manager.all_steps():
        return
    ranked = {n: value if math.isfinite(value) else -math.inf for n, value in metrics.items()}
    with _explained(manager):
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                generator=ocp.args.StandardSave(state.sampling_variables),
                data=ocp.args.JsonSave({"step": step, **ranked}),
            ),
            metrics=ranked,
        )


def restore_state(manager: ocp.CheckpointManager, template: GanState) -> GanState | None:
    """The latest state, with the shapes, dtypes and shardings of `template`; None when there is none.

    Raises:
      UserError: the checkpoint does not fit `template` or cannot be read.
    """
    step = manager.latest_step()
    if step is None:
        return None
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), template
    )
    try:
        restored = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        )
    except Exception as error:  # orbax raises many kinds for a damaged or foreign checkpoint
        raise UserError(
            f"cannot read checkpoint {manager.directory / str(step)}: {_first_line(error)}; "
            "delete that folder to go on from the one before it"
        ) from error
    return restored["state"]


@dataclasses.dataclass(frozen=True)
class Restored:
    """What sampling needs of a run: the generator's variables, their step, and the run's config."""

    variables: dict[str, Any]
    config: dict[str, Any]
    step: int


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """The resolved config of the run in `workdir`.

    Raises:
      UserError: there is no run in `workdir`, or its config cannot be read.
    """
    path = workdir / CONFIG_FILE
    if not path.exists():
        raise UserError(f"no run in {workdir}: {CONFIG_FILE} is missing; train there first")
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {_first_line(error)}") from error
    for section in ("data", "model", "train"):
        if not (isinstance(config, dict) and isinstance(config.get(section), dict)):
            raise UserError(f"{path} is no run's config: {section} is missing; is it complete?")
    return config


def restore_generator(workdir: pathlib.Path, step: int | str = "latest") -> Restored:
    """Restores only the `generator` item of a checkpoint, onto this process's first device.

    Args:
      workdir: of a training run.
      step: a number (an int, or its digits), "latest", or "best" (by RANKING; a higher SSIM is not always a
        better picture, see evaluation.evaluate).

    Raises:
      UserError: no run, no such checkpoint, or one that cannot be read.
    """
    workdir = pathlib.Path(workdir)
    config = read_config(workdir)
    folder = _folder(workdir)
    steps = _finished_steps(folder)
    if not steps:
        raise UserError(f"no checkpoint in {folder}: train longer, or look at the run's output")
    if step == "latest":
        step = max(steps)
    elif step == "best":
        step = max(steps, key=lambda s: (_ranking(folder, s), s))
    elif isinstance(step, str) and step.isdigit():
        step = int(step)
    if step not in steps:
        raise UserError(f"no checkpoint {step} in {folder}; there are {sorted(steps)}")
    try:
        # The handler alone: a Checkpointer around it warns that one item has no metadata of a whole.
        with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
            path = folder / str(step) / "generator"
            # Without a template orbax wants the devices of the saving run; with one it takes any.
            device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            abstract = jax.tree.map(
                lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=device),
                dict(handler.metadata(path).tree),
            )
            variables = handler.restore(path, args=ocp.args.StandardRestore(abstract))
    except Exception as error:  # see restore_state
        raise UserError(
            f"cannot read checkpoint {folder / str(step)}: {_first_line(error)}; "
            f"choose another of {sorted(steps)}"
        ) from error
    variables = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
    return Restored(variables=variables, config=config, step=step)


def _finished_steps(folder: pathlib.Path) -> list[int]:
    """Numbers of the complete checkpoints (orbax gives one its final name when it is complete)."""
    if not folder.is_dir():
        return []
    return [
        int(p.name) for p in folder.iterdir() if p.name.isdigit() and (p / "generator").is_dir()
    ]


def _ranking(folder: pathlib.Path, step: int) -> float:
    try:
        saved = json.loads((folder / str(step) / "data" / "metadata").read_text())
        return float(saved[RANKING])
    except (OSError, ValueError, KeyError):
        return float("-inf")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
