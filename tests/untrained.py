"""Networks of the shipped shapes with random weights."""

import jax
import numpy as np

from dp3_jax.models.fusion import FusionGenerator
from dp3_jax.replacement import fusing
from dp3_jax.vision.masks import SIZE


def fusion(seed: int = 0) -> fusing.FusionNetwork:
    """A fusion network that has learned nothing."""
    model = fusing.DEFAULT_MODEL
    network = FusionGenerator(model["generator_widths"], model["style_dim"])
    shapes = ((1, SIZE, SIZE, 3), (1, SIZE, SIZE, 1)) * 2
    inputs = [np.zeros(shape, np.float32) for shape in shapes]
    variables = jax.jit(network.init)(jax.random.key(seed), *inputs)
    return fusing.fusion_of(model, variables, f"random {seed}")
