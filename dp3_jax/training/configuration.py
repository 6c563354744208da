"""Everything a config can get wrong, by itself or for the run that goes on with it, before work starts.

What a possible config means to the layers below is in `options`, and can be had from here.
"""

import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from dp3_jax import models
from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.models.convolution_forms import FORMS
from dp3_jax.models.projected import Features
from dp3_jax.training.checkpoint import CONFIG_FILE, read_config
from dp3_jax.training.objectives import objective_of
from dp3_jax.training.options import (
    compute_dtype,
    convolution_form,
    data_options,
    model_section,
    optimizer_options,
    step_options,
)
from dp3_jax.vision import augmentation

__all__ = [
    "FREE_TO_CHANGE",
    "as_trained",
    "check",
    "check_data_there",
    "check_devices",
    "check_workdir",
    "claim_workdir",
    "compute_dtype",
    "convolution_form",
    "data_options",
    "model_section",
    "optimizer_options",
    "perceptual_features",
    "step_options",
    "train_step",
]

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


def _choices(config: ConfigDict) -> Iterator[str]:
    allowed = {
        "model.family": tuple(models.FAMILIES),
        "model.upsampling": ("transposed", "pixel_shuffle"),
        "model.perceptual": ("mobilenet_v2", "vgg19"),
        "train.compute_dtype": ("auto", "bfloat16", "float32"),
        "train.convolution": ("auto", *sorted(FORMS)),
        "evaluate.match": ("ssim", "l2"),
        "evaluate.judge": ("sface", "deepface", "none"),
        "evaluate.kid_features": ("mobilenet_v2", "faceres", "dlib", "random_conv"),
    }
    values = [(name, _get(config, name)) for name in allowed if _has(config, name)]
    values += [("train.augment", policy) for policy in config.train.augment]
    allowed["train.augment"] = tuple(augmentation.POLICIES)
    for name, value in values:
        if value not in allowed[name]:
            yield f"{name}={value!r} is none of {', '.join(allowed[name])}"


def _sizes(config: ConfigDict) -> Iterator[str]:
    size, train = config.data.image_size, config.train
    if size & (size - 1) or not 16 <= size <= 1024:
        yield f"data.image_size={size} is not a power of two from 16 to 1024"
        return
    for name in ("generator_widths", "discriminator_widths"):
        widths = config.model[name]
        if not widths or any(not isinstance(width, int) or width < 1 for width in widths):
            yield f"model.{name}={widths} needs at least one width, each a whole number above 0"
        elif size >> len(widths) < 2:
            yield (
                f"model.{name} has {len(widths)} widths, but {size} px can be halved only "
                f"{size.bit_length() - 2} times, down to 2 px; take widths away or raise data.image_size"
            )
    if train.accumulation > 0 and train.batch_size % train.accumulation:
        yield (
            f"train.batch_size={train.batch_size} is not divisible by "
            f"train.accumulation={train.accumulation}"
        )
    if config.data.on_device and config.data.source != "packed":
        yield (
            f"data.on_device needs data.source=packed, not {config.data.source}; "
            "run --mode=prepare first"
        )


# Closed from below, open above: the smallest value allowed for each whole number.
_AT_LEAST = {
    0: ("seed", "evaluate.seed", "evaluate.num_real", "train.r1_weight", "train.ema_halflife",
        "log.checkpoint_steps", "log.keep_best", "train.clip_norm"),
    1: ("model.latent_dim", "model.style_dim", "train.batch_size", "train.accumulation", "train.r1_every",
        "train.max_skipped", "log.metrics_steps", "log.grid_steps", "log.grid_images",
        "log.keep_latest", "log.ssim_generated", "log.ssim_real", "evaluate.batch_size"),
    2: ("evaluate.num_generated", "evaluate.num_heldout"),
}  # fmt: skip
_ABOVE_ZERO = (
    "train.epochs", "train.generator_learning_rate", "train.discriminator_learning_rate",
    "log.console_seconds", "log.checkpoint_minutes",
)  # fmt: skip
_BELOW_ONE = (
    "model.dropout", "model.negative_slope", "train.b1", "train.b2", "train.label_smoothing",
)  # fmt: skip


def _ranges(config: ConfigDict) -> Iterator[str]:
    for least, names in _AT_LEAST.items():
        for name in names:
            if (
                _has(config, name) and not _get(config, name) >= least
            ):  # so written, nan is a problem too
                yield f"{name}={_get(config, name)} is not {least} or more"
    for name in _ABOVE_ZERO:
        if not 0 < _get(config, name) < float("inf"):
            yield f"{name}={_get(config, name)} is not a number above 0"
    for name in _BELOW_ONE:
        if _has(config, name) and not 0 <= _get(config, name) < 1:
            yield f"{name}={_get(config, name)} is not in [0, 1)"


def _has(config: ConfigDict, name: str) -> bool:
    """Whether this model family's config has the key; not all have all of them."""
    for part in name.split("."):
        if part not in config:
            return False
        config = config[part]
    return True


def _get(config: ConfigDict, name: str) -> Any:
    for part in name.split("."):
        config = config[part]
    return config


def check(config: ConfigDict) -> None:
    """Raises UserError, naming the first impossible value of `config` and how many more there are."""
    data_options(config.data)  # raises by itself
    problems = [*_choices(config), *_sizes(config), *_ranges(config)]
    if config.model.family in models.FAMILIES:
        problems += objective_of(config).check(config)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"config.{problems[0]}{more}")


def check_devices(config: ConfigDict, device_count: int, process_count: int) -> None:
    """Raises UserError when a micro-batch cannot be split evenly over the devices."""
    micro = config.train.batch_size // config.train.accumulation
    if micro % device_count:
        raise UserError(
            f"config.train.batch_size={config.train.batch_size} in {config.train.accumulation} micro-batches "
            f"gives {micro} images each, not divisible by {device_count} devices on {process_count} "
            f"processes; choose a multiple of {device_count * config.train.accumulation}"
        )


def train_step(config: ConfigDict) -> Callable[..., Any]:
    """The pure function (state, batch) -> (state, metrics) that this config trains with."""
    return objective_of(config).train_step(config)


def perceptual_features(config: ConfigDict) -> Features | None:
    """The fixed network whose features this config's losses or discriminator look at; None if none do.

    Raises:
      UserError: its weights cannot be had.
    """
    return objective_of(config).perceptual_features(config)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def check_workdir(workdir: pathlib.Path, config: ConfigDict) -> dict[str, Any]:
    """Compares the config with `workdir/config.json`, if that is there; returns it resolved.

    Raises:
      UserError: the workdir holds a run of another config; the message shows the first differences.
    """
    resolved = json.loads(config.to_json())
    if (workdir / CONFIG_FILE).exists():
        before, now = _flat(read_config(workdir)), _flat(resolved)
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
    return resolved


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
    given = _flat(json.loads(config.to_json()))
    before = _flat(read_config(workdir))
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
    merged = read_config(workdir)
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


def claim_workdir(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Writes the resolved config to `workdir/config.json`.

    Raises:
      UserError: as `check_workdir`.
    """
    files.write_json(workdir / CONFIG_FILE, check_workdir(workdir, config))
