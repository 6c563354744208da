"""A run is measured, sampled and exported as it was trained, whatever the config file says."""

import json
import re
import shutil

import pytest
from ml_collections import ConfigDict

from configs import anonymize128, celeba128
from dp3_jax.common.errors import UserError
from dp3_jax.data import DataOptions, load_arrays, prepare
from dp3_jax.evaluation.evaluate import evaluate
from dp3_jax.training import configuration, provenance, run_config
from tests import runs, saved_run

SMALL = {"evaluate.num_generated": 8, "evaluate.num_heldout": 16, "evaluate.batch_size": 8}


def packed(folder, subset_seed=0):
    """64 of 256 synthetic shapes, packed."""
    options = DataOptions(source="shapes", image_size=16, crop=None, train_examples=64,
                          validation_examples=32, subset_seed=subset_seed)  # fmt: skip
    prepare(options, folder)
    return str(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, config) of a run in folder/run on 40 of the images in folder/MOVED, moved there since."""
    folder = tmp_path_factory.mktemp("made")
    place = packed(folder / "packed")
    config = saved_run.write(
        folder / "run", data__source="packed", data__path=place, data__train_examples=40,
        data__validation_examples=32,
    )  # fmt: skip
    images = load_arrays(configuration.data_options(config.data), "train")
    provenance.record(folder / "run", images.of[1], images.of[0])
    (folder / "packed").rename(folder / "MOVED")
    return folder, config


@pytest.fixture
def run(made, tmp_path):
    """(workdir, config), a copy of the run, to be changed."""
    folder, config = made
    shutil.copytree(folder / "run", tmp_path / "run")
    return tmp_path / "run", config.copy_and_resolve_references()


def overridden(**changes):
    """(config, overrides) as the command line gives them: celeba128.py:smoke with these keys set."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    config = celeba128.get_config("smoke")
    config.update_from_flattened_dict(dotted)
    return config, dotted


def test_the_runs_own_settings_are_taken_and_what_may_be_set_is_set(run):
    workdir, trained = run
    config = run_config.as_trained(workdir, *overridden(evaluate__seed=9, data__path="there"))
    assert config.evaluate.seed == 9 and config.data.path == "there"
    for section in ("data", "model", "train", "evaluate"):
        for name, value in json.loads(trained.to_json())[section].items():
            if (section, name) not in (("data", "path"), ("evaluate", "seed")):
                assert json.loads(config.to_json())[section][name] == value
    same = run_config.as_trained(workdir, *overridden(data__train_examples=40, train__b1=0.5))
    assert same.data.train_examples == 40


@pytest.mark.parametrize(
    ("name", "value", "before"),
    [
        ("data__train_examples", 39, 40),
        ("data__subset_seed", 1, 0),
        ("data__crop", (0, 0, 16, 16), r"\[\]"),
        ("data__image_size", 32, 16),
        ("model__latent_dim", 9, 8),
        ("seed", 3, 0),
    ],
)
def test_what_differs_from_the_run_is_refused_with_the_difference(run, name, value, before):
    shown = re.escape(str(list(value)) if isinstance(value, tuple) else str(value))
    pattern = rf"{name.replace('__', '.')} was {before}, is {shown}; leave"
    with pytest.raises(UserError, match=rf"was trained with other settings: {pattern}"):
        run_config.as_trained(run[0], *overridden(**{name: value}))


def test_keys_that_an_older_run_does_not_have_come_from_the_config(run):
    workdir, _ = run
    path = workdir / "config.json"
    old = json.loads(path.read_text())
    del old["evaluate"]["match"]
    path.write_text(json.dumps(old))
    assert run_config.as_trained(workdir, *overridden()).evaluate.match == "ssim"


def test_an_exported_file_is_measured_as_the_config_says(tmp_path):
    config = anonymize128.get_config("smoke")
    assert run_config.as_trained(tmp_path / "g.safetensors", config, {}) is config


def test_a_run_whose_data_have_moved_is_told_and_measured_where_they_are_now(made, run):
    (folder, _), (workdir, _) = made, run
    line = ["--config=configs/celeba128.py:smoke", f"--workdir={workdir}", "--mode=evaluate"]
    line += [f"--config.{name}={value}" for name, value in SMALL.items()]
    result = runs.launch(*line)
    assert result.returncode == 2
    assert f"are no longer at {folder / 'packed'}" in result.stderr
    result = runs.launch(*line, f"--config.data.path={folder / 'MOVED'}")
    assert result.returncode == 0, result.stderr
    measured = json.loads((workdir / "evaluation.json").read_text())
    assert measured["data"]["train_images"] == 40 and measured["data"]["image_size"] == 16


def test_other_images_are_not_taken_for_the_runs_own(run):
    workdir, config = run
    config.data.path = packed(workdir.parent / "others", subset_seed=5)
    config.data.subset_seed = 5
    with pytest.raises(UserError, match=r"trained on 40 images that are not the 40 in .*others"):
        evaluate(workdir, config)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "cannot read"),
        ("[]", "data is missing"),
        ('{"data": {}, "model": 3, "train": {}}', "model is missing"),
        ('{"data": {}, "model": {}, "train": {}}', "data.source is missing"),
    ],
)
def test_a_damaged_config_of_a_run_is_answered_in_one_line(tmp_path, content, says):
    (tmp_path / "config.json").write_text(content)
    config = ConfigDict({"data": {"source": "x"}, "model": {}, "train": {}, "evaluate": {}})
    with pytest.raises(UserError, match=says) as raised:
        run_config.as_trained(tmp_path, config, {})
    assert "\n" not in str(raised.value)
