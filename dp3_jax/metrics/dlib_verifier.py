"""A second face verifier, independent of the first: dlib's detector, points and embedding (King, 2017)."""

import numpy as np

from dp3_jax.common import assets
from dp3_jax.metrics.verifier import needed, stack


class Dlib:
    """Histogram-of-gradients detector, five points, 128-d embedding; shares no network with YuNet and SFace.

    dlib documents L2 distances of embeddings that it does not normalise. Their norm varies little (1.49,
    standard deviation 0.08, on CelebA), so that the cosine of `Verifier` tells nearly the same.
    """

    name = "dlib"
    # dlib documents "same person" as L2 distance <= 0.6. At norm r it is cosine >= 1 - 0.6^2 / (2 r^2).
    threshold = 0.919

    side = 256  # px, pictures' side for detection: the detector finds faces from 80 px
    chip = 150  # px, what the embedding takes
    padding = 0.25  # round the face, as in training
    score = -0.3  # least score of a detection; dlib's default of 0 misses faces turned a little

    def __init__(self):
        """Loads the three models.

        Raises:
          UserError: dlib is missing, or its models cannot be fetched.
        """
        with needed("the dlib verifier", "'dp3_jax[audit]'"):
            import dlib
        self._dlib = dlib
        self._detector = dlib.get_frontal_face_detector()
        self._points = dlib.shape_predictor(str(assets.fetch("dlib_points")))
        self._network = dlib.face_recognition_model_v1(str(assets.fetch("dlib_face")))

    def _embed_one(self, image: np.ndarray) -> np.ndarray | None:
        import cv2

        picture = cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_CUBIC)
        boxes, _, _ = self._detector.run(picture, 0, self.score)
        if not len(boxes):
            return None
        largest = max(boxes, key=lambda box: box.area())
        points = self._points(picture, largest)
        chip = self._dlib.get_face_chip(picture, points, self.chip, self.padding)
        return np.asarray(self._network.compute_face_descriptor(chip), np.float32)

    def embed(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Verifier.embed`. The largest face of each square picture; about 0.1 s each on one core."""
        return stack([self._embed_one(np.ascontiguousarray(image)) for image in images])
