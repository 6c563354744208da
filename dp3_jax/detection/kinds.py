"""What is anonymized: how a kind of target lies in its own frame, and which of its pixels are replaced."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from dp3_jax.common.choices import METHODS
from dp3_jax.vision import geometry

Box = Sequence[float]  # x, y, width, height in px


@dataclasses.dataclass(frozen=True)
class TargetKind:
    """A kind of thing that is anonymized. Faces are the one kind so far.

    Attributes:
      name: as annotation files call it.
      frame: (box, keypoints or None) -> the `Alignment` into the kind's canonical frame.
      mask: (alignment, box, ...) -> f32[128, 128, 1] in that frame, 1 where pixels are replaced.
      methods: of `choices.METHODS`, those that it can be anonymized by.
    """

    name: str
    frame: Callable[[Box, np.ndarray | None], geometry.Alignment]
    mask: Callable[..., np.ndarray]
    methods: tuple[str, ...]


FACE = TargetKind("face", geometry.align, geometry.face_mask, METHODS)
KINDS = {kind.name: kind for kind in (FACE,)}
