"""Finding faces in live pictures: as thoroughly as there is time for, and known ones in every frame."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dp3_jax.anonymization import detection
from dp3_jax.anonymization.detection import Face
from dp3_jax.video import looking

_LIVE_TILE = 384  # px, the side of the pieces in which a whole frame is searched
_LIVE_TURNED = 352  # px, the longer side of a frame turned


@dataclasses.dataclass(frozen=True)
class Budget:
    """What is done in one frame of a live picture.

    Attributes:
      side: the longer side of the frame in the coarse pass, px; None for no coarse pass.
      scan: whether one piece of the whole frame, upright or turned, is searched in full detail.
    """

    side: int | None = 640
    scan: bool = True


class LiveDetector(looking.Looker):
    """Finds the faces in one frame after another at a cost that is steady and can be lowered.

    The passes of `Detector` are spread over the frames, one piece in each, in turn.
    """

    def __init__(
        self,
        min_confidence: float = detection.MIN_CONFIDENCE,
        rotations: bool = True,
        *,
        threads: int | None = None,
    ):
        """Loads the network, fetching it once; arguments and errors as of `VideoDetector`."""
        super().__init__(min_confidence, rotations, threads)
        self._turn = 0

    def detect(
        self, image: np.ndarray, predicted: Sequence[Face], budget: Budget | None = None
    ) -> list[Face]:
        """The faces that are found in a frame, the most confident first.

        Args:
          image: u8[h, w, 3] RGB.
          predicted: the faces that must be somewhere near their boxes in it. Those that no pass sees are
            looked for one by one, whatever the budget is: about 1 ms each.
          budget: of this frame; the default one if None.
        """
        budget = budget or Budget()
        picture, found, factor = looking.Picture(image), [], 0.0
        if budget.side is not None:
            height, width = image.shape[:2]
            area = round(budget.side**2 * min(height, width) / max(height, width))
            factor = looking.coarse_factor(image.shape, area)
        scan = self.pool.submit(self._scan, image, factor) if budget.scan else None
        if budget.side is not None:
            picture, found = self.glance(image, factor)
            found = self.confirmed(picture, found, predicted)
        if scan is not None:
            wholes = [*found, *predicted]
            news = [f for f in scan.result() if not looking.is_part(f, wholes)]
            found = self.with_passes(image, found, news)
        return self.followed(picture, found, predicted)

    def _scan(self, image: np.ndarray, glanced: float) -> list[Face]:
        """What the next piece shows of what a glance does not."""
        pieces = list(self.detector.passes(image, _LIVE_TILE, _LIVE_TURNED, glanced))
        if not pieces:
            return []
        self._turn = (self._turn + 1) % len(pieces)
        return pieces[self._turn]()
