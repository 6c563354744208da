"""The faces of an original beside the same places of its result."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.detection.detections import Detection, FaceSource, merge
from dp3_jax.detection.face_detection import Detector
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.evaluation.audit import coverage
from dp3_jax.media.photos import read_photo
from dp3_jax.pipelines import sidecar
from dp3_jax.vision import geometry

MIN_WIDTH = (
    24  # px of a box: of a smaller face nobody is recognised; it must be changed all the same
)


@dataclasses.dataclass(frozen=True, eq=False)
class AuditedFace:
    """A face of an original.

    Attributes:
      box: (x, y, width, height) in px of the picture.
      confidence: of the detection.
      sure: whether it is surely a face; others are only named.
      state: of `coverage`.
      change: how it differs; None where it lies outside the picture.
      track: in a clip, which person there; 0 in a photo.
      frame: in a clip, from 0; 0 in a photo.
      views: u8[2, 128, 128, 3], original and result in the canonical frame; None where they are not kept.
      mask: bool[128, 128], the masked region in that frame.
      vector: what passed on to the new face, as a sidecar says, else None.
      has_views: whether there are pictures, also where they are not read.
    """

    box: tuple[float, float, float, float]
    confidence: float
    sure: bool
    state: str
    change: coverage.Change
    track: int = 0
    frame: int = 0
    views: np.ndarray | None = None
    mask: np.ndarray | None = None
    vector: FaceVector | None = None
    has_views: bool = True

    @property
    def is_large(self) -> bool:
        """Whether somebody could be recognised in it."""
        return min(self.box[2:]) >= MIN_WIDTH


def audited(
    original: np.ndarray,
    result: np.ndarray,
    face: Detection,
    *,
    keep: bool = False,
    vector: FaceVector | None = None,
    track: int = 0,
    frame: int = 0,
) -> AuditedFace | None:
    """The face in two pictures u8[h, w, 3] of one size; None where it lies outside of them."""
    try:
        alignment = face.alignment()
        views = np.stack([geometry.extract(one, alignment) for one in (original, result)])
    except ValueError:
        return None
    mask = face.kind.mask(alignment, face.box)[..., 0] > 0
    change = coverage.compare(*views, mask)
    return AuditedFace(
        box=tuple(float(v) for v in face.box),
        confidence=float(face.confidence),
        sure=face.source != FaceSource.LOW_CONFIDENCE,
        state=coverage.KEPT if keep else change.state,
        change=change,
        track=track,
        frame=frame,
        views=views,
        mask=mask,
        vector=vector,
    )


def with_known(found: Sequence[Detection], known: Sequence[Detection]) -> list[Detection]:
    """Faces that were found, or that an annotation file knows, once each; its own go before."""
    # The most confident of several boxes stays.
    trusted = [dataclasses.replace(face, confidence=2.0) for face in known]
    own = {id(face): place for place, face in enumerate(trusted)}
    merged = merge([*trusted, *found])
    return [known[own[id(face)]] if id(face) in own else face for face in merged]


def _sidecar(path: pathlib.Path, shape: Sequence[int]) -> Mapping[int, sidecar.FaceAction]:
    """{id of a face: what was to be done with it} of the sidecar beside a result, where there is one."""
    file = path.with_name(path.name + sidecar.SUFFIX)
    if not file.is_file():
        return {}
    actions = sidecar.read(file, shape, bytes(32))[0]
    return {id(action.face): action for action in actions}


def photo_faces(
    original: pathlib.Path, result: pathlib.Path, detector: Detector
) -> list[AuditedFace]:
    """All faces of a photo: those that the detector finds in the original, and its sidecar's.

    Raises:
      UserError: one of the two cannot be read, or they are not of one size.
    """
    before, after = (read_photo(path).pixels for path in (original, result))
    if before.shape != after.shape:
        sizes = ["{1}x{0}".format(*picture.shape) for picture in (before, after)]
        raise UserError(f"{original} has {sizes[0]} px, its result {sizes[1]}; they must be equal")
    actions = _sidecar(result, before.shape)
    known = [action.face for action in actions.values()]
    audited_faces = []
    for face in with_known(detector.detect(before), known):
        action = actions.get(id(face))
        keep, vector = (False, None) if action is None else (action.keep, action.vector)
        audited_faces.append(audited(before, after, face, keep=keep, vector=vector))
    return [face for face in audited_faces if face is not None]
