"""Configs and flags: what is wrong is said in one line, before anything is loaded."""

import pathlib
import re

import pytest

from configs import anonymize128, celeba128, celeba128_modern, shared
from dp3_jax.common.errors import UserError
from dp3_jax.training import configuration, recorder
from tests import runs

MODULES = (celeba128, celeba128_modern)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("variant", shared.VARIANTS)
def test_every_shipped_config_is_possible_and_locked(module, variant):
    config = module.get_config(variant)
    configuration.parse(config)
    assert config.is_locked


def test_the_papers_experiment_is_what_the_paper_says():
    config = celeba128.get_config()
    assert (config.data.train_examples, config.data.image_size) == (5000, 128)
    assert config.train.epochs == 1000
    assert config.train.accumulation > 1
    schedule = recorder.Schedule.of(configuration.parse(config).train, 5000)
    assert schedule.total == 1000 * 5000 / 32
    for switch in ("r1_weight", "ema_halflife", "label_smoothing"):
        assert config.train[switch] == 0


@pytest.mark.parametrize("module", [celeba128, anonymize128])
def test_every_key_stands_with_a_comment_in_the_config_or_in_what_is_shared(module):
    said = set()
    for path in (module.__file__, shared.__file__):
        lines = re.findall(
            r"^    (?:config\.)?((?:\w+\.)?\w+) = .*  # \w", pathlib.Path(path).read_text(), re.M
        )
        said |= set(lines)
    config = module.get_config()
    assert len(config.log) == 10 and len(config.evaluate) >= 8
    keys = {
        f"{name}.{key}" for name, section in config.items() if name != "seed" for key in section
    }
    assert {"seed", *keys} - said == set()


def test_what_a_projected_discriminator_cannot_do_is_named():
    config = anonymize128.get_config()
    for name, value in (("data.image_size", 32), ("losses.feature_diversity_target", 0.0)):
        wrong = anonymize128.get_config()
        wrong.update_from_flattened_dict({"model.projected": True, name: value})
        with pytest.raises(UserError, match=name):
            configuration.parse(wrong)
    config.model.projected = True
    configuration.parse(config)


IMPOSSIBLE = {
    "data.image_size": (96, "not a power of two"),
    "train.batch_size": (63, "not divisible by train.accumulation"),
    "train.accumulation": (0, "not 1 or more"),
    "train.epochs": (0.0, "not a number above 0"),
    "train.generator_learning_rate": (float("nan"), "not a number above 0"),
    "train.b1": (1.0, r"not in \[0, 1\)"),
    "model.dropout": (-0.1, r"not in \[0, 1\)"),
    "model.generator_widths": ((512,) * 7, "can be halved only 6 times"),
    "model.upsampling": ("bilinear", "none of transposed, pixel_shuffle"),
    "train.augment": (("colour",), "none of color, translation, cutout"),
    "train.compute_dtype": ("float16", "none of auto"),
    "data.source": ("imagenet", "tfds, celeba"),
    "data.max_unreadable": (1.5, "max_unreadable"),
    "data.on_device": (True, "needs data.source=packed"),
    "evaluate.judge": ("arcface", "none of sface"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_values_are_named(name):
    value, message = IMPOSSIBLE[name]
    config = celeba128.get_config()
    config.update_from_flattened_dict({name: value})
    with pytest.raises(UserError, match=message) as caught:
        configuration.parse(config)
    assert name in str(caught.value)


def test_all_problems_are_counted():
    config = celeba128.get_config()
    config.update_from_flattened_dict(
        {"train.b1": 2.0, "train.epochs": -1.0, "model.latent_dim": 0}
    )
    with pytest.raises(UserError, match=r"\(and 2 more\)"):
        configuration.parse(config)


def test_a_micro_batch_must_fit_the_devices():
    train = configuration.parse(celeba128.get_config()).train  # micro-batches of 32
    train.check_devices(8, 1)
    with pytest.raises(UserError, match="not divisible by 12 devices on 3 processes"):
        train.check_devices(12, 3)


SMOKE = "--config=configs/celeba128.py:smoke"
MISTAKES = {
    "unknown key": ((SMOKE, "--workdir=W", "--config.train.learning_rat=1"), "learning_rat"),
    "nothing like a key": ((SMOKE, "--workdir=W", "--config.train.xyz=1"), "there is no 'xyz'"),
    "no config at all": (("--config=README.md", "--workdir=W"), r"\(README.md, line \d+\)"),
    "wrong type": ((SMOKE, "--workdir=W", "--config.train.batch_size=1.5"), "batch_size|1.5"),
    "impossible": ((SMOKE, "--workdir=W", "--config.train.batch_size=33"), "not divisible"),
    "no config": (("--workdir=W",), "config"),
    "no first stage": (
        (
            "--config=configs/anonymize128.py:smoke",
            "--workdir=W",
            "--config.train.initial_generator=none",
        ),
        "initial_generator=none is not there",
    ),
    "no folder": ((SMOKE, "--workdir=README.md"), "README.md is a file; name a folder"),
    "no such config": (("--config=configs/nowhere.py", "--workdir=W"), "nowhere.py"),
    "no such variant": (("--config=configs/celeba128.py:tiny", "--workdir=W"), "smoke, quick"),
    "no such mode": ((SMOKE, "--workdir=W", "--mode=dream"), "dream"),
    "no such flag": ((SMOKE, "--workdir=W", "--wrokdir=x"), "wrokdir"),
    "no flag": ((SMOKE, "--workdir=W", "evaluate"), "evaluate"),
    "no data": (
        ("--config=configs/celeba128.py", "--workdir=W", "--config.data.path=/nonexistent"),
        "nonexistent.*:smoke",
    ),
    "nothing to evaluate": ((SMOKE, "--workdir=W", "--mode=evaluate"), "no run in .*W"),
    "nothing to sample": ((SMOKE, "--workdir=W", "--mode=sample"), "W"),
    "nothing to export": ((SMOKE, "--workdir=W", "--mode=export"), "W"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_users_mistake_ends_in_one_line(name, tmp_path):
    arguments, message = MISTAKES[name]
    arguments = [str(a).replace("=W", f"={tmp_path / 'W'}") for a in arguments]
    result = runs.launch(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and re.search(message, errors[0]), result.stderr
    assert not (tmp_path / "W" / "checkpoints").exists()
