"""SFace without a detector: it takes the face to be where the canonical frame has it.

A detector finds no face in most blurred or covered pictures, and pictures without a found face say nothing
about what can be recognized. Someone who wants to know who it is does not need a detector.
"""

import numpy as np

from dp3_jax.evaluation.verification import SFace
from dp3_jax.masks import CANONICAL_POINTS, SIZE


class ForcedSFace(SFace):
    """SFace on canonical pictures, aligned by CANONICAL_POINTS; every picture counts as found."""

    name = "SFace without detector"

    def _embed_one(self, image: np.ndarray) -> np.ndarray:
        import cv2

        bgr = np.ascontiguousarray(image[..., ::-1])
        if bgr.shape[:2] != (SIZE, SIZE):
            bgr = cv2.resize(bgr, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        # As YuNet reports a face: box, five points, score; only the points are used.
        row = np.zeros(15, np.float32)
        row[4:14] = CANONICAL_POINTS.ravel()
        embedding = self._recognizer.feature(self._recognizer.alignCrop(bgr, row))[0]
        return (embedding / max(float(np.linalg.norm(embedding)), 1e-12)).astype(np.float32)
