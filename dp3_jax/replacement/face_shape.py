"""A mesh taken apart into a shape, which looks ahead, and how that is turned, sized and placed; and back.

A shape is f64[468, 3] in units of the mean face (`models.mesh`), of a face that looks ahead. Shapes of one
person from several pictures can be averaged; put together again for a pose, a mesh shows exactly that pose.
"""

import functools
import pathlib
from typing import NamedTuple

import numpy as np

from dp3_jax.models import mesh as face_mesh
from dp3_jax.models.mesh import Pose

MOUTH_SHAPES = pathlib.Path(__file__).parents[1] / "weights" / "mouth_shapes.safetensors"
_STEPS = 3  # of correction; the first leaves a hundredth of the eye distance


class Placed(NamedTuple):
    """A mesh taken apart: mesh = scale * shape @ turn(pose)^T + centre.

    Attributes:
      shape: f64[468, 3].
      pose: degrees.
      scale: px for a unit of the mean face.
      centre: f64[3] px, the mean of the points that bones hold.
    """

    shape: np.ndarray
    pose: Pose
    scale: float
    centre: np.ndarray

    def mesh(self) -> np.ndarray:
        """f64[468, 3] px."""
        return self.scale * self.shape @ turn(self.pose).T + self.centre


def turn(pose: Pose) -> np.ndarray:
    """f64[3, 3]: the rotation that `mesh.yaw_pitch_roll` calls this pose."""
    (sy, sp, sr), (cy, cp, cr) = np.sin(np.radians(pose)), np.cos(np.radians(pose))
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def take_apart(mesh: np.ndarray) -> Placed:
    """A mesh f[468, 3] px as shape, pose, scale and place."""
    mean, rigid = face_mesh.mean_shape()
    pose = face_mesh.yaw_pitch_roll(mesh)
    points = np.asarray(mesh, np.float64)
    centre = points[rigid].mean(0)
    ahead = (points - centre) @ turn(pose)
    held = mean[rigid] - mean[rigid].mean(0)
    scale = float((ahead[rigid] * held).sum() / (held**2).sum())
    return Placed(ahead / scale, pose, scale, centre)


def upright(shape: np.ndarray) -> np.ndarray:
    """A shape turned so that it looks exactly ahead: a mean of shapes does so only nearly."""
    pose = face_mesh.yaw_pitch_roll(shape)
    return shape @ turn(pose)


def with_mouth(shape: np.ndarray, opening: float, width: float) -> np.ndarray:
    """A shape whose mouth is moved to an opening and a width, in eye distances."""
    by_opening, by_width = mouth_moves()
    for _ in range(_STEPS):
        shown = face_mesh.expression(shape)
        shape = shape + (opening - shown.mouth_opening) * by_opening
        shape = shape + (width - shown.mouth_width) * by_width
    return shape


@functools.cache
def mouth_moves() -> tuple[np.ndarray, np.ndarray]:
    """f64[468, 3] each: how a shape changes when its mouth opens, or widens, by one eye distance."""
    from safetensors.numpy import load_file

    stored = load_file(MOUTH_SHAPES)
    return tuple(stored[name].astype(np.float64) for name in ("mouth_opening", "mouth_width"))
