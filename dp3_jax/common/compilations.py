"""JAX as a command that draws faces wants it: programs are kept between processes, traced and compiled."""

import contextlib
import functools
import hashlib
import os
import pathlib
import threading
from collections.abc import Callable
from typing import Any

from dp3_jax.common import files

_PACKAGE = pathlib.Path(__file__).parents[1]


def _folder(name: str) -> pathlib.Path:
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(root) / "dp3_jax" / name


def remember_compilations() -> None:
    """Keeps compiled programs between processes, unless the user has chosen a place already."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(_folder("compiled")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


class KeptProgram:
    """A pure function as `jax.jit` has it, whose trace is kept between processes in the user's cache.

    Looking through a network's Python code takes JAX longer than reading what once came out of it
    (`jax.export`, StableHLO). A trace is found again by the function's name, the arguments' shapes, JAX's
    version, its backend, and all of this package's source code; where it cannot be kept or read, it is made
    anew.
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
        signature = structure, tuple((x.shape, str(x.dtype)) for x in leaves)
        with self._making:  # threads that come while it is compiled wait for that
            made = self._made.get(signature)
            if made is None:
                made = self._load(arguments, repr(signature))
                first = made(*arguments)
                self._made[signature] = made
                return first
        return made(*arguments)

    def _load(self, arguments: tuple, signature: str) -> Callable:
        import jax
        from jax import export

        parts = (self._name, signature, jax.__version__, jax.default_backend(), _source_code())
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
        path = _folder("traced") / f"{self._name}-{digest}.stablehlo"
        with contextlib.suppress(Exception):  # whatever it is, there is another way
            return jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
        program = jax.jit(self._function)
        try:
            traced = export.export(program)(*arguments)
            content = bytes(traced.serialize())
        except Exception:
            return program
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            for old in path.parent.glob(f"{self._name}-*.stablehlo"):
                if old.stat().st_mtime < _newest_source():
                    files.remove(old)
            files.write_bytes(path, content)
        # The same program as the next process will load, so that the compiled one is found again.
        return jax.jit(traced.call)


def _sources() -> list[pathlib.Path]:
    return sorted(_PACKAGE.rglob("*.py"))


@functools.cache
def _source_code() -> str:
    """A digest of this package's source code."""
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _newest_source() -> float:
    return max(path.stat().st_mtime for path in _sources())
