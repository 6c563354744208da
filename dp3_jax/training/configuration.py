"""From a ConfigDict to typed options: everything a config can get wrong is found here, before work starts."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dp3_jax import assets, augmentation, files, models
from dp3_jax.data import DataOptions
from dp3_jax.errors import UserError
from dp3_jax.models import perceptual
from dp3_jax.models.projected import Features
from dp3_jax.training import anonymizer_steps, steps, temporal_steps
from dp3_jax.training.checkpoint import CONFIG_FILE, read_config
from dp3_jax.training.state import OptimizerOptions
from dp3_jax.training.steps import StepOptions

# What a resumed run may change: none of it alters what an update computes.
FREE_TO_CHANGE = ("log.", "evaluate.", "train.epochs", "train.max_skipped", "data.path",
                  "data.workers", "data.on_device", "data.download", "data.validation_examples")  # fmt: skip


# Keys that runs of earlier versions do not have, with the values that mean what those runs did.
_LATER = {
    "data.clips": "",
    "losses.temporal": 0.0,
    "losses.feature_diversity": 0.0,
    "losses.feature_diversity_target": 0.23,
    "model.projected": False,
    "train.initial_generator": "",
    "train.clip_norm": 0.0,
}


def _choices(config: ConfigDict) -> Iterator[str]:
    allowed = {
        "model.family": models.FAMILIES,
        "model.upsampling": ("transposed", "pixel_shuffle"),
        "model.perceptual": ("mobilenet_v2", "vgg19"),
        "train.compute_dtype": ("auto", "bfloat16", "float32"),
        "evaluate.match": ("ssim", "l2"),
        "evaluate.judge": ("sface", "deepface", "none"),
        "evaluate.kid_features": ("mobilenet_v2", "random_conv"),
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


_DIVISORS = ("fade_halflife", "diversity_target", "feature_diversity_target")  # of config.losses


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


def _inpainting(config: ConfigDict) -> Iterator[str]:
    """What only the families that fill holes can get wrong."""
    if config.model.family not in models.CONDITIONAL:
        return
    if config.train.batch_size // config.train.accumulation % 2:
        yield "train.batch_size must give micro-batches of an even number of images"
    if "color" in config.train.augment:
        yield "train.augment may hold translation and cutout with this family, not color"
    for name, weight in config.losses.items():
        if not 0 <= weight < float("inf"):
            yield f"losses.{name}={weight} is not a number of 0 or more"
        elif name in _DIVISORS and not weight:
            yield f"losses.{name}={weight} is not above 0"
    if config.model.get("projected") and config.data.image_size < 64:
        yield f"model.projected needs data.image_size=64 or more, not {config.data.image_size}"
    if config.data.get("clips", "") and not config.losses.get("temporal", 0.0):
        yield "data.clips is used by losses.temporal alone, which is 0; set both or neither"


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
    problems = [*_choices(config), *_sizes(config), *_ranges(config), *_inpainting(config)]
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


def data_options(data: Mapping[str, Any]) -> DataOptions:
    """The data layer's options from a config's `data` section (ConfigDict or dict)."""
    known = {field.name for field in dataclasses.fields(DataOptions)}
    values = {name: value for name, value in data.items() if name in known}
    values["crop"] = tuple(values["crop"]) or None
    return DataOptions(**values)


def optimizer_options(config: ConfigDict) -> OptimizerOptions:
    """Options of `state.create_state`."""
    names = (field.name for field in dataclasses.fields(OptimizerOptions))
    return OptimizerOptions(**{name: config.train[name] for name in names})


def step_options(config: ConfigDict) -> StepOptions:
    """Options of `steps.train_step`."""
    train = config.train
    return StepOptions(
        latent_dim=config.model.latent_dim,
        label_smoothing=train.label_smoothing,
        augment=tuple(train.augment),
        r1_weight=train.r1_weight,
        r1_every=train.r1_every,
        ema_halflife=train.ema_halflife,
    )


def train_step(config: ConfigDict) -> Callable[..., Any]:
    """The pure function (state, batch) -> (state, metrics) that this config trains with."""
    options = step_options(config)
    if not models.is_conditional(config.model):
        return functools.partial(steps.train_step, options=options)
    weights = anonymizer_steps.LossOptions(**config.losses)
    step = temporal_steps.train_step if weights.temporal else anonymizer_steps.train_step
    return functools.partial(step, options=options, weights=weights)


def perceptual_features(config: ConfigDict) -> Features | None:
    """The fixed network whose features this config's losses or discriminator look at; None if none do.

    Raises:
      UserError: its weights cannot be had.
    """
    if not models.is_conditional(config.model):
        return None
    users = ("content", "style", "feature_diversity")
    wanted = any(config.losses.get(name) for name in users) or config.model.get("projected")
    if not wanted:
        return None
    if config.model.perceptual == "vgg19":
        return perceptual.vgg19_features()
    return perceptual.mobilenet_features(assets.fetch("mobilenet_v2"))


def model_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """What `models.build_generator` takes: the `model` section and the image size."""
    return {**dict(config["model"]), "image_size": config["data"]["image_size"]}


def compute_dtype(name: str) -> tuple[Any, str]:
    """The dtype that `train.compute_dtype` means here, and the reason for the log."""
    if name != "auto":
        return jnp.dtype(name), "as configured"
    if jax.default_backend() == "cpu":
        # XLA computes bfloat16 convolutions on CPUs in float32 and pays for the conversions.
        return jnp.dtype("float32"), "bfloat16 gains nothing on a CPU"
    return jnp.dtype("bfloat16"), f"parameters float32, on {jax.default_backend()}"


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


def claim_workdir(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Writes the resolved config to `workdir/config.json`.

    Raises:
      UserError: as `check_workdir`.
    """
    files.write_json(workdir / CONFIG_FILE, check_workdir(workdir, config))
