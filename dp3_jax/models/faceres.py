"""HSE FaceRec's MobileNet (Savchenko, 2019, arXiv:1807.07718): embedding, age and sex of an aligned face.

Read from the files that the package `human` carries (assets `faceres_graph` and `faceres`). It was trained on
VGGFace2, whose terms allow non-commercial research. Here it judges: nothing of ours is trained or fitted
on it.
"""

import json
import pathlib
from typing import NamedTuple

import jax
import numpy as np
from safetensors.numpy import load_file

from dp3_jax.models import tfjs

SIDE = 224  # px, of the picture
WIDTH = 1024  # numbers in an embedding
_MEAN = pathlib.Path(__file__).parents[1] / "weights" / "faceres_mean.safetensors"
_OUTPUTS = ("global_pooling/Mean", "age_pred/Softmax", "gender_pred/Sigmoid")


class Prediction(NamedTuple):
    """What the network says of B faces.

    Attributes:
      embedding: f32[B, 1024], above 0; tells people apart once `mean()` is taken off.
      age: f32[B, 100], probability of each year.
      male: f32[B], probability.
    """

    embedding: jax.Array
    age: jax.Array
    male: jax.Array


class Faceres:
    """The network; `parameters` is f32 arrays by name."""

    def __init__(self, graph: pathlib.Path, weights: pathlib.Path):
        """Reads both files.

        Raises:
          UserError: they do not fit together.
        """
        model = json.loads(graph.read_text())
        read = tfjs.read_weights(model["weightsManifest"], weights.read_bytes())
        self._apply, self.parameters = tfjs.build(model["modelTopology"], read, _OUTPUTS)

    def apply(self, parameters: tfjs.Weights, images: jax.Array) -> Prediction:
        """f32[B, 224, 224, 3] RGB in [0, 255] -> Prediction; differentiable."""
        embedding, age, male = self._apply(parameters, images)
        return Prediction(embedding, age, male[:, 0])


def years(age: np.ndarray) -> np.ndarray:
    """f32[B]: mean age of the distributions f32[B, 100]."""
    return age @ np.arange(age.shape[1], dtype=np.float32)


def mean() -> np.ndarray:
    """f32[1024]: mean embedding of 1,000 photos of CelebA's train split, aligned as `embedders.Faceres`."""
    return load_file(_MEAN)["mean"]
