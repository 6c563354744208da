"""A run from outside: what it leaves behind, and that nothing it survives can change its result."""

import json
import pathlib
import signal

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from dp3_jax.common.errors import UserError
from dp3_jax.data import DataOptions, load_arrays, prepare
from dp3_jax.training import checkpoint, loop, steps
from dp3_jax.training.writer import read_metrics
from tests import runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A complete run of 40 micro-batches."""
    workdir = tmp_path_factory.mktemp("finished")
    config = runs.tiny_config(train__epochs=5.0, log__checkpoint_steps=15, log__grid_steps=20)
    assert loop.train(config, workdir) is None
    return config, workdir


def test_the_workdir_holds_what_the_readme_says(finished):
    _, workdir = finished
    assert json.loads((workdir / "config.json").read_text())["data"]["source"] == "shapes"
    assert json.loads((workdir / "data.json").read_text())["train"]["images"] == 64
    grids = sorted(p.name for p in (workdir / "grids").iterdir())
    assert grids == ["00000000.png", "00000020.png", "00000040.png"]
    assert Image.open(workdir / "grids" / grids[-1]).size == (2 * 16 + 6, 2 * 16 + 6)
    assert Image.open(workdir / "curves.png").width > 500
    records = read_metrics(workdir)
    assert [r["step"] for r in records if "loss_g" in r] == [10, 20, 30, 40]
    assert all(np.isfinite(list(r.values())).all() for r in records)
    assert [r["step"] for r in records if "ssim" in r] == [15, 30, 40]


def test_tensorboard_reads_the_same_numbers(finished):
    _, workdir = finished
    (path,) = (workdir / "tensorboard").iterdir()
    content, seen = path.read_bytes(), {}
    while content:  # TFRecord: length u64, its checksum u32, data, checksum u32
        length = int.from_bytes(content[:8], "little")
        event = event_pb2.Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]
        for value in event.summary.value:
            seen[(event.step, value.tag)] = value.simple_value
    for record in read_metrics(workdir):
        for name, value in record.items():
            if name != "step":
                assert seen[(record["step"], name)] == pytest.approx(value, rel=1e-6)


def test_latest_and_best_checkpoints_are_kept(tmp_path):
    config = runs.tiny_config(
        train__epochs=3.0, log__checkpoint_steps=4, log__keep_latest=1, log__keep_best=1
    )
    loop.train(config, tmp_path)
    ssim = {r["step"]: r["ssim"] for r in read_metrics(tmp_path) if "ssim" in r}
    assert len(ssim) == 6
    best = max(ssim, key=ssim.get)
    assert runs.finished_steps(tmp_path) == sorted({best, 24})
    assert checkpoint.restore_generator(tmp_path, "best").step == best
    assert checkpoint.restore_generator(tmp_path, "latest").step == 24


def test_a_metric_that_is_not_a_number_does_not_displace_the_best_checkpoint(tmp_path):
    state = runs.fresh_state(runs.tiny_config())
    with checkpoint.open_manager(tmp_path, keep_latest=1, keep_best=1) as manager:
        for step, value in ((1, 0.5), (2, float("nan")), (3, 0.1)):
            checkpoint.save(manager, state, step, {checkpoint.RANKING: value})
            checkpoint.finish(manager)
    assert runs.finished_steps(tmp_path) == [1, 3]


def test_one_trace_over_a_run_with_pictures_checkpoints_and_a_restore(tmp_path, monkeypatch):
    traces = []
    original = steps.train_step

    def counted(*args, **kwargs):
        traces.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(steps, "train_step", counted)
    settings = {"log__checkpoint_steps": 4, "log__grid_steps": 4}
    loop.train(runs.tiny_config(train__epochs=1.0, **settings), tmp_path)
    assert len(traces) == 1
    loop.train(runs.tiny_config(train__epochs=2.0, **settings), tmp_path)  # goes on from step 8
    assert len(traces) == 2
    assert runs.finished_steps(tmp_path)[-1] == 16


def test_a_checkpoint_is_not_touched_by_the_steps_after_it(tmp_path):
    """The state is donated to the next step while orbax is still writing it."""
    long = runs.tiny_config(train__epochs=4.0, log__checkpoint_steps=16, log__keep_latest=9)
    short = runs.tiny_config(train__epochs=2.0, log__checkpoint_steps=16)
    loop.train(long, tmp_path / "long")
    loop.train(short, tmp_path / "short")
    a = checkpoint.restore_generator(tmp_path / "long", 16).variables
    b = checkpoint.restore_generator(tmp_path / "short", 16).variables
    for x, y in zip(runs.jax.tree.leaves(a), runs.jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_another_configs_workdir_is_refused_and_left_alone(finished):
    _, workdir = finished
    before = (workdir / "config.json").read_bytes()
    with pytest.raises(UserError, match=r"another config: train\.b1 was 0\.5, is 0\.9; choose"):
        loop.train(runs.tiny_config(train__b1=0.9), workdir)
    assert (workdir / "config.json").read_bytes() == before


def test_a_finished_run_has_nothing_to_do(finished):
    config, workdir = finished
    before = (workdir / "metrics.jsonl").read_bytes()
    assert loop.train(config, workdir) is None
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_gradients_that_stay_non_finite_end_the_run_and_keep_a_good_checkpoint(tmp_path):
    config = runs.tiny_config(
        train__epochs=60.0, train__generator_learning_rate=1e30, train__max_skipped=5,
        log__checkpoint_steps=2, log__metrics_steps=1,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"gradients were not finite .* checkpoint, .* is kept"):
        loop.train(config, tmp_path)
    assert runs.finished_steps(tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path):
    config = runs.tiny_config(train__epochs=2.0)
    loop.train(config, tmp_path)
    for path in (tmp_path / "checkpoints" / "16" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"cannot read checkpoint .*16.*delete that folder"):
        loop.train(runs.tiny_config(train__epochs=3.0), tmp_path)


def make_photos(folder):
    images = load_arrays(
        DataOptions(source="shapes", image_size=40, crop=None, train_examples=80), "train"
    ).images
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:03d}.jpg", quality=95)
    return folder


def feed_settings(kind, tmp_path):
    """Config changes that make the run read real files through tf.data, or packed ones from memory."""
    folder = make_photos(tmp_path / "photos")
    settings = {"data__source": "folder", "data__path": str(folder), "data__flip": True}
    if kind == "packed":
        options = DataOptions(source="folder", path=str(folder), image_size=16, crop=None)
        prepare(options, tmp_path / "packed")
        settings.update(
            data__source="packed", data__path=str(tmp_path / "packed"), data__on_device=True
        )
    return settings


@pytest.mark.parametrize(("kind", "kills"), [("tf.data", (75,)), ("packed", (45, 75))])
def test_a_killed_run_ends_with_the_same_bits_as_one_that_was_not(kind, kills, tmp_path):
    """Killed while a checkpoint is being written, and in between; each time in the middle of an epoch."""
    settings = {
        **feed_settings(kind, tmp_path),
        "train__epochs": 12.0,
        "train__ema_halflife": 10.0,
        "log__checkpoint_steps": 22,
    }
    config = runs.tiny_config(**settings)
    loop.train(config, tmp_path / "whole")
    killed = tmp_path / "killed"
    line = runs.command(killed, **settings)
    for step in kills:
        status, output = runs.signalled(line, step)
        assert status == -signal.SIGKILL, output
    result = runs.run(line)
    assert result.returncode == 0, result.stderr
    assert "going on from checkpoint 66" in result.stderr
    runs.assert_same_bits(
        runs.final_state(tmp_path / "whole", config), runs.final_state(killed, config)
    )


def test_sigterm_saves_and_the_run_goes_on_from_there(tmp_path):
    line = runs.command(tmp_path, train__epochs=4000.0)
    status, output = runs.signalled(line, 5, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM, output
    assert "stopped by signal 15; the same command goes on" in output
    (latest,) = runs.finished_steps(tmp_path)  # although none is due before 50
    assert read_metrics(tmp_path)[-1]["step"] == latest < 10
    status, output = runs.signalled(line, latest + 3, signal.SIGINT)
    assert f"going on from checkpoint {latest:,}" in output
    assert status == 128 + signal.SIGINT


def test_the_cut_off_line_of_a_killed_run_is_dropped(tmp_path):
    config = runs.tiny_config(train__epochs=2.0)
    loop.train(config, tmp_path)
    with (pathlib.Path(tmp_path) / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9')
    loop.train(runs.tiny_config(train__epochs=4.0), tmp_path)
    found = [r["step"] for r in read_metrics(tmp_path) if "loss_g" in r]
    assert found == sorted(set(found)) and found[-1] == 32


def test_a_disk_that_fills_up_ends_the_run_with_one_line_and_keeps_what_was_whole(tmp_path):
    line = runs.command(tmp_path, train__epochs=400.0, log__checkpoint_steps=10)
    # 40 KiB a file, but not for what is printed, which may go to a file as well.
    limited = '(ulimit -f 40; exec "$@") 2>&1 >/dev/null | cat >&2; exit "${PIPESTATUS[0]}"'
    limited = ["bash", "-c", limited, "bash", *line]
    result = runs.run(limited)
    assert result.returncode == 2, result.stderr
    # Orbax's writer threads print what they meet around it; one line is ours. It names the checkpoint
    # or, where that was met first, the picture of the curves, which is as large.
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: cannot write ") and str(tmp_path) in error
    assert "File too large" in error
    for step in runs.finished_steps(tmp_path):  # what has its final name is whole
        assert checkpoint.restore_generator(tmp_path, step).step == step
