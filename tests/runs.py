"""Small runs for tests: a config that trains in seconds, and the real command in its own process."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from configs import celeba128
from dp3_jax.training import assembly, checkpoint, configuration, options, sharding

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


def parts(config, features=None):
    """What a run of `config` computes with, see `assembly.assemble`; values are not checked."""
    return assembly.assemble(configuration.take_apart(config), features)


def fresh_state(config, features=None):
    """A run's state before its first step."""
    return assembly.build(parts(config, features), sharding.make_layout())


def step_options(config):
    """What a run's train step needs to know besides its state."""
    sections = configuration.take_apart(config)
    return options.step_options(sections.train, sections.model.latent_dim)


def command(workdir, *arguments, **changes):
    """The command line that trains `tiny_config(**changes)` in `workdir`."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    overrides = [f"--config.{name}={value}" for name, value in {**TINY, **dotted}.items()]
    config = "--config=configs/celeba128.py:smoke"
    return [sys.executable, "launch.py", config, f"--workdir={workdir}", *overrides, *arguments]


IDLE_SECONDS = 120.0
IDLE_SHARE = 0.01  # of a processor; a JAX process that waits for ever still sends its heartbeats


class Command:
    """A started command; its output goes to files, so that nobody has to read while it runs."""

    def __init__(self, line, env=None):
        self._files = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
        self.process = subprocess.Popen(
            line, cwd=REPOSITORY, env={**os.environ, **(env or {})},
            stdout=self._files[0], stderr=self._files[1], text=True,
        )  # fmt: skip

    @property
    def output(self):
        """(standard output, standard error) so far."""
        return tuple(
            os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()
            for file in self._files
        )

    @property
    def result(self):
        """As `subprocess.run` gives it."""
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, *self.output)

    def progress(self):
        """Bytes of output, and processor seconds, which only Linux tells (elsewhere the time of day)."""
        written = sum(os.fstat(file.fileno()).st_size for file in self._files)
        try:
            fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2]
        except OSError:
            return written, time.monotonic()
        return written, sum(map(int, fields.split()[11:15])) / os.sysconf("SC_CLK_TCK")


def wait(*commands, until=lambda: False):
    """Waits until all `commands` have ended, or `until()` is true; for as long as they get on.

    On a busy machine all may take many times as long as on an idle one; what stands still is ended.
    """
    checked = time.monotonic()
    before = [command.progress() for command in commands]
    while not until() and any(command.process.poll() is None for command in commands):
        time.sleep(0.01)
        if time.monotonic() - checked < IDLE_SECONDS:
            continue
        checked, last, before = time.monotonic(), before, [c.progress() for c in commands]
        pairs = list(zip(before, last, strict=True))
        used = sum(now[1] - then[1] for now, then in pairs)
        if all(now[0] == then[0] for now, then in pairs) and used < IDLE_SHARE * IDLE_SECONDS:
            for command in commands:
                command.process.kill()
            raise AssertionError(f"standing still: {[command.output for command in commands]}")


def run(line, env=None):
    """Runs a command line to its end; returns the finished process with its output as text."""
    command = Command(line, env)
    wait(command)
    return command.result


def launch(*arguments, env=None):
    """Runs launch.py with `arguments`; see `run`."""
    return run([sys.executable, "launch.py", *map(str, arguments)], env)


def finished_steps(workdir):
    """Numbers of the complete checkpoints of a run."""
    folder = pathlib.Path(workdir) / "checkpoints"
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def signalled(line, step, number=signal.SIGKILL):
    """Runs a `command` line that gets a signal at micro-batch `step`; returns (exit status, output)."""
    launch = line.index("launch.py")
    ended = run([*line[:launch], "-m", "tests.signalled_run", str(step), str(int(number)),
                 *line[launch + 1 :]])  # fmt: skip
    return ended.returncode, ended.stdout + ended.stderr


def cut(workdir, target, step):
    """Copies a finished run as it was when checkpoint `step` was its latest, as a killed one leaves it."""
    shutil.copytree(workdir, target)
    for later in finished_steps(target):
        if later > step:
            shutil.rmtree(target / "checkpoints" / str(later))
    assert finished_steps(target)[-1] == step


def final_state(workdir, config):
    """Every array of a run's latest checkpoint, by its path."""
    template = fresh_state(config)
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
