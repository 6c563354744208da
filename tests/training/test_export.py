import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from dp3_jax import models
from dp3_jax.common.errors import UserError
from dp3_jax.models import generator_file
from dp3_jax.training import checkpoint, configuration, export
from tests import saved_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with one checkpoint, and its config."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, saved_run.write(workdir)


@pytest.fixture(scope="module")
def generate(run):
    return export.load_generator(run[0], batch_size=4)


@pytest.fixture(scope="module")
def file(run):
    path = run[0] / "generator.safetensors"
    export.export(run[0], path)
    return path


def test_pictures_have_the_shape_and_range_of_the_interface(generate):
    pictures = generate(jax.random.key(0), 3)
    assert pictures.shape == (3, 16, 16, 3)
    assert pictures.dtype == np.float32
    assert -1 <= pictures.min() < pictures.max() <= 1
    assert not np.array_equal(pictures[0], pictures[1])


@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_a_picture_does_not_depend_on_how_many_are_asked_for(generate, count):
    key = jax.random.key(7)
    np.testing.assert_array_equal(generate(key, count), generate(key, 9)[:count])


def test_the_batch_changes_pictures_by_rounding_only(run, generate):
    other = export.load_generator(run[0], batch_size=3)
    key = jax.random.key(1)
    np.testing.assert_allclose(other(key, 7), generate(key, 7), atol=1e-5)


def test_old_and_new_keys_and_other_seeds(generate):
    new, old = jax.random.key(3), jax.random.PRNGKey(3)
    np.testing.assert_array_equal(generate(new, 2), generate(old, 2))
    assert not np.array_equal(generate(new, 2), generate(jax.random.key(4), 2))


def test_pictures_are_the_networks_own(run, generate):
    restored = checkpoint.restore_generator(run[0])
    network = models.build_generator(configuration.model_section(restored.config))
    key = jax.random.key(5)
    z = np.stack([jax.random.normal(jax.random.fold_in(key, i), (8,)) for i in range(4)])
    expected = network.apply(restored.variables, z, train=False)
    np.testing.assert_allclose(generate(key, 4), expected, atol=1e-5)


def test_an_exported_file_gives_the_runs_pictures(file, generate):
    key = jax.random.key(2)
    np.testing.assert_array_equal(
        export.load_generator(file, batch_size=4)(key, 5), generate(key, 5)
    )


def test_equal_generators_make_equal_files(run, file, tmp_path):
    export.export(run[0], tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_half_precision_is_half_the_size_and_nearly_the_same(run, file, generate, tmp_path):
    path = tmp_path / "half.safetensors"
    export.export(run[0], path, half=True)
    with (
        safetensors.safe_open(file, "numpy") as whole,
        safetensors.safe_open(path, "numpy") as half,
    ):
        for name in whole.keys():  # noqa: SIM118
            kept = np.float16 if name.startswith("params/") else np.float32
            assert half.get_tensor(name).dtype == kept
            assert whole.get_tensor(name).dtype == np.float32
    key = jax.random.key(2)
    np.testing.assert_allclose(
        export.load_generator(path, batch_size=4)(key, 3), generate(key, 3), atol=2e-2
    )


def test_a_parameter_beyond_half_precision_keeps_its_value(run, tmp_path):
    restored = checkpoint.restore_generator(run[0])
    bias = restored.variables["params"]["to_rgb"]["bias"]
    restored.variables["params"]["to_rgb"]["bias"] = np.full(bias.shape, 1e6, np.float32)
    model = configuration.model_section(restored.config)
    generator_file.save_generator(tmp_path / "g.safetensors", restored.variables, model, half=True)
    picture = export.load_generator(tmp_path / "g.safetensors", batch_size=4)(jax.random.key(0), 1)
    assert (picture == 1).all()


def damaged(content):
    return content[: len(content) // 2]


def foreign(_):
    return safetensors.numpy.save({"weight": np.zeros(3, np.float32)})


def wrong_shape(content):
    tensors = safetensors.numpy.load(content)
    size = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    tensors["params/to_rgb/bias"] = np.zeros(5, np.float32)
    return safetensors.numpy.save(tensors, metadata)


@pytest.mark.parametrize(
    "spoil", [damaged, foreign, wrong_shape, lambda _: b"", lambda _: b"\x89PNG not weights"]
)
def test_a_file_that_is_no_generator_is_one_clear_line(file, tmp_path, spoil):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(UserError, match=r"bad\.safetensors") as caught:
        export.load_generator(path)
    assert "\n" not in str(caught.value)


def test_the_readmes_example_runs_without_a_warning(run, file, repository):
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    (code,) = (block for block in blocks if "load_generator" in block)
    for place in (run[0], file):
        lines = code.replace("runs/celeba128-smoke", str(place)) + "print(faces.shape, faces.dtype)"
        assert lines != code and str(place) in lines
        result = subprocess.run(
            [sys.executable, "-W", "default", "-c", lines], cwd=repository, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert (result.stdout, result.stderr) == ("(8, 16, 16, 3) uint8\n", "")


def test_inside_jit_the_network_itself_gives_the_same_pictures(file, generate):
    model, variables, _ = generator_file.read_generator(file)
    network = models.build_generator(model)
    z = export.latents(jax.random.key(5), 0, 4, model["latent_dim"])
    pictures = jax.jit(lambda z: network.apply(variables, z, train=False))(z)
    np.testing.assert_allclose(pictures, generate(jax.random.key(5), 4), atol=1e-5)


def test_a_missing_path_and_an_empty_folder_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no training run and no exported generator"):
        export.load_generator(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no run in"):
        export.load_generator(tmp_path)
