"""The training loop: reads data, calls the jitted step, and writes down what happens.

Everything numerical is in `steps`; everything about files is in `checkpoint` and `writer`. The data
position is the step number, so a run started again goes on exactly where its latest checkpoint was.
"""

import contextlib
import functools
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from dp3_jax import models
from dp3_jax.common import allocator, files, images
from dp3_jax.common.errors import UserError
from dp3_jax.data import Feed, load_arrays, open_feed
from dp3_jax.data.feed import Companions
from dp3_jax.metrics.image_similarity import ssim_to_match
from dp3_jax.training import (
    checkpoint,
    configuration,
    processes,
    provenance,
    sharding,
    steps,
    warm_start,
)
from dp3_jax.training.feeding import DeviceBatches
from dp3_jax.training.interruption import Interruption
from dp3_jax.training.objectives import objective_of
from dp3_jax.training.state import GanState, create_state
from dp3_jax.training.writer import MetricsWriter, draw_curves


def total_steps(config: ConfigDict, num_examples: int) -> int:
    """Micro-batches in the whole run: the epochs, rounded up to whole updates."""
    updates = math.ceil(config.train.epochs * num_examples / config.train.batch_size)
    return updates * config.train.accumulation


def _log_sizes(state: GanState, dtype: Any, reason: str) -> None:
    for name in ("generator", "discriminator"):
        count = sum(leaf.size for leaf in jax.tree.leaves(getattr(state, name).params))
        logging.info("%s: %s parameters", name, f"{count:,}")
    kinds = sorted({device.device_kind for device in jax.devices()})
    logging.info(
        "devices: %d x %s on %d process(es); computing in %s (%s)",
        jax.device_count(), ", ".join(kinds), jax.process_count(), dtype.name, reason,
    )  # fmt: skip


def build(config: ConfigDict, layout: sharding.Layout) -> tuple[GanState, Any, str]:
    """A fresh state on `layout`'s devices, and the dtype it computes in with the reason.

    Raises:
      UserError: the weights of a fixed network that the losses look at cannot be had.
    """
    dtype, reason = configuration.compute_dtype(config.train.compute_dtype)
    model, form = configuration.model_section(config), configuration.convolution_form(config)
    make = functools.partial(
        create_state,
        models.build_generator(model, dtype, form),
        models.build_discriminator(model, dtype, form, configuration.perceptual_features(config)),
        configuration.optimizer_options(config),
        generator_inputs=models.generator_inputs(model),
        discriminator_inputs=models.discriminator_inputs(model),
        seed=config.seed,
        ema=config.train.ema_halflife > 0,
    )
    return jax.jit(make, out_shardings=layout.replicated)(), dtype, reason


def compile_step(
    config: ConfigDict,
    layout: sharding.Layout,
    state: GanState,
    companions: Companions | None = None,
) -> Callable:
    """The train step compiled for `state` and the config's micro-batch; `state` is donated in each call."""
    micro = config.train.batch_size // config.train.accumulation
    size = config.data.image_size
    shapes = {
        "image": ((micro, size, size, 3), np.uint8),
        **(companions.shapes if companions else {}),
    }
    batch = {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=layout.split)
        for name, (shape, dtype) in shapes.items()
    }
    jitted = jax.jit(
        configuration.train_step(config),
        in_shardings=(layout.replicated, layout.split),
        out_shardings=layout.replicated,
        donate_argnums=0,
    )
    return jitted.lower(state, batch).compile()


