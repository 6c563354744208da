"""Keys that are pressed in the terminal while live video runs."""

import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator

try:
    import termios
    import tty
except ImportError:  # there is no such terminal on Windows
    termios = tty = None

_POLL = 0.25  # s between two looks at whether the terminal is ours


@contextlib.contextmanager
def pressed(on_key: Callable[[str], None], stream=None) -> Iterator[bool]:
    """Calls `on_key` with each character that is typed, from a thread, and does not let it appear.

    Ctrl-C and the like work as usual. While the process is in the background, the terminal is left alone.

    Args:
      on_key: gets one character.
      stream: the terminal; None: standard input.

    Yields:
      Whether there is a terminal to read from. If not, nothing is read.
    """
    descriptor = _terminal(sys.stdin if stream is None else stream)
    if descriptor is None:
        yield False
        return
    before = termios.tcgetattr(descriptor)
    ended, wake = os.pipe()
    reader = threading.Thread(target=_read, args=(descriptor, ended, on_key), name="live keys")
    reader.start()
    try:
        yield True
    finally:
        os.write(wake, b".")
        reader.join()
        os.close(wake)
        os.close(ended)
        if _is_ours(descriptor):
            with contextlib.suppress(termios.error):  # it has gone
                termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _terminal(stream) -> int | None:
    """The descriptor of a terminal; None where there is none."""
    if termios is None or stream is None:
        return None
    try:
        descriptor = stream.fileno()
        return descriptor if os.isatty(descriptor) else None
    except (OSError, ValueError):  # closed, or none of the system's
        return None


def _is_ours(descriptor: int) -> bool:
    """Whether the process may use the terminal: one in the background would be stopped for it."""
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:  # it is not the one that controls the process, or has gone
        return os.isatty(descriptor)


def _read(descriptor: int, ended: int, on_key: Callable[[str], None]) -> None:
    """Passes keys on until `ended` can be read, or the terminal has gone."""
    try:
        while True:
            ours = _is_ours(descriptor)
            # Again and again: a shell puts back its own settings when the process was stopped.
            if ours and termios.tcgetattr(descriptor)[3] & (termios.ICANON | termios.ECHO):
                tty.setcbreak(descriptor, termios.TCSANOW)
            ready, _, _ = select.select([ended, *([descriptor] if ours else [])], [], [], _POLL)
            if ended in ready:
                return
            if descriptor in ready and _is_ours(descriptor):
                typed = os.read(descriptor, 64)
                if not typed:
                    return
                for character in typed.decode(errors="ignore"):
                    on_key(character)
    except (OSError, termios.error):
        return
