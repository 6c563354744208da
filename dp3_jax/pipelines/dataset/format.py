"""What a format of data sets does; each has a file: `folder`, `webdataset`, `parquet`, `lerobot`."""

import dataclasses
from collections.abc import Generator, Mapping
from typing import Protocol

from dp3_jax.pipelines.dataset.rows import Part, Shard
from dp3_jax.pipelines.dataset.storage import Storage
from dp3_jax.pipelines.dataset.treatment import Treatment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How the input is read; goes to the workers.

    Attributes:
      columns: of Parquet that hold pictures; none to look for them.
      copied: endings of members, or columns, that the user says hold no pictures.
      shard_records: files of a folder that are one shard.
    """

    columns: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()
    shard_records: int = 100

    def is_copied(self, name: str) -> bool:
        """Whether the user says that a file or member of this name holds no pictures."""
        return any(name == ending or name.endswith("." + ending) for ending in self.copied)


@dataclasses.dataclass(frozen=True)
class Found:
    """What there is to do.

    Attributes:
      shards: all of them, done or not, with names of their own.
      left_alone: files that are neither read nor written.
    """

    shards: list[Shard]
    left_alone: tuple[str, ...] = ()


Steps = Generator[int]  # bytes of the input that were read since the last step


class Format(Protocol):
    """A kind of data set."""

    def find(
        self, source: Storage, reading: Reading, sizes: Mapping[str, int], done: Mapping[str, Part]
    ) -> Found:
        """What there is to do.

        Args:
          source: the input.
          reading: how it is read.
          sizes: bytes of its files, by name.
          done: what earlier runs have done, by shard.

        Raises:
          UserError: it cannot be read as this format.
        """
        ...

    def work(
        self, shard: Shard, source: Storage, output: Storage, reading: Reading, treat: Treatment
    ) -> Steps:
        """Writes the shard's output; yields before each record, so that others know how far it is.

        Raises:
          UserError: the shard cannot be read; NotWrittenError: the output cannot be written.
        """
        ...
