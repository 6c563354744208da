"""Handing live frames from one thread to the next without letting them grow old."""

import collections
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestQueue(Generic[T]):
    """A bounded queue in which a new item pushes the oldest one out.

    Items come out in the order in which they went in. `close` ends it: what is in it still comes out, what
    is put later is dropped.
    """

    def __init__(
        self,
        depth: int,
        *,
        wait: bool = False,
        on_drop: Callable[[T], None] | None = None,
    ):
        """Makes an empty queue.

        Args:
          depth: items that it holds at most, from 1.
          wait: let `put` wait for room and keep every item.
          on_drop: called with every item that does not come out.
        """
        if depth < 1:
            raise ValueError(f"a queue holds at least 1 item, not {depth}")
        self._depth = depth
        self._wait = wait
        self._on_drop = on_drop or (lambda item: None)
        self._items: collections.deque[T] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Adds an item."""
        with self._changed:
            while self._wait and len(self._items) >= self._depth and not self._closed:
                self._changed.wait()
            if self._closed:
                self._on_drop(item)
                return
            if len(self._items) >= self._depth:
                self._on_drop(self._items.popleft())
            self._items.append(item)
            self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Waits until `put` would neither wait nor drop anything, or the queue is closed."""
        with self._changed:
            while len(self._items) >= self._depth and not self._closed:
                self._changed.wait()

    def close(self) -> None:
        """Lets the reader end once it has taken what is there."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """The items as they come, until the queue is closed and empty."""
        while True:
            with self._changed:
                while not self._items and not self._closed:
                    self._changed.wait()
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
