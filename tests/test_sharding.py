"""Many devices, many processes: the same run."""

import os
import socket
import subprocess

import numpy as np
import pytest

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
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    result = runs.run(runs.command(tmp_path, **SETTINGS), env=env)
    assert result.returncode == 0, result.stderr
    assert "devices: 4 x cpu on 1 process(es)" in result.stderr
    assert_same_run(expected, tmp_path, config)


def test_two_processes_train_the_same_parameters(on_one_device, tmp_path):
    config, expected = on_one_device
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            runs.command(
                tmp_path, f"--distributed={address}", "--num_processes=2", f"--process_id={index}",
                **SETTINGS,
            ),
            cwd=runs.REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for index in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "devices: 2 x cpu on 2 process(es)" in outputs[0]
    assert_same_run(expected, tmp_path, config)


def test_a_layout_splits_rows_and_replicates():
    layout = sharding.make_layout()
    rows = layout.global_batch(np.arange(8.0).reshape(4, 2))
    assert rows.sharding == layout.split and rows.shape == (4, 2)
    whole = layout.replicate(np.ones((3,), np.uint8))
    assert whole.sharding == layout.replicated and whole.dtype == np.uint8
