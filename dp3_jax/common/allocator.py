"""Keeping the memory of one step for the next one, on CPU; not taking all of a GPU's.

glibc serves every allocation above 32 MB with fresh pages from the kernel and gives them back when it is
freed. XLA on CPU allocates the temporaries of a step, over a gigabyte of them, anew in every call, so every
step pays for a few hundred thousand page faults: a sixth of the training step's processor time. Where XLA
computes on an accelerator, its temporaries lie there, and nothing here is changed.
"""

import ctypes
import importlib.metadata
import importlib.util
import os
import pathlib
from collections.abc import Callable, Sequence

# From <malloc.h>: parameters of mallopt(3), which are part of glibc's ABI.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


# What Linux has where a program can compute on an accelerator: NVIDIA's driver, the same in WSL, AMD's, TPUs.
_DEVICES = ("nvidiactl", "dxg", "kfd", "accel0", "vfio/0")


def computes_on_cpu(devices: Sequence[str] = _DEVICES) -> bool:
    """Whether JAX will compute on CPU in this process, told without starting JAX.

    It does unless it can find an accelerator's plugin and the host has such a device; JAX_PLATFORMS decides
    first, as in JAX.

    Args:
      devices: files in /dev, any of which stands for an accelerator.
    """
    asked = os.environ.get("JAX_PLATFORMS")
    if asked:
        return asked.split(",")[0].strip().lower() == "cpu"
    plugin = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    plugin = plugin or bool(importlib.metadata.entry_points(group="jax_plugins"))
    return not (plugin and any(pathlib.Path("/dev", name).exists() for name in devices))


def glibc(name: str) -> Callable | None:
    """A function of the C library, or None where there is no such one."""
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # Windows has no library of the running program
        return None


def keep_freed_memory() -> bool:
    """Tells the C library to keep freed memory for this process's next allocations.

    To be called once, and before JAX starts: threads keep the arenas that they have. (Called after it, a
    training step has as many page faults as without, 186,000 where there are none.) The resident size then
    stays at its highest point instead of falling between steps, and long-lived blocks among the kept ones
    make it grow: call `release_freed_memory` now and then. With one arena: only the main one can hold blocks
    of more than 64 MB.

    Returns:
      Whether the C library took the settings; False where it is not glibc or JAX will not compute on CPU, and
      then nothing is changed.
    """
    if not computes_on_cpu():
        return False
    mallopt = glibc("mallopt")
    if mallopt is None:
        return False
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    taken = [mallopt(name, value) == 1 for name, value in settings]
    return all(taken)


def share_gpu_memory() -> None:
    """Lets JAX take a GPU's memory as it needs it, for programs that are not alone on their GPU.

    It would take 75% of it at its first use, before which this is to be called. What the user has set stays.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def release_freed_memory() -> None:
    """Gives all memory that is free now back to the kernel, holes between used blocks included.

    Costs the next step its page faults once; for moments after which less memory is needed.
    """
    trim = glibc("malloc_trim")
    if trim is not None:
        trim(0)
