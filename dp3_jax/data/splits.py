"""One split of a data set, decoded on demand, with a fixed rule for files that cannot be read.

**Unreadable files.** They keep their place in the order: wherever the order names one, the next
readable image of the split (cyclically) stands in for it. So the sequence of batches depends only on
the files, whether one starts at batch 0 or resumes at batch 1000, whether the files or their packed
form are read, and no file has to be read before training starts. Each is logged once by name; when
more than `max_unreadable` of the split turn out unreadable, the run stops.
"""

import collections
import concurrent.futures
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import numpy as np
from absl import logging

from dp3_jax.common.errors import UserError
from dp3_jax.data.catalog import Catalog
from dp3_jax.data.decode import UnreadableImage
from dp3_jax.data.options import DataOptions

A = TypeVar("A")
B = TypeVar("B")


class Split(Protocol):
    """Positions 0 .. count-1 are the split's images in dataset order, unreadable ones included."""

    name: str
    options: DataOptions
    count: int
    description: str  # For the console.

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Returns u8[k, S, S, 3] for i64[k] positions, stand-ins included."""

    def exact(self, position: int) -> np.ndarray | None:
        """Returns the image u8[S, S, 3] at a position itself; None when it is unreadable."""

    def labels(self, positions: np.ndarray) -> tuple[tuple[str, ...], np.ndarray | None]:
        """Returns the names, and the identities i32[k] or None."""


class FileSplit:
    """A split of a `Catalog`, decoded whenever an image is asked for. Thread-safe."""

    def __init__(self, catalog: Catalog, name: str, options: DataOptions):
        """Chooses the split's seeded subset; reads no image."""
        self.name, self.options = name, options
        self._catalog = catalog
        self.examples, self.population = catalog.select(name, options)
        self.count = len(self.examples)
        self.unreadable: dict[int, str] = {}  # Position -> reason.
        self._lock = threading.Lock()
        self.description = describe(
            catalog.title, self, self.population, f"; {catalog.partition_note}"
        )

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """See `Split`. Raises UserError above the limit of unreadable files."""
        side = self.options.image_size
        images = np.empty((len(positions), side, side, 3), np.uint8)
        for row, position in enumerate(positions):
            images[row] = self._with_stand_in(int(position))
        return images

    def exact(self, position: int) -> np.ndarray | None:
        """See `Split`. Raises UserError above the limit of unreadable files."""
        if position in self.unreadable:
            return None
        try:
            return self._catalog.load(int(self.examples[position]), self.options)
        except UnreadableImage as error:
            self._note(position, str(error))
            return None

    def labels(self, positions: np.ndarray) -> tuple[tuple[str, ...], np.ndarray | None]:
        """See `Split`."""
        examples = self.examples[positions]
        identities = self._catalog.identities
        return (
            tuple(self._catalog.names[example] for example in examples),
            None if identities is None else identities[examples],
        )

    def _with_stand_in(self, position: int) -> np.ndarray:
        for candidate in range(position, position + self.count):
            image = self.exact(candidate % self.count)
            if image is not None:
                return image
        raise UserError(f"{self._catalog.title}: no image of the {self.name} split can be read")

    def _note(self, position: int, reason: str) -> None:
        name = self._catalog.names[self.examples[position]]
        with self._lock:
            if position in self.unreadable:
                return
            self.unreadable[position] = reason
            found = len(self.unreadable)
        logging.warning("%s: unreadable, left out: %s: %s", self._catalog.title, name, reason)
        check_unreadable(self._catalog.title, self, found, f"{name}: {reason}")


def check_unreadable(title: str, split: Split, found: int, example: str) -> None:
    """Raises UserError when more than the allowed share of a split's files is unreadable."""
    allowed = int(split.options.max_unreadable * split.count)
    if found > allowed:
        raise UserError(
            f"{title}: {found} of the {split.count} {split.name} files cannot be read, "
            f"{allowed} may (data.max_unreadable={split.options.max_unreadable:g}); the last is "
            f"{example}; repair or remove them, or raise the limit"
        )


def describe(title: str, split: Split, population: int, note: str) -> str:
    """Returns the console's line about a split."""
    side, crop = split.options.image_size, split.options.crop
    subset = (
        f" (seeded subset, seed {split.options.subset_seed})" if split.count < population else ""
    )
    box = f"crop {crop}" if crop else "largest centred square"
    return (
        f"{title}: {split.count} of {population} {split.name} images{subset}, "
        f"{side}x{side} Lanczos from the {box}{note}"
    )


def parallel_map(function: Callable[[A], B], items: Iterable[A], workers: int = 0) -> Iterator[B]:
    """Yields function(item) in order, computed by threads that stay a bounded number of items ahead."""
    workers = workers or os.cpu_count() or 1
    pending: collections.deque[concurrent.futures.Future] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 4 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
