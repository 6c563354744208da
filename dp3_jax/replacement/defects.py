"""Which of the prior's persons have something before the face, or eyes that are shut: told from w alone.

A hand at a chin, a spoon or a scarf at a mouth lie within the silhouette of a face and would be pasted with
it; a hand has a face's colour, so no test of colours finds it. The table (weights/defects.safetensors) is
two ridge regressions on w, fitted on renderings that were looked at: what is left out costs no rendering.
"""

import functools
import pathlib

import numpy as np

TABLE = pathlib.Path(__file__).parents[1] / "weights" / "defects.safetensors"
# Where 1 is with and 0 without. What else they leave out are good faces, of which a key has enough: with .25
# for eyes 12% of 210 persons more than with .4, two of the six with bad ones among them.
_MAX_OBJECT, _MAX_SHUT = 0.35, 0.25


@functools.cache
def load_defects() -> tuple[np.ndarray, np.ndarray]:
    """(f32[2, 512], f32[2]): regressions on w - mean of objects and shut eyes; values at the mean."""
    from safetensors.numpy import load_file

    stored = load_file(TABLE)
    return stored["regression"], stored["offset"]


def flawed(w: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """bool[...]: which of f32[..., 512] w had better not be shown.

    Args:
      w: of candidates.
      mean: f32[512], of w over many latents.
    """
    regression, offset = load_defects()
    return ((w - mean) @ regression.T + offset > (_MAX_OBJECT, _MAX_SHUT)).any(-1)
