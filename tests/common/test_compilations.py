"""Programs that are kept between processes: the same values, and no way for the cache to break a command."""

import errno
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from dp3_jax.common import compilations
from dp3_jax.common.compilations import KeptProgram


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir  # what comes from there cannot be kept
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield tmp_path / "dp3_jax" / "traced"
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


def function(tree, x):
    return jnp.tanh(x @ tree["kernel"]) + tree["bias"].sum()


def arguments(rows=3):
    rng = np.random.default_rng(0)
    tree = {"kernel": rng.normal(size=(4, 5)), "bias": rng.normal(size=5)}
    tree = {name: value.astype(np.float32) for name, value in tree.items()}
    return tree, rng.normal(size=(rows, 4)).astype(np.float32)


def never(tree, x):
    raise AssertionError("traced although its trace was kept")


def test_values_are_the_function_s_and_a_later_process_does_not_trace_it(cache):
    expected = np.asarray(jax.jit(function)(*arguments()))
    np.testing.assert_array_equal(np.asarray(KeptProgram(function, "f")(*arguments())), expected)
    np.testing.assert_array_equal(np.asarray(KeptProgram(never, "f")(*arguments())), expected)


def test_other_shapes_and_other_names_are_other_programs(cache):
    program = KeptProgram(function, "f")
    assert program(*arguments(3)).shape == (3, 5)
    assert program(*arguments(7)).shape == (7, 5)
    assert len(list(cache.iterdir())) == 2
    with pytest.raises(AssertionError, match="although"):
        KeptProgram(never, "g")(*arguments())


def test_other_source_code_is_another_program(cache, monkeypatch):
    KeptProgram(function, "f")(*arguments())
    monkeypatch.setattr(compilations, "source_code", lambda: "changed")
    with pytest.raises(AssertionError, match="although"):
        KeptProgram(never, "f")(*arguments())


def test_a_damaged_file_is_replaced(cache):
    KeptProgram(function, "f")(*arguments())
    (kept,) = cache.iterdir()
    content = kept.read_bytes()
    kept.write_bytes(b"")
    assert KeptProgram(function, "f")(*arguments()).shape == (3, 5)
    assert kept.read_bytes() == content


def test_a_later_process_neither_traces_nor_compiles(cache, monkeypatch):
    def other(tree, x):
        return jnp.sin(x @ tree["kernel"]).sum() - tree["bias"]

    expected = np.asarray(KeptProgram(other, "f")(*arguments()))
    monkeypatch.setattr(compilations, "_compiled", never)
    np.testing.assert_array_equal(np.asarray(KeptProgram(never, "f")(*arguments())), expected)


def test_a_damaged_program_is_compiled_anew(cache):
    def other(tree, x):
        return jnp.cos(x @ tree["kernel"]).sum() + tree["bias"]

    expected = np.asarray(KeptProgram(other, "f")(*arguments()))
    (kept,) = (cache.parent / "programs").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    np.testing.assert_array_equal(np.asarray(KeptProgram(other, "f")(*arguments())), expected)


def test_another_machine_does_not_take_it(cache, monkeypatch):
    def other(tree, x):
        return jnp.exp(x @ tree["kernel"]).sum() * tree["bias"]

    KeptProgram(other, "f")(*arguments())
    monkeypatch.setattr(compilations, "machine_identity", lambda: "another")
    compiled = []
    original = compilations._compiled
    monkeypatch.setattr(
        compilations, "_compiled", lambda *given: compiled.append(1) or original(*given)
    )
    KeptProgram(other, "f")(*arguments())
    assert compiled


def test_without_a_place_to_keep_them_programs_run_all_the_same(cache):
    cache.parent.mkdir()
    cache.write_text("a file where the folder would be")
    assert KeptProgram(function, "f")(*arguments()).shape == (3, 5)


def test_a_full_disk_breaks_no_command(cache, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    assert KeptProgram(function, "f")(*arguments()).shape == (3, 5)
    assert not list(cache.iterdir())


def test_what_killed_processes_left_is_removed_and_what_is_being_written_stays(cache):
    cache.mkdir(parents=True)
    left, written = cache / ".f-1.stablehlo.123.tmp", cache / ".f-1.stablehlo.456.tmp"
    for path in (left, written):
        path.write_bytes(b"")
    os.utime(left, (0, 0))
    KeptProgram(function, "f")(*arguments())
    assert not left.exists() and written.exists()


def test_installations_that_share_a_cache_keep_their_programs_and_old_ones_go(cache, monkeypatch):
    for version in range(12):
        monkeypatch.setattr(compilations, "source_code", lambda version=version: str(version))
        KeptProgram(function, "f")(*arguments())
        for path in cache.glob("*.stablehlo"):
            os.utime(path, (os.stat(path).st_mtime - 10,) * 2)
        monkeypatch.setattr(compilations, "source_code", lambda: "0")  # used again and again
        KeptProgram(never, "f")(*arguments())
    assert len(list(cache.iterdir())) == compilations.MAX_KEPT


def test_a_script_that_still_holds_a_renderer_ends_well():
    """JAX crashed at Python's end where a library call had frozen the arrays that a script holds."""
    script = (
        "import numpy as np\n"
        "from dp3_jax.replacement import fusing\n"
        "network = fusing.load_fusion()\n"
        "program, variables = network._network\n"
        "shown = np.zeros((1, 128, 128, 1), bool)\n"
        "view = np.zeros((1, 128, 128, 3), np.uint8)\n"
        "print(program(variables, view, shown, view, shown).shape)\n"
    )
    root = pathlib.Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout.strip()) == (0, "(1, 128, 128, 10)"), run.stderr
