"""NanoDet (Lyu, 2021, github.com/RangiLyu/nanodet): boxes of persons in square pictures.

Its variant for 416 px with 1.9 M parameters, trained on COCO, read from the files that the package
`human-models` carries (assets `persons_graph` and `persons`). Of its 80 classes the first is used.
"""

import json
from typing import NamedTuple

import jax
import numpy as np

from dp3_jax.common import assets
from dp3_jax.common.compilations import KeptProgram, remember_compilations
from dp3_jax.models import tfjs

SIDE = 416  # px, of the network's picture
_CLASSES, _BINS = 80, 11
_STRIDES = (8, 16, 32)  # px between the cells of its three maps
_MAPS = ("Add_29", "Add_33", "Add_37")  # before they are split, transposed and joined
_MEAN = np.array([103.53, 116.28, 123.675], np.float32)  # of ImageNet, blue first
_DEVIATION = np.array([57.375, 57.12, 58.395], np.float32)


class Boxes(NamedTuple):
    """What was found in one picture.

    Attributes:
      corners: f32[n, 4], left, top, right, bottom in px of the network's picture.
      scores: f32[n], 0 to 1.
    """

    corners: np.ndarray
    scores: np.ndarray


class PersonNetwork:
    """The network."""

    def __init__(self):
        """Loads it, fetching it once.

        Raises:
          UserError: it cannot be fetched.
        """
        paths = assets.fetch_all(["persons_graph", "persons"])
        model = json.loads(paths["persons_graph"].read_text())
        weights = tfjs.read_weights(model["weightsManifest"], paths["persons"].read_bytes())
        names = [node["name"] for node in model["modelTopology"]["node"]]
        outputs = [next(n for n in names if n.endswith(f"/{end}")) for end in _MAPS]
        remember_compilations()
        apply, self._parameters = tfjs.build(model["modelTopology"], weights, outputs)
        self._apply = KeptProgram(apply, "persons")

    def __call__(self, picture: np.ndarray, min_score: float) -> Boxes:
        """Persons in u8[416, 416, 3] RGB whose score is at least `min_score`, overlapping ones too."""
        blue_first = (picture[..., ::-1].astype(np.float32) - _MEAN) / _DEVIATION
        image = np.ascontiguousarray(blue_first.transpose(2, 0, 1)[None])
        maps = jax.device_get(self._apply(self._parameters, image))
        found = [
            decoded(one[0], stride, min_score) for one, stride in zip(maps, _STRIDES, strict=True)
        ]
        return Boxes(*(np.concatenate(part) for part in zip(*found, strict=True)))


def decoded(cells: np.ndarray, stride: int, min_score: float) -> Boxes:
    """The boxes of one map f32[h, w, 124]: logits of the classes, then of the distances to four sides.

    Each distance is the mean of a distribution over 0 to 10 strides (Li et al., 2020, arXiv:2006.04388).
    """
    scores = 1 / (1 + np.exp(-cells[..., 0]))
    rows, columns = np.nonzero(scores >= min_score)
    logits = cells[rows, columns, _CLASSES:].reshape(-1, 4, _BINS)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    away = (shares / shares.sum(-1, keepdims=True)) @ np.arange(_BINS, dtype=np.float32) * stride
    middle = np.stack([columns, rows], 1).astype(np.float32) * stride + stride / 2
    corners = np.concatenate([middle - away[:, :2], middle + away[:, 2:]], 1)
    return Boxes(corners.astype(np.float32), scores[rows, columns].astype(np.float32))
