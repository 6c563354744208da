"""What launch.py fills in where the command line says nothing, and the commands that it answers with."""

import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from dp3_jax.common.errors import UserError
from dp3_jax.data.celeba import NoCelebA

RUNS = pathlib.Path("runs")
_OURS = pathlib.Path(__file__).resolve().parents[2] / "configs"
_TRIED_WITHOUT_DATA = "configs/celeba128.py"  # for configs that may have no :smoke
_DEFAULT_PLACE = "data/celeba"
_OFFICIAL = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
_KAGGLE = "kaggle datasets download jessicali9530/celeba-dataset --unzip --path"
_OF_THE_SOURCE = ("data.source", "data.path", "data.download")


def default_workdir(config: str, mode: str = "train") -> pathlib.Path:
    """The folder of a run of `config` (FILE or FILE:VARIANT), beside it that of its packed data.

    `runs/NAME` or `runs/NAME-VARIANT`, with the config file's name; for mode prepare `-packed` follows.
    """
    file, _, variant = config.partition(":")
    parts = [pathlib.PurePath(file).stem]
    if variant:
        parts.append(re.sub(r"[^\w.=+-]+", "-", variant))
    if mode == "prepare":
        parts.append("packed")
    return RUNS / "-".join(parts)


def chosen_workdir(given: str | None, config: str, mode: str) -> pathlib.Path:
    """The folder that --workdir gives, or else the default one, which is then said in the log."""
    if given:
        return pathlib.Path(given)
    workdir = default_workdir(config, mode)
    logging.info("workdir: %s", workdir)
    return workdir


def check_not_a_run(folder: pathlib.Path) -> None:
    """Raises UserError where a folder that packed data is to be written to holds a run."""
    if (folder / "config.json").exists():
        raise UserError(
            f"{folder} holds a training run; name another --workdir for the packed data"
        )


def with_commands(
    error: NoCelebA,
    config: str,
    data: Mapping[str, Any],
    overrides: Mapping[str, Any],
    flags: Sequence[str] = (),
) -> UserError:
    """`error` with whole commands for each way to CelebA, and for the one without it.

    Args:
      error: what went wrong.
      config: FILE or FILE:VARIANT, as on the command line.
      data: the config's `data` section.
      overrides: values of the config that the command line sets, by dotted name.
      flags: the command line's other flags that belong to the same run, such as --workdir=DIR.
    """
    same = [*flags, *(f"--config.{k}={v}" for k, v in overrides.items() if k not in _OF_THE_SOURCE)]
    place = pathlib.PurePath(data["path"] or _DEFAULT_PLACE)
    place = str(place.parent if place.suffix == ".zip" else place)
    from_files = [
        f"--config.{name}={value}"
        for name, value in (("data.source", "celeba"), ("data.path", place))
        if name in overrides or data[name.removeprefix("data.")] != value
    ]
    downloaded = ["--config.data.source=tfds", "--config.data.path=", "--config.data.download=true"]
    file = pathlib.Path(config.partition(":")[0])
    smoke = f"{file if file.resolve().parent == _OURS else _TRIED_WITHOUT_DATA}:smoke"
    told = UserError(
        f"{error.problem}; get CelebA in one of three ways, or do without it (--config={smoke}):"
    )
    told.more = (
        f"  official files: from {_OFFICIAL} put img_align_celeba.zip (as it is),",
        f"  list_eval_partition.txt and identity_CelebA.txt into {place}, then",
        f"    {_command(config, *from_files, *same)}",
        "  Kaggle's copy:",
        f"    {_KAGGLE} {shlex.quote(place)}",
        f"    {_command(config, *from_files, *same)}",
        "  TensorFlow Datasets:",
        f"    {_command(config, *downloaded, *same)}",
        "  no data at all, drawn shapes:",
        f"    {_command(smoke)}",
    )
    return told


def _command(config: str, *flags: str) -> str:
    return shlex.join(["python", "launch.py", f"--config={config}", *flags])
