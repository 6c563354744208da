"""JAX as a command that draws faces wants it: compiled programs are kept between processes."""

import atexit
import gc
import os
import pathlib


def prepare_jax() -> None:
    """Sets JAX up for a command that draws faces: programs are kept, and the process ends at once."""
    atexit.register(gc.freeze)  # or Python looks for cycles in all of JAX at its end, for 0.4 s
    _remember_compilations()


def _remember_compilations() -> None:
    """Keeps compiled programs between processes, unless the user has chosen a place already."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        folder = pathlib.Path(root) / "dp3_jax" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
