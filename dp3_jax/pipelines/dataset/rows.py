"""What became of each record of a data set, and how a run that was killed knows what is done.

A shard is the unit of work. When its output is complete, its rows are written as one part into the work
folder, last of all: where the part is, the shard is done; where it is not, the shard is done again from its
beginning and its output replaced. So no record is missing or there twice, whenever a process or the machine
dies. `manifest.parquet` is all parts together.
"""

import dataclasses
import json
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dp3_jax.common.errors import UserError
from dp3_jax.pipelines.dataset import storage
from dp3_jax.pipelines.dataset.storage import WORK_FOLDER, Storage

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "manifest.parquet"
FORMAT = "dp3 data set 1"
_PARTS = f"{WORK_FOLDER}/parts"
_RUN = f"{WORK_FOLDER}/run.json"
COPIED = "copied"  # the action on a file that holds no picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One record: a picture or clip, or a file that is copied.

    Attributes:
      source: its name in the input: a file, "shard.tar/member", or "file.parquet/row/column".
      output: its name in the output, likewise; "" where it is not there.
      input_sha256, output_sha256: of the contents, hexadecimal; "" where there is none.
      faces: that were found; of a clip, tracks.
      actions: what was done with each of them.
      error: why the record is not in the output; "" where it is.
    """

    source: str
    output: str = ""
    input_sha256: str = ""
    output_sha256: str = ""
    faces: int = 0
    actions: tuple[str, ...] = ()
    error: str = ""

    def without_output(self, error: str) -> "Row":
        """The row of a record that was read and cannot be written."""
        return Row(source=self.source, input_sha256=self.input_sha256, error=error)

    def without(self, failed: "Row") -> "Row":
        """The row of a record that is left out because another one of its sample failed."""
        return self.without_output(self.error or f"left out with {failed.source}")


@dataclasses.dataclass(frozen=True)
class Shard:
    """What one worker does at once.

    Attributes:
      name: tells it from all others of the data set, whatever else is in there.
      kind: the key of its format.
      inputs: bytes of the files that it is made of, by name.
    """

    name: str
    kind: str
    inputs: Mapping[str, int]

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(self.inputs.values())


@dataclasses.dataclass(frozen=True)
class Part:
    """A shard that is done.

    Attributes:
      shard: its name.
      inputs, outputs: bytes of the files that it was made of, and that it made, by name.
      counts: as of `count`.
    """

    shard: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    counts: Mapping[str, Any]

    def holds(self, shard: Shard, there: Mapping[str, int]) -> bool:
        """Whether it is of this shard as it is now, and what it made is all there."""
        made = all(there.get(name) == size for name, size in self.outputs.items())
        return made and dict(self.inputs) == dict(shard.inputs)


def count(rows: Iterable[Row], linked: int = 0) -> dict[str, Any]:
    """Numbers of records, faces, failures and actions, and of records whose person is shared."""
    rows = list(rows)
    actions = Counter(action for row in rows for action in row.actions)
    copied = actions.pop(COPIED, 0)
    return {
        "records": len(rows) - copied,
        "copied": copied,
        "faces": sum(row.faces for row in rows),
        "failed": sum(bool(row.error) for row in rows),
        "linked": linked,
        "done": dict(sorted(actions.items())),
    }


def added(counts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sums of several `count`s."""
    total = count([])
    done: Counter[str] = Counter()
    for one in counts:
        done.update(one["done"])
        for name in total:
            if name != "done":
                total[name] += one[name]
    return {**total, "done": dict(sorted(done.items()))}


def schema() -> "pa.Schema":
    """Of the manifest and its parts."""
    import pyarrow as pa

    text = pa.string()
    fields = [("source", text), ("output", text), ("input_sha256", text), ("output_sha256", text)]
    more = [("faces", pa.int32()), ("actions", pa.list_(text)), ("error", text), ("shard", text)]
    return pa.schema([*fields, *more])


def _part_name(shard: str) -> str:
    return f"{_PARTS}/{urllib.parse.quote(shard, safe='')}.parquet"


