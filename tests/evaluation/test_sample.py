import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dp3_jax.common.errors import UserError
from dp3_jax.evaluation.sample import sample, spherical_interpolation
from dp3_jax.training import export
from tests import saved_run

# Runs in another process where TensorFlow and the packages that only evaluation needs do not exist.
WITHOUT_TENSORFLOW = """
import json, sys

for name in ("tensorflow", "tensorflow_datasets", "cv2", "deepface", "pooch"):
    sys.modules[name] = None  # importing it fails, and looking for it finds nothing

from ml_collections import ConfigDict
from dp3_jax.evaluation.sample import sample
config = ConfigDict(json.load(open(sys.argv[1] + "/config.json")))
sample(sys.argv[1], config, num_samples=5, seed=3)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose data set does not exist, and its config."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, saved_run.write(workdir, data__source="celeba", data__path="/nowhere")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_seed_gives_the_same_bytes_and_needs_neither_tensorflow_nor_the_data(run):
    workdir, config = run
    folder = sample(workdir, config, num_samples=5, seed=3)
    assert folder == workdir / "samples" / "seed3"
    before = contents(folder)
    assert sorted(before) == [*(f"{i:05d}.png" for i in range(5)), "grid.png", "interpolation.png"]
    subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW, str(workdir)], check=True)
    assert contents(folder) == before
    assert len({before[f"{i:05d}.png"] for i in range(5)}) == 5


def test_fewer_samples_are_the_first_ones_and_leave_no_old_ones(run):
    workdir, config = run
    many = contents(sample(workdir, config, num_samples=4, seed=8))
    few = contents(sample(workdir, config, num_samples=2, seed=8))
    assert sorted(few) == ["00000.png", "00001.png", "grid.png", "interpolation.png"]
    assert all(few[name] == many[name] for name in ("00000.png", "00001.png"))


def test_rows_of_the_interpolation_begin_and_end_with_the_samples(run):
    workdir, config = run
    folder = sample(workdir, config, num_samples=2, seed=1)
    row = np.asarray(Image.open(folder / "interpolation.png"))[2:18]
    for name, left in (("00000.png", 2), ("00001.png", 2 + 8 * 18)):
        picture = np.asarray(Image.open(folder / name)).astype(int)
        assert np.abs(row[:, left : left + 16] - picture).max() <= 1


def test_an_exported_file_makes_the_same_pictures(run, tmp_path):
    workdir, config = run
    export.export(workdir, tmp_path / "g.safetensors")
    ours = contents(sample(tmp_path / "g.safetensors", config, num_samples=2, seed=5))
    assert ours == contents(sample(workdir, config, num_samples=2, seed=5))


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (-1, 0), (1, -1), (1, 2**32)])
def test_impossible_numbers_are_one_clear_line(run, count, seed):
    with pytest.raises(UserError, match=r"--num_samples|--seed"):
        sample(run[0], run[1], num_samples=count, seed=seed)


@given(st.integers(0, 2**31), st.integers(2, 64), st.integers(2, 12))
def test_interpolation_goes_evenly_from_one_end_to_the_other(seed, size, steps):
    start, end = np.random.default_rng(seed).normal(size=(2, size)).astype(np.float32)
    path = spherical_interpolation(start, end, steps)
    np.testing.assert_allclose(path[0], start, atol=1e-4)
    np.testing.assert_allclose(path[-1], end, atol=1e-4)
    lengths = np.linalg.norm(path, axis=1)
    expected = np.linspace(np.linalg.norm(start), np.linalg.norm(end), steps)
    np.testing.assert_allclose(lengths, expected, rtol=2e-3, atol=1e-3)
    unit = path / lengths[:, None]
    angles = np.arccos(np.clip((unit[1:] * unit[:-1]).sum(1), -1, 1))
    np.testing.assert_allclose(angles, angles.mean(), atol=5e-3)
