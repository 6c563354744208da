"""What is anonymized: how a kind of target lies in its own frame, and which of its pixels are replaced."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from dp3_jax.common.choices import BODY_METHODS, METHODS, OBFUSCATIONS
from dp3_jax.vision import geometry, target_frames

Box = Sequence[float]  # x, y, width, height in px


@dataclasses.dataclass(frozen=True)
class TargetKind:
    """A kind of thing that is anonymized.

    Attributes:
      name: as annotation files call it.
      frame: (box, keypoints or None) -> the `Alignment` into the kind's canonical frame.
      mask: (alignment, box, ...) -> f32[128, 128, 1] in that frame, 1 where pixels are replaced.
      methods: of `choices.BODY_METHODS`, those that it can be anonymized by.
      default: the method for it where the one that is asked for is not one of them.
      points: how many keypoints annotation files hold of it.
    """

    name: str
    frame: Callable[[Box, np.ndarray | None], geometry.Alignment]
    mask: Callable[..., np.ndarray]
    methods: tuple[str, ...]
    default: str = "generate"
    points: int = 5


FACE = TargetKind("face", geometry.align, geometry.face_mask, METHODS)
# Box and points are those of the head's face; where no face is seen, of the one that the head would have.
HEAD = TargetKind("head", target_frames.align_head, target_frames.head_mask, METHODS)
# The points are those of `models.body_pose`.
BODY = TargetKind(
    "body", target_frames.align_body, target_frames.body_mask, BODY_METHODS, points=33
)
# The points are the four corners, clockwise from the upper left one as it is read.
PLATE = TargetKind(
    "plate", target_frames.align_plate, target_frames.plate_mask, OBFUSCATIONS, "solid", 4
)
KINDS = {kind.name: kind for kind in (FACE, HEAD, BODY, PLATE)}
