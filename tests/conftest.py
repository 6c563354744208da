"""Shared by all tests: where things are, and a compilation cache that makes the second run fast."""

import os
import pathlib
import tempfile

import jax
import pytest
from hypothesis import settings

# The first call of a property compiles; that is no reason to call it slow.
settings.register_profile("compiled", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("compiled")

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]

CACHE = pathlib.Path(tempfile.gettempdir()) / "dp3_jax_test_compilation_cache"
# Also for the commands that tests start. Small programs are kept too: what is computed outside of jax.jit is
# compiled operation by operation, hundreds of them, in each process anew.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update(
    "jax_persistent_cache_min_compile_time_secs",
    float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]),
)


@pytest.fixture(autouse=True)
def _builtin_identities(request, monkeypatch):
    """Tests say "auto" on every machine and get the same: the prior only where they are marked for it."""
    if request.node.get_closest_marker("identities") is None:
        from dp3_jax.common.errors import UserError
        from dp3_jax.detection.vector_meter import VectorMeter
        from dp3_jax.replacement import choice

        def refuse(options, wanted):
            raise UserError("this test is not marked for identities")

        monkeypatch.setattr(choice, "open_fused", refuse)
        for name in ("_mesh", "_iris"):  # which would be fetched for faces that are told nothing
            monkeypatch.setattr(VectorMeter, name, None)


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real photos beside the project, which a clone elsewhere does not have."""
    path = REPOSITORY.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"needs the real photos in {path.parent.name}/{path.name} beside the project")
    return path


def pytest_configure(config):
    config.addinivalue_line("markers", "identities: the prior or a bank may be used")
