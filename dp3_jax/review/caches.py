"""What is kept in memory because it may be asked for again, up to a number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class ByteCache:
    """Values by key; the ones that were not used for longest go first. For several threads."""

    def __init__(self, most: int):
        """Takes the number of bytes that values may have together."""
        self._most = most
        self._held: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any | None:
        """The value, or None."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keeps a value of so many bytes, as long as there is room."""
        with self._lock:
            if key in self._held:
                self._size -= self._held.pop(key)[1]
            self._held[key] = value, size
            self._size += size
            while self._size > self._most and len(self._held) > 1:
                self._size -= self._held.popitem(last=False)[1][1]

    def made(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Bytes that are kept, or made now."""
        found = self.get(key)
        if found is None:
            found = make()
            self.put(key, found, len(found))
        return found
