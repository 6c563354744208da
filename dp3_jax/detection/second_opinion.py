"""Whether a detection is to be given a new face: a dog with a person's face is worse than a blur.

The limits come from labelling all 522 detections in 60 photos, 297 faces and 23 others of at least 24 px
(docs/results/anonymizer.md): with both, no dog, hand or wheel gets a face any more, and 93% of the faces do.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dp3_jax.common import assets
from dp3_jax.common.errors import UserError
from dp3_jax.detection.detections import Detection, FaceSource
from dp3_jax.models.mesh import FaceMesh, yaw_pitch_roll

MIN_GENERATED_CONFIDENCE = 0.8
MIN_MESH_SCORE = 0.9  # asked of faces of at least MIN_MESH_SIZE
# Degrees. Beyond 35 a face is drawn turned by 35; of the five faces of a photo of people in profile that the
# mesh confirms, those at 51 and 53 pass so, and at 57 eyes and mouth hang beside the head.
MAX_GENERATED_YAW = 55.0
MIN_MESH_SIZE = 60  # px, the smaller side of the box: of smaller faces the mesh knows too little


def mesh_at_hand() -> FaceMesh | None:
    """The face mesh, if it has been fetched before; without it the detector's confidence decides alone."""
    if not assets.is_cached("face_mesh"):
        return None
    try:
        return FaceMesh()
    except UserError:
        return None


def low_confidence_faces(
    frame: np.ndarray, faces: Sequence[Detection], mesh: FaceMesh | None
) -> list[Detection]:
    """The faces, of low confidence those that the detector or the mesh is not certain of.

    Args:
      frame: u8[h, w, 3] RGB.
      faces: as detected in it; what a user gave is not doubted.
      mesh: None to go by the detector's confidence.
    """
    return [
        face
        if _is_sure(frame, face, mesh)
        else dataclasses.replace(face, source=FaceSource.LOW_CONFIDENCE)
        for face in faces
    ]


def _is_sure(frame: np.ndarray, face: Detection, mesh: FaceMesh | None) -> bool:
    if face.source == FaceSource.USER:
        return True
    if face.source == FaceSource.LOW_CONFIDENCE or face.confidence < MIN_GENERATED_CONFIDENCE:
        return False
    if mesh is None or min(face.box[2:]) < MIN_MESH_SIZE:
        return True
    points, score = mesh.points(frame, face.box, face.keypoints)
    return score >= MIN_MESH_SCORE and abs(yaw_pitch_roll(points).yaw) <= MAX_GENERATED_YAW
