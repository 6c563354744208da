"""A data set as the rest of the package sees it: names, splits, persons, and a way to load one image."""

import dataclasses
from collections.abc import Callable

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.data import order
from dp3_jax.data.options import SPLITS, DataOptions

UNKNOWN_IDENTITY = -1
# Where a data set comes without a partition: this share to validation, and this share to test.
_HELD_OUT = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Catalog:
    """Every example of a data set, in a fixed order, not yet decoded.

    Attributes:
      title: what to call it in messages.
      names: one per example, unique; what messages and packed files call it.
      partitions: i8[N], index into `SPLITS`.
      identities: i32[N] person numbers (`UNKNOWN_IDENTITY` where unknown), or None.
      load: (example, options) -> u8[S, S, 3]; raises decode.UnreadableImage. Thread-safe.
      partition_note: where the partition comes from, for the console.
    """

    title: str
    names: tuple[str, ...]
    partitions: np.ndarray
    identities: np.ndarray | None
    load: Callable[[int, DataOptions], np.ndarray]
    partition_note: str

    def select(self, split: str, options: DataOptions) -> tuple[np.ndarray, int]:
        """Returns i64[n] ascending examples of the split's seeded subset, and the split's full size.

        Raises:
          UserError: the split has no examples.
        """
        members = np.flatnonzero(self.partitions == SPLITS.index(split))
        if not len(members):
            raise UserError(f"{self.title}: the {split} split is empty ({self.partition_note})")
        chosen = order.nested_sample(
            options.subset_seed, order.SUBSET, len(members), subset_size(split, options)
        )
        return members[chosen], len(members)


def subset_size(split: str, options: DataOptions) -> int:
    """Returns how many examples of a split the options ask for; 0 is all."""
    sizes = {"train": options.train_examples, "validation": options.validation_examples}
    return sizes.get(split, 0)


def made_partition(count: int, identities: np.ndarray | None) -> tuple[np.ndarray, str]:
    """Splits a data set that comes without a partition: 10% validation, 10% test, the rest train.

    Where identities are known all images of a person get the same split; images without one count
    as a person each. With fewer than three groups everything is train. The result depends on nothing
    but the arguments.

    Returns:
      i8[count] indices into `SPLITS`, and a note for the console.
    """
    if identities is None:
        groups, note = np.arange(count), "split made by image"
    else:
        alone = identities == UNKNOWN_IDENTITY
        labels = np.where(alone, np.arange(count) + identities.max(initial=0) + 1, identities)
        groups, note = np.unique(labels, return_inverse=True)[1], "split made by person"
    sizes = np.bincount(groups)
    drawn = order.shuffled(0, order.SPLIT, 0, len(sizes))
    ends = np.cumsum(sizes[drawn])
    held_out = round(_HELD_OUT * count)
    # Whole groups in drawn order: validation until it has its share, then test, then train; each of
    # the three gets at least one group where there are three.
    enough = max(len(sizes) - 2, 0)
    first_test = min(np.searchsorted(ends, max(held_out, 1)) + 1, enough)
    before = ends[first_test - 1] if first_test else 0
    first_train = np.searchsorted(ends, before + max(held_out, 1)) + 1
    first_train = min(first_train, len(sizes) - 1) if enough else 0
    of_group = np.full(len(sizes), SPLITS.index("train"), np.int8)
    of_group[drawn[:first_test]] = SPLITS.index("validation")
    of_group[drawn[first_test:first_train]] = SPLITS.index("test")
    return of_group[groups], note
