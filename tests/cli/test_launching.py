"""launch.py with nothing but a config: where the run goes, and what it says without CelebA."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from configs import anonymize128_projected, video128
from dp3_jax.cli.launch_flags import (
    check_checkpoint,
    check_folder,
    check_mode,
    check_run,
    config_mistake,
)
from dp3_jax.cli.launching import check_not_a_run, default_workdir, with_commands
from dp3_jax.common.errors import UserError
from dp3_jax.data.celeba import NoCelebA
from tests import data_makers, runs


@pytest.mark.parametrize(
    ("config", "mode", "folder"),
    [
        ("configs/celeba128.py", "train", "runs/celeba128"),
        ("configs/celeba128.py:smoke", "sample", "runs/celeba128-smoke"),
        ("/elsewhere/mine.py", "evaluate", "runs/mine"),
        ("mine.py:a/../b c", "export", "runs/mine-a-..-b-c"),
        ("configs/celeba128.py", "prepare", "runs/celeba128-packed"),
        ("configs/celeba128.py:quick", "prepare", "runs/celeba128-quick-packed"),
    ],
)
def test_a_run_goes_to_the_folder_of_its_config(config, mode, folder):
    assert str(default_workdir(config, mode)) == folder


@pytest.mark.parametrize("later", [anonymize128_projected, video128])
def test_later_stages_begin_where_the_first_one_ends_by_default(later):
    first = default_workdir("configs/anonymize128.py")
    assert later.get_config().train.initial_generator == str(first)


def test_packed_data_never_goes_into_a_runs_folder(tmp_path):
    check_not_a_run(tmp_path / "new")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds a training run"):
        check_not_a_run(tmp_path)


def launched(folder, *arguments):
    """Runs `python launch.py ...` in a folder that has the configs and nothing else of the repository."""
    if not (folder / "configs").exists():
        (folder / "configs").symlink_to(runs.REPOSITORY / "configs")
    environment = {**os.environ, "HOME": str(folder), "TFDS_DATA_DIR": str(folder / "tfds")}
    return subprocess.run(
        [sys.executable, runs.REPOSITORY / "launch.py", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def commands(text):
    """The arguments of each different launch.py command that `text` prints on a line of its own."""
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("    python")]
    assert all(line[:2] == ["python", "launch.py"] for line in lines)
    return list(dict.fromkeys(tuple(line[2:]) for line in lines))


SMALLER = [f"--config.{key}={value}" for key, value in runs.TINY.items()]
SMALLER += ["--config.train.epochs=0.5", "--config.log.console_seconds=0.1"]


def test_the_command_on_the_card_says_how_to_go_on_and_each_of_its_answers_works(tmp_path):
    result = launched(tmp_path, "--config=configs/celeba128.py")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "no CelebA at data/celeba" in result.stderr
    assert "workdir: runs/celeba128\n" in result.stderr
    files, downloaded, smoke = commands(result.stderr)
    assert files == ("--config=configs/celeba128.py",)
    assert smoke == ("--config=configs/celeba128.py:smoke",)

    result = launched(tmp_path, *smoke, *SMALLER)
    assert result.returncode == 0, result.stderr
    assert runs.finished_steps(tmp_path / "runs" / "celeba128-smoke") == [4]

    result = launched(tmp_path, *downloaded, "--mode=export")  # with its own mode it would download
    assert result.returncode == 2 and "no run in runs/celeba128:" in result.stderr

    data_makers.celeba_zip(tmp_path / "data" / "celeba" / "img_align_celeba.zip", 20)
    result = launched(tmp_path, *files, "--config.data.image_size=32", "--mode=prepare")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs" / "celeba128-packed" / "images.npy").exists()


def test_the_answer_keeps_what_the_command_line_said():
    told = with_commands(
        NoCelebA("no CelebA at x y"),
        "mine.py:big",
        {"source": "tfds", "path": "x y"},
        {"data.source": "tfds", "data.path": "x y", "train.epochs": 2.0},
        ["--workdir=w"],
    )
    files, downloaded, smoke = commands("\n".join(told.more))
    assert files == (
        "--config=mine.py:big", "--config.data.source=celeba", "--config.data.path=x y",
        "--workdir=w", "--config.train.epochs=2.0",
    )  # fmt: skip
    assert downloaded[1:4] == (
        "--config.data.source=tfds", "--config.data.path=", "--config.data.download=true",
    )  # fmt: skip
    assert downloaded[4:] == files[3:]
    assert smoke == ("--config=configs/celeba128.py:smoke",)  # mine.py may have no such variant


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ([], r"which config\? For example --config=configs/celeba128.py; there are .*fusion128.py"),
        (["--mode=sample"], "which config"),
        (["configs/celeba128.py:smoke"], "--config=configs/celeba128.py:smoke$"),
        (["--config=celeba128"], "did you mean --config=configs/celeba128.py?"),
        (["--config", "configs/celebA128.py:quick"], r"--config=configs/celeba128.py:quick\?"),
        (["--config=somewhere/own.py"], "no config file somewhere/own.py; there are"),
    ],
)
def test_a_config_that_is_not_named_or_not_there(line, answer, repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert re.search(answer, config_mistake(line))


def test_configs_that_are_there_are_no_mistake(repository, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert config_mistake(["--help"]) is None
    assert config_mistake([f"--config={repository}/configs/celeba128.py:smoke"]) is None
    assert str(repository / "configs") in config_mistake([])  # what is named can be given from here


@pytest.mark.parametrize(
    ("mode", "given", "answer"),
    [
        ("train", {"seed"}, r"--seed belongs to --mode=sample.* --config\.seed"),
        ("train", {"half"}, "--half belongs to --mode=export"),
        ("sample", {"output"}, "--output belongs to --mode=export"),
        ("prepare", {"checkpoint"}, "evaluate or sample or export, not to prepare"),
        ("evaluate", {"distributed"}, "--distributed belongs to --mode=train.*one process"),
        ("train", {"num_processes"}, "--num_processes needs --distributed=HOST:PORT"),
    ],
)
def test_flags_that_a_mode_would_not_look_at_are_refused(mode, given, answer):
    with pytest.raises(UserError, match=answer):
        check_mode(mode, {"config", "workdir", *given})


def test_flags_of_their_mode_are_taken():
    check_mode("sample", {"seed", "num_samples", "checkpoint"})
    check_mode("train", {"distributed", "num_processes", "process_id"})


def test_runs_and_checkpoints_that_are_not_there_are_told_before_anything_is_loaded(tmp_path):
    check_checkpoint("120")
    with pytest.raises(UserError, match="none of latest, best and a step's number"):
        check_checkpoint("newest")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file; name a folder"):
        check_folder(tmp_path / "file")
    check_run(tmp_path / "file", "configs/celeba128.py", [])
    with pytest.raises(
        UserError, match=r"train it first: python launch\.py --config=c\.py --workdir=w"
    ):
        check_run(tmp_path / "w", "c.py", ["--workdir=w"])
    with pytest.raises(UserError, match="no exported generator at"):
        check_run(tmp_path / "g.safetensors", "c.py", [])


def test_launch_answers_a_wrong_command_line_in_one_line(tmp_path):
    wrong = {
        (): "error: which config? For example --config=configs/celeba128.py",
        ("--config=configs/celeba128.py:tiny",): "error: no variant 'tiny'",
        ("--config=configs/celeba128.py", "--mode=evaluate", "--distributed=auto"): "--mode=train",
    }
    for line, message in wrong.items():
        result = launched(tmp_path, *line)
        assert result.returncode == 2 and message in result.stderr
        assert len(result.stderr.splitlines()) == 1
