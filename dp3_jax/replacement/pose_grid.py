"""Pictures of persons that turn and speak: renderings on a grid of pose and mouth, warped to each look.

What is shown is a mean of up to five renderings of one person (`pose_lattice`), each warped to one mesh that
has exactly the pose and mouth that are asked for (`face_shape`, `mesh_warp`). So a track needs some
renderings, and each of its frames some milliseconds.
"""

import dataclasses
import threading
from collections import OrderedDict

import cv2
import numpy as np

from dp3_jax.models.mesh import Expression
from dp3_jax.replacement import face_shape, mesh_warp, pose_lattice
from dp3_jax.replacement.face_shape import Placed
from dp3_jax.replacement.face_vector import FaceVector
from dp3_jax.replacement.identities import Classes, IdentitySource, Rendering
from dp3_jax.replacement.pose_lattice import Look, Node

MAX_BYTES = 96 << 20  # of pictures that are kept: about 450 of 256 px
_COARSE_BELOW = 256  # px
_FACE = 0.62  # share of a square picture that a face spans, as in the prior's


@dataclasses.dataclass(frozen=True, eq=False)
class _Picture:
    """A node's rendering.

    Attributes:
      image: u8[S, S, 3].
      mesh: f64[468, 3] px, as measured.
      placed: the mesh taken apart.
      person: see `Rendering`.
    """

    image: np.ndarray
    mesh: np.ndarray
    placed: Placed
    person: str

    @property
    def nbytes(self) -> int:
        return self.image.nbytes + 2 * self.mesh.nbytes + 1024


class PoseGrid:
    """See the top of this file. Calls may come from one thread at a time; the source is called from any."""

    def __init__(self, source: IdentitySource, *, max_bytes: int = MAX_BYTES):
        """Renders nothing yet.

        Args:
          source: of the persons. While the grid is used, nobody else may call it.
          max_bytes: of pictures that are kept, over all persons; those that were not used for longest go.
        """
        self._source, self._max_bytes = source, max_bytes
        self._kept: OrderedDict[tuple, _Picture | None] = OrderedDict()
        self._bytes = 0
        self._turn = threading.Lock()

    def rendering(
        self, key: bytes, classes: Classes, vector: FaceVector, size: int, *, wait: bool = True
    ) -> Rendering:
        """The person of a key and classes with a look.

        Continuous in the vector; a pure function of its arguments, whatever was asked before.

        Args:
          key: 32 bytes.
          classes: of the track.
          vector: what the face is to show; pose and mouth are clamped to what can be drawn.
          size: px, one of `identities.SIZES`.
          wait: not to return before all that the look is made of is rendered.

        Raises:
          ValueError: the person shows no face in any pose; with another key one will.
          UserError: a file that the source needs is missing or was changed.
        """
        del wait
        lattice = pose_lattice.COARSE if size < _COARSE_BELOW else pose_lattice.FINE
        look, clamped = pose_lattice.clamped_look(vector.pose, vector.expression)
        corners = [
            (self._drawable(key, classes, node, size), weight)
            for node, weight in lattice.corners(look)
        ]
        mesh = _mesh(corners, look)
        field = mesh_warp.displacement(
            mesh[:, :2], np.stack([picture.mesh[:, :2] for picture, _ in corners]), size
        )
        image = None
        total = 0.0
        for i, (picture, weight) in enumerate(corners):
            seen = mesh_warp.warped(picture.image, field[..., 2 * i : 2 * i + 2])
            total += weight
            share = weight / total
            image = seen if image is None else cv2.addWeighted(image, 1 - share, seen, share, 0)
        return Rendering.of_mesh(image, mesh, clamped=clamped, person=corners[0][0].person)

    def _drawable(self, key: bytes, classes: Classes, node: Node, size: int) -> _Picture:
        """The picture of a node, or of the nearest one that shows a face."""
        lattice = pose_lattice.COARSE if size < _COARSE_BELOW else pose_lattice.FINE
        for one in (node, *lattice.nearby(node)):
            picture = self._picture(key, classes, lattice.look(one), size)
            if picture is not None:
                return picture
        raise ValueError("a key shows no face in any pose")

    def _picture(self, key: bytes, classes: Classes, look: Look, size: int) -> _Picture | None:
        """A node's picture, kept or rendered; None where it shows no face."""
        name = (key, classes, look, size)
        with self._turn:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
            try:
                made = _pictured(self._source.render(
                    key, classes, look.pose, Expression(look.opening, look.width, 0.0), size
                ), size)  # fmt: skip
            except ValueError:
                made = None
            self._kept[name] = made
            self._bytes += 0 if made is None else made.nbytes
            while self._bytes > self._max_bytes and len(self._kept) > 1:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= 0 if gone is None else gone.nbytes
            return made


def _pictured(rendering: Rendering, size: int) -> _Picture:
    """A rendering as a node keeps it, brought to a square of `size` px."""
    if rendering.depth is None:
        raise TypeError("a rendering without depth cannot be turned")
    mesh = np.column_stack([rendering.mesh, rendering.depth]).astype(np.float64)
    image = rendering.image
    if image.shape[:2] != (size, size):
        image, mesh = _framed(image, mesh, size)
    return _Picture(image, mesh, face_shape.take_apart(mesh), rendering.person)


def _framed(image: np.ndarray, mesh: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture of any shape and its mesh in a square, the face as large as it can be in a portrait."""
    across = np.ptp(mesh[:, :2], axis=0).max()
    scale = _FACE * size / max(across, 1.0)
    middle = (mesh[:, :2].min(0) + mesh[:, :2].max(0)) / 2
    shift = (size - 1) / 2 - scale * middle
    matrix = np.column_stack([scale * np.eye(2), shift])
    if scale < 1:  # the smaller picture would have skipped pixels
        reduced = [max(1, round(side * scale)) for side in image.shape[1::-1]]
        image = cv2.resize(image, reduced, interpolation=cv2.INTER_AREA)
        matrix[:, :2] = np.eye(2)
    turned = cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
    moved = scale * mesh
    moved[:, :2] += shift
    return turned, moved


def _mesh(corners: list[tuple[_Picture, float]], look: Look) -> np.ndarray:
    """f32[468, 3] px: the mean of corners' shapes, turned to the pose, with the mouth that is asked for."""
    weights = np.array([weight for _, weight in corners])
    placed = [picture.placed for picture, _ in corners]
    shape = np.tensordot(weights, np.stack([p.shape for p in placed]), 1)
    shape = face_shape.with_mouth(face_shape.upright(shape), look.opening, look.width)
    shape = face_shape.upright(shape)
    roll = float(weights @ [p.pose.roll for p in placed])
    scale = float(weights @ [p.scale for p in placed])
    centre = weights @ np.stack([p.centre for p in placed])
    mesh = Placed(shape, look.pose._replace(roll=roll), scale, centre).mesh()
    return mesh.astype(np.float32)
