"""Image data: batches for training, whole splits for evaluation, and the packed form.

Sources are chosen by `DataOptions.source`; see options.py. Only the sources that read image files
through tf.data import TensorFlow, when they are opened; `packed`, `clips` and `shapes` never do.
"""

import dataclasses
import os

from dp3_jax.common.errors import UserError
from dp3_jax.common.prefetch import prefetch
from dp3_jax.data.catalog import Catalog
from dp3_jax.data.feed import Feed, HostFeed, ImageSet, PackedFeed, check_split, read_split
from dp3_jax.data.options import DataOptions
from dp3_jax.data.packed import PackedSplit, open_packed
from dp3_jax.data.splits import FileSplit, Split

__all__ = [
    "DataOptions",
    "Feed",
    "ImageSet",
    "PackedFeed",
    "load_arrays",
    "open_feed",
    "prefetch",
    "prepare",
]


def open_feed(
    options: DataOptions,
    split: str,
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Feed:
    """Opens a data set for training.

    Args:
      options: what to read and how.
      split: "train", "validation" or "test". Only train images are flipped.
      batch_size: rows of a batch over all processes; process i of P gets the i-th of P equal parts.
      seed: >= 0, determines the order and the flips, together with the batch number alone.
      process_index: this process.
      process_count: how many there are.

    Returns:
      A `Feed`; a `PackedFeed` for packed data.

    Raises:
      UserError: the data cannot be had, do not fit the options, or the batch cannot be shared.
    """
    opened = _open_split(options, split)
    settings = {
        "batch_size": batch_size,
        "seed": seed,
        "process_index": process_index,
        "process_count": process_count,
    }
    if isinstance(opened, PackedSplit):
        return PackedFeed(opened, **settings)
    if options.source in ("shapes", "clips"):
        return HostFeed(opened, **settings)
    from dp3_jax.data.pipeline import TfFeed

    return TfFeed(opened, **settings)


def load_arrays(options: DataOptions, split: str, *, limit: int = 0) -> ImageSet:
    """Reads a split into memory in dataset order, never shuffled or flipped, unreadable ones left out.

    Args:
      options: what to read and how; `train_examples` and `validation_examples` apply.
      split: "train", "validation" or "test".
      limit: at most so many images, a seeded sample; 0 is all.

    Raises:
      UserError: the data cannot be had or do not fit the options.
    """
    return read_split(_open_split(options, split), limit)


def prepare(options: DataOptions, output: str | os.PathLike) -> str:
    """Writes the packed form of all splits to the folder `output`; see packing.write_packed.

    Returns:
      One line for the console.

    Raises:
      UserError: the data cannot be had, or the output cannot be written.
    """
    if options.source == "packed":
        raise UserError(f"{options.path} is packed already; name another data.source to prepare")
    from dp3_jax.data.packing import write_packed

    return write_packed(_open_catalog(options), options, output)


def _open_split(options: DataOptions, split: str) -> Split:
    check_split(split)
    if options.source == "clips":  # its faces are cut out already
        options = dataclasses.replace(options, crop=None)
    if options.source == "packed":
        return PackedSplit(open_packed(options.path), split, options)
    return FileSplit(_open_catalog(options), split, options)


def _open_catalog(options: DataOptions) -> Catalog:
    if options.source == "tfds":
        from dp3_jax.data.tfds_source import open_tfds

        return open_tfds(options)
    if options.source == "celeba":
        from dp3_jax.data.celeba import open_celeba

        return open_celeba(options)
    if options.source == "folder":
        from dp3_jax.data.folder import open_folder

        return open_folder(options)
    if options.source == "clips":
        from dp3_jax.data.clip_views import open_clip_views

        return open_clip_views(options)
    from dp3_jax.data.shapes import open_shapes

    return open_shapes(options)
