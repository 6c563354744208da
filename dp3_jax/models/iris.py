"""Where the eyes look: the iris against the corners of its eye.

The network is MediaPipe's iris model (Ablavatski et al., 2020, arXiv:2006.11341; asset `iris`,
Apache-2.0), run by OpenCV: about 4 ms an eye.
"""

import cv2
import numpy as np

from dp3_jax.models.mesh import LEFT_EYE, RIGHT_EYE
from dp3_jax.opencv import Network

_SIDE = 64  # px, the network's picture
_MARGIN = 2.3  # sides of the picture in those of the eye
_IRIS = 15  # numbers in its output: 5 points of three


class Iris:
    """The network."""

    def __init__(self):
        """Loads it, fetching it once.

        Raises:
          UserError: it cannot be fetched.
        """
        self._network = Network("iris")

    def centres(self, image: np.ndarray, mesh: np.ndarray) -> np.ndarray:
        """f32[2, 2]: the irises' centres in px, the viewer's left one first.

        Args:
          image: u8[h, w, 3] RGB.
          mesh: f[468, 2 or more] px, from `FaceMesh.points`.
        """
        left = self._centre(image, mesh[list(LEFT_EYE), :2], mirrored=True)
        return np.stack([left, self._centre(image, mesh[list(RIGHT_EYE), :2], mirrored=False)])

    def _centre(self, image: np.ndarray, corners: np.ndarray, mirrored: bool) -> np.ndarray:
        """f32[2] px. The network knows the viewer's right eye; the left one is shown to it mirrored."""
        across = corners[0] - corners[1]  # to the outer corner, which points away from the nose
        if mirrored:
            across = -across
        step = max(float(np.hypot(*across)), 1.0) * _MARGIN / _SIDE
        c, s = step * across / max(float(np.hypot(*across)), 1e-6)
        turn = np.array([[c, -s], [s, c]])
        if mirrored:
            turn = turn @ np.diag([-1.0, 1.0])
        to_image = np.column_stack([turn, corners.mean(0) - turn @ np.full(2, (_SIDE - 1) / 2)])
        crop = cv2.warpAffine(
            image,
            to_image,
            (_SIDE, _SIDE),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        outputs = self._network(crop.astype(np.float32) / 255)
        iris = next(o for o in outputs if o.size == _IRIS).reshape(5, 3)[0, :2]
        return (to_image[:, :2] @ iris + to_image[:, 2]).astype(np.float32)


def gaze(mesh: np.ndarray, centres: np.ndarray) -> tuple[float, float]:
    """How far the irises lie from the middle of the eyes' corners, in widths of the eye, mean of both.

    Relative to the head, about (0, 0) for a look straight ahead; a width is about 24 mm and so 40 degrees
    are .35. Foreshortened eyes of a turned head give the far eye less weight.

    Args:
      mesh: f[468, 2 or more] px.
      centres: f[2, 2] px, from `Iris.centres`.

    Returns:
      Across, positive to the viewer's right; down, positive down.
    """
    total, weights = np.zeros(2), 0.0
    for (outer, inner), centre, side in ((LEFT_EYE, centres[0], -1), (RIGHT_EYE, centres[1], 1)):
        corners = np.asarray(mesh, np.float64)[[outer, inner], :2]
        across = (corners[0] - corners[1]) * side  # to the viewer's right
        width = max(float(np.hypot(*across)), 1e-6)
        unit = across / width
        offset = (centre - corners.mean(0)) / width
        total += width * np.array([offset @ unit, offset @ np.array([-unit[1], unit[0]])])
        weights += width
    return tuple(float(v) for v in total / weights)
