"""One data set from its address to another one: what is left to do, doing it, and what became of it."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dp3_jax
from dp3_jax.common.errors import UserError
from dp3_jax.pipelines.dataset import lerobot, parquet, rows, storage, webdataset
from dp3_jax.pipelines.dataset.format import Found, Reading
from dp3_jax.pipelines.dataset.ray_engine import Engine, Progress, open_pool
from dp3_jax.pipelines.dataset.rows import Ledger, Shard
from dp3_jax.pipelines.dataset.storage import Storage
from dp3_jax.pipelines.dataset.treatment import Settings
from dp3_jax.pipelines.dataset.worker import FORMATS, Work
from dp3_jax.pipelines.video.work_folder import only_one
from dp3_jax.replacement import key_derivation
from dp3_jax.replacement.face_actions import Done

MAX_NAMED = 20  # failures that are named on standard error; the manifest has all


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What to do.

    Attributes:
      source, output: addresses of folders.
      format: a key of FORMATS; None to tell by what is in the source.
      reading: how it is read.
      settings: what is done with each record.
      fresh: whether the master key is one that nobody keeps.
      engine: where it is done.
      redo: do again what is done.
      retry_failed: do shards again in which records failed.
      show_progress: show a bar where standard error is a terminal.
    """

    source: str
    output: str
    format: str | None = None
    reading: Reading = dataclasses.field(default_factory=Reading)
    settings: Settings
    fresh: bool = True
    engine: Engine = dataclasses.field(default_factory=Engine)
    redo: bool = False
    retry_failed: bool = False
    show_progress: bool = True

    def digest(self) -> str:
        """Of all that the results depend on but the input and the models."""
        settings = self.settings
        key = None if self.fresh else key_derivation.track_key(settings.master_key, 0).hex()
        described = {
            "version": dp3_jax.__version__,
            "format": self.format,
            "anonymizer": {name: repr(value) for name, value in settings.anonymizer.items()},
            "more": [settings.keep_metadata, settings.mark, self.reading.columns],
            "copied": self.reading.copied,
            "links": settings.links and settings.links.digest(),
            "key": key,
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def format_of(sizes: Mapping[str, int]) -> str:
    """The format of a data set with these files.

    Raises:
      UserError: it is none that is known.
    """
    if lerobot.INFO in sizes:
        return lerobot.KIND
    for kind, endings in ((webdataset.KIND, webdataset.ENDINGS), (parquet.KIND, (parquet.ENDING,))):
        if any(name.lower().endswith(endings) and name != rows.MANIFEST for name in sizes):
            return kind
    return "folder"


def process(job: Job) -> dict[str, Any]:
    """Anonymizes a data set, or what is left of it; returns numbers, see `_summary`.

    Raises:
      UserError: it cannot be read or written, or something is wrong with the options or models.
    """
    start = time.monotonic()
    _check_apart(job.source, job.output)
    source, output = storage.open_storage(job.source), storage.open_storage(job.output)
    sizes = source.sizes()
    if not sizes:
        raise UserError(f"there is no file in {job.source}; check the path")
    kind = job.format or format_of(sizes)
    with _alone(job.output):
        output.clear_halves()
        if job.redo:
            Ledger(output, rows.part_files(output)).forget_all_but([])
        rows.begin(output, job.digest(), redo=job.redo)
        ledger = Ledger(output, rows.part_files(output))
        found = FORMATS[kind].find(source, job.reading, sizes, ledger.parts)
        if not found.shards:
            raise UserError(f"there is nothing in {job.source} to read as {kind}; see --format")
        left = _left(job, ledger, found, output)
        counts = [part.counts for part in ledger.parts.values()]
        before = rows.added(counts)
        decided = ("", "")
        if left:
            work = Work(
                source=job.source, output=job.output, reading=job.reading, settings=job.settings
            )
            with open_pool(job.engine, work, len(left)) as pool:
                decided = pool.decided
                counts += _done(pool.run(left), left, job.show_progress)
        ledger = Ledger(output, rows.part_files(output))
        ledger.merge()
        results = {name for part in ledger.parts.values() for name in part.outputs}
        stray = output.sizes().keys() - results - {rows.MANIFEST}
    return _summary(job, found, rows.added(counts), before, decided) | {
        "format": kind,
        "stray": len(stray),
        "seconds": round(time.monotonic() - start, 3),
    }


def _left(job: Job, ledger: Ledger, found: Found, output: Storage) -> list[Shard]:
    """The shards that are left to do; the ledger forgets all others that are not there any more."""
    there = output.sizes()
    done = {}
    for shard in found.shards:
        part = ledger.parts.get(shard.name)
        if part is None or not part.holds(shard, there):
            continue
        if not (job.retry_failed and part.counts["failed"]):
            done[shard.name] = part
    ledger.forget_all_but(done)
    return [shard for shard in found.shards if shard.name not in done]


def _done(
    events: Iterable[Progress], shards: Sequence[Shard], show: bool
) -> Iterator[Mapping[str, Any]]:
    """The counts of each shard that gets done, with a bar, and lines on what failed."""
    import tqdm

    records, read, failed = 0, dict.fromkeys((shard.name for shard in shards), (0, 0)), 0
    total = sum(shard.bytes for shard in shards)
    # disable=None: no bar where standard error is not a terminal.
    hidden = None if show else True
    with tqdm.tqdm(total=total, unit="B", unit_scale=True, disable=hidden, smoothing=0.05) as bar:
        for event in events:
            said, name = event.said, event.shard.name
            before, steps = read[name]
            bar.update(said.bytes - before)
            records += said.step - steps
            read[name] = said.bytes, said.step
            if event.died:
                tqdm.tqdm.write(f"note: a worker ended; {name} begins anew", file=sys.stderr)
            for row in said.failed:
                failed += 1
                if failed <= MAX_NAMED:
                    tqdm.tqdm.write(f"left out: {row.source}: {row.error}", file=sys.stderr)
            bar.set_postfix_str(f"{records} records, {failed} left out", refresh=False)
            if said.counts is not None:
                yield said.counts
    if failed > MAX_NAMED:
        print(f"left out: {failed - MAX_NAMED} more; the manifest names all", file=sys.stderr)


def _summary(
    job: Job,
    found: Found,
    total: Mapping[str, Any],
    before: Mapping[str, Any],
    decided: tuple[str, str],
) -> dict[str, Any]:
    """Numbers of the whole data set, of what was done before, and where new faces came from."""
    return {
        "output": job.output,
        "shards": len(found.shards),
        **total,
        "done_before": before["records"],
        "fallbacks": total["done"].get(Done.COVERED, 0),
        "left_alone": len(found.left_alone),
        "identity": decided[0],
        "instead": decided[1],
    }


def _check_apart(source: str, output: str) -> None:
    """Raises UserError where the output lies in the input, or the other way round."""
    places = [
        place.rstrip("/") if storage.is_remote(place) else pathlib.Path(place).resolve().as_posix()
        for place in (source, output)
    ]
    one, other = (f"{place}/" for place in places)
    if one.startswith(other) or other.startswith(one):
        raise UserError(f"{output} and {source} lie in one another; name another -o")


@contextlib.contextmanager
def _alone(output: str) -> Iterator[None]:
    """Holds a lock on an output of this machine, so that no two runs write it at once."""
    if storage.is_remote(output):
        yield
        return
    folder = pathlib.Path(output) / storage.WORK_FOLDER
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}; choose another place") from error
    with only_one(folder / "lock", pathlib.Path(output)):
        yield
