"""What a run leaves in its folder: records, progress lines, pictures and checkpoints."""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import logging

from dp3_jax.common import images
from dp3_jax.common.errors import UserError
from dp3_jax.metrics.image_similarity import ssim_to_match
from dp3_jax.training import checkpoint, sharding, steps
from dp3_jax.training.objectives.objective import Generate
from dp3_jax.training.sections import LogSection, TrainSection
from dp3_jax.training.state import GanState
from dp3_jax.training.writer import MetricsWriter, draw_curves

Inputs = tuple[jax.Array, ...]  # of the generator


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long a run is.

    Attributes:
      total: micro-batches in the whole of it.
      per_epoch: of them, in one pass over the training images.
      micro_batch: images in one.
    """

    total: int
    per_epoch: float
    micro_batch: int

    @classmethod
    def of(cls, train: TrainSection, num_examples: int) -> "Schedule":
        """The epochs of a config for so many training images, rounded up to whole updates."""
        updates = math.ceil(train.epochs * num_examples / train.batch_size)
        micro = train.micro_batch
        return cls(updates * train.accumulation, num_examples / micro, micro)


class ProgressPictures:
    """The pictures that show how far a run is: those of the same inputs, by any of its states."""

    def __init__(self, inputs: Inputs, layout: sharding.Layout):
        """`inputs` as of Objective."""
        self._inputs = inputs
        self._generate = jax.jit(steps.generate, static_argnums=0, out_shardings=layout.replicated)

    def of(self, state: GanState, inputs: Inputs | None = None) -> np.ndarray:
        """f32[n, S, S, 3] in [-1, 1] from `inputs`, the fixed ones without any."""
        inputs = self._inputs if inputs is None else inputs
        variables = state.sampling_variables
        return np.asarray(self._generate(state.generator.apply_fn, variables, inputs))


class Recorder:
    """Writes what is to be kept of a run; only the first process writes pictures and records."""

    def __init__(
        self,
        workdir: pathlib.Path,
        log: LogSection,
        schedule: Schedule,
        pictures: ProgressPictures,
        real: np.ndarray,
        *,
        max_skipped: int,
        measure: Callable[[Generate], dict[str, float]],
        release_memory: Callable[[], None],
    ):
        """Opens the checkpoints in `workdir`.

        Args:
          workdir: of the run.
          log: how often, and how many.
          schedule: of the run.
          pictures: of its pictures.
          real: u8[n, S, S, 3], what the SSIM at a checkpoint is matched with.
          max_skipped: micro-batches with non-finite gradients in a row that end the run.
          measure: what else is measured at a checkpoint, see Objective.
          release_memory: called where much has been freed.
        """
        self.workdir, self.schedule = workdir, schedule
        self._log, self._rendering, self._real = log, pictures, real
        self._max_skipped, self._measure, self._release = max_skipped, measure, release_memory
        self._is_first = jax.process_index() == 0
        self._writer: MetricsWriter | None = None
        self.manager = checkpoint.open_manager(
            workdir, keep_latest=log.keep_latest, keep_best=log.keep_best
        )
        self._pending: list[dict[str, jax.Array]] = []
        # Time, step and seconds waited at the last progress line.
        self._console = (time.monotonic(), 0, 0.0)
        self._saved = time.monotonic()

    def begin(self, start: int) -> None:
        """Starts recording after step `start`."""
        if self._is_first:
            self._writer = MetricsWriter(self.workdir, start)
        self._console = (time.monotonic(), start, 0.0)

    def close(self) -> None:
        """Ends all writing."""
        self.manager.close()

    def close_records(self) -> None:
        """Ends the writing of records."""
        if self._writer:
            self._writer.close()

    def is_grid_due(self, step: int) -> bool:
        """Whether it is time for a picture."""
        return step % self._log.grid_steps == 0

    def are_signals_due(self, step: int) -> bool:
        """Whether the processes ask each other for signals after this step."""
        return step % self._log.metrics_steps == 0

    def draw_grid(self, state: GanState, step: int) -> None:
        """Writes grids/STEP.png."""
        shown = self._rendering.of(state)[: self._log.grid_images]
        if self._is_first:
            grid = images.make_grid(images.to_uint8(shown), columns=math.isqrt(len(shown)))
            images.write_png(self.workdir / "grids" / f"{step:08d}.png", grid)

    def save(self, state: GanState, step: int) -> None:
        """Starts a checkpoint, with the SSIM that ranks it."""
        generated = self._rendering.of(state)[: self._log.ssim_generated]
        ssim = float(np.mean(ssim_to_match(generated, self._real)[0]))
        more = self._measure(lambda inputs: self._rendering.of(state, inputs))
        checkpoint.save(self.manager, state, step, {checkpoint.RANKING: ssim})
        self._saved = time.monotonic()
        self._release()  # compiling and matching need more than a step does
        if self._writer:
            self._writer.write(step, {checkpoint.RANKING: ssim, **more})
            draw_curves(self.workdir)
        told = "".join(f", {name.replace('_', ' ')} {value:.3g}" for name, value in more.items())
        logging.info(
            "checkpoint at step %s, SSIM to matched real images %.4f%s", f"{step:,}", ssim, told
        )

    def is_save_due(self, step: int) -> bool:
        """By steps, or by minutes on the first process's clock."""
        log = self._log
        if log.checkpoint_steps and step % log.checkpoint_steps == 0:
            return True
        if step % log.metrics_steps:
            return False  # ask the other processes only now and then
        late = time.monotonic() - self._saved > 60.0 * log.checkpoint_minutes
        return sharding.any_process(late and self._is_first)

    def record(self, step: int, metrics: dict[str, jax.Array], waited: float) -> None:
        """Takes the metrics of micro-batch `step`; writes and shows their means when it is time.

        Raises:
          UserError: too many micro-batches in a row had non-finite gradients.
        """
        self._pending.append(metrics)
        if step % self._log.metrics_steps and step != self.schedule.total:
            return
        values = jax.device_get(self._pending)
        self._pending = []
        means = {name: float(np.mean([v[name] for v in values])) for name in values[0]}
        means["skipped"] = float(values[-1]["skipped"])  # a count: its latest value, not its mean
        in_a_row = max(int(v["skipped_in_a_row"]) for v in values)
        del means["skipped_in_a_row"]
        means["epoch"] = round(step / self.schedule.per_epoch, 4)
        if self._writer:
            self._writer.write(step, means)
        if in_a_row > self._max_skipped:
            checkpoint.finish(self.manager)
            raise UserError(
                f"gradients were not finite in {in_a_row} micro-batches in a row up to step {step}; the last "
                f"good checkpoint, {self.manager.latest_step()}, is kept in {self.manager.directory}; lower "
                "the learning rates or set config.train.compute_dtype=float32"
            )
        self._show(step, means, waited)

    def _show(self, step: int, means: dict[str, float], waited: float) -> None:
        then, then_step, then_waited = self._console
        now, total, micro = time.monotonic(), self.schedule.total, self.schedule.micro_batch
        soon = now - then < self._log.console_seconds and step != total
        if soon or step == then_step:
            return
        seconds = now - then
        self._console = (now, step, waited)
        rate = (step - then_step) * micro / seconds
        eta = int((total - step) * micro / rate)
        logging.info(
            "step %s/%s  epoch %.2f  %.1f images/s  waiting for data %.1f%%  loss G %.3f D %.3f  "
            "D(real) %.3f D(fake) %.3f  ETA %d:%02d:%02d%s",
            f"{step:,}", f"{total:,}", means["epoch"], rate,
            100.0 * (waited - then_waited) / seconds, means["loss_g"], means["loss_d"],
            means["d_real"], means["d_fake"], eta // 3600, eta // 60 % 60, eta % 60,
            f"  skipped {means['skipped']:.0f}" if means["skipped"] else "",
        )  # fmt: skip
