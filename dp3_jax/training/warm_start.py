"""A fresh run that begins with the networks of another one, or with an exported generator."""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging

from dp3_jax.common.errors import UserError
from dp3_jax.models import generator_file
from dp3_jax.models.projected import HEAD
from dp3_jax.replacement.generator import WEIGHTS
from dp3_jax.training import checkpoint
from dp3_jax.training.objectives.objective import Objective
from dp3_jax.training.options import model_section
from dp3_jax.training.sharding import Layout
from dp3_jax.training.state import GanState

SHIPPED = "shipped"  # `config.train.initial_generator`: the anonymizer that comes with the package


def _checked(found: Mapping[str, Any], wanted: Any, source: pathlib.Path, network: str) -> Any:
    """`found` when it has the names and shapes of `wanted`.

    Raises:
      UserError: it has not.
    """
    trees = (flax.traverse_util.flatten_dict(dict(tree), sep="/") for tree in (found, wanted))
    have, need = ({name: tuple(x.shape) for name, x in tree.items()} for tree in trees)
    if have != need:
        wrong = sorted(n for n in have | need if have.get(n) != need.get(n))[0]
        raise UserError(
            f"the {network} in {source} does not fit this config: {wrong} has shape {have.get(wrong)} "
            f"there and {need.get(wrong)} here; set config.model and data.image_size as in its run"
        )
    return found


def _discriminator(source: pathlib.Path, step: int, fresh: Any) -> Any:
    """`fresh` with the discriminator's parameters in checkpoint `step` of the run in `source`.

    Heads that the run's discriminator did not have stay as they are in `fresh`.

    Raises:
      UserError: they cannot be read or are of another shape.
    """
    path = source.absolute() / "checkpoints" / str(step) / "state"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        there = dict(checkpointer.metadata(path).item_metadata.tree)["discriminator"]["params"]
        heads = {name for name in fresh if name.startswith(HEAD)} - set(there)
        wanted = {name: value for name, value in fresh.items() if name not in heads}
        item = {"discriminator": {"params": _checked(there, wanted, source, "discriminator")}}
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        as_arrays = jax.tree.map(lambda _: ocp.ArrayRestoreArgs(sharding=device), item)
        restored = checkpointer.restore(
            path,
            args=ocp.args.PyTreeRestore(item=item, restore_args=as_arrays, partial_restore=True),
        )
    return {**fresh, **restored["discriminator"]["params"]}


def _source(name: str) -> pathlib.Path | None:
    """What `config.train.initial_generator` names; None where it names nothing."""
    if name == SHIPPED:
        return WEIGHTS
    return pathlib.Path(name) if name else None


def check(name: str) -> None:
    """Raises UserError where what `config.train.initial_generator` names is not there."""
    source = _source(name)
    if not source or source.exists():
        return
    first = pathlib.Path("configs", f"{source.name}.py")  # whose default folder it is
    remedy = "train that run first"
    if first.is_file():
        remedy += f", with python launch.py --config={first}"
    raise UserError(
        f"config.train.initial_generator={source} is not there; {remedy}, or check the path, or begin with "
        "the weights that come with the package and a new discriminator: "
        f"--config.train.initial_generator={SHIPPED} --config.losses.adversarial_rampup=300"
    )


def begin(name: str, objective: Objective, state: GanState, layout: Layout) -> GanState:
    """`state` with the networks that `config.train.initial_generator`, `name`, stands for; as it is if "".

    SHIPPED stands for the file in the package. An exported file (.safetensors) gives the generator and its
    running average; the folder of a run gives the averaged generator of its latest checkpoint, and its
    discriminator as well, save for projected heads that only the new run has. Optimizers start afresh.

    Args:
      name: see above.
      objective: of the family, which may know how to begin with another one's networks.
      state: a fresh one.
      layout: of the devices.

    Raises:
      UserError: it cannot be read, or the networks are not those of the config.
    """
    source, discriminator = _source(name), state.discriminator.params
    if source is None:
        return state
    if source.is_dir():
        restored = checkpoint.restore_generator(source)
        model, variables, step = model_section(restored.config), restored.variables, restored.step
        discriminator = _discriminator(source, step, discriminator)
    else:
        model, variables, step = generator_file.read_generator(source)
    params = objective.adopt(model, variables["params"], state.generator.params)
    generator = _checked(params, state.generator.params, source, "generator")

    # Compiled, so that every tree gets buffers of its own, which donation needs.
    @jax.jit
    def copied(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.copy(jnp.asarray(x, jnp.float32)), tree)

    def spread(tree: Any) -> Any:
        return jax.device_put(copied(tree), layout.replicated)

    g_state = state.generator.replace(
        params=spread(generator), batch_stats=spread(variables["batch_stats"])
    )
    average = None if state.ema_params is None else spread(generator)
    with_discriminator = " and its discriminator" if source.is_dir() else ""
    logging.info("begins with the generator of %s, step %s%s", source, step, with_discriminator)
    return state.replace(
        generator=g_state,
        discriminator=state.discriminator.replace(params=spread(discriminator)),
        ema_params=average,
    )
