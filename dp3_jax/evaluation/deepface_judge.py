"""The verifier that the paper used: the DeepFace library with its default model, VGG-Face."""

import os

import numpy as np

from dp3_jax.errors import UserError
from dp3_jax.evaluation import verification


class DeepFace:
    """See `verification.Verifier`."""

    name = "DeepFace VGG-Face"
    _model = "VGG-Face"

    def __init__(self):
        """Loads the model; DeepFace downloads its weights itself.

        Raises:
          UserError: DeepFace is missing, or its weights cannot be had.
        """
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with verification.needed(
            "the DeepFace judge", "'dp3_jax[deepface]'", "choose config.evaluate.judge=sface"
        ):
            from deepface import DeepFace as library
            from deepface.modules.verification import find_threshold

        try:
            library.build_model(self._model)
        except Exception as error:  # it raises many kinds when a download fails
            raise UserError(
                f"DeepFace cannot load {self._model}: {' '.join(str(error).split())}; "
                "choose config.evaluate.judge=sface"
            ) from error
        self._library = library
        # DeepFace compares by cosine distance, 1 minus the cosine.
        self.threshold = 1.0 - float(find_threshold(self._model, "cosine"))

    def _embed_one(self, image: np.ndarray) -> np.ndarray | None:
        bgr = np.ascontiguousarray(image[..., ::-1])  # DeepFace reads arrays as OpenCV does
        try:
            faces = self._library.represent(
                bgr, model_name=self._model, detector_backend="yunet", enforce_detection=True
            )
        except ValueError:  # DeepFace's way to say that it found no face
            return None
        largest = max(faces, key=lambda face: face["facial_area"]["w"] * face["facial_area"]["h"])
        return np.asarray(largest["embedding"], np.float32)

    def embed(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Verifier.embed`."""
        return verification.stack([self._embed_one(image) for image in images])
