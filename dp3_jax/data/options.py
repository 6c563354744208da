"""What the user can choose about the data, checked once, before anything is read."""

import dataclasses

from dp3_jax.common.errors import UserError

SOURCES = ("tfds", "celeba", "folder", "packed", "clips", "shapes")
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The `data` part of a config.

    Attributes:
      source: one of `SOURCES`.
      path: folder or zip file (celeba), folder (folder), packed folder (packed), folder of videos or the
        file of their pairs (clips), data_dir of
        tensorflow_datasets (tfds; "" is its default), unused (shapes).
      image_size: side in pixels of the square images, after the resize.
      crop: (left, top, right, bottom) in pixels of the upright source image, the right and bottom
        edges excluded; None is the largest centred square.
      train_examples: size of the seeded subset of the train split; 0 is all of it.
      validation_examples: size of the seeded subset of the validation split; 0 is all of it.
      subset_seed: chooses both subsets. A smaller subset of the same seed is part of a larger one.
      flip: mirror training images left-right, each with probability 1/2.
      max_unreadable: share of a split's files that may be unreadable before the run stops, 0 to 1.
      on_device: packed source: the training loop keeps the whole split in device memory.
      download: tfds: allow tensorflow_datasets to download.
      workers: parallel decode calls; 0 lets tf.data choose.
      clips_held_out: share of the pairs of clips whose people are not trained on.
    """

    source: str
    path: str = ""
    image_size: int = 128
    crop: tuple[int, int, int, int] | None = (0, 20, 178, 198)
    train_examples: int = 5000
    validation_examples: int = 0
    subset_seed: int = 0
    flip: bool = False
    max_unreadable: float = 0.01
    on_device: bool = False
    download: bool = False
    workers: int = 0
    clips_held_out: float = 0.2

    def __post_init__(self) -> None:
        """Checks every value and makes `crop` a tuple.

        Raises:
          UserError: a value is impossible; names the config key.
        """
        if self.source not in SOURCES:
            raise UserError(f"data.source is {self.source!r}; choose one of {', '.join(SOURCES)}")
        if self.source in ("celeba", "folder", "packed", "clips") and not self.path:
            raise UserError(f"data.source={self.source} needs data.path: where the data lies")
        for key in ("train_examples", "validation_examples", "subset_seed", "workers"):
            if getattr(self, key) < 0:
                raise UserError(f"data.{key} is {getattr(self, key)}; it must be 0 or more")
        if not 1 <= self.image_size <= 4096:
            raise UserError(f"data.image_size is {self.image_size}; it must be 1 to 4096 pixels")
        if not 0 <= self.max_unreadable <= 1:
            raise UserError(f"data.max_unreadable is {self.max_unreadable}; it must be 0 to 1")
        if not 0 <= self.clips_held_out < 1:
            raise UserError(
                f"data.clips_held_out is {self.clips_held_out}; it must be 0 or more and below 1"
            )
        if self.on_device and self.source != "packed":
            raise UserError(
                f"data.on_device needs data.source=packed, not {self.source}; "
                "write the packed form once with --mode=prepare"
            )
        if self.crop is not None:
            object.__setattr__(self, "crop", _checked_crop(self.crop))


def _checked_crop(crop: tuple[int, ...]) -> tuple[int, int, int, int]:
    box = tuple(int(value) for value in crop)
    if len(box) == 4:
        left, top, right, bottom = box
        if 0 <= left < right and 0 <= top < bottom:
            return left, top, right, bottom
    raise UserError(
        f"data.crop is {box}; it must be (left, top, right, bottom) in pixels with "
        "0 <= left < right and 0 <= top < bottom"
    )
