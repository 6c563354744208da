"""`config.json` in a run's folder: written at its beginning, compared with what is to go on with it.

Everything here takes whole configs, as records of a run; what they mean is in `configuration`.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.training.checkpoint import CONFIG_FILE, read_config

# What a resumed run may change: none of it alters what an update computes.
FREE_TO_CHANGE = ("log.", "evaluate.", "train.epochs", "train.max_skipped", "data.path",
                  "data.donors", "data.workers", "data.on_device", "data.download",
                  "data.validation_examples")  # fmt: skip

# Keys that runs of earlier versions do not have, with the values that mean what those runs did.
_LATER = {
    "data.clips": "",
    "data.clips_held_out": 0.0,
    "losses.temporal": 0.0,
    "losses.feature_diversity": 0.0,
    "losses.feature_diversity_target": 0.23,
    "model.projected": False,
    "train.initial_generator": "",
    "train.clip_norm": 0.0,
    "train.convolution": "auto",
}

Record = Mapping[str, Any]  # a config as JSON keeps it


def record_of(config: ConfigDict) -> Record:
    """A config as it is written down."""
    return json.loads(config.to_json())


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def check(workdir: pathlib.Path, record: Record) -> None:
    """Compares a config with `workdir/config.json`, if that is there.

    Raises:
      UserError: the workdir holds a run of another config; the message shows the first differences.
    """
    if not (workdir / CONFIG_FILE).exists():
        return
    before, now = _flat(read_config(workdir)), _flat(record)
    before = {**{name: value for name, value in _LATER.items() if name in now}, **before}
    changed = [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name) and not name.startswith(FREE_TO_CHANGE)
    ]
    if changed:
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
        raise UserError(
            f"{workdir} holds a run of another config: {'; '.join(changed[:4])}{more}; "
            "choose another --workdir, or the same config to resume"
        )


def claim(workdir: pathlib.Path, record: Record) -> None:
    """Writes a config to `workdir/config.json`.

    Raises:
      UserError: as `check`.
    """
    check(workdir, record)
    files.write_json(workdir / CONFIG_FILE, record)


def as_trained(
    workdir: pathlib.Path, config: ConfigDict, overrides: Mapping[str, Any]
) -> ConfigDict:
    """The config of the run in `workdir`, with what the command line sets on purpose.

    Without a config.json there (an exported file, or no run) `config` as it is.

    Args:
      workdir: of the run.
      config: as the command line gives it; only keys of `evaluate` and `log` that the run does not have, as
        those of an older version, are taken from it.
      overrides: dotted names of the keys that the command line sets.

    Raises:
      UserError: one of these says something else than the run of what it was trained with.
    """
    if not (workdir / CONFIG_FILE).is_file():
        return config
    given = _flat(record_of(config))
    merged = read_config(workdir)
    before = _flat(merged)
    _check_kinds(before, given, workdir / CONFIG_FILE)
    changed = [
        f"{name} was {before[name]!r}, is {given[name]!r}"
        for name in sorted(before.keys() & set(overrides))
        if before[name] != given[name] and not name.startswith((*FREE_TO_CHANGE, "data.source"))
    ]
    if changed:
        raise UserError(
            f"the run in {workdir} was trained with other settings: {'; '.join(changed)}; leave them out"
        )
    kept = {
        name: value
        for name, value in given.items()
        if name in overrides or (name not in before and name.startswith(("evaluate.", "log.")))
    }
    for name, value in kept.items():
        *sections, key = name.split(".")
        place = merged
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    logging.info("settings: %s", workdir / CONFIG_FILE)
    return ConfigDict(merged)


_ALWAYS_THERE = ("data.source", "data.path", "data.image_size", "train.batch_size")
_KINDS = ((bool,), (int, float), (str,), (list, tuple), (type(None),))


def _check_kinds(before: Mapping[str, Any], given: Mapping[str, Any], path: pathlib.Path) -> None:
    """Raises UserError where a value of a run's file is of another kind than a config's, such as a text for a
    number; where either is None, everything goes."""
    for name in _ALWAYS_THERE:
        if name not in before:
            raise UserError(f"{path} is no run's config: {name} is missing; is it complete?")
    for name in sorted(before.keys() & given.keys()):
        kinds = [
            next((n for n, kind in enumerate(_KINDS) if isinstance(value, kind)), None)
            for value in (before[name], given[name])
        ]
        if kinds[0] != kinds[1] and len(_KINDS) - 1 not in kinds:
            raise UserError(f"cannot use {path}: {name} is {before[name]!r}; is the file damaged?")


def check_data_there(workdir: pathlib.Path, data: Mapping[str, Any]) -> None:
    """Raises UserError where the data of the run in `workdir` are not where its config says."""
    path = data["path"]
    if (workdir / CONFIG_FILE).is_file() and path and not pathlib.Path(path).exists():
        raise UserError(
            f"the data of the run in {workdir} are no longer at {path}; if they have moved, add "
            "--config.data.path=PLACE (and --config.data.source=packed for their packed form)"
        )
