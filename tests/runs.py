"""Small runs for tests: a config that trains in seconds, and the real command in its own process."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np

from configs import celeba128
from dp3_jax.training import checkpoint, loop, sharding

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]

# Flags that make the :smoke config smaller still.
TINY = {
    "data.image_size": 16,
    "data.train_examples": 64,
    "model.latent_dim": 8,
    "model.generator_widths": (16, 8),
    "model.discriminator_widths": (8, 16),
    "train.batch_size": 16,
    "log.checkpoint_steps": 50,
    "log.grid_steps": 200,
    "log.grid_images": 4,
    "log.ssim_generated": 4,
    "log.ssim_real": 16,
}


def tiny_config(**changes):
    """The :smoke config with TINY and then `changes` (dots written as two underscores) applied."""
    config = celeba128.get_config("smoke")
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    config.update_from_flattened_dict({**TINY, **dotted})
    return config


def command(workdir, *arguments, **changes):
    """The command line that trains `tiny_config(**changes)` in `workdir`."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    overrides = [f"--config.{name}={value}" for name, value in {**TINY, **dotted}.items()]
    config = "--config=configs/celeba128.py:smoke"
    return [sys.executable, "launch.py", config, f"--workdir={workdir}", *overrides, *arguments]


def launch(*arguments, env=None, timeout=240):
    """Runs launch.py with `arguments`; returns the finished process with its output as text."""
    return subprocess.run(
        [sys.executable, "launch.py", *map(str, arguments)],
        cwd=REPOSITORY, env={**os.environ, **(env or {})}, timeout=timeout, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def run(line, **options):
    """Runs a `command` line to its end."""
    return subprocess.run(
        line, cwd=REPOSITORY, timeout=240, capture_output=True, text=True, check=False, **options
    )


def finished_steps(workdir):
    """Numbers of the complete checkpoints of a run."""
    folder = pathlib.Path(workdir) / "checkpoints"
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def interrupt(line, workdir, after, number=signal.SIGKILL, delay=0.0):
    """Starts a `command` line and signals it `delay` seconds after checkpoint `after` or a later one appears.

    Returns:
      (exit status, output); the run may have ended by itself before the signal.
    """
    process = subprocess.Popen(
        line, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if any(step >= after for step in finished_steps(workdir)):
            time.sleep(delay)
            process.send_signal(number)
            break
        time.sleep(0.01)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def final_state(workdir, config):
    """Every array of a run's latest checkpoint, by its path."""
    template, *_ = loop.build(config, sharding.make_layout())
    with checkpoint.open_manager(pathlib.Path(workdir), keep_latest=2) as manager:
        state = checkpoint.restore_state(manager, template)
    state = state.replace(rng=jax.random.key_data(state.rng))
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def assert_same_bits(a, b):
    """Two results of `final_state` are equal to the last bit."""
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
