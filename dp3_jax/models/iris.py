"""Eyes: how far each is open, and where they look, by the iris against the corners of its eye.

Lids are told better by this network than by the mesh. On five clips of people who speak shut lids have here
20 to 50% of the distance of open ones, there 50 to 78%; and there they follow the mouth and each other, so
that one shut eye shows as two half shut ones.

The network is MediaPipe's iris model (Ablavatski et al., 2020, arXiv:2006.11341; asset `iris`, Apache-2.0),
run by OpenCV: about 4 ms an eye.
"""

from typing import NamedTuple

import cv2
import numpy as np

from dp3_jax.common.opencv import Network
from dp3_jax.models.mesh import LEFT_EYE, RIGHT_EYE

_SIDE = 64  # px, the network's picture
_MARGIN = 2.3  # sides of the picture in those of the eye
_IRIS, _CONTOUR = 15, 213  # numbers in its outputs: 5 and 71 points of three
_CORNERS, _LIDS = (0, 8), (4, 12)  # of the contour; middles of the lower and the upper lid


class Eyes(NamedTuple):
    """Both eyes of a face, the viewer's left one first.

    Attributes:
      centres: f32[2, 2] px, of the irises.
      openings: between the lids' middles, in widths of the eye: .3 to .5 open, .1 to .2 shut.
    """

    centres: np.ndarray
    openings: tuple[float, float]


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
        return self.measure(image, mesh).centres

    def measure(self, image: np.ndarray, mesh: np.ndarray) -> Eyes:
        """All that is known of the eyes; arguments as of `centres`."""
        left = self._measure_eye(image, mesh[list(LEFT_EYE), :2], mirrored=True)
        right = self._measure_eye(image, mesh[list(RIGHT_EYE), :2], mirrored=False)
        return Eyes(np.stack([left[0], right[0]]), (left[1], right[1]))

    def _measure_eye(
        self, image: np.ndarray, corners: np.ndarray, mirrored: bool
    ) -> tuple[np.ndarray, float]:
        """Centre, f32[2] px, and opening of an eye.

        The network knows the viewer's right eye; the left one is shown to it mirrored.
        """
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
        contour = next(o for o in outputs if o.size == _CONTOUR).reshape(-1, 3)[:, :2]
        lids, width = (float(np.linalg.norm(contour[a] - contour[b])) for a, b in (_LIDS, _CORNERS))
        return (to_image[:, :2] @ iris + to_image[:, 2]).astype(np.float32), lids / max(width, 1e-6)


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
