"""Settings that other libraries keep for the whole process, changed for no longer than somebody needs it."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager


class SharedSetting:
    """A change of the process that several threads may want at a time, and that ends with the last of them.

    Each putting back what it found would leave the change behind: the second one finds the first one's.
    """

    def __init__(self, change: Callable[[], AbstractContextManager]):
        """`change` makes what changes the setting when it is entered and puts it back when it is left."""
        self._change = change
        self._lock = threading.Lock()
        self._inside = 0
        self._changed = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """The setting is changed inside."""
        with self._lock:
            if self._inside == 0:
                self._changed.enter_context(self._change())
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._changed.close()
