"""Parquet files with pictures in a column: bytes, or structs {bytes, path} as Hugging Face writes them.

The same schema and compression are written, row group by row group. A row with a picture that failed is left
out. All other columns are copied; values that turn out to be pictures make their row fail.
"""

import contextlib
import dataclasses
from collections.abc import Generator, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from dp3_jax.common.errors import UserError
from dp3_jax.pipelines.dataset import rows as rows_
from dp3_jax.pipelines.dataset.contents import Kind, kind_of
from dp3_jax.pipelines.dataset.format import Found, Reading, Steps
from dp3_jax.pipelines.dataset.rows import Part, Row, Shard
from dp3_jax.pipelines.dataset.storage import Storage
from dp3_jax.pipelines.dataset.treatment import Record, Treatment

if TYPE_CHECKING:
    import pyarrow as pa

KIND = "parquet"
ENDING = ".parquet"
_LOOKED_AT = 64  # rows in which columns with pictures are looked for


@contextlib.contextmanager
def _plainly(name: str) -> Iterator[None]:
    """Whatever Arrow raises, in one line."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot read {name} as Parquet: {reason}") from error


def _is_binary(kind: "pa.DataType") -> bool:
    import pyarrow.types as t

    views = (t.is_binary_view,) if hasattr(t, "is_binary_view") else ()
    known = (t.is_binary, t.is_large_binary, t.is_fixed_size_binary, *views)
    return any(check(kind) for check in known)


def _is_boxed(kind: "pa.DataType") -> bool:
    """Whether values are structs that have the bytes of a file."""
    import pyarrow.types as t

    return t.is_struct(kind) and any(
        field.name == "bytes" and _is_binary(field.type) for field in kind
    )


def _may_hold_pictures(kind: "pa.DataType") -> bool:
    """Whether values are lists of bytes, or lists of lists: pictures as arrays, which are not read."""
    import pyarrow.types as t

    if t.is_struct(kind):
        return any(_may_hold_pictures(field.type) for field in kind)
    if hasattr(kind, "storage_type"):  # a tensor, or what somebody else has defined
        return len(getattr(kind, "shape", ())) > 1 or _may_hold_pictures(kind.storage_type)
    lists = (t.is_list, t.is_large_list, t.is_fixed_size_list)
    if any(check(kind) for check in lists):
        element = kind.value_type
        nested = any(check(element) for check in lists)
        return nested or t.is_int8(element) or t.is_uint8(element) or _has_binary(element)
    return False


def _has_binary(kind: "pa.DataType") -> bool:
    import pyarrow.types as t

    if t.is_struct(kind):
        return any(_has_binary(field.type) for field in kind)
    return _is_binary(kind)


def _bytes_of(value: Any) -> bytes | None:
    return value.get("bytes") if isinstance(value, dict) else value


def picture_columns(table: "pa.Table", reading: Reading, name: str) -> list[str]:
    """The columns of a file that hold pictures or clips.

    Args:
      table: its first rows.
      reading: which are named by the user.
      name: of the file, for messages.

    Raises:
      UserError: a column that was named is not there or holds no bytes; there is none; or one may hold
        pictures in another form.
    """
    schema = table.schema
    for column in reading.columns:
        if column not in schema.names:
            raise UserError(
                f"{name} has no column {column!r}; there are: {', '.join(schema.names)}"
            )
        kind = schema.field(column).type
        if not (_is_binary(kind) or _is_boxed(kind)):
            raise UserError(f"the column {column!r} of {name} holds {kind}, not the bytes of files")
    for field in schema:
        if _may_hold_pictures(field.type) and field.name not in reading.copied:
            raise UserError(
                f"the column {field.name!r} of {name}, {field.type}, may hold pictures as arrays, which are "
                f"not read; store files' bytes, or give --copy {field.name} if it holds none"
            )
    found = list(reading.columns) or [
        field.name
        for field in schema
        if (_is_binary(field.type) or _is_boxed(field.type)) and field.name not in reading.copied
        if any(_is_picture(value) for value in table[field.name].to_pylist())
    ]
    if not found:
        raise UserError(
            f"no column of {name} holds pictures as files' bytes; name one with --column"
        )
    return found


def _is_picture(value: Any) -> bool:
    content = _bytes_of(value)
    return content is not None and content != b"" and kind_of("", content) != Kind.OTHER


class Parquet:
    """See `format.Format`."""

    def find(
        self, source: Storage, reading: Reading, sizes: Mapping[str, int], done: Mapping[str, Part]
    ) -> Found:
        """A shard for each file."""
        del source, reading, done
        names = [name for name in sizes if name.endswith(ENDING) and name != rows_.MANIFEST]
        shards = [Shard(name, KIND, {name: sizes[name]}) for name in names]
        return Found(shards, tuple(name for name in sizes if name not in names))

    def work(
        self, shard: Shard, source: Storage, output: Storage, reading: Reading, treat: Treatment
    ) -> Steps:
        """Row by row into a file of the same name."""
        with source.open(shard.name) as opened:
            yield from convert(opened, shard.name, output, reading, treat)


def convert(
    opened: IO[bytes], name: str, output: Storage, reading: Reading, treat: Treatment
) -> Steps:
    """Writes the file `name` of the output from one of the input.

    Raises:
      UserError: the file cannot be read, or NotWrittenError.
    """
    import pyarrow.parquet as pq

    with _plainly(name):
        file = pq.ParquetFile(opened)
        groups = file.metadata.num_row_groups
        first = next(file.iter_batches(_LOOKED_AT), None)
        head = file.schema_arrow.empty_table()
        if first is not None:
            import pyarrow as pa

            head = pa.Table.from_batches([first])
        compression = file.metadata.row_group(0).column(0).compression if groups else "SNAPPY"
    columns = picture_columns(head, reading, name)
    with output.target(name) as path:
        packed = {"compression": None if compression == "UNCOMPRESSED" else compression.lower()}
        with pq.ParquetWriter(path, file.schema_arrow, **packed) as writer:
            at = 0
            for group in range(groups):
                with _plainly(name):
                    table = file.read_row_group(group)
                rows = _Rows(table, name, at, columns, reading.copied)
                made = yield from rows.convert(treat)
                at += table.num_rows
                writer.write_table(made)
        size = path.stat().st_size
    treat.made[name] = size


@dataclasses.dataclass
class _Rows:
    """A row group, of which row `first` of the file `name` is the first one."""

    table: "pa.Table"
    name: str
    first: int
    columns: list[str]
    copied: tuple[str, ...]

    def convert(self, treat: Treatment) -> Generator[int, None, "pa.Table"]:
        """The row group with new pictures."""
        import pyarrow as pa

        table, kept = self.table, []
        new: dict[str, list[Any]] = {column: [] for column in self.columns}
        others = self._others()
        wanted = [*self.columns, *others, *treat.link_columns(table.schema.names)]
        batches = table.select(list(dict.fromkeys(wanted))).to_batches(max_chunksize=16)
        given = (row for batch in batches for row in batch.to_pylist())
        for number, row in enumerate(given):
            values = yield from self._row(number, row, others, treat)
            if values is None:
                continue
            kept.append(number)
            for column, value in values.items():
                new[column].append(value)
        result = table.take(pa.array(kept, pa.int64()))
        for column, made in new.items():
            place = table.schema.get_field_index(column)
            field = table.schema.field(place)
            result = result.set_column(place, field, pa.array(made, field.type))
        return result

    def _others(self) -> list[str]:
        """Columns of bytes that hold no pictures, as far as is known."""
        known = (*self.columns, *self.copied)
        return [
            field.name
            for field in self.table.schema
            if (_is_binary(field.type) or _is_boxed(field.type)) and field.name not in known
        ]

    def _row(
        self, number: int, given: dict[str, Any], others: list[str], treat: Treatment
    ) -> Generator[int, None, dict[str, Any] | None]:
        """New values of the columns with pictures; None where one of them failed."""
        base = f"{self.name}/{self.first + number}"
        values: dict[str, Any] = {}
        rows: list[Row] = []
        for column in self.columns:
            value = given[column]
            if value is None:
                values[column] = None
                continue
            content = _bytes_of(value) or b""
            yield len(content)
            source = f"{base}/{column}"
            made, row = treat(
                Record(
                    source=source, output=source, content=content, samples=(base,), columns=given
                )
            )
            rows.append(row)
            values[column] = {**value, "bytes": made} if isinstance(value, dict) else made
        rows += [
            Row(source=f"{base}/{other}", error=f"it is a picture; give --column {other} too")
            for other in others
            if _is_picture(given[other])
        ]
        failed = next((row for row in rows if row.error), None)
        treat.rows += rows if failed is None else [row.without(failed) for row in rows]
        return values if failed is None else None
