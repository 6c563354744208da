"""Trains, evaluates and samples DeepPrivacy3 models.

    python launch.py --config=configs/celeba128.py [--workdir=DIR] [--mode=MODE] [--config.a.b=value ...]

DIR is runs/ and the config's name and variant if it is not given: runs/celeba128, runs/celeba128-smoke; and
for prepare runs/celeba128-packed.

Modes:
  train     (default) train in DIR, or go on with the run that is there
  evaluate  measure the run in DIR: evaluation.json, evaluation_pairs.png; of an anonymizer (here DIR may
            also be an exported file) anonymity.json, anonymity.png
  sample    draw new images into DIR/samples
  export    write the generator of the run in DIR as one safetensors file (--output)
  prepare   decode and resize the config's images once, into the folder DIR; use it afterwards with
            --config.data.source=packed --config.data.path=DIR

evaluate, sample and export take the settings from the run's config.json. On the command line evaluate.* and
the place of the data can be set; what differs from what the run was trained with is refused. Several
processes (--distributed) are for train alone.

This file only parses flags and dispatches.
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from dp3_jax.cli import launch_flags
from dp3_jax.common import allocator, console
from dp3_jax.common.errors import UserError, fail

MODES = ("train", "evaluate", "sample", "export", "prepare")

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, e.g. configs/celeba128.py.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run, default runs/CONFIG; of the packed data for prepare."
)
_MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do; see above.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 64, "sample: how many images.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "sample: seed of the latents.", lower_bound=0)
_OUTPUT = flags.DEFINE_string(
    "output", None, "export: file to write; default DIR/generator.safetensors."
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "latest", "evaluate, sample, export: latest, best (by SSIM) or a step number."
)
_HALF = flags.DEFINE_bool("half", False, "export: store the parameters in half precision.")
_DISTRIBUTED = flags.DEFINE_string(
    "distributed",
    None,
    "train in several processes: 'auto' (TPU pods, Slurm, ...) or HOST:PORT of the first one.",
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 1, "With HOST:PORT: how many there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", 0, "With HOST:PORT: which one this is, from 0.")


def main(argv: list[str]) -> int:
    """Runs the chosen mode; returns the exit status."""
    if len(argv) > 1:
        raise UserError(f"argument {argv[1]!r} is not a flag; flags start with --")
    launch_flags.check_mode(
        _MODE.value, [name for name in flags.FLAGS if flags.FLAGS[name].present]
    )
    launch_flags.check_checkpoint(_CHECKPOINT.value)
    allocator.keep_freed_memory()  # before JAX takes any
    # Late, so that a wrong flag is answered at once and each mode imports only what it needs.
    from dp3_jax.cli import launching
    from dp3_jax.data.celeba import NoCelebA

    config_file = config_flags.get_config_filename(flags.FLAGS["config"])
    workdir = launching.chosen_workdir(_WORKDIR.value, config_file, _MODE.value)
    try:
        return _dispatch(_CONFIG.value, workdir)
    except NoCelebA as error:
        overrides = config_flags.get_override_values(flags.FLAGS["config"])
        same = [
            flag.serialize()
            for flag in (flags.FLAGS["workdir"], flags.FLAGS["mode"])
            if flag.present
        ]
        raise launching.with_commands(
            error, config_file, _CONFIG.value.data, overrides, same
        ) from error


def _same_run() -> list[str]:
    """The flags of this command line that belong to the run, whatever is done with it."""
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    workdir = [flags.FLAGS["workdir"].serialize()] if _WORKDIR.present else []
    return [*workdir, *(f"--config.{name}={value}" for name, value in overrides.items())]


def _parsed(argv: Sequence[str]) -> list[str]:
    """The command line's other arguments; a wrong flag ends the program with one line."""
    mistake = launch_flags.config_mistake(argv[1:])
    if mistake:
        sys.exit(fail(mistake))
    return console.parse_flags(argv)


def _refine(config: ConfigDict, workdir: pathlib.Path) -> int:
    from dp3_jax.training import refine_run

    if _MODE.value != "train":
        raise UserError(f"a refining config has no --mode={_MODE.value}; leave --mode out")
    launch_flags.check_folder(workdir)
    refine_run.run(config, workdir)
    return 0


def _dispatch(config: ConfigDict, workdir: pathlib.Path) -> int:
    from dp3_jax.training import configuration, run_config

    if "refine" in config:
        return _refine(config, workdir)
    configuration.parse(config)
    if _MODE.value in ("evaluate", "sample", "export"):
        from dp3_jax.training import sharding

        sharding.check_backend()
        overrides = config_flags.get_override_values(flags.FLAGS["config"])
        launch_flags.check_run(
            workdir, config_flags.get_config_filename(flags.FLAGS["config"]), _same_run()
        )
        config = run_config.as_trained(workdir, config, overrides)
    else:
        launch_flags.check_folder(workdir)
    if _MODE.value == "train":
        from dp3_jax.training import loop, sharding

        sharding.join(_DISTRIBUTED.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
        signal_number = loop.train(config, workdir, allocator.release_freed_memory)
        return 128 + signal_number if signal_number else 0
    if _MODE.value == "evaluate":
        from dp3_jax.evaluation.suites import evaluate

        run_config.check_data_there(workdir, config.data)
        evaluate(workdir, config, step=_CHECKPOINT.value)
    elif _MODE.value == "sample":
        from dp3_jax.evaluation.sample import sample

        sample(workdir, config, _NUM_SAMPLES.value, _SEED.value, step=_CHECKPOINT.value)
    elif _MODE.value == "export":
        from dp3_jax.training.export import export

        output = _OUTPUT.value or workdir / "generator.safetensors"
        export(workdir, output, half=_HALF.value, step=_CHECKPOINT.value)
    else:
        from dp3_jax.cli import launching
        from dp3_jax.data import prepare

        launching.check_not_a_run(workdir)
        print(prepare(configuration.parse(config).data, workdir))
    return 0


if __name__ == "__main__":
    app.run(lambda argv: sys.exit(console.run_command(main, argv)), flags_parser=_parsed)
