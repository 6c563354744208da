"""Threads that leave the processor to others: on Linux; elsewhere nothing happens."""

import contextlib
import os
import sys
import threading

_NICE = 5  # a third of the share of a thread at 0


def lower() -> None:
    """Lets other threads go before this one, and before those that it starts."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def start_jax() -> None:
    """Starts JAX with threads of low priority, if it has not been: what computes beside live pictures."""

    def start() -> None:
        import jax

        lower()
        jax.devices()

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
