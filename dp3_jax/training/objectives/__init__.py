"""How each model family is trained: one module for each, with an `Objective`."""

from collections.abc import Mapping
from typing import Any

from dp3_jax import models
from dp3_jax.training.objectives import anonymizer, dcgan, fusion
from dp3_jax.training.objectives.objective import Objective

__all__ = ["OBJECTIVES", "Objective", "objective_of"]

OBJECTIVES = {
    "dcgan": dcgan.OBJECTIVE,
    "anonymizer": anonymizer.OBJECTIVE,
    "fusion": fusion.OBJECTIVE,
}


def objective_of(config: Mapping[str, Any]) -> Objective:
    """The objective of the family that `config["model"]` names.

    Raises:
      ValueError: there is no such family.
    """
    return OBJECTIVES[models.family_of(config["model"]).name]
