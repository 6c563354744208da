"""Running an iterator ahead of its consumer, in a thread."""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Iterates over `items` with up to `depth` of them made ahead by a background thread.

    An exception in the source is raised where its item would have come. `close` stops the thread
    and closes the source if it is a generator; leaving a `with` block or the end of the items does
    the same.

    Attributes:
      seconds_waiting: total time the consumer spent waiting for the source.
    """

    def __init__(self, items: Iterable[T], depth: int):
        """Starts the thread. `depth` >= 1 items are held at most, plus the one being made."""
        if depth < 1:
            raise ValueError(f"depth is {depth}; it must be at least 1")
        self.seconds_waiting = 0.0
        self._queue: queue.Queue = queue.Queue(depth)
        self._stop = threading.Event()
        self._done = False
        self._thread = threading.Thread(
            target=self._produce, args=(iter(items),), name="prefetch", daemon=True
        )
        self._thread.start()

    def _put(self, entry: tuple[T | None, BaseException | None]) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def _produce(self, items: Iterator[T]) -> None:
        try:
            for item in items:
                if not self._put((item, None)):
                    break
            else:
                self._put((None, StopIteration()))
        except BaseException as error:  # It belongs to the consumer.
            self._put((None, error))
        finally:
            if hasattr(items, "close"):
                items.close()

    def __iter__(self) -> "Prefetcher[T]":
        return self

    def __next__(self) -> T:
        if self._done:
            raise StopIteration
        began = time.perf_counter()
        item, error = self._queue.get()
        self.seconds_waiting += time.perf_counter() - began
        if error is not None:
            self.close()
            raise error
        return item

    def close(self) -> None:
        """Stops the thread and waits for it to end (for the item being made at most)."""
        self._done = True
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> "Prefetcher[T]":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def prefetch(items: Iterable[T], depth: int = 2) -> Prefetcher[T]:
    """Returns an iterator over `items` that a background thread keeps `depth` ahead."""
    return Prefetcher(items, depth)