class _Run:
    """What the loop writes: records, progress lines, pictures and checkpoints."""

    def __init__(
        self,
        config: ConfigDict,
        workdir: pathlib.Path,
        layout: sharding.Layout,
        feed: Feed,
        companions: Companions | None = None,
    ):
        self.config, self.workdir = config, workdir
        self._companions = companions
        self.total = total_steps(config, feed.num_examples)
        self.micro = config.train.batch_size // config.train.accumulation
        self.steps_per_epoch = feed.num_examples / self.micro
        self.is_first = jax.process_index() == 0
        self.writer: MetricsWriter | None = None
        self.manager = checkpoint.open_manager(
            workdir, keep_latest=config.log.keep_latest, keep_best=config.log.keep_best
        )
        options = configuration.data_options(config.data)
        self._real = load_arrays(options, "train", limit=config.log.ssim_real).images
        self._inputs = objective_of(config).sample_inputs(config)
        self._generate = jax.jit(steps.generate, static_argnums=0, out_shardings=layout.replicated)
        self._pending: list[dict[str, jax.Array]] = []
        self._console = (
            time.monotonic(),
            0,
            0.0,
        )  # time, step and seconds waited at the last progress line
        self._saved = time.monotonic()

    def open_writer(self, start: int) -> None:
        """Starts recording after step `start`."""
        if self.is_first:
            self.writer = MetricsWriter(self.workdir, start)
        self._console = (time.monotonic(), start, 0.0)

    def samples(self, state: GanState) -> np.ndarray:
        """f32[n, S, S, 3] from the fixed inputs."""
        return np.asarray(
            self._generate(state.generator.apply_fn, state.sampling_variables, self._inputs)
        )

    def draw_grid(self, state: GanState, step: int) -> None:
        """Writes grids/STEP.png."""
        shown = self.samples(state)[: self.config.log.grid_images]
        if self.is_first:
            grid = images.make_grid(images.to_uint8(shown), columns=math.isqrt(len(shown)))
            images.write_png(self.workdir / "grids" / f"{step:08d}.png", grid)

    def save(self, state: GanState, step: int) -> None:
        """Starts a checkpoint, with the SSIM that ranks it."""
        generated = self.samples(state)[: self.config.log.ssim_generated]
        ssim = float(np.mean(ssim_to_match(generated, self._real)[0]))

        def generate(inputs: tuple[jax.Array, ...]) -> np.ndarray:
            variables = state.sampling_variables
            return np.asarray(self._generate(state.generator.apply_fn, variables, inputs))

        more = objective_of(self.config).measure(self.config, self._companions, generate)
        checkpoint.save(self.manager, state, step, {checkpoint.RANKING: ssim})
        self._saved = time.monotonic()
        allocator.release_freed_memory()  # compiling and matching need more than a step does
        if self.writer:
            self.writer.write(step, {checkpoint.RANKING: ssim, **more})
            draw_curves(self.workdir)
        told = "".join(f", {name.replace('_', ' ')} {value:.3g}" for name, value in more.items())
        logging.info(
            "checkpoint at step %s, SSIM to matched real images %.4f%s", f"{step:,}", ssim, told
        )

    def is_save_due(self, step: int) -> bool:
        """By steps, or by minutes on the first process's clock."""
        log = self.config.log
        if log.checkpoint_steps and step % log.checkpoint_steps == 0:
            return True
        if step % log.metrics_steps:
            return False  # ask the other processes only now and then
        late = time.monotonic() - self._saved > 60.0 * log.checkpoint_minutes
        return sharding.any_process(late and self.is_first)

    def record(self, step: int, metrics: dict[str, jax.Array], waited: float) -> None:
        """Takes the metrics of micro-batch `step`; writes and shows their means when it is time.

        Raises:
          UserError: too many micro-batches in a row had non-finite gradients.
        """
        self._pending.append(metrics)
        if step % self.config.log.metrics_steps and step != self.total:
            return
        values = jax.device_get(self._pending)
        self._pending = []
        means = {name: float(np.mean([v[name] for v in values])) for name in values[0]}
        means["skipped"] = float(values[-1]["skipped"])  # a count: its latest value, not its mean
        in_a_row = max(int(v["skipped_in_a_row"]) for v in values)
        del means["skipped_in_a_row"]
        means["epoch"] = round(step / self.steps_per_epoch, 4)
        if self.writer:
            self.writer.write(step, means)
        if in_a_row > self.config.train.max_skipped:
            checkpoint.finish(self.manager)
            raise UserError(
                f"gradients were not finite in {in_a_row} micro-batches in a row up to step {step}; the last "
                f"good checkpoint, {self.manager.latest_step()}, is kept in {self.manager.directory}; lower "
                "the learning rates or set config.train.compute_dtype=float32"
            )
        self._show(step, means, waited)

    def _show(self, step: int, means: dict[str, float], waited: float) -> None:
        then, then_step, then_waited = self._console
        now = time.monotonic()
        if now - then < self.config.log.console_seconds and step != self.total:
            return
        if step == then_step:
            return
        seconds = now - then
        self._console = (now, step, waited)
        rate = (step - then_step) * self.micro / seconds
        eta = int((self.total - step) * self.micro / rate)
        logging.info(
            "step %s/%s  epoch %.2f  %.1f images/s  waiting for data %.1f%%  loss G %.3f D %.3f  "
            "D(real) %.3f D(fake) %.3f  ETA %d:%02d:%02d%s",
            f"{step:,}", f"{self.total:,}", means["epoch"], rate,
            100.0 * (waited - then_waited) / seconds, means["loss_g"], means["loss_d"],
            means["d_real"], means["d_fake"], eta // 3600, eta // 60 % 60, eta % 60,
            f"  skipped {means['skipped']:.0f}" if means["skipped"] else "",
        )  # fmt: skip


