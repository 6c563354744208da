"""`--mode=evaluate`: how the models of each family are measured."""

import pathlib
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from dp3_jax import models

Evaluate = Callable[..., dict[str, Any]]  # (workdir, config, step) -> what was measured


# Imported when it is their turn: each brings much that the other does not need.
def _gan() -> Evaluate:
    from dp3_jax.evaluation.evaluate import evaluate

    return evaluate


def _anonymity() -> Evaluate:
    from dp3_jax.evaluation.anonymity import evaluate_anonymizer

    return evaluate_anonymizer


def _identities() -> Evaluate:
    from dp3_jax.evaluation.identities_suite import evaluate_identities

    return evaluate_identities


SUITES: dict[str, Callable[[], Evaluate]] = {
    "dcgan": _gan,
    "anonymizer": _anonymity,
    "fusion": _identities,
}


def evaluate(
    workdir: pathlib.Path, config: ConfigDict, step: int | str = "latest"
) -> dict[str, Any]:
    """Measures a checkpoint of a run, or an exported file, with the suite of its family; see there."""
    return SUITES[models.family_of(config.model).name]()(workdir, config, step=step)
