"""The paper's 1,000 epochs of configs/celeba128.py on a machine with a GPU, from a pack of pictures.

    python -m kits.celeba_gpu pack CELEBA                where CelebA is
    python -m kits.celeba_gpu run [--minutes N]          there; needs the repository and the pack alone

`run` trains until 1,000 epochs or its time are over, measures (SSIM with its controls) and writes losses,
numbers, samples and weights into a folder. The same command goes on where it was, as long as its --work
folder is there; with the epochs done it only measures. Sizes, and what comes back: kits/README.md.
"""

import argparse
import dataclasses
import pathlib
import sys
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from configs import celeba128
from dp3_jax.common import console
from dp3_jax.common.errors import UserError
from dp3_jax.data import DataOptions, load_arrays
from dp3_jax.data.packing import write_packed
from dp3_jax.evaluation.evaluate import evaluate
from dp3_jax.evaluation.sample import sample
from dp3_jax.training.configuration import data_options
from kits import common, webp_pack

PACK = pathlib.Path("runs/kit-celeba/celeba128.zip")
_HELD_OUT = 1000  # validation pictures, for the controls
_RESERVE = 120.0  # seconds, to measure and to export in
_SAMPLES = 100
_SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What `run` is told.

    Attributes:
      pack: zip file that `pack` wrote.
      work: folder for pictures and checkpoints.
      output: folder for the results.
      minutes: for all of it.
      reserve: seconds to measure and to export in.
    """

    pack: pathlib.Path
    work: pathlib.Path
    output: pathlib.Path
    minutes: float
    reserve: float = _RESERVE


def pack(path: pathlib.Path, data: DataOptions, megabytes: float = 25.0) -> str:
    """Writes the seeded subset of the train split and held-out pictures to a zip file.

    Args:
      path: of it.
      data: of the config, with the place of CelebA.
      megabytes: its size, at most.

    Returns:
      Lines for the console.

    Raises:
      UserError: the pictures cannot be read, or do not fit; or it is more than may be carried.
    """
    chosen = {"train": load_arrays(data, "train")}
    chosen["validation"] = load_arrays(data, "validation", limit=_HELD_OUT)
    told = webp_pack.write_pack(path, "CelebA", chosen, int(megabytes * 1e6))
    return f"{told}\n{common.check_carried(path.parent, common.repository_bytes())}"


def configure(config: ConfigDict, work: pathlib.Path) -> ConfigDict:
    """`config` on a pack that was written to WORK/packed, with fewer records and nothing to fetch."""
    with config.unlocked():
        config.data.update(source="packed", path=str(work / "packed"), on_device=True)
        config.log.update(metrics_steps=50, grid_steps=15600, checkpoint_steps=0)
        config.log.update(checkpoint_minutes=2.0, keep_latest=1)
        config.evaluate.update(num_generated=200, judge="none", kid_features="random_conv")
    return config


def run(settings: Settings, config: ConfigDict) -> dict[str, Any]:
    """Trains, measures and exports within `settings.minutes`; returns what report.json holds.

    Args:
      settings: see there.
      config: of `configure`.

    Raises:
      UserError: the pack cannot be read, or the time does not do.
    """
    clock = common.Clock(settings.minutes, settings.reserve)
    common.use_compilation_cache(settings.work / "compiled")
    logging.info("on %s", common.device())
    # The members are the subset already: all of them, in their order.
    options = dataclasses.replace(
        data_options(config.data), source="folder", path="pack", on_device=False
    )
    print(write_packed(webp_pack.open_pack(settings.pack), options, config.data.path))
    report: dict[str, Any] = {"device": common.device(), "minutes": settings.minutes}
    training = settings.work / "training"
    report["training"] = common.train_until(config, training, clock.to_train)
    began = clock.passed
    measured = evaluate(training, config)
    report["ssim"] = measured["ssim"]
    report["kid"] = measured["kid"]
    samples = sample(training, config, _SAMPLES, _SEED)
    report["seconds_measuring"] = round(clock.passed - began, 1)
    report["seconds"] = round(clock.passed, 1)
    others = [(training / name, name) for name in ("evaluation.json", "evaluation_pairs.png")]
    others += [(samples / name, f"samples_{name}") for name in ("grid.png", "interpolation.png")]
    common.write_results(training, settings.output, "celeba128.safetensors", others, report)
    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("kits.celeba_gpu", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write what `run` needs")
    packing.add_argument("celeba", help="CelebA, as data.path of the celeba source")
    packing.add_argument("--pack", type=pathlib.Path, default=PACK, help="zip file to write")
    packing.add_argument("--megabytes", type=float, default=25.0, help="its size, at most")
    running = commands.add_parser("run", help="train, measure, export")
    running.add_argument("--pack", type=pathlib.Path, default=PACK)
    running.add_argument("--work", type=pathlib.Path, default=pathlib.Path("runs/celeba128-gpu"))
    running.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("runs/celeba128-gpu/results")
    )
    running.add_argument("--minutes", type=float, default=9.0, help="for all of it")
    return parser


def main(argv: list[str]) -> int:
    """The command; returns the exit status."""
    given = _parser().parse_args(argv)
    config = celeba128.get_config()
    if given.command == "pack":
        if not given.megabytes > 0:
            raise UserError("--megabytes is above 0")
        with config.unlocked():
            config.data.path = given.celeba
        print(pack(given.pack, data_options(config.data), given.megabytes))
        return 0
    settings = Settings(
        pack=given.pack, work=given.work, output=given.output, minutes=given.minutes
    )
    run(settings, configure(config, given.work))
    return 0


if __name__ == "__main__":
    sys.exit(console.run_command(main, sys.argv[1:]))
