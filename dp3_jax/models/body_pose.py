"""33 points of a body and its outline, by MediaPipe's pose network.

BlazePose (Bazarevsky et al., 2020, arXiv:2006.10204; asset `body_pose`, Apache-2.0), run by OpenCV: about
40 ms of processor time a person. It takes the person in the middle of its picture. Left and right are the
person's.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from dp3_jax.common.opencv import Network
from dp3_jax.models.person_mask import PersonMask

POINTS = 33
SIDE = 256  # px, of the network's picture and of the outline
_CUT = 0.97  # of the frame's height: a box that ends below ends with the frame
_NUMBERS = 39  # points that it tells: six more for its own tracking
_MARGIN = 1.25  # sides of the picture in those of the box

NOSE, LEFT_EAR, RIGHT_EAR = 0, 7, 8
SHOULDERS, ELBOWS, WRISTS = (11, 12), (13, 14), (15, 16)
HIPS, KNEES, ANKLES = (23, 24), (25, 26), (27, 28)
HEELS, TOES = (29, 30), (31, 32)


@dataclasses.dataclass(frozen=True, eq=False)
class BodyPose:
    """A body as the network sees it.

    Attributes:
      points: f32[33, 2], px of the frame; also those that are out of it or behind something.
      visible: f32[33], 0 to 1.
      mask: f32[256, 256], 0 to 1, how surely each pixel of the network's picture shows the person.
      to_frame: f64[2, 3], network's picture -> frame.
      score: 0 to 1, how sure the network is that there is a person.
    """

    points: np.ndarray
    visible: np.ndarray
    mask: np.ndarray
    to_frame: np.ndarray
    score: float


class PoseNetwork:
    """The network, and one that tells persons from what is behind them.

    Of bodies that the frame's lower edge cuts, the first one leaves out legs, which `PersonMask` knows. It
    sees all persons together, so it counts inside the box alone.
    """

    def __init__(self):
        """Loads them, fetching them once.

        Raises:
          UserError: they cannot be fetched.
        """
        self._network = Network("body_pose")
        self._persons = PersonMask()

    def __call__(self, frame: np.ndarray, box: Sequence[float]) -> BodyPose:
        """The person in `box` (x, y, width, height in px) of u8[h, w, 3] RGB."""
        to_frame = crop_of(box)
        crop = cv2.warpAffine(
            frame,
            to_frame,
            (SIDE, SIDE),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
        )
        outputs = {out.size: out for out in self._network(crop.astype(np.float32) / 255)}
        rows = outputs[5 * _NUMBERS].reshape(_NUMBERS, 5)[:POINTS]
        mask = _sigmoid(outputs[SIDE * SIDE].reshape(SIDE, SIDE))
        if box[1] + box[3] >= _CUT * frame.shape[0]:
            mask = np.maximum(mask, self._persons_in(crop, to_frame, box))
        points = rows[:, :2] @ to_frame[:, :2].T + to_frame[:, 2]
        return BodyPose(
            points.astype(np.float32),
            _sigmoid(rows[:, 3]) * _sigmoid(rows[:, 4]),
            mask,
            to_frame,
            float(outputs[1][0]),
        )

    def _persons_in(
        self, crop: np.ndarray, to_frame: np.ndarray, box: Sequence[float]
    ) -> np.ndarray:
        """f32[256, 256], how surely each pixel in the box shows a person."""
        persons = self._persons(crop)
        corner = (np.asarray(box[:2]) - to_frame[:, 2]) / to_frame[0, 0]
        left, top = np.maximum(np.floor(corner), 0).astype(int)
        right, bottom = np.ceil(corner + np.asarray(box[2:]) / to_frame[0, 0]).astype(int)
        inside = np.zeros((SIDE, SIDE), np.float32)
        inside[top : bottom + 1, left : right + 1] = persons[top : bottom + 1, left : right + 1]
        return inside


def crop_of(box: Sequence[float]) -> np.ndarray:
    """f64[2, 3], network's picture -> frame: a square of 1.25 times the box's longer side."""
    x, y, width, height = (float(v) for v in box)
    step = max(width, height) * _MARGIN / SIDE
    corner = np.array([x + width / 2, y + height / 2]) - step * (SIDE - 1) / 2
    return np.column_stack([step * np.eye(2), corner])


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-np.clip(logits, -30, 30)))).astype(np.float32)
