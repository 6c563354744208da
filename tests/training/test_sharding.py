"""Many devices, many processes: the same run."""

import socket
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.training import loop, sharding
from tests import runs

SETTINGS = {"train__epochs": 3.0, "train__ema_halflife": 5.0}


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one")
    config = runs.tiny_config(**SETTINGS)
    loop.train(config, workdir)
    return config, runs.final_state(workdir, config)


def assert_same_run(expected, workdir, config):
    """Equal up to the order of additions, which Adam turns into a share of its learning rate, 2e-4."""
    actual = runs.final_state(workdir, config)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, atol=2e-5, rtol=1e-3, err_msg=name)


def test_four_devices_train_the_same_parameters(on_one_device, tmp_path):
    config, expected = on_one_device
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    result = runs.run(runs.command(tmp_path, **SETTINGS), env=env)
    assert result.returncode == 0, result.stderr
    assert "devices: 4 x cpu on 1 process(es)" in result.stderr
    assert_same_run(expected, tmp_path, config)


# launch.py that waits for a shared file for no more than 0.5 s, as no file will come.
HURRIED = (
    "import runpy, sys; from dp3_jax.training import processes\n"
    "processes.check.__defaults__ = (0.5,)\n"
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def start_two(folders, before=(), **changes):
    """Two processes of one run, each told its own folder; returns their statuses and outputs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    commands = []
    for index, folder in enumerate(folders):
        place = (f"--distributed={address}", "--num_processes=2", f"--process_id={index}")
        python, *launch = runs.command(folder, *place, **changes)
        commands.append(runs.Command([python, *before, *launch]))
    runs.wait(*commands)
    return [c.process.returncode for c in commands], ["".join(c.output) for c in commands]


def test_two_processes_train_the_same_parameters(on_one_device, tmp_path):
    config, expected = on_one_device
    statuses, outputs = start_two([tmp_path, tmp_path], **SETTINGS)
    assert statuses == [0, 0], outputs
    assert "devices: 2 x cpu on 2 process(es)" in outputs[0]
    assert_same_run(expected, tmp_path, config)


def test_two_processes_without_a_common_folder_are_refused_by_name(tmp_path):
    statuses, outputs = start_two([tmp_path / "a", tmp_path / "b"], ["-c", HURRIED], **SETTINGS)
    assert statuses == [2, 2], outputs
    assert f"error: --workdir={tmp_path / 'a'} is not one folder that all" in outputs[0]
    assert f"error: --workdir={tmp_path / 'b'} of process 1" in outputs[1]
    assert not any((tmp_path / name / "config.json").exists() for name in "ab")
    assert not list(tmp_path.rglob(".shared-*"))


def test_processes_with_unequal_numbers_of_devices_are_refused(monkeypatch):
    devices = [SimpleNamespace(process_index=index) for index in (0, 0, 1)]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_: None)
    with pytest.raises(UserError, match="process 0: 2, process 1: 1"):
        sharding.join("localhost:9876", 2, 0)


def test_a_backend_that_is_not_here_is_named(tmp_path):
    config = "--config=configs/celeba128.py:smoke"
    result = runs.launch(config, f"--workdir={tmp_path / 'run'}", env={"JAX_PLATFORMS": "cudaa"})
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: JAX_PLATFORMS=cudaa has no device")
    assert not (tmp_path / "run").exists()


def test_rows_lie_in_the_order_of_processes_whatever_the_order_of_devices():
    """Of TPUs both `make_mesh` and `jax.devices()` may interleave those of two hosts."""
    given = [SimpleNamespace(process_index=p, id=i) for p, i in ((1, 2), (0, 3), (1, 1), (0, 0))]
    ordered = [(d.process_index, d.id) for d in sharding.in_order(given)]
    assert ordered == [(0, 0), (0, 3), (1, 1), (1, 2)]
    assert list(sharding.make_layout().mesh.devices) == sharding.in_order(jax.devices())


def test_what_processes_tell_is_taken_by_name_and_not_by_place(monkeypatch):
    rows = np.array([[2, 7], [0, 5], [1, 6]])  # gathered in any order
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(sharding.multihost_utils, "process_allgather", lambda own: rows)
    assert sharding.told_by_all(5) == {0: 5, 1: 6, 2: 7}


@pytest.mark.parametrize(
    ("address", "count", "number", "message"),
    [
        ("localhost", 2, 0, "--distributed=localhost:9876"),
        ("localhost:x", 2, 0, "neither auto nor HOST:PORT"),
        ("localhost:1234", 2, 2, "numbered from 0 to 1"),
        ("localhost:65536", 2, 0, "neither auto nor HOST:PORT"),
        ("no-such-host.invalid:1234", 2, 0, "no host no-such-host.invalid is known here"),
    ],
)
def test_addresses_that_cannot_be_are_told_at_once(address, count, number, message):
    with pytest.raises(UserError, match=message):
        sharding.join(address, count, number)


def test_a_layout_splits_rows_and_replicates():
    layout = sharding.make_layout()
    rows = layout.global_batch(np.arange(8.0).reshape(4, 2))
    assert rows.sharding == layout.split and rows.shape == (4, 2)
    whole = layout.replicate(np.ones((3,), np.uint8))
    assert whole.sharding == layout.replicated and whole.dtype == np.uint8
