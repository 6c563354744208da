"""What is measured on each picture of a face, once, so that tables can be made of it afterwards."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dp3_jax.metrics import kid
from dp3_jax.metrics.verification import DetectedPoints, canonical_points
from dp3_jax.models import embedders
from dp3_jax.models.mesh import FaceMesh, expression, yaw_pitch_roll
from dp3_jax.replacement.attributes import ita, skin

Measures = dict[str, np.ndarray]  # each with one row for each picture

MOBILENET = "mobilenet_v2"  # whose features are measured where they are asked for


class Ruler:
    """All measuring networks.

    Attributes:
      verifiers: the embedders by name.
    """

    def __init__(self, verifiers: Mapping[str, embedders.Embedder], *, mobilenet: bool = True):
        """Loads what is not given.

        Args:
          verifiers: by name.
          mobilenet: measure MobileNetV2's features where they are asked for.

        Raises:
          UserError: a network cannot be fetched.
        """
        self.verifiers = dict(verifiers)
        self._find, self._mesh = DetectedPoints(), FaceMesh()
        self._features: Callable[[np.ndarray], np.ndarray] | None = None
        if mobilenet:
            self._features = kid.feature_extractor(MOBILENET)

    def measure(self, pictures: np.ndarray, *, features: bool = False) -> Measures:
        """Measures u8[N, S, S, 3] pictures in the canonical frame.

        Args:
          pictures: of one face each.
          features: also MobileNetV2's features, if they were loaded.

        Returns:
          found: bool[N], whether YuNet finds a face. points: f32[N, 5, 2], its five points, where it finds
          none the canonical ones. For each verifier under its name the embeddings f32[N, D] of the faces so
          aligned, of length 1. pose: f32[N, 3] degrees; expression: f32[N, 3] as mesh.Expression; score:
          f32[N] of the mesh. ita: f32[N], degrees. mobilenet_v2: f32[N, 1280] if asked for.
        """
        points = self._find(pictures)
        found = np.array([p is not None for p in points], bool)
        usual = canonical_points(pictures)
        five = [b if a is None else a for a, b in zip(points, usual, strict=True)]
        result = {"found": found, "points": np.array(five, np.float32).reshape(-1, 5, 2)}
        for name, embedder in self.verifiers.items():
            result[name] = embedders.unit(embedders.embed(embedder, pictures, five))
        result |= self._shapes(pictures, five)
        if features and self._features is not None and len(pictures):
            result[MOBILENET] = self._features(pictures)
        return result

    def _shapes(self, pictures: np.ndarray, five: Sequence[np.ndarray]) -> Measures:
        poses, mouths, scores, tones = [], [], [], []
        for picture, points in zip(pictures, five, strict=True):
            mesh, score = self._mesh.points(picture, five=points)
            poses.append(yaw_pitch_roll(mesh))
            mouths.append(expression(mesh))
            scores.append(score)
            tones.append(ita(*skin(picture, mesh)))
        return {
            "pose": np.array(poses, np.float32).reshape(-1, 3),
            "expression": np.array(mouths, np.float32).reshape(-1, 3),
            "score": np.array(scores, np.float32),
            "ita": np.array(tones, np.float32),
        }
