"""JAX as a command that draws faces wants it: programs are kept between processes, traced and compiled."""

import contextlib
import functools
import hashlib
import os
import pathlib
import pickle
import platform
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from dp3_jax.common import files
from dp3_jax.common.errors import UserError

_UNFINISHED_SECONDS = 3600.0  # a file is written in less than one
# Files of a program that stay: other installations of the package on this machine share the cache, and each
# has its own. Those that were not used for longest go.
MAX_KEPT = 8
_DIGITS = 32  # of the digests in their names
_PACKAGE = pathlib.Path(__file__).parents[1]


def _folder(name: str) -> pathlib.Path:
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(root) / "dp3_jax" / name


_let = False  # whether an entry point lets JAX keep what it compiles


def let_jax_keep_programs() -> None:
    """For entry points: JAX may keep compiled programs in the user's cache, see `remember_compilations`.

    In the program of somebody else that is theirs to decide; what KeptProgram keeps is no setting of JAX.
    """
    global _let  # noqa: PLW0603
    _let = True


def remember_compilations() -> None:
    """Has JAX keep compiled programs between processes, where an entry point lets it.

    If the user has chosen a place for them already, nothing is changed.
    """
    import jax

    if _let and jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(_folder("compiled")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


class KeptProgram:
    """A pure function as `jax.jit` has it, kept between processes in the user's cache: traced, and compiled.

    Looking through a network's Python code takes JAX longer than reading what once came out of it
    (`jax.export`, StableHLO). A trace is found again by the function's name, the arguments' shapes, JAX's
    version, its backend, and all of this package's source code; where it cannot be kept or read, it is made
    anew. What was compiled of a trace is found by the trace and the machine. To load that takes a command
    0.8 s of processor time less than JAX's own cache does, for which each trace is lowered first; what comes
    from that cache cannot be kept here (functions are missing when it is loaded; jaxlib 0.10).
    """

    def __init__(self, function: Callable, name: str):
        """`name` tells it from other functions of the package, and from others made in the same place."""
        self._function, self._name = function, name
        self._made: dict[Any, Callable] = {}
        self._making = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:
        """The function's value; arguments are trees of arrays."""
        import jax

        leaves, structure = jax.tree.flatten(arguments)
        signature = structure, tuple((x.shape, x.dtype) for x in leaves)
        with self._making:  # threads that come while it is compiled wait for that
            made = self._made.get(signature)
            if made is None:
                described = repr((structure, tuple((x.shape, str(x.dtype)) for x in leaves)))
                made, first = self._load(arguments, described)
                self._made[signature] = made
                return first
        return made(*arguments)

    def _load(self, arguments: tuple, signature: str) -> tuple[Callable, Any]:
        """The program, and its first value."""
        import jax

        content = self._traced(arguments, signature)
        if content is None:
            program = jax.jit(self._function)
            return program, program(*arguments)
        digest = hashlib.sha256(content + machine_identity().encode()).hexdigest()[:_DIGITS]
        path = _folder("programs") / f"{self._name}-{digest}.program"
        with contextlib.suppress(Exception):  # whatever it is, there is another way
            stored = _used(path)
            if not stored:  # what cannot be kept here may be by JAX
                remember_compilations()
            return _tried(stored, arguments)
        made = _compiled(content, arguments)
        packed = _packed(made, arguments)
        # Where JAX's own cache is in use, it is known only that this copy cannot be kept.
        if packed or jax.config.jax_compilation_cache_dir is None:
            with contextlib.suppress(OSError, UserError):
                self._keep(path, packed)
        return made, made(*arguments)

    def _traced(self, arguments: tuple, signature: str) -> bytes | None:
        """The serialised trace, kept or made; None where that cannot be."""
        import jax

        parts = (self._name, signature, jax.__version__, jax.default_backend(), source_code())
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_DIGITS]
        path = _folder("traced") / f"{self._name}-{digest}.stablehlo"
        with contextlib.suppress(OSError, ValueError):
            return _checked(_used(path))
        try:
            from jax import export

            content = bytes(export.export(jax.jit(self._function))(*arguments).serialize())
        except Exception:
            return None
        with contextlib.suppress(OSError, UserError):
            self._keep(path, _with_digest(content))
        return content

    def _keep(self, path: pathlib.Path, content: bytes) -> None:
        """Writes a file, and removes what is no longer used and what killed processes have left."""
        path.parent.mkdir(parents=True, exist_ok=True)
        for unfinished in path.parent.glob(f".*{path.suffix}.*.tmp"):
            with contextlib.suppress(OSError):  # another process was quicker
                if time.time() - unfinished.stat().st_mtime > _UNFINISHED_SECONDS:
                    files.remove(unfinished)
        files.write_bytes(path, content)
        kept = path.parent.glob(f"{self._name}-{'[0-9a-f]' * _DIGITS}{path.suffix}")
        for old in sorted(kept, key=lambda one: -one.stat().st_mtime)[MAX_KEPT:]:
            files.remove(old)


def _used(path: pathlib.Path) -> bytes:
    """The content of a kept file, which is marked as used now.

    Raises:
      OSError: there is none.
    """
    content = path.read_bytes()
    with contextlib.suppress(OSError):  # a cache that cannot be written can be read
        os.utime(path)
    return content


def _compiled(content: bytes, arguments: tuple) -> Any:
    """A compiled program of a serialised trace."""
    import jax
    from jax import export

    return jax.jit(export.deserialize(bytearray(content)).call).lower(*arguments).compile()


def _with_digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest() + content


def _checked(stored: bytes) -> bytes:
    """The content that `_with_digest` was given.

    Raises:
      ValueError: it was damaged.
    """
    digest, content = stored[:32], stored[32:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("a kept program is damaged")
    return content


def _packed(program: Any, arguments: tuple) -> bytes:
    """What `_tried` takes; empty where that would not run."""
    try:
        from jax.experimental import serialize_executable

        packed = _with_digest(pickle.dumps(serialize_executable.serialize(program)))
        _tried(packed, arguments)
    except Exception:
        return b""
    return packed


def _tried(packed: bytes, arguments: tuple) -> tuple[Any, Any]:
    """The program that `_packed` was given, and its value.

    Raises:
      ValueError: it is damaged; and whatever JAX raises: what is missing is seen only when a program runs.
    """
    import jax
    from jax.experimental import serialize_executable

    content = pickle.loads(_checked(packed))
    program = serialize_executable.deserialize_and_load(
        *content, execution_devices=jax.devices()[:1]
    )
    return program, jax.block_until_ready(program(*arguments))


@functools.cache
def machine_identity() -> str:
    """What a compiled program depends on besides its trace: the processor, and the libraries."""
    import jaxlib

    processor = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        kinds = ("model name", "flags", "Features", "CPU part")
        processor += "".join(sorted({line for line in lines if line.startswith(kinds)}))
    return f"{processor} {sys.platform} {jaxlib.__version__} {os.environ.get('XLA_FLAGS', '')}"


def _sources() -> list[pathlib.Path]:
    return sorted(_PACKAGE.rglob("*.py"))


@functools.cache
def source_code() -> str:
    """A digest of this package's source code."""
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()
