"""Which way a head is turned, from the five points that YuNet reports."""

import cv2
import numpy as np

from dp3_jax.vision.masks import CANONICAL_POINTS, SIZE

ANGLES = ("yaw", "pitch", "roll")
# In eye distances: how far the eyes, the nose's tip and the corners of the mouth lie behind the eyes' plane,
# rounded from an adult's face. The other coordinates are those of the mean frontal face.
_DEPTHS = np.array([0.0, 0.0, -0.6, -0.12, -0.12])
_EYES = float(np.linalg.norm(CANONICAL_POINTS[1] - CANONICAL_POINTS[0]))
MODEL = np.column_stack(
    [(CANONICAL_POINTS - CANONICAL_POINTS[:2].mean(0)).astype(np.float64) / _EYES, _DEPTHS]
)  # x to the viewer's right, y down, z away from the viewer
# A portrait's camera, about 24 eye distances (1.5 m) away, sees eyes 28 px apart with this focal length.
FOCAL = 5.2 * SIZE


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """f64[3, 3]: R_roll R_yaw R_pitch, each about one axis (z, y, x); angles in degrees."""
    turns = np.radians(np.array([[pitch, 0, 0], [0, yaw, 0], [0, 0, roll]]))
    about_x, about_y, about_z = (cv2.Rodrigues(turn)[0] for turn in turns)
    return about_z @ about_y @ about_x


def head_pose(points: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Yaw, pitch and roll of a face, f64[3] in degrees; all about 0 for a mean frontal face.

    Positive yaw looks to the viewer's left, positive pitch down, positive roll leans clockwise. Good to some
    degrees: the model is no particular person, and five points do not tell a long nose from a raised chin.

    Args:
      points: f[5, 2] px as in `dp3_jax.detection.face_detection.Detection`.
      size: side of the square picture that they lie in, px.
    """
    middle = (size - 1) / 2
    focal = FOCAL * size / SIZE
    camera = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1.0]])
    points = np.asarray(points, np.float64)
    across = points[1] - points[0]
    # Begun upright and frontal where the eyes are: from elsewhere the solver may end in a mirrored solution.
    away = focal / max(float(np.linalg.norm(across)), 1.0)
    shift = np.append((points[:2].mean(0) - middle) * away / focal, away)
    lean = np.array([0.0, 0.0, np.arctan2(across[1], across[0])])
    _, turn, _ = cv2.solvePnP(
        MODEL,
        points,
        camera,
        None,
        lean,
        shift,
        useExtrinsicGuess=True,
        flags=cv2.SOLVEPNP_ITERATIVE,
    )
    r = cv2.Rodrigues(turn)[0]
    yaw = np.arctan2(-r[2, 0], np.hypot(r[0, 0], r[1, 0]))
    return np.degrees([yaw, np.arctan2(r[2, 1], r[2, 2]), np.arctan2(r[1, 0], r[0, 0])])


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """f64[..., 3]: how far apart two poses are in each angle, 0 to 180 degrees."""
    return np.abs((np.asarray(a) - np.asarray(b) + 180) % 360 - 180)