def commit(
    output: Storage, shard: Shard, rows: Sequence[Row], made: Mapping[str, int], linked: int
) -> dict[str, Any]:
    """Writes down that a shard is done; its files are on the disk before that.

    Args:
      output: the data set that is written.
      shard: that is done.
      rows: of its records.
      made: bytes of the files that it made, by name.
      linked: records whose person is shared.

    Returns:
      As of `count`.

    Raises:
      NotWrittenError: it cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    output.sync(list(made))
    counts = count(rows, linked)
    said = {"inputs": dict(shard.inputs), "outputs": dict(made), "counts": counts}
    columns = [{**dataclasses.asdict(row), "shard": shard.name} for row in rows]
    table = pa.Table.from_pylist(columns, schema())
    metadata = {"dp3": FORMAT, "shard": shard.name, "said": json.dumps(said)}
    name = _part_name(shard.name)
    with output.target(name) as path:
        pq.write_table(table.replace_schema_metadata(metadata), path)
    output.sync([name])
    return counts


class Ledger:
    """All parts that are there."""

    def __init__(self, output: Storage, names: Iterable[str]):
        """Reads them.

        Args:
          output: the data set that is written.
          names: of its part files, see `part_files`.
        """
        import pyarrow.parquet as pq

        self._output = output
        self._files: dict[str, str] = {}
        self.parts: dict[str, Part] = {}
        for name in names:
            try:
                with output.open(name) as opened:
                    metadata = pq.read_schema(opened).metadata or {}
                said = json.loads(metadata[b"said"])
                shard = metadata[b"shard"].decode()
                self.parts[shard] = Part(shard, said["inputs"], said["outputs"], said["counts"])
            except (UserError, KeyError, ValueError, OSError):
                continue  # damaged: its shard is done again
            self._files[shard] = name

    def forget_all_but(self, shards: Iterable[str]) -> None:
        """Forgets all parts but those of these shards, and removes what the others made."""
        kept = set(shards)
        for shard in [shard for shard in self.parts if shard not in kept]:
            self._output.remove(
                self._files.pop(shard)
            )  # first: a part says that its files are there
            for name in self.parts.pop(shard).outputs:
                self._output.remove(name)

    def rows(self, shard: str) -> list[Row]:
        """Of the records of a shard that is done."""
        import pyarrow.parquet as pq

        with self._output.open(self._files[shard]) as opened:
            entries = pq.read_table(opened, schema=schema()).to_pylist()
        names = {field.name for field in dataclasses.fields(Row)}
        return [
            Row(**{**{n: entry[n] for n in names}, "actions": tuple(entry["actions"])})
            for entry in entries
        ]

    def merge(self) -> None:
        """Writes the manifest: the rows of all parts, in the order of their shards' names.

        Raises:
          NotWrittenError: it cannot be written.
        """
        import pyarrow.parquet as pq

        with self._output.target(MANIFEST) as path:
            metadata = {"dp3": FORMAT}
            with pq.ParquetWriter(path, schema().with_metadata(metadata)) as writer:
                for shard in sorted(self._files):
                    with self._output.open(self._files[shard]) as opened:
                        writer.write_table(pq.read_table(opened, schema=schema()))
        self._output.sync([MANIFEST])


def part_files(output: Storage) -> list[str]:
    """Names of the parts that are there, sorted."""
    inner = storage.open_storage(f"{output.address.rstrip('/')}/{_PARTS}")
    return [f"{_PARTS}/{name}" for name in inner.sizes() if name.endswith(".parquet")]


def begin(output: Storage, digest: str, *, redo: bool) -> None:
    """Makes an output this run's, or raises UserError where it is another's.

    Args:
      output: the data set that is written.
      digest: of all that the results depend on but the input.
      redo: forget what an earlier run has done.
    """
    there = output.sizes()
    try:
        said = json.loads(storage.read(output, _RUN))
    except (UserError, ValueError):
        said = None
    if said is None:
        if there:
            raise UserError(
                f"{output.address} holds files that are none of dp3 dataset; name a new folder"
            )
    elif said.get("digest") != digest and not redo:
        raise UserError(
            f"{output.address} was begun with other options; give the same, --redo, or a new folder"
        )
    content = {"format": FORMAT, "digest": digest}
    storage.write(output, _RUN, (json.dumps(content, indent=2) + "\n").encode())
