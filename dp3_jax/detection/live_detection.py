"""Finding faces in live pictures: as thoroughly as there is time for, and known ones in every frame.

A known face that no pass sees is looked for; in at most two frames after it was detected it is carried by
what its head does in the picture instead, where that agrees with how it moved before.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dp3_jax.detection import carrying, face_detection, region_detection
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.prediction import measured
from dp3_jax.media.video.lazy_pictures import GreyParts

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


_UNCHECKED = 2  # frames in a row in which a face is carried only
_AGREED = 0.15  # sizes of the face between where the picture and its speed lead it


@dataclasses.dataclass(frozen=True, eq=False)
class _Last:
    """The frame before: its picture, and the faces in it with the frames since each was detected."""

    picture: GreyParts
    faces: list[tuple[Detection, int]]


class LiveDetector(region_detection.RegionDetector):
    """Finds the faces in one frame after another at a cost that is steady and can be lowered.

    The passes of `Detector` are spread over the frames, one piece in each, in turn.
    """

    def __init__(
        self,
        min_confidence: float = face_detection.MIN_CONFIDENCE,
        rotations: bool = True,
        *,
        threads: int | None = None,
    ):
        """Loads the network, fetching it once; arguments and errors as of `VideoDetector`."""
        super().__init__(min_confidence, rotations, threads)
        self._turn = 0
        self._last: _Last | None = None

    def detect(
        self, image: np.ndarray, predicted: Sequence[Detection], budget: Budget | None = None
    ) -> list[Detection]:
        """The faces that are found in a frame.

        Args:
          image: u8[h, w, 3] RGB.
          predicted: the faces that must be somewhere near their boxes in it. Those that no pass sees are
            carried or looked for one by one, whatever the budget is: about 1 ms each.
          budget: of this frame; the default one if None.
        """
        budget, last, self._last = budget or Budget(), self._last, None
        picture, found, factor = region_detection.Picture(image), [], 0.0
        if budget.side is not None:
            height, width = image.shape[:2]
            area = round(budget.side**2 * min(height, width) / max(height, width))
            factor = region_detection.coarse_factor(image.shape, area)
        scan = self.pool.submit(self._scan, image, factor) if budget.scan else None
        if budget.side is not None:
            picture, found = self.coarse_detection(image, factor)
            found = self.confirmed(picture, found, predicted)
        if scan is not None:
            wholes = [*found, *predicted]
            news = [f for f in scan.result() if not region_detection.is_part(f, wholes)]
            found = self.with_passes(image, found, news)
        grey = GreyParts(image)
        missing = region_detection.missing(predicted, found)
        carried = [] if last is None else self._carried(last, grey, missing)
        found = self.followed(picture, [*found, *(face for face, _ in carried)], predicted)
        since = {id(face): count for face, count in carried}
        self._last = _Last(grey, [(face, since.get(id(face), 0)) for face in found])
        return found

    def _carried(
        self, last: _Last, now: GreyParts, predicted: Sequence[Detection]
    ) -> list[tuple[Detection, int]]:
        """Those faces that the motion in the picture leads to where they are predicted, as of `_Last`."""
        known = [(face, count + 1) for face, count in last.faces if count < _UNCHECKED]
        pairs = region_detection.paired(predicted, [face for face, _ in known])

        def carry(i: int, j: int) -> tuple[Detection, int] | None:
            face, count = known[j]
            way = (measured(predicted[i].box) - measured(face.box))[:2]
            chain = carrying.chained(face, way, (last.picture, now))
            if not chain.faces or carrying.apart(chain.faces[0], predicted[i]) > _AGREED:
                return None
            return chain.faces[0], count

        return [one for one in self.pool.map(carry, pairs.keys(), pairs.values()) if one]

    def _scan(self, image: np.ndarray, coarse_faces: float) -> list[Detection]:
        """What the next piece shows of what a glance does not."""
        self._turn += 1
        return self.detector.one_pass(image, self._turn, _LIVE_TILE, _LIVE_TURNED, coarse_faces)
