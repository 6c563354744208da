"""What `dp3 audit` found, by item: read leniently, as it only decides what is looked at first."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dp3_jax.common.errors import UserError
from dp3_jax.review.library import Item

NAMES = (
    "report/audit.json",
    "audit.json",
)  # looked for in the reviewed folder, beside it, and here

_FILES = ("anonymized", "result", "file", "path", "original", "source", "name")
_TEXTS = ("sentence", "verdict", "reason", "text", "message")
# Numbers that are larger the worse it is, the first one that is there counts.
_SCORES = ("risk", "score", "worst", "similarity", "cosine", "likeness", "unchanged")
_COUNTS = ("shown", "faces_shown", "not_covered", "uncovered", "recognised", "recognized")


@dataclasses.dataclass(frozen=True)
class Finding:
    """What an audit says of one file.

    Attributes:
      score: 0 to 1, the worst of the file's faces; 1 is the worst of all files.
      text: a sentence for people.
    """

    score: float
    text: str


def look_for(folder: pathlib.Path) -> pathlib.Path | None:
    """The report of an audit that lies where audits are usually written; None where there is none."""
    places = (folder, folder.parent, pathlib.Path())
    return next((p for place in places for n in NAMES if (p := place / n).is_file()), None)


def read(path: pathlib.Path, items: Sequence[Item]) -> dict[str, Finding]:
    """What the report of an audit says of each of the items, by id.

    Raises:
      UserError: it cannot be read, or is not JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON; name the audit.json of dp3 audit") from error
    known = _Names(items)
    worst: dict[str, tuple[float, str]] = {}
    for entry in _objects(content):
        name = known.item(entry, path.parent)
        if name is not None:
            value, text = _badness(entry)
            if value > worst.get(name, (0.0, ""))[0]:
                worst[name] = value, text
    most = max((value for value, _ in worst.values()), default=1.0)
    return {name: Finding(value / most, text) for name, (value, text) in worst.items()}


def _objects(content: Any) -> Iterator[Mapping[str, Any]]:
    """All objects of a JSON document, outer ones first."""
    if isinstance(content, Mapping):
        yield content
        content = list(content.values())
    if isinstance(content, list):
        for value in content:
            yield from _objects(value)


def _badness(entry: Mapping[str, Any]) -> tuple[float, str]:
    """How bad an object of the report says it is, and in which words."""
    text = next((entry[n] for n in _TEXTS if isinstance(entry.get(n), str) and entry[n]), "")
    value = 0.0
    for one in _objects(entry):
        counted = [one[n] for n in _COUNTS if n in one]
        numbers = [one[n] for n in _SCORES if _is_number(one.get(n))]
        value = max([value, *(float(n) for n in numbers[:1])])
        # A face that shows is worse than any likeness.
        value = max([value, *(1.0 + float(n) for n in counted if _is_number(n) and n > 0)])
        value = max([value, *(2.0 for n in counted if n is True)])
    return value, text or "named by the audit"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class _Names:
    """Tells of which item an object of the report speaks."""

    def __init__(self, items: Sequence[Item]):
        self._by_path: dict[str, str] = {}
        self._by_name: dict[str, str | None] = {}
        for item in items:
            for path in (item.result, item.source):
                if path is not None:
                    self._by_path[str(path.resolve())] = item.id
                    for short in (path.name, item.name):
                        same = self._by_name.get(short, item.id) == item.id
                        self._by_name[short] = item.id if same else None  # of several: of none

    def item(self, entry: Mapping[str, Any], folder: pathlib.Path) -> str | None:
        """The id of the item that an object names; None where it names none, or more than one."""
        for field in _FILES:
            text = entry.get(field)
            if not isinstance(text, str) or not text:
                continue
            for place in (folder / text, pathlib.Path(text)):
                if found := self._by_path.get(os.path.realpath(place)):
                    return found
            if found := self._by_name.get(text) or self._by_name.get(pathlib.Path(text).name):
                return found
        return None
