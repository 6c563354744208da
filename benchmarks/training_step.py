"""Images per second of one GAN training step, ours and others', in one table from one run.

    python benchmarks/training_step.py [--peer_python PATH] [--rounds 5] [--steps 2] [--batch 32]

Every row trains the network of configs/celeba128.py (dense to 8x8x512, four transposed 4x4 convolutions with
batch normalization and LeakyReLU; four strided ones with LeakyReLU and dropout, dense) on 128x128 images with
binary cross-entropy, simultaneous gradients and Adam. The docstrings of peers_*.py say what exactly is timed.
Each row is its own process; all stay alive and are timed in turn, round after round; medians are shown. The
processor seconds show what is left when other programs slow the machine down.

"matmul share" is the arithmetic of a direct computation (2 FLOP per multiplication of each convolution and
its needed gradients) per second, divided by what the device does in a large matrix product of our dtype.
Ours does fewer multiplications on CPU (models/convolution_forms.py), so its share may exceed 1.

`--peer_python` names an interpreter that has torch, or tensorflow and keras; a row whose packages are absent
says so. On a GPU the PyTorch rows are float32, bfloat16 autocast, and that under torch.compile.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
CPU_ROWS = (
    ("plain Flax, float32", "peers_jax.py", "plain"),
    ("PyTorch float32, channels_last", "peers_torch.py", "float32"),
    ("PyTorch bfloat16 autocast", "peers_torch.py", "bfloat16"),
    ("Keras 3 on TensorFlow, tf.function", "peers_keras.py", "float32"),
)
GPU_ROWS = (
    ("plain Flax, float32", "peers_jax.py", "plain"),
    ("PyTorch float32, channels_last", "peers_torch.py", "float32"),
    ("PyTorch bfloat16 autocast", "peers_torch.py", "bfloat16"),
    ("PyTorch bfloat16, torch.compile", "peers_torch.py", "compiled"),
    ("Keras 3 on TensorFlow, tf.function", "peers_keras.py", "float32"),
)


class Row:
    """One implementation: its process and its times."""

    def __init__(
        self, name: str, python: str, script: str, variant: str, options: argparse.Namespace
    ):
        self.name = name
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self._process = subprocess.Popen(
            [python, str(FOLDER / script), "--variant", variant, "--batch", str(options.batch),
             "--steps", str(options.steps)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(FOLDER.parent), "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
                 "TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true"},
        )  # fmt: skip
        self.problem = ""
        self.about = self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        error = self._process.communicate()[1]
        absent = "ModuleNotFoundError" in error
        self.problem = "not installed" if absent else (error.strip().splitlines() or ["died"])[-1]
        return {}

    def measure(self) -> None:
        """Times one round."""
        if self.problem:
            return
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        if answer := self._answer():
            self.seconds.append(answer["seconds"])
            self.cpu_seconds.append(answer["cpu_seconds"])

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.stdin.close()
            self._process.wait()


def direct_flop(batch: int) -> float:
    """FLOP of one step as direct convolutions: forward, and the gradients that are used."""
    # Multiplications per image of each layer: 16 per output pixel of the strided convolution, or per
    # input pixel of the transposed one, and pair of channels.
    pairs = ((64, 3, 64), (32, 64, 128), (16, 128, 256), (8, 256, 512))
    convolutions = [16 * side * side * low * high for side, low, high in pairs]
    generator = 100 * 8 * 8 * 512 * 2 + 3 * sum(convolutions)  # The latents need no gradient.
    discriminator = 8 * 8 * 512 * 3 + 3 * sum(convolutions)
    unused = convolutions[0]  # nor do the real images
    return 2.0 * batch * (generator + 2 * discriminator - unused)


def table(rows: list[Row], batch: int) -> str:
    """The Markdown table; ratios are images per second relative to PyTorch float32, round by round."""
    reference = next((row for row in rows if row.name.startswith("PyTorch float32")), rows[0])
    rate = rows[0].about.get("matmul_rate")
    lines = [
        "| implementation | s/step | CPU s/step | img/s | / PyTorch float32 | matmul share | version |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.problem or not row.seconds:
            lines.append(f"| {row.name} | {row.problem} | | | | | |")
            continue
        seconds, cpu = statistics.median(row.seconds), statistics.median(row.cpu_seconds)
        ratio = "-"
        if reference.seconds:
            pairs = zip(reference.seconds, row.seconds, strict=True)
            ratio = f"{statistics.median(theirs / ours for theirs, ours in pairs):.2f}"
        share = f"{direct_flop(batch) / seconds / rate:.2f}" if rate else "-"
        lines.append(
            f"| {row.name} | {seconds:.4g} | {cpu:.4g} | {batch / seconds:.4g} | {ratio} | {share} | "
            f"{row.about['version']} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter with the peers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="steps in one timing")
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    rows = [Row("dp3_jax", sys.executable, "peers_jax.py", "ours", options)]
    if rows[0].problem:
        sys.exit(f"our own step did not start: {rows[0].problem}")
    backend = rows[0].about["backend"]
    for name, script, variant in CPU_ROWS if backend == "cpu" else GPU_ROWS:
        python = sys.executable if script == "peers_jax.py" else options.peer_python
        rows.append(Row(name, python, script, variant, options))
    for _ in range(options.rounds):
        for row in rows:
            row.measure()
    for row in rows:
        row.close()
    about = rows[0].about
    print(
        f"{about['device']}, {os.cpu_count()} CPU cores, batch {options.batch}, {options.rounds} rounds of"
    )
    print(
        f"{options.steps} steps; large matrix product: {about['matmul_rate'] / 1e9:,.0f} GFLOP/s\n"
    )
    print(table(rows, options.batch))


if __name__ == "__main__":
    main()
