"""From a config's sections, taken to be possible, to the options of the layers below."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dp3_jax.training.sections import DataSection, TrainSection
from dp3_jax.training.state import OptimizerOptions
from dp3_jax.training.steps import StepOptions

MIN_COMPUTE_CAPABILITY = 8.0  # of NVIDIA's GPUs with units for bfloat16


def data_options(data: Mapping[str, Any]) -> DataSection:
    """The data layer's options from a config's `data` section (ConfigDict or dict)."""
    return DataSection.of(data)


def optimizer_options(train: TrainSection) -> OptimizerOptions:
    """Options of `state.create_state`."""
    names = (field.name for field in dataclasses.fields(OptimizerOptions))
    return OptimizerOptions(**{name: getattr(train, name) for name in names})


def step_options(train: TrainSection, latent_dim: int | None) -> StepOptions:
    """Options of every family's train step; without `latent_dim` the latent has no numbers."""
    return StepOptions(
        latent_dim=latent_dim or 0,
        label_smoothing=train.label_smoothing,
        augment=train.augment,
        r1_weight=train.r1_weight,
        r1_every=train.r1_every,
        ema_halflife=train.ema_halflife,
    )


def model_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """What `models.build_generator` takes, of a run's config: its `model` section and the image size."""
    return {**dict(config["model"]), "image_size": config["data"]["image_size"]}


def compute_dtype(name: str) -> tuple[Any, str]:
    """The dtype that `train.compute_dtype` means here, and the reason for the log."""
    if name != "auto":
        return jnp.dtype(name), "as configured"
    if jax.default_backend() == "cpu":
        # XLA computes bfloat16 convolutions on CPUs in float32 and pays for the conversions.
        return jnp.dtype("float32"), "bfloat16 gains nothing on a CPU"
    old = [device for device in jax.devices() if not _has_bfloat16(device)]
    if old:
        return jnp.dtype("float32"), f"no bfloat16 units in {old[0].device_kind}"
    return jnp.dtype("bfloat16"), f"parameters float32, on {jax.default_backend()}"


def _has_bfloat16(device: jax.Device) -> bool:
    """Whether a device computes in bfloat16; NVIDIA's do from compute capability 8.0 (Ampere) on.

    Others emulate it in float32. What does not tell, or tells something else, as AMD's GPUs ("gfx90a"), is
    taken to have it.
    """
    try:
        return float(getattr(device, "compute_capability", "")) >= MIN_COMPUTE_CAPABILITY
    except (TypeError, ValueError):
        return True
