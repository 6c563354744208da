"""How each model family is trained: one module for each, with an `Objective`."""

from dp3_jax.training.objectives import anonymizer, dcgan, fusion
from dp3_jax.training.objectives.objective import Objective, Samples

__all__ = ["OBJECTIVES", "Objective", "Samples"]

OBJECTIVES = {
    "dcgan": dcgan.OBJECTIVE,
    "anonymizer": anonymizer.OBJECTIVE,
    "fusion": fusion.OBJECTIVE,
}
