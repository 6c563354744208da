"""What was done to each sidecar, so that it can be undone, and so that a kill loses nothing.

Each state of a sidecar is written here before it gets its place, with whether the result was made from it. So
after a kill at any moment the next review knows the newest state, and renders again what had not been.

    history/ITEM/000000.json.gz   the sidecar as it was found, then after each step
    history/ITEM/position.json    where the item is among these, and what the steps were
"""

import contextlib
import dataclasses
import gzip
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from dp3_jax.common import files

_POSITION = "position.json"
_MAX_STEPS = 200  # the oldest are forgotten


@dataclasses.dataclass(frozen=True)
class Step:
    """From one state to the next.

    Attributes:
      label: what was done, for people.
      feedback: `id` of the remark that was written for it; empty if none was.
    """

    label: str
    feedback: str = ""


@dataclasses.dataclass(frozen=True)
class Position:
    """Where an item is in its history.

    Attributes:
      first: number of the oldest state that is still there.
      at: number of the state that the item is in.
      rendered: whether the result was made from that state.
      steps: from each state to the next one, from `first` on; those beyond `at` can be done again.
    """

    first: int = 0
    at: int = 0
    rendered: bool = True
    steps: tuple[Step, ...] = ()

    @property
    def undoable(self) -> Step | None:
        """The step that led here."""
        return self.steps[self.at - self.first - 1] if self.at > self.first else None

    @property
    def redoable(self) -> Step | None:
        """The step that was undone last."""
        behind = self.at - self.first
        return self.steps[behind] if behind < len(self.steps) else None


class History:
    """The states of all items of one review."""

    def __init__(self, folder: pathlib.Path):
        """Takes the review's own folder; it is made when there is something to keep."""
        self._folder = folder / "history"

    def position(self, item: str) -> Position:
        """Where an item is; that of an untouched one where nothing is known."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads((self._folder / item / _POSITION).read_text())
            steps = tuple(Step(**step) for step in content.pop("steps"))
            return Position(**content, steps=steps)
        return Position()

    def content(self, item: str) -> bytes | None:
        """The sidecar of the state that an item is in; None where none is kept."""
        return self._state(item, self.position(item).at)

    def begin(self, item: str, before: bytes, after: bytes, step: Step) -> None:
        """Notes a new state, not rendered yet, behind the one that the item is in.

        Where the sidecar on the disk, `before`, is not the one that was left there, somebody else has changed
        it, and the history begins anew.
        """
        known = self.position(item)
        if self._state(item, known.at) != before:
            shutil.rmtree(self._folder / item, ignore_errors=True)
            known = Position()
            self._write_state(item, 0, before)
        at = known.at + 1
        steps = (*known.steps[: known.at - known.first], step)
        self._write_state(item, at, after)
        first = max(known.first, at - _MAX_STEPS)
        steps = steps[first - known.first :]
        self._write(item, Position(first, at, False, steps))
        for number in range(known.first, first):
            self._path(item, number).unlink(missing_ok=True)

    def note(self, item: str, content: bytes) -> None:
        """Notes how the sidecar of the present state reads once it is rendered, before it is written."""
        self._write_state(item, self.position(item).at, content)

    def settle(self, item: str) -> None:
        """Notes that the result was made from the state that the item is in."""
        self._write(item, dataclasses.replace(self.position(item), rendered=True))

    def knows(self, item: str, content: bytes) -> bool:
        """Whether a sidecar is one of the item's states."""
        known = self.position(item)
        numbers = range(known.first, known.first + len(known.steps) + 1)
        return any(self._state(item, number) == content for number in numbers)

    def move(self, item: str, way: int) -> bytes | None:
        """Goes one state back (-1) or forward (1), not rendered yet; its sidecar, or None at the end."""
        known = self.position(item)
        there = known.undoable if way < 0 else known.redoable
        content = self._state(item, known.at + way) if there else None
        if content is not None:
            self._write(item, dataclasses.replace(known, at=known.at + way, rendered=False))
        return content

    def rename(self, item: str, feedback: str) -> None:
        """Gives the step that led to the present state another remark."""
        known = self.position(item)
        behind = known.at - known.first
        if behind > 0:
            step = dataclasses.replace(known.steps[behind - 1], feedback=feedback)
            steps = (*known.steps[: behind - 1], step, *known.steps[behind:])
            self._write(item, dataclasses.replace(known, steps=steps))

    def drop(self, item: str) -> bytes | None:
        """Forgets the state that the item is in, which could not be rendered; the sidecar before it."""
        known = self.position(item)
        if known.undoable is None:
            return None
        kept = known.steps[: known.at - known.first - 1]
        self._write(item, Position(known.first, known.at - 1, True, kept))
        self._path(item, known.at).unlink(missing_ok=True)
        return self._state(item, known.at - 1)

    def _path(self, item: str, number: int) -> pathlib.Path:
        return self._folder / item / f"{number:06d}.json.gz"

    def _state(self, item: str, number: int) -> bytes | None:
        try:
            return gzip.decompress(self._path(item, number).read_bytes())
        except (OSError, EOFError, ValueError):
            return None

    def _write_state(self, item: str, number: int, content: bytes) -> None:
        _write_private(self._path(item, number), gzip.compress(content, 5, mtime=0))

    def _write(self, item: str, position: Position) -> None:
        content = dataclasses.asdict(position)
        _write_private(self._folder / item / _POSITION, json.dumps(content).encode())


class Marks:
    """Small facts on items that are kept from review to review, such as which were looked at."""

    def __init__(self, folder: pathlib.Path):
        """Reads what an earlier review has left in its folder."""
        self._path = folder / "marks.json"
        self._content: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(self._path.read_text())
            if isinstance(content, dict):
                self._content = {k: v for k, v in content.items() if isinstance(v, dict)}

    def of(self, item: str) -> Mapping[str, Any]:
        """What is known of an item."""
        return self._content.get(item, {})

    def put(self, item: str, name: str, value: Any) -> None:
        """Notes a fact, on the disk before it returns."""
        self._content.setdefault(item, {})[name] = value
        _write_private(self._path, json.dumps(self._content).encode())


def _write_private(path: pathlib.Path, content: bytes) -> None:
    """Writes a file atomically that only its owner may read, as it holds keys."""
    with files.atomic_target(path) as temporary:
        temporary.touch(0o600)
        temporary.write_bytes(content)
