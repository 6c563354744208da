"""Batches for training, and whole splits for evaluation."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.data import order
from dp3_jax.data.options import SPLITS
from dp3_jax.data.packed import PackedSplit
from dp3_jax.data.splits import Split, parallel_map


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images in memory: u8[N, S, S, 3], person numbers i32[N] (-1 unknown) or None, N names.

    Attributes:
      of: the split's images, of which these may be a sample: how many, and their fingerprint as in `Feed`;
        None for images from elsewhere.
    """

    images: np.ndarray
    identities: np.ndarray | None
    names: tuple[str, ...]
    of: tuple[int, str] | None = None


class Feed(Protocol):
    """An endless sequence of batches that can start anywhere."""

    num_examples: int  # In the split, after the subset.
    image_size: int
    summary: str  # One line for the console.
    fingerprint: str  # SHA-256 of the names of all its images, the same for their packed form.

    def batches(self, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Yields batches number start, start+1, ...: {"image": u8[local_batch, S, S, 3]}."""

    def rows(self, batch: int) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        """Where the images of a batch come from, where that can be told: packed data; else (None, None).

        Returns:
          i64[local_batch] rows of the packed folder's images.npy, and bool[local_batch], which of them the
          batch shows mirrored left-right.
        """


class Companions(Protocol):
    """What batches hold besides their images."""

    @property
    def shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape over all processes, and dtype, of each array of a batch, by its name."""

    def batch(
        self, number: int, rows: np.ndarray | None, mirrored: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """This process's rows of each array of batch `number`, a function of the arguments alone.

        Args:
          number: of the batch, from 0.
          rows, mirrored: what `Feed.rows` gives for that batch.
        """


class HostFeed:
    """Batches of any `Split`, made in the calling thread: packed data and drawn shapes.

    The order is that of order.py: a pure function of the seed and the batch number.
    """

    def __init__(
        self, split: Split, *, batch_size: int, seed: int, process_index: int, process_count: int
    ):
        """Takes the global batch size; raises UserError when processes cannot share it equally."""
        self._split, self._seed, self._batch_size = split, seed, batch_size
        self._process = (process_index, process_count)
        self._flip = split.options.flip and split.name == "train"
        self.local_batch = order.local_batch_size(batch_size, process_count)
        self.num_examples = split.count
        self.image_size = split.options.image_size
        self.summary = split.description

    @functools.cached_property
    def fingerprint(self) -> str:
        """See `Feed`."""
        return fingerprint(self._split)

    def positions(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns i64[local_batch] positions in the split, and bool[local_batch] mirror or not."""
        first = order.first_position(batch, self._batch_size, *self._process)
        positions, mirrored = order.elements(self._seed, first, self.local_batch, self._split.count)
        return positions, mirrored & self._flip

    def rows(self, batch: int) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        """See `Feed`."""
        return None, None

    def images(self, batch: int) -> np.ndarray:
        """Returns u8[local_batch, S, S, 3]: this process's rows of a batch."""
        return self.part(batch, slice(None))

    def part(self, batch: int, rows: slice) -> np.ndarray:
        """Returns some of this process's rows of a batch."""
        positions, mirrored = self.positions(batch)
        images = self._split.rows(positions[rows])
        mirrored = mirrored[rows]
        if mirrored.any():
            images[mirrored] = images[mirrored][:, :, ::-1]
        return images

    def batches(self, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """See `Feed`."""
        batch = start
        while True:
            yield {"image": self.images(batch)}
            batch += 1


class PackedFeed(HostFeed):
    """Batches of packed data; can hand over the whole split, to be kept on the device."""

    def __init__(self, split: PackedSplit, **settings):
        """See `HostFeed`."""
        super().__init__(split, **settings)
        self._packed = split

    @property
    def device_arrays(self) -> np.ndarray:
        """The split as u8[num_examples, S, S, 3]: memory-mapped when whole, read when a subset."""
        return self._packed.array()

    def rows(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Feed`."""
        positions, mirrored = self.positions(batch)
        return self._packed.folder_rows(positions), mirrored

    def indices(self, start: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields, from batch `start` on, i32[local_batch] rows of `device_arrays` and bool mirror.

        Gathering these rows, and mirroring the marked ones left-right, gives what `batches` gives.
        """
        batch = start
        while True:
            positions, mirrored = self.positions(batch)
            yield self._packed.shown(positions).astype(np.int32), mirrored
            batch += 1


def fingerprint(split: Split) -> str:
    """SHA-256, in hex, of the names of all images of a split's subset, in order."""
    names, _ = split.labels(np.arange(split.count))
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def read_split(split: Split, limit: int) -> ImageSet:
    """Reads a split (or a seeded sample of `limit` of it) into memory, in dataset order.

    Unreadable images are left out.
    """
    options = split.options
    positions = order.nested_sample(options.subset_seed, order.SAMPLE, split.count, limit)
    side = options.image_size
    images = np.empty((len(positions), side, side, 3), np.uint8)
    readable = np.zeros(len(positions), bool)
    loaded = parallel_map(split.exact, (int(position) for position in positions), options.workers)
    for row, image in enumerate(loaded):
        if image is not None:
            images[row], readable[row] = image, True
    if not readable.all():
        images, positions = images[readable], positions[readable]
    if not len(positions):
        raise UserError(f"{split.description}: none of the images can be read")
    names, identities = split.labels(positions)
    of = split.count, fingerprint(split)
    return ImageSet(images=images, identities=identities, names=names, of=of)


def check_split(split: str) -> None:
    """Raises ValueError for anything but the name of a split."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}")
