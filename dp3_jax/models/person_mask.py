"""Which pixels of a picture show a person: MediaPipe's selfie segmentation (asset `person_mask`, Apache-2.0).

About 5 ms of processor time. It sees all persons together, hair and clothes included.
"""

import cv2
import numpy as np

from dp3_jax.common import assets
from dp3_jax.common.opencv import Network

SIDE = 256  # px, of the network's picture


class PersonMask:
    """The network; threads take turns."""

    def __init__(self):
        """Loads it, fetching it once.

        Raises:
          UserError: it cannot be fetched.
        """
        self._network = Network("person_mask")
        self.fingerprint = assets.ASSETS["person_mask"].sha256[:16]

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """f32[256, 256], 0 to 1, of a picture u8[256, 256, 3] RGB."""
        return self._network(picture.astype(np.float32) / 255)[0].reshape(SIDE, SIDE)

    def of(self, picture: np.ndarray) -> np.ndarray:
        """u8[S, S], levels of 255, of a square picture u8[S, S, 3] RGB of any size."""
        side = len(picture)
        how = cv2.INTER_AREA if side > SIDE else cv2.INTER_LINEAR
        small = cv2.resize(picture, (SIDE, SIDE), interpolation=how)
        levels = np.rint(255 * np.clip(self(small), 0, 1)).astype(np.uint8)
        return cv2.resize(levels, (side, side), interpolation=cv2.INTER_LINEAR)
