"""A run folder with one checkpoint of an untrained generator, made without training."""

import pathlib

from dp3_jax.training import checkpoint
from tests import runs


def write(workdir: pathlib.Path, **changes):
    """Writes config.json and checkpoint 1 of `runs.tiny_config(**changes)`; returns the config."""
    config = runs.tiny_config(**changes)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(config.to_json())
    state = runs.fresh_state(config)
    with checkpoint.open_manager(workdir) as manager:
        checkpoint.save(manager, state, 1, {checkpoint.RANKING: 0.5})
    return config
