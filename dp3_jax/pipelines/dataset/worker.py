"""What one process does: it holds the models and does shard after shard. No engine is needed for that."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dp3_jax.common import allocator, compilations
from dp3_jax.common.errors import UserError
from dp3_jax.pipelines.dataset import rows, storage
from dp3_jax.pipelines.dataset.folder import Folder
from dp3_jax.pipelines.dataset.format import Format, Reading
from dp3_jax.pipelines.dataset.lerobot import LeRobot
from dp3_jax.pipelines.dataset.parquet import Parquet
from dp3_jax.pipelines.dataset.rows import Row, Shard
from dp3_jax.pipelines.dataset.storage import NotWrittenError, Storage
from dp3_jax.pipelines.dataset.treatment import Models, Settings, Treatment
from dp3_jax.pipelines.dataset.webdataset import WebDataset

FORMATS: Mapping[str, Format] = {
    "folder": Folder(),
    "webdataset": WebDataset(),
    "parquet": Parquet(),
    "lerobot": LeRobot(),
}
_SAY_EVERY = 0.5  # s between two words on how far a shard is


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What goes to every worker.

    Attributes:
      source, output: addresses.
      reading: how the input is read.
      settings: what is done with each record.
    """

    source: str
    output: str
    reading: Reading
    settings: Settings


class Said(NamedTuple):
    """How far a shard is.

    Attributes:
      step: that it is at, from 0; with `counts` how many it had.
      bytes: of the input that were read.
      failed: rows of records that failed since the last word.
      counts: as of `rows.count`, when it is done; else None.
    """

    step: int
    bytes: int
    failed: Sequence[Row] = ()
    counts: Mapping[str, Any] | None = None


class Worker:
    """Models, and a data set to work on."""

    def __init__(self, work: Work, models: Models | None = None):
        """Loads all that is needed; `models` that are loaded already serve as well.

        Raises:
          UserError: something is missing.
        """
        allocator.keep_freed_memory()  # a tenth of a photo's processor time; before JAX starts
        compilations.let_jax_keep_programs()
        self._work = work
        self._source = storage.open_storage(work.source)
        self._output = storage.open_storage(work.output)
        self._models = models or Models(work.settings)

    @property
    def decided(self) -> tuple[str, str]:
        """As of `Anonymizer.decided`."""
        return self._models.anonymizer.decided

    def run(
        self, shard: Shard, skipped: Mapping[int, str] | None = None, *, every_step: bool = False
    ) -> Iterator[Said]:
        """Does a shard, and writes down that it is done.

        Args:
          shard: to be done.
          skipped: steps whose records are not tried, and why.
          every_step: say it before each record; else now and then.

        Raises:
          NotWrittenError: the output cannot be written.
        """
        treat = Treatment(self._models, skipped or {})
        said, read, told, done = 0.0, 0, 0, 0
        try:
            steps = FORMATS[shard.kind].work(
                shard, self._source, self._output, self._work.reading, treat
            )
            for treat.number, size in enumerate(steps):
                now = time.monotonic()
                if every_step or now - said >= _SAY_EVERY:
                    failed = [row for row in treat.rows[told:] if row.error]
                    said, told = now, len(treat.rows)
                    yield Said(treat.number, read, failed)
                read += size
                done = treat.number + 1
        except NotWrittenError:
            raise
        except UserError as error:  # of the whole shard
            treat.failed(shard.name, error)
        failed = [row for row in treat.rows[told:] if row.error]
        counts = rows.commit(self._output, shard, treat.rows, treat.made, treat.linked)
        allocator.release_freed_memory()
        yield Said(done, shard.bytes, failed, counts)


def give_up(output: Storage, shard: Shard, why: str) -> Said:
    """Writes down that a shard cannot be done; what an earlier try made of it is removed.

    Raises:
      NotWrittenError: the output cannot be written.
    """
    for name in shard.inputs:
        output.remove(name)
    failed = [Row(source=shard.name, error=why)]
    return Said(0, shard.bytes, failed, rows.commit(output, shard, failed, {}, 0))
