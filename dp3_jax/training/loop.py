"""The training loop: reads data, calls the jitted step, and writes down what happens.

Everything numerical is in `steps`, what a run is put together from in `assembly`; everything about files is
in `recorder`, `checkpoint` and `writer`. The data position is the step number, so a run started again goes on
exactly where its latest checkpoint was.
"""

import contextlib
import functools
import pathlib
import time
from collections.abc import Callable, Iterator

import jax
from absl import logging
from ml_collections import ConfigDict

from dp3_jax.common import files
from dp3_jax.data import load_arrays, open_feed
from dp3_jax.training import (
    assembly,
    checkpoint,
    configuration,
    processes,
    provenance,
    run_config,
    sharding,
    warm_start,
)
from dp3_jax.training.feeding import DeviceBatches
from dp3_jax.training.interruption import Interruption
from dp3_jax.training.objectives import OBJECTIVES, Samples
from dp3_jax.training.recorder import ProgressPictures, Recorder, Schedule
from dp3_jax.training.state import GanState


def _log_sizes(state: GanState, networks: assembly.Networks) -> None:
    for name in ("generator", "discriminator"):
        count = sum(leaf.size for leaf in jax.tree.leaves(getattr(state, name).params))
        logging.info("%s: %s parameters", name, f"{count:,}")
    kinds = sorted({device.device_kind for device in jax.devices()})
    logging.info(
        "devices: %d x %s on %d process(es); computing in %s (%s)",
        jax.device_count(), ", ".join(kinds), jax.process_count(), networks.dtype.name,
        networks.reason,
    )  # fmt: skip


def _iterate(
    recorder: Recorder, state: GanState, step_fn: Callable, batches: DeviceBatches
) -> int | None:
    """Runs the loop from `state.step` to the end; returns the signal that cut it short, or None."""
    step, total = int(state.step), recorder.schedule.total
    waiting: tuple[int, dict[str, jax.Array]] | None = None
    if step == 0:
        recorder.draw_grid(state, step)
    with Interruption() as interruption:
        while step < total:
            state, metrics = step_fn(state, next(batches))
            # The metrics of a step are read after the next one is on its way, so the device never idles.
            if waiting:
                recorder.record(*waiting, batches.seconds_waiting)
            step += 1
            waiting = (step, metrics)
            last = step == total
            stop = interruption.signal_number is not None
            if jax.process_count() > 1:
                stop = recorder.are_signals_due(step) and sharding.any_process(stop)
            if last or stop:
                recorder.record(*waiting, batches.seconds_waiting)
            if last or recorder.is_grid_due(step):
                recorder.draw_grid(state, step)
            if last or stop or recorder.is_save_due(step):
                recorder.save(state, step)
            if stop and not last:
                return interruption.signal_number or Interruption.SIGNALS[0]
    return None


@contextlib.contextmanager
def _ending(recorder: Recorder, batches: DeviceBatches) -> Iterator[None]:
    """Whatever happens in it, what is open is closed; if nothing does, the last checkpoint is on disk."""
    try:
        yield
        checkpoint.finish(recorder.manager)
    finally:
        batches.close()
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # told by finish or save
            recorder.close()
        recorder.close_records()


def train(
    config: ConfigDict,
    workdir: pathlib.Path,
    release_memory: Callable[[], None] = lambda: None,
) -> int | None:
    """Trains `config` in `workdir`, going on from its latest checkpoint if there is one.

    Args:
      config: taken apart here; each part of the run is given what it needs of it.
      workdir: of the run.
      release_memory: called where much has been freed; programs that keep freed memory (see
        `common.allocator`) give some back.

    Returns:
      None when the run is complete, or the number of the signal that ended it early (its state is saved).

    Raises:
      UserError: impossible config, data that cannot be read, a workdir of another run or one that not all
        processes see, gradients that stay non-finite.
    """
    sections, record = configuration.parse(config), run_config.record_of(config)
    seed, data, model, losses = sections.seed, sections.data, sections.model, sections.losses
    training, log, objective = sections.train, sections.log, OBJECTIVES[model.family]
    training.check_devices(jax.device_count(), jax.process_count())

    # The folder and the data, before anything is written.
    processes.check(workdir, record)
    with sharding.failing_together("another process cannot begin; its output says why"):
        run_config.check(workdir, record)
        if not (workdir / checkpoint.CONFIG_FILE).exists():
            warm_start.check(training.initial_generator)
        files.check_place(workdir / checkpoint.CONFIG_FILE)
        feed = open_feed(
            data,
            "train",
            batch_size=training.micro_batch,
            seed=seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        logging.info("data: %s", feed.summary)
        provenance.check(workdir, feed.fingerprint, feed.num_examples, data.path)
        companions = objective.companions(data, losses, training.micro_batch, seed)

    # The networks, as they are at the beginning or were at the latest checkpoint.
    layout = sharding.make_layout()
    parts = assembly.assemble(sections)
    state = assembly.build(parts, layout)
    _log_sizes(state, parts.networks)
    samples = Samples.of(log, model, seed)
    recorder = Recorder(
        workdir,
        log,
        Schedule.of(training, feed.num_examples),
        ProgressPictures(objective.sample_inputs(samples, data, companions), layout),
        load_arrays(data, "train", limit=log.ssim_real).images,
        max_skipped=training.max_skipped,
        measure=functools.partial(objective.measure, companions, samples),
        release_memory=release_memory,
    )
    restored = checkpoint.restore_state(recorder.manager, state)
    state = restored or warm_start.begin(training.initial_generator, objective, state, layout)
    if jax.process_index() == 0:  # only now: what could not begin does not stand in another's way
        run_config.claim(workdir, record)
        provenance.record(workdir, feed.fingerprint, feed.num_examples)
    start = int(state.step)
    if start >= recorder.schedule.total:
        logging.info("nothing to do: the run in %s is complete at step %s", workdir, f"{start:,}")
        recorder.close()
        return None

    # The loop.
    began = time.monotonic()
    images = (training.micro_batch, data.image_size)
    step_fn = assembly.compile_step(parts.train_step, state, layout, images, companions)
    logging.info("compiled in %.1f s", time.monotonic() - began)
    release_memory()
    if start:
        logging.info("going on from checkpoint %s", f"{start:,}")
    recorder.begin(start)
    batches = DeviceBatches(feed, layout, start, on_device=data.on_device, companions=companions)
    with _ending(recorder, batches):
        signal_number = _iterate(recorder, state, step_fn, batches)
    if signal_number:
        logging.info("stopped by signal %d; the same command goes on from here", signal_number)
    else:
        logging.info("done: %s", workdir)
    return signal_number
