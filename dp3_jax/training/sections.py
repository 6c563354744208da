"""The sections of a config as typed values, each of which checks itself.

`configuration.parse` makes them once, at the door of a run; from there on each part of the run is given the
sections that it needs and no more. Keys that a section does not have are left alone, as those of an older
version in a run's config.json. What a model family has of its own is None where the config is of another one.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

from dp3_jax import models
from dp3_jax.common.errors import UserError
from dp3_jax.data import DataOptions
from dp3_jax.models.convolution_forms import FORMS
from dp3_jax.vision import augmentation

Rule = Callable[[Any], str]  # what is wrong with a value, to be put after the key; "" if nothing is


def _field(rule: Rule, **settings: Any) -> Any:
    return dataclasses.field(metadata={"rule": rule}, **settings)


# Written so that nan breaks every rule.
def _at_least(smallest: float, **settings: Any) -> Any:
    def rule(value: float) -> str:
        return "" if value >= smallest else f"={value} is not {smallest} or more"

    return _field(rule, **settings)


def _above_zero(**settings: Any) -> Any:
    def rule(value: float) -> str:
        return "" if 0 < value < float("inf") else f"={value} is not a number above 0"

    return _field(rule, **settings)


def _share(**settings: Any) -> Any:
    def rule(value: float) -> str:
        return "" if 0 <= value < 1 else f"={value} is not in [0, 1)"

    return _field(rule, **settings)


def _one_of(*allowed: str, **settings: Any) -> Any:
    def rule(value: str) -> str:
        return "" if value in allowed else f"={value!r} is none of {', '.join(allowed)}"

    return _field(rule, **settings)


def _some_of(*allowed: str, **settings: Any) -> Any:
    def rule(values: tuple[str, ...]) -> str:
        wrong = [value for value in values if value not in allowed]
        return f"={wrong[0]!r} is none of {', '.join(allowed)}" if wrong else ""

    return _field(rule, **settings)


def from_mapping(kind: type, name: str, values: Mapping[str, Any]) -> Any:
    """A dataclass from the keys of a section that it has fields for; lists become tuples.

    Args:
      kind: the dataclass.
      name: of the section.
      values: of the section; ConfigDict or dict.

    Raises:
      UserError: a key is missing.
    """
    known = {}
    for field in dataclasses.fields(kind):
        if field.name in values:
            value = values[field.name]
            known[field.name] = tuple(value) if isinstance(value, list | tuple) else value
        elif (field.default, field.default_factory) == (dataclasses.MISSING,) * 2:
            raise UserError(f"config.{name}.{field.name} is missing")
    return kind(**known)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A section of a config."""

    NAME: ClassVar[str]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """See `from_mapping`."""
        return from_mapping(cls, cls.NAME, values)

    def problems(self) -> Iterator[str]:
        """One line for each impossible value; it begins with the key."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            rule = field.metadata.get("rule")
            if rule and value is not None and (told := rule(value)):
                yield f"{self.NAME}.{field.name}{told}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSection(DataOptions):
    """The images of a run, see DataOptions, and what is read beside them.

    Attributes:
      clips: folder of videos, or the file of their pairs, for the temporal loss; "" for none.
      donors: folder of the fusion network's donors; "" for none.
    """

    clips: str = ""
    donors: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """See `from_mapping`; an empty crop is none.

        Raises:
          UserError: a key is missing, or see DataOptions.
        """
        crop = tuple(values.get("crop") or ()) or None
        return from_mapping(cls, "data", {**values, "crop": crop})

    def problems(self) -> Iterator[str]:
        """What is impossible for networks: all else is known before this is made."""
        size = self.image_size
        if size & (size - 1) or not 16 <= size <= 1024:
            yield f"data.image_size={size} is not a power of two from 16 to 1024"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSection(Section):
    """The networks of a family; see configs/ for what each key means."""

    NAME: ClassVar[str] = "model"

    family: str = _one_of(*models.FAMILIES)
    generator_widths: tuple[int, ...]
    discriminator_widths: tuple[int, ...]
    latent_dim: int | None = _at_least(1, default=None)
    style_dim: int | None = _at_least(1, default=None)
    upsampling: str | None = _one_of("transposed", "pixel_shuffle", default=None)
    negative_slope: float | None = _share(default=None)
    dropout: float | None = _share(default=None)
    spectral_norm: bool | None = None
    perceptual: str | None = _one_of("mobilenet_v2", "vgg19", default=None)
    projected: bool = False

    def description(self, image_size: int) -> dict[str, Any]:
        """What `models.build_generator` takes."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return {**given, "image_size": image_size}

    def size_problems(self, image_size: int) -> Iterator[str]:
        """One line for widths that pictures of this size have no place for; it begins with the key."""
        for name in ("generator_widths", "discriminator_widths"):
            widths = getattr(self, name)
            if not widths or any(not isinstance(width, int) or width < 1 for width in widths):
                yield f"model.{name}={widths} needs at least one width, each a whole number above 0"
            elif image_size >> len(widths) < 2:
                yield (
                    f"model.{name} has {len(widths)} widths, but {image_size} px can be halved only "
                    f"{image_size.bit_length() - 2} times, down to 2 px; take widths away or raise "
                    "data.image_size"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSection(Section):
    """How a run learns; see configs/ for what each key means."""

    NAME: ClassVar[str] = "train"

    initial_generator: str = ""
    epochs: float = _above_zero()
    batch_size: int = _at_least(1)
    accumulation: int = _at_least(1)
    generator_learning_rate: float = _above_zero()
    discriminator_learning_rate: float = _above_zero()
    clip_norm: float = _at_least(0, default=0.0)
    b1: float = _share()
    b2: float = _share()
    compute_dtype: str = _one_of("auto", "bfloat16", "float32")
    convolution: str = _one_of("auto", *sorted(FORMS), default="auto")
    label_smoothing: float = _share()
    augment: tuple[str, ...] = _some_of(*augmentation.POLICIES)
    r1_weight: float = _at_least(0)
    r1_every: int = _at_least(1)
    ema_halflife: float = _at_least(0)
    max_skipped: int = _at_least(1)

    @property
    def micro_batch(self) -> int:
        """Images in one."""
        return self.batch_size // self.accumulation

    @property
    def form(self) -> str | None:
        """What `convolution` means for `models.build_generator`; None leaves it to the backend."""
        return None if self.convolution == "auto" else self.convolution

    def problems(self) -> Iterator[str]:
        """As of every section."""
        yield from super().problems()
        if self.accumulation > 0 and self.batch_size % self.accumulation:
            yield (
                f"train.batch_size={self.batch_size} is not divisible by "
                f"train.accumulation={self.accumulation}"
            )

    def check_devices(self, device_count: int, process_count: int) -> None:
        """Raises UserError when a micro-batch cannot be split evenly over the devices."""
        if self.micro_batch % device_count:
            raise UserError(
                f"config.train.batch_size={self.batch_size} in {self.accumulation} micro-batches gives "
                f"{self.micro_batch} images each, not divisible by {device_count} devices on "
                f"{process_count} processes; choose a multiple of {device_count * self.accumulation}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogSection(Section):
    """What a run writes, and how often; see configs/shared.py for what each key means."""

    NAME: ClassVar[str] = "log"

    metrics_steps: int = _at_least(1)
    console_seconds: float = _above_zero()
    grid_steps: int = _at_least(1)
    grid_images: int = _at_least(1)
    checkpoint_steps: int = _at_least(0)
    checkpoint_minutes: float = _above_zero()
    keep_latest: int = _at_least(1)
    keep_best: int = _at_least(0)
    ssim_generated: int = _at_least(1)
    ssim_real: int = _at_least(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateSection(Section):
    """What every evaluation is asked for; see configs/shared.py. The suites have keys of their own."""

    NAME: ClassVar[str] = "evaluate"

    seed: int | None = _at_least(0, default=None)
    num_generated: int | None = _at_least(2, default=None)
    num_real: int | None = _at_least(0, default=None)
    num_heldout: int | None = _at_least(2, default=None)
    batch_size: int | None = _at_least(1, default=None)
    match: str | None = _one_of("ssim", "l2", default=None)
    judge: str | None = _one_of("sface", "deepface", "none", default=None)
    kid_features: str | None = _one_of(
        "mobilenet_v2", "faceres", "dlib", "random_conv", default=None
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sections:
    """A whole config, taken apart; `losses` is of the family's own kind, None where it has no factors."""

    seed: int
    data: DataSection
    model: ModelSection
    losses: Any
    train: TrainSection
    log: LogSection
    evaluate: EvaluateSection
