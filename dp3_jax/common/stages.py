"""Handing work to a thread of its own, in order."""

import enum
import queue
import threading
from collections.abc import Callable
from typing import Any


class Stage(enum.StrEnum):
    """The passes over a video; the values are what progress bars say."""

    DETECTION = "detecting faces"
    RENDERING = "rendering faces"


Progress = Callable[[str, int, int | None], None]  # (what, frames since the last call, of how many)


class Background:
    """Calls a function with one item after the other in a thread, at most `depth` items behind.

    An exception in the function is raised by the next `put` or by `close`; no item is handled after it.
    Leaving a `with` block waits for all items, unless an exception leaves it: then waiting items are dropped.
    """

    def __init__(self, handle: Callable[[Any], None], depth: int):
        """Starts the thread. `depth` >= 1."""
        self._handle = handle
        self._queue: queue.Queue = queue.Queue(depth)
        self._error: BaseException | None = None
        self._dropping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="background", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (entry := self._queue.get()) is not None:
            if self._error is None and not self._dropping.is_set():
                try:
                    self._handle(entry[0])
                except BaseException as error:  # it belongs to the caller
                    self._error = error

    def put(self, item: Any) -> None:
        """Hands over an item; waits while `depth` others wait."""
        self._raise()
        self._queue.put((item,))

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Waits until all is handled."""
        self._queue.put(None)
        self._thread.join()
        self._raise()

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, kind, *exception) -> None:
        if kind is None:
            self.close()
            return
        self._dropping.set()
        self._queue.put(None)
        self._thread.join()
