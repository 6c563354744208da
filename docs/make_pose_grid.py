"""Makes pose_grid.jpg: generated persons who turn, nod, speak, smile, close their eyes and look aside.

    python docs/make_pose_grid.py [FOLDER]       # default: docs

Each picture is what a frame of a clip is made of (`dp3_jax.replacement.pose_grid`); all are warped from some
twenty renderings of a person. Run it again when the prior's directions have changed.
"""

import pathlib
import sys

import cv2
import numpy as np

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.replacement.identities import Classes
from dp3_jax.replacement.pose_grid import PoseGrid
from dp3_jax.replacement.prior_identities import PriorIdentities

PEOPLE = (
    (101, Classes(female=True, age="young", tone=1)),
    (103, Classes(female=True, age="old", tone=3)),
)
STEPS, SIZE, SIDE = 9, 256, 112  # pictures in a row; px rendered; px shown
SHOWN = (slice(38, 246), slice(24, 232))  # of a rendering

_MIDDLE = FaceVector(0.0, 0.0, 0.02, 0.86, 1.0, 1.0, 0.0, 0.0)
# What changes in each row, from where to where.
ROWS = (
    {"yaw": (35.0, -35.0)},
    {"yaw": (12.0, -8.0), "pitch": (-12.0, 13.0)},
    {"yaw": (6.0, 6.0), "mouth_opening": (0.0, 0.34)},
    {"yaw": (-6.0, -6.0), "mouth_width": (0.74, 1.06), "mouth_opening": (0.02, 0.1)},
    {"left_eye": (1.0, 0.0), "right_eye": (1.0, 0.0)},
    {"gaze_x": (-0.1, 0.1), "yaw": (-4.0, 4.0)},
)


def row(grid: PoseGrid, person: tuple[int, Classes], changes: dict) -> np.ndarray:
    """u8[SIDE, STEPS * SIDE, 3]."""
    seed, classes = person
    pictures = []
    for share in np.linspace(0, 1, STEPS):
        now = {name: (1 - share) * start + share * end for name, (start, end) in changes.items()}
        vector = _MIDDLE._replace(**now)
        image = grid.rendering(bytes([seed]) * 32, classes, vector, SIZE).image[SHOWN]
        pictures.append(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    return np.hstack(pictures)


def main() -> None:
    """The command."""
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    grid = PoseGrid(PriorIdentities())
    parts = [np.vstack([row(grid, person, changes) for changes in ROWS]) for person in PEOPLE]
    gap = np.full((6, parts[0].shape[1], 3), 255, np.uint8)
    sheet = np.vstack([parts[0], gap, parts[1]])
    good, content = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not good:
        raise UserError("OpenCV cannot encode pose_grid.jpg")
    files.write_bytes(folder / "pose_grid.jpg", content.tobytes())


if __name__ == "__main__":
    main()
