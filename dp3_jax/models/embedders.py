"""Networks that tell people apart: an aligned face to numbers, near each other for one person.

One interface for all. A face is aligned by its five points, in YuNet's order (see masks.CANONICAL_POINTS),
to where the network had them in training. Which face, found how, and the verdict are no matter of this file.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import cv2
import numpy as np

from dp3_jax.common import assets
from dp3_jax.common.opencv import quiet_opencv
from dp3_jax.vision import geometry, masks

BATCH = 16  # faces in one call of a network in JAX


class Embedder(Protocol):
    """A network for aligned faces.

    Attributes:
      name: for reports.
      side: px, of an aligned face.
      points: f32[5, 2], where the five points lie in it, (x, y).
      threshold: two faces are one person's when the cosine of their embeddings is at least this.
    """

    name: str
    side: int
    points: np.ndarray
    threshold: float

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """u8[N, side, side, 3] RGB aligned faces -> f32[N, D], D the same for all, of any length."""
        ...


def align(picture: np.ndarray, points: np.ndarray, embedder: Embedder) -> np.ndarray:
    """u8[side, side, 3]: the face with these five points in u8[h, w, 3] `picture` as `embedder` takes it.

    Raises:
      ValueError: the points coincide or are not finite.
    """
    points = np.asarray(points, np.float64)
    alignment = geometry.align_points(points, embedder.points)
    factor = int(1 / alignment.scale)
    if factor > 1:  # bilinear interpolation would skip pixels
        size = [max(1, side // factor) for side in picture.shape[1::-1]]
        ratio = np.array(size) / picture.shape[1::-1]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        alignment = geometry.align_points((points + 0.5) * ratio - 0.5, embedder.points)
    size = (embedder.side, embedder.side)
    return cv2.warpAffine(np.ascontiguousarray(picture), alignment.matrix, size)


def embed(
    embedder: Embedder, pictures: Sequence[np.ndarray], points: Sequence[np.ndarray]
) -> np.ndarray:
    """f32[N, D]: the embeddings of the faces with these five points, f[5, 2], one in each picture."""
    faces = np.zeros((len(pictures), embedder.side, embedder.side, 3), np.uint8)
    for face, picture, five in zip(faces, pictures, points, strict=True):
        face[...] = align(picture, five, embedder)
    return embedder(faces)


def unit(embeddings: np.ndarray) -> np.ndarray:
    """f32[..., D] of length 1, so that a product of two is their cosine."""
    length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return (embeddings / np.maximum(length, 1e-12)).astype(np.float32)


class SFace:
    """SFace (Zhong et al., 2021), run by OpenCV; trained on MS1M-like data by its authors."""

    name = "SFace"
    side = 112
    points = np.array(  # ArcFace's, as OpenCV's FaceRecognizerSF::alignCrop has them
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
         [70.7299, 92.2041]], np.float32,
    )  # fmt: skip
    threshold = 0.363  # the published operating point of these weights

    def __init__(self):
        """Loads the network.

        Raises:
          UserError: it cannot be fetched.
        """
        path = str(assets.fetch("sface"))
        with quiet_opencv():
            self.recognizer = cv2.FaceRecognizerSF.create(path, "")

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """See `Embedder`; 128 numbers."""
        rows = [self.recognizer.feature(np.ascontiguousarray(f[..., ::-1]))[0] for f in faces]
        return np.array(rows, np.float32).reshape(len(faces), 128)


def in_batches(function: Callable[[np.ndarray], np.ndarray], faces: np.ndarray) -> np.ndarray:
    """`function` of u8[n, ...] for n of BATCH, and of 1 for few left over: it compiles for these two."""
    rows, start = [], 0
    while start < len(faces):
        left = len(faces) - start
        size = BATCH if left > 2 else 1
        part = faces[start : start + size]
        missing = [(0, size - len(part))] + [(0, 0)] * (faces.ndim - 1)
        rows.append(np.asarray(function(np.pad(part, missing)))[: len(part)])
        start += len(part)
    return np.concatenate(rows)


class DlibResNet:
    """dlib's recognizer without dlib: `models.dlib_resnet`."""

    name = "dlib ResNet"
    side = 150
    points = np.array(  # means of dlib's own chips on LFW
        [[47.8, 46.5], [100.2, 46.5], [74.0, 76.6], [50.4, 103.0], [97.6, 103.0]], np.float32
    )
    threshold = 0.91  # as many people of LFW told wrongly apart as taken for one: 1.1%

    def __init__(self):
        """Loads the network.

        Raises:
          UserError: it cannot be fetched.
        """
        import jax

        from dp3_jax.models import dlib_resnet

        manifest, weights = assets.fetch("dlib_resnet_manifest"), assets.fetch("dlib_resnet")
        self._parameters = jax.device_put(dlib_resnet.load_parameters(manifest, weights))
        self._apply = jax.jit(dlib_resnet.apply)
        self._width = dlib_resnet.WIDTH

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """See `Embedder`; 128 numbers."""
        if not len(faces):
            return np.zeros((0, self._width), np.float32)
        return in_batches(lambda part: self._apply(self._parameters, part), faces)


def _in_a_box(box: Sequence[float], margin: float, side: int) -> np.ndarray:
    """f32[5, 2]: the canonical points in the square of `margin` times the longer side of `box`."""
    x, y, width, height = box
    square = max(width, height) * margin
    corner = np.array([x + width / 2, y + height / 2]) - square / 2
    return ((masks.CANONICAL_POINTS - corner) * (side / square)).astype(np.float32)


class Faceres:
    """`models.faceres`, the mean of other people's embeddings taken off.

    Its numbers are positive, so that all embeddings point one way; without their mean the cosine tells people
    apart better, if the mean is of photos of the same source (docs/results/anonymizer.md). This one is
    CelebA's.
    """

    name = "faceres"
    side = 224
    points = _in_a_box(geometry.CANONICAL_BOX, 1.2, 224)
    threshold = 0.25  # as many people of LFW told wrongly apart as taken for one: 3.3%

    def __init__(self):
        """Loads the network.

        Raises:
          UserError: it cannot be fetched.
        """
        import jax

        from dp3_jax.models import faceres

        network = faceres.Faceres(assets.fetch("faceres_graph"), assets.fetch("faceres"))
        self._parameters = jax.device_put(network.parameters)
        self._apply = jax.jit(
            lambda p, x: network.apply(p, x.astype("float32")).embedding - faceres.mean()
        )
        self._width = faceres.WIDTH

    def __call__(self, faces: np.ndarray) -> np.ndarray:
        """See `Embedder`; 1,024 numbers."""
        if not len(faces):
            return np.zeros((0, self._width), np.float32)
        return in_batches(lambda part: self._apply(self._parameters, part), faces)


EMBEDDERS: dict[str, Callable[[], Embedder]] = {
    "sface": SFace,
    "dlib_resnet": DlibResNet,
    "faceres": Faceres,
}
