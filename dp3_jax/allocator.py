"""Keeping the memory of one step for the next one, on CPU.

glibc serves every allocation above 32 MB with fresh pages from the kernel and gives them back when it is
freed. XLA on CPU allocates the temporaries of a step, over a gigabyte of them, anew in every call, so every
step pays for a few hundred thousand page faults: a sixth of the training step's processor time.
"""

import ctypes
from collections.abc import Callable

# From <malloc.h>: parameters of mallopt(3), which are part of glibc's ABI.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def _glibc(name: str) -> Callable | None:
    """A function of the C library, or None where there is no such one."""
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # Windows has no library of the running program
        return None


def keep_freed_memory() -> bool:
    """Tells the C library to keep freed memory for this process's next allocations.

    To be called once, before the first large allocation, by a program that computes on CPU. The resident
    size then stays at its highest point instead of falling between steps, and long-lived blocks among the
    kept ones make it grow: call `release_freed_memory` now and then. With one arena: only the main
    one can hold blocks of more than 64 MB.

    Returns:
      Whether the C library took the settings; False where it is not glibc, and then nothing is changed.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    taken = [mallopt(name, value) == 1 for name, value in settings]
    return all(taken)


def release_freed_memory() -> None:
    """Gives all memory that is free now back to the kernel, holes between used blocks included.

    Costs the next step its page faults once; for moments after which less memory is needed.
    """
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)
