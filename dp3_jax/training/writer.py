"""Scalars of a run: `metrics.jsonl`, TensorBoard event files and `curves.png`, all safe to resume."""

import json
import pathlib
from collections.abc import Mapping

from tensorboardX import SummaryWriter

from dp3_jax.common import files

METRICS_FILE = "metrics.jsonl"


def read_metrics(workdir: pathlib.Path) -> list[dict[str, float]]:
    """The records of `metrics.jsonl`, oldest first; a last line cut off by a kill is left out."""
    path = workdir / METRICS_FILE
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


class MetricsWriter:
    """Appends scalars by step to `metrics.jsonl` and to TensorBoard event files in `workdir`.

    Opened at step `start`, it first drops what an earlier, killed run wrote after that step, so that a
    resumed run leaves the same records as an uninterrupted one.
    """

    def __init__(self, workdir: pathlib.Path, start: int):
        kept = [record for record in read_metrics(workdir) if record["step"] <= start]
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        files.write_bytes(workdir / METRICS_FILE, lines.encode())
        self._file = (workdir / METRICS_FILE).open("a", buffering=1)
        self._events = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=start + 1, flush_secs=30
        )

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Records `scalars` (plain floats) at `step`."""
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        for name, value in scalars.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes the files."""
        self._file.close()
        self._events.close()


def _smooth(values: list[float], window: int) -> list[float]:
    sums, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - window] if index >= window else 0.0)
        sums.append(total / min(index + 1, window))
    return sums


def draw_curves(workdir: pathlib.Path) -> None:
    """Draws `curves.png` in `workdir` from its `metrics.jsonl`: losses, D's outputs, SSIM to the match."""
    from matplotlib.figure import Figure

    records = read_metrics(workdir)
    if not records:
        return
    panels = {
        "losses": ("loss_g", "loss_d"),
        "mean probability of 'real'": ("d_real", "d_fake"),
        "SSIM to the matched real image": ("ssim",),
    }
    figure = Figure(figsize=(15, 4))
    figure.subplots_adjust(0.04, 0.12, 0.99, 0.92, wspace=0.13)
    for axes, (title, names) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for name in names:
            points = [(r["step"], r[name]) for r in records if name in r]
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            window = max(1, len(values) // 50)
            axes.plot(steps, values, alpha=0.25, color=f"C{names.index(name)}")
            axes.plot(
                steps, _smooth(list(values), window), color=f"C{names.index(name)}", label=name
            )
        axes.set(title=title, xlabel="step (micro-batches)")
        if axes.lines:
            axes.legend(loc="upper right")
        axes.grid(alpha=0.3)
    with files.atomic_target(workdir / "curves.png") as temporary:
        figure.savefig(temporary, format="png", dpi=80)
