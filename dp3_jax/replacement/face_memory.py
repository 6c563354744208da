"""What the making of a face needs to know of its earlier frames; `temporal_memory.Memory` is one."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from dp3_jax.replacement.carried_parts import Carried
from dp3_jax.replacement.surroundings import Exposure
from dp3_jax.vision.geometry import Region


class FaceMemory(Protocol):
    """What is remembered of one face from frame to frame.

    Views are u8[S, S, 3] of the background-filled frame in the canonical frame, masks f32[S, S, 1].

    Attributes:
      candidate: which of those that its key gives was settled on; None before.
      classes: of the surroundings in its first frame; None before.
      size: px of its person's renderings.
      wait: whether these are waited for.
      latest: u8[S, S, 3], the new face that was drawn last; None before.
    """

    candidate: int | None
    classes: tuple | None
    size: int
    wait: bool
    latest: np.ndarray | None

    def observe(self, view: np.ndarray, mask: np.ndarray) -> None:
        """Sees how far the surroundings have changed."""
        ...

    def tries_now(self) -> bool:
        """Whether a candidate is to be looked for in this frame, where none is settled."""
        ...

    def skips_inference(self) -> bool:
        """Whether the face that was drawn last will do for this frame."""
        ...

    def drew(self) -> None:
        """Told that a face was drawn for this frame."""
        ...

    def moved(self, view: np.ndarray, mask: np.ndarray) -> Carried | None:
        """What the fusion network said, brought to this frame; None where it is not remembered."""
        ...

    def is_due(self, view: np.ndarray, mask: np.ndarray) -> bool:
        """Whether the fusion network is to be asked again."""
        ...

    def said(self, carried: Carried) -> Carried:
        """Takes what the fusion network says; gives what is to be painted."""
        ...

    def compose(self, view: np.ndarray, new: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """u8[S, S, 3]: the new face in its view, as steady as it may be."""
        ...

    def add_grain(self, frame: np.ndarray, target: Region, masked: np.ndarray, key: bytes) -> None:
        """As `blending.add_grain`, with the grain of this frame."""
        ...

    def stabilise_exposure(self, observe: Callable[[], Exposure]) -> Exposure:
        """The exposure round the face over time, looked at now and then."""
        ...

    def stabilise_blur(self, observe: Callable[[], float]) -> float:
        """How blurred the surroundings are over time, looked at now and then."""
        ...

    def forget_pictures(self) -> None:
        """Lets go of all pictures."""
        ...
