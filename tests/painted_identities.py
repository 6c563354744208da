"""Persons drawn from their meshes: an identity source without a network, whose geometry is known."""

import cv2
import numpy as np

from dp3_jax.models import mesh as face_mesh
from dp3_jax.models.mesh import Expression, Pose
from dp3_jax.replacement import eyelids, face_shape
from dp3_jax.replacement.face_shape import Placed
from dp3_jax.replacement.identities import Rendering, clamped_pose

NOSE = 4
NOSE_COLOUR = (250, 30, 30)
_MOUTH = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)


def person_mesh(key, pose, expression, size):
    """f64[468, 3] px of a person: the mean face, a little longer or shorter by the key."""
    shape, _ = face_mesh.mean_shape()
    shape = shape * [1, 0.95 + 0.1 * key[0] / 255, 1]
    shape = face_shape.with_mouth(
        face_shape.upright(shape), expression.mouth_opening, expression.mouth_width
    )
    # Drawn persons turn about a place of their own, as the prior's do.
    centre = np.array([size * (0.5 + pose.yaw / 400), size * 0.5, 0.0])
    return Placed(shape, pose, size * 0.24, centre).mesh()


def draw(mesh, size, colour):
    """u8[S, S, 3]: skin, a nose, a mouth whose inside is dark, eyes with whites and irises."""
    image = np.full((size, size, 3), (40, 60, 90), np.uint8)

    def fill(corners, tone):
        cv2.fillPoly(image, [np.round(corners * 16).astype(np.int32)], tone, cv2.LINE_AA, 4)

    def disc(centre, radius, tone):
        at = tuple(int(v) for v in np.round(np.asarray(centre) * 16))
        cv2.circle(image, at, round(radius * 16), tone, -1, cv2.LINE_AA, 4)

    flat = mesh[:, :2]
    fill(face_mesh.outline(flat), colour)
    fill(flat[list(_MOUTH)], (60, 10, 20))
    for eye in eyelids.EYES:
        left, right = eye.corners
        fill(flat[[left, *eye.upper, right, *eye.lower[::-1]]], (255, 255, 255))
        middle = flat[[eye.upper[3], eye.lower[3]]].mean(0)
        disc(middle, 0.012 * size, (20, 20, 60))
    disc(flat[NOSE], 0.02 * size, NOSE_COLOUR)
    return image


class PaintedIdentities:
    """See `identities.IdentitySource`. `jitter` degrees is how far poses are from what is asked for."""

    name = "drawn"
    fingerprint = "drawn"

    def __init__(self, jitter=2.0, refuses=lambda pose: False):
        self.jitter, self.refuses, self.calls = jitter, refuses, 0

    def render(self, key, classes, pose, expression, size, *, mended=True):
        del classes
        self.calls += 1
        near, clamped = clamped_pose(pose or Pose(0.0, 0.0, 0.0))
        if self.refuses(near):
            raise ValueError("no face is drawn in this pose")
        off = self.jitter * np.sin([3 * near.yaw + 1, 5 * near.pitch + 2])
        shown = Pose(near.yaw + off[0], near.pitch + off[1], 0.5 * off[0])
        expression = expression or Expression(0.0, 0.86, 0.13)
        mesh = person_mesh(key, shown, expression, size)
        colour = tuple(int(v) for v in 120 + np.frombuffer(key[1:4], np.uint8) // 3)
        image = draw(mesh, size, colour)
        return Rendering.of_mesh(
            image, mesh.astype(np.float32), clamped=clamped, person=key.hex()[:8]
        )
