"""Renderings of one person as a pose grid keeps them, and the picture of a look that some of them make."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from dp3_jax.models import mesh as face_mesh
from dp3_jax.replacement import face_shape, mesh_warp
from dp3_jax.replacement.face_shape import Placed
from dp3_jax.replacement.identities import Rendering
from dp3_jax.replacement.pose_lattice import Appearance
from dp3_jax.vision.masks import inside_of

_FACE = 0.62  # share of a square picture that a face spans, as in the prior's
_TONED = 64  # px, of the pictures that tones are compared on
_TONE_BLUR = 0.10  # sides of the picture, standard deviation: what is finer stays as it is
_GAINS = 0.7, 1.4  # between which tones are changed
_FLOOR = 6.0  # levels that are added before tones are divided
_INSIDE = 3  # px of _TONED that are left out at the outline


@dataclasses.dataclass(frozen=True, eq=False)
class NodePicture:
    """A rendering at a node of the grid.

    Attributes:
      image: u8[S, S, 3]; u8[S, S, 4] where the head is known, which is the last channel (`Rendering.head`).
      mesh: f32[468, 3] px, as measured.
      placed: the mesh taken apart.
      person: see `Rendering`.
    """

    image: np.ndarray
    mesh: np.ndarray
    placed: Placed
    person: str

    @property
    def nbytes(self) -> int:
        """What keeping it costs."""
        return self.image.nbytes + self.mesh.nbytes + self.placed.shape.nbytes + 1024


def node_picture(rendering: Rendering, size: int) -> NodePicture:
    """A rendering brought to a square of `size` px.

    Raises:
      ValueError: its mesh has no depth (`Rendering.of_mesh` gives one).
    """
    if rendering.depth is None:
        raise ValueError("a rendering without depth cannot be turned")
    image, mesh = rendering.image, np.column_stack([rendering.mesh, rendering.depth])
    if rendering.head is not None:
        image = np.dstack([image, rendering.head])
    if image.shape[:2] != (size, size):
        image, mesh = _framed(image, mesh, size)
    mesh = np.asarray(mesh, np.float32)
    return NodePicture(image, mesh, face_shape.take_apart(mesh), rendering.person)


def _framed(image: np.ndarray, mesh: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture of any shape and its mesh in a square, with the face as large as in a portrait."""
    low, high = mesh[:, :2].min(0), mesh[:, :2].max(0)
    scale = _FACE * size / max(float((high - low).max()), 1.0)
    if scale < 1:  # else warping would skip pixels
        reduced = [max(1, round(side * scale)) for side in image.shape[1::-1]]
        image = cv2.resize(image, reduced, interpolation=cv2.INTER_AREA)
        factor = 1.0
    else:
        factor = scale
    moved = scale * np.asarray(mesh, np.float64)
    moved[:, :2] += (scale - 1) / 2  # pixel centres
    shift = (size - 1) / 2 - (moved[:, :2].min(0) + moved[:, :2].max(0)) / 2
    moved[:, :2] += shift
    matrix = np.column_stack([factor * np.eye(2), shift + (factor - 1) / 2])
    return cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE), moved


def toned(picture: NodePicture, centre: NodePicture) -> NodePicture:
    """A picture with the light and tones of the grid's centre: sampled renderings are lit anew by each move.

    Only what is coarse changes: the ratio of both, blurred within the face, after the centre was warped.
    """
    size = picture.image.shape[0]
    scale = _TONED / size
    target, source = (
        np.asarray((p.mesh[:, :2] + 0.5) * scale - 0.5, np.float64) for p in (picture, centre)
    )
    own, wanted = (
        cv2.resize(p.image[..., :3], (_TONED, _TONED), interpolation=cv2.INTER_AREA)
        for p in (picture, centre)
    )
    field = mesh_warp.displacement(target, source[None], _TONED)
    wanted = mesh_warp.warped(wanted, field)
    inside = inside_of(face_mesh.outline(target), _TONED)
    inside = cv2.erode(inside, np.ones((_INSIDE, _INSIDE), np.uint8)).astype(np.float32)
    both = np.concatenate([own * inside[..., None], wanted * inside[..., None]], -1)
    both = cv2.GaussianBlur(np.dstack([both, inside]), (0, 0), _TONE_BLUR * _TONED)
    floor = _FLOOR * both[..., 6:] + 1e-6
    gain = np.clip((both[..., 3:6] + floor) / (both[..., :3] + floor), *_GAINS)
    gain = cv2.resize(gain, (size, size), interpolation=cv2.INTER_LINEAR)
    image = picture.image.copy()
    image[..., :3] = cv2.convertScaleAbs(picture.image[..., :3] * gain)
    return dataclasses.replace(picture, image=image)


def mesh_of(corners: Sequence[tuple[NodePicture, float]], appearance: Appearance) -> np.ndarray:
    """f32[468, 3] px: the mean of corners' shapes, turned to the pose, with the mouth that is asked for.

    Args:
      corners: pictures and their weights, whose sum is 1.
    """
    weights = np.array([weight for _, weight in corners])
    placed = [picture.placed for picture, _ in corners]
    shape = np.tensordot(weights, np.stack([p.shape for p in placed]), 1)
    shape = face_shape.with_mouth(face_shape.upright(shape), appearance.opening, appearance.width)
    roll = float(weights @ [p.pose.roll for p in placed])
    scale = float(weights @ [p.scale for p in placed])
    centre = weights @ np.stack([p.centre for p in placed])
    mesh = Placed(shape, appearance.pose._replace(roll=roll), scale, centre).mesh()
    return mesh.astype(np.float32)


def blended(corners: Sequence[tuple[NodePicture, float]], mesh: np.ndarray) -> np.ndarray:
    """u8[S, S, 3 or 4]: the mean of corners' pictures, each warped to a mesh f32[468, 3]."""
    size = corners[0][0].image.shape[0]
    sources = np.stack([picture.mesh[:, :2] for picture, _ in corners])
    field = mesh_warp.displacement(mesh[:, :2], sources, size, mesh_warp.nearness(mesh))
    image, total = None, 0.0
    for i, (picture, weight) in enumerate(corners):
        seen = mesh_warp.warped(picture.image, field[..., 2 * i : 2 * i + 2])
        total += weight
        share = weight / total
        image = seen if image is None else cv2.addWeighted(image, 1 - share, seen, share, 0)
    return image
