"""Mistakes in launch.py's command line that can be told before anything is loaded."""

import difflib
import pathlib
import shlex
from collections.abc import Collection, Iterable, Sequence

from dp3_jax.common.errors import UserError

_CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
_NOT_CONFIGS = ("__init__.py", "shared.py")

# Flags that only some modes read.
_MODES_OF = {
    "num_samples": ("sample",),
    "seed": ("sample",),
    "output": ("export",),
    "half": ("export",),
    "checkpoint": ("evaluate", "sample", "export"),
    "distributed": ("train",),
    "num_processes": ("train",),
    "process_id": ("train",),
}
_HINTS = {
    "seed": "; a run's own seed is --config.seed",
    "distributed": "; the others run in one process, on that machine's devices",
}


def config_mistake(arguments: Sequence[str]) -> str | None:
    """What is wrong with --config, if something is: a line for the user.

    Args:
      arguments: the command line without the program's name, unparsed.
    """
    if any(argument.lstrip("-").startswith("help") for argument in arguments):
        return None
    given = _value(arguments, "config")
    if not given:
        loose = [a for a in arguments if a.partition(":")[0].endswith(".py")]
        if loose:
            return f"{loose[0]} needs the flag before it: --config={loose[0]}"
        return f"which config? For example --config={_shown('celeba128.py')}; {_there_are()}"
    file, colon, variant = given.partition(":")
    if pathlib.Path(file).is_file():
        return None
    names = [path.name for path in _ours()]
    like = difflib.get_close_matches(pathlib.PurePath(file).stem + ".py", names, 1)
    if like:
        return f"no config file {file}; did you mean --config={_shown(like[0])}{colon}{variant}?"
    return f"no config file {file}; {_there_are()}"


def _value(arguments: Sequence[str], name: str) -> str | None:
    for index, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            return value if equals else " ".join(arguments[index + 1 : index + 2])
    return None


def _ours() -> list[pathlib.Path]:
    return sorted(p for p in _CONFIGS.glob("*.py") if p.name not in _NOT_CONFIGS)


def _shown(name: str) -> str:
    """A config of ours as it can be given from here."""
    near = pathlib.Path("configs", name)
    return str(near if near.is_file() else _CONFIGS / name)


def _there_are() -> str:
    return f"there are {', '.join(_shown(path.name) for path in _ours())}"


def check_mode(mode: str, given: Collection[str]) -> None:
    """Raises UserError for a flag that `mode` would not look at.

    Args:
      mode: of launch.py.
      given: names of the flags that the command line sets.
    """
    for name, modes in _MODES_OF.items():
        if name in given and mode not in modes:
            raise UserError(
                f"--{name} belongs to --mode={' or '.join(modes)}, not to {mode}{_HINTS.get(name, '')}"
            )
    lonely = [name for name in ("num_processes", "process_id") if name in given]
    if lonely and "distributed" not in given:
        raise UserError(f"--{lonely[0]} needs --distributed=HOST:PORT of the first process")


def check_checkpoint(name: str) -> None:
    """Raises UserError for what cannot be the name of a checkpoint."""
    if name not in ("latest", "best") and not name.isdigit():
        raise UserError(f"--checkpoint={name} is none of latest, best and a step's number")


def check_folder(workdir: pathlib.Path) -> None:
    """Raises UserError where a folder is to be written and a file is."""
    if workdir.is_file():
        raise UserError(f"--workdir={workdir} is a file; name a folder")


def check_run(workdir: pathlib.Path, config: str, overrides: Iterable[str]) -> None:
    """Raises UserError where there is no run and no file.

    Args:
      workdir: a run's folder or an exported file.
      config: FILE or FILE:VARIANT, as on the command line.
      overrides: the command line's flags that a training would have to have as well.
    """
    if workdir.exists():
        return
    if workdir.suffix == ".safetensors":
        raise UserError(f"no exported generator at {workdir}; check the path")
    line = shlex.join(["python", "launch.py", f"--config={config}", *overrides])
    raise UserError(f"no run in {workdir}: check the path, or train it first: {line}")