def _iterate(run: _Run, state: GanState, step_fn: Callable, batches: DeviceBatches) -> int | None:
    """Runs the loop from `state.step` to the end; returns the signal that cut it short, or None."""
    step = int(state.step)
    waiting: tuple[int, dict[str, jax.Array]] | None = None
    if step == 0:
        run.draw_grid(state, step)
    with Interruption() as interruption:
        while step < run.total:
            state, metrics = step_fn(state, next(batches))
            # The metrics of a step are read after the next one is on its way, so the device never idles.
            if waiting:
                run.record(*waiting, batches.seconds_waiting)
            step += 1
            waiting = (step, metrics)
            last = step == run.total
            stop = interruption.signal_number is not None
            if jax.process_count() > 1:
                asked = step % run.config.log.metrics_steps == 0
                stop = asked and sharding.any_process(stop)
            if last or stop:
                run.record(*waiting, batches.seconds_waiting)
            if last or step % run.config.log.grid_steps == 0:
                run.draw_grid(state, step)
            if last or stop or run.is_save_due(step):
                run.save(state, step)
            if stop and not last:
                return interruption.signal_number or Interruption.SIGNALS[0]
    return None


def _opened(config: ConfigDict, workdir: pathlib.Path) -> tuple[Feed, Companions | None]:
    """The data of a run, once it is clear that it can be written to `workdir`; writes nothing.

    Raises:
      UserError: see `train`.
    """
    configuration.check_workdir(workdir, config)
    if not (workdir / checkpoint.CONFIG_FILE).exists():
        warm_start.check(config)
    files.check_place(workdir / checkpoint.CONFIG_FILE)
    feed = open_feed(
        configuration.data_options(config.data),
        "train",
        batch_size=config.train.batch_size // config.train.accumulation,
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    logging.info("data: %s", feed.summary)
    provenance.check(workdir, feed.fingerprint, feed.num_examples, config.data.path)
    return feed, objective_of(config).companions(config)


def train(config: ConfigDict, workdir: pathlib.Path) -> int | None:
    """Trains `config` in `workdir`, going on from its latest checkpoint if there is one.

    Returns:
      None when the run is complete, or the number of the signal that ended it early (its state is saved).

    Raises:
      UserError: impossible config, data that cannot be read, a workdir of another run or one that not all
        processes see, gradients that stay non-finite.
    """
    configuration.check(config)
    configuration.check_devices(config, jax.device_count(), jax.process_count())
    processes.check(workdir, config)
    with sharding.failing_together("another process cannot begin; its output says why"):
        feed, companions = _opened(config, workdir)
    layout = sharding.make_layout()
    state, dtype, reason = build(config, layout)
    _log_sizes(state, dtype, reason)
    run = _Run(config, workdir, layout, feed, companions)
    restored = checkpoint.restore_state(run.manager, state)
    state = restored or warm_start.begin(config, state, layout)
    if jax.process_index() == 0:  # only now: what could not begin does not stand in another's way
        configuration.claim_workdir(workdir, config)
        provenance.record(workdir, feed.fingerprint, feed.num_examples)
    start = int(state.step)
    if start >= run.total:
        logging.info("nothing to do: the run in %s is complete at step %s", workdir, f"{start:,}")
        run.manager.close()
        return None
    began = time.monotonic()
    step_fn = compile_step(config, layout, state, companions)
    logging.info("compiled in %.1f s", time.monotonic() - began)
    allocator.release_freed_memory()
    if start:
        logging.info("going on from checkpoint %s", f"{start:,}")
    run.open_writer(start)
    batches = DeviceBatches(
        feed, layout, start, on_device=config.data.on_device, companions=companions
    )
    try:
        signal_number = _iterate(run, state, step_fn, batches)
        checkpoint.finish(run.manager)
    finally:
        batches.close()
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # told by finish or save
            run.manager.close()
        if run.writer:
            run.writer.close()
    if signal_number:
        logging.info("stopped by signal %d; the same command goes on from here", signal_number)
    else:
        logging.info("done: %s", workdir)
    return signal_number
