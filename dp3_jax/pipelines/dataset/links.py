"""Which records show the same person, as the user says: by a column, or by a file with a line a record.

Nobody is recognised here: who gives no ID gets a person of their own.
"""

import csv
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from dp3_jax.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class Links:
    """IDs of persons.

    Attributes:
      column: whose value is the ID; "" with a file.
      by_source: IDs by the record's source, or by the sample that it belongs to; empty with a column.
    """

    column: str = ""
    by_source: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def of(self, names: tuple[str, ...], columns: Mapping[str, Any]) -> str | None:
        """The ID of a record; None where there is none.

        Args:
          names: that it may have in the file: its source, its sample.
          columns: values by column, of its sample.
        """
        if self.column:
            return _text(columns.get(self.column))
        return next((self.by_source[name] for name in names if name in self.by_source), None)

    def digest(self) -> str:
        """Tells these links from others."""
        content = json.dumps([self.column, sorted(self.by_source.items())])
        return hashlib.sha256(content.encode()).hexdigest()


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if value is None or isinstance(value, list | dict) or not str(value).strip():
        return None
    return str(value).strip()


def open_links(text: str) -> Links:
    """What --link-people says: a file that is there, else the name of a column.

    The file is CSV or Parquet with the columns `source` and `id`.

    Raises:
      UserError: the file cannot be read, or says two IDs for one source.
    """
    if not os.path.isfile(text):
        if "/" in text or pathlib.PurePath(text).suffix in (".csv", ".parquet"):
            raise UserError(f"there is no file {text} for --link-people; check the path")
        return Links(column=text)
    rows = _parquet(text) if text.endswith(".parquet") else _csv(text)
    found: dict[str, str] = {}
    for row in rows:
        source, person = _text(row.get("source")), _text(row.get("id"))
        if source is None or person is None:
            continue
        if found.setdefault(source, person) != person:
            raise UserError(f"{text} has two IDs for {source}; leave one")
    if not found:
        raise UserError(f"{text} has no rows with `source` and `id`; see docs/cli/dataset.md")
    return Links(by_source=found)


def _csv(path: str) -> list[dict[str, Any]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as opened:
            return list(csv.DictReader(opened))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path} as CSV: {error}") from error


def _parquet(path: str) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=["source", "id"]).to_pylist()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from error
