"""What is to be done with the faces of a picture, and what was done."""

import dataclasses
import enum
from collections.abc import Sequence

from dp3_jax.common.choices import EXTENTS, METHODS
from dp3_jax.common.errors import UserError
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.replacement import key_derivation

SMALLEST_GENERATED = 24  # px, the width of a face box below which a new face would be a smudge


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How faces are anonymized; what a sidecar records and restores.

    Attributes:
      method: generate, blur, pixelate or solid.
      cover: what the obfuscations cover: face or head.
      candidates: new faces drawn for each one; the one that continues its surroundings best is taken.

    Raises:
      UserError: a value that is not one of these.
    """

    method: str = "generate"
    cover: str = "face"
    candidates: int = 1

    def __post_init__(self):
        if self.method not in METHODS:
            raise UserError(f"method {self.method!r} is not one of {', '.join(METHODS)}")
        if self.cover not in EXTENTS:
            raise UserError(f"cover {self.cover!r} is not one of {', '.join(EXTENTS)}")
        if isinstance(self.candidates, bool) or not isinstance(self.candidates, int):
            raise UserError(f"the number of candidates is a whole number, not {self.candidates!r}")
        if not 1 <= self.candidates <= 64:
            raise UserError(f"the number of candidates is 1 to 64, not {self.candidates}")


@dataclasses.dataclass(frozen=True, eq=False)
class FaceAction:
    """What is to be done with a face.

    Attributes:
      face: where it is.
      keep: leave it as it is.
      method: as in Settings, or None for the one in the settings.
      key: of its latent (see `key_derivation.track_key`).
      candidate: number of the latent to use, when that was settled before.
      reason: why it is kept, for the record.
      vector: pose and expression that the new face shows; None where they are not known or not used.
    """

    face: Detection
    key: bytes
    keep: bool = False
    method: str | None = None
    candidate: int | None = None
    reason: str = ""
    vector: FaceVector | None = None

    @property
    def yaw(self) -> float:
        """Degrees by which the face is turned, as far as the vector says it."""
        return 0.0 if self.vector is None else self.vector.yaw


class Done(enum.StrEnum):
    """What was done with a face; the values stand in annotation files and reports."""

    GENERATED = "generated"
    BLURRED = "blurred"
    PIXELATED = "pixelated"
    SOLID = "solid"
    COVERED = "covered"  # a new face could not be made
    SILHOUETTE = "silhouette"
    REMOVED = "removed"  # what is behind it is shown, or guessed
    REDRAWN = "redrawn"  # a body or a head, in other clothes or with other hair
    KEPT = "kept"


@dataclasses.dataclass(frozen=True, eq=False)
class FaceResult:
    """What was done with a face.

    Attributes:
      action: what was to be done.
      done: what was done.
      candidate: number of the latent that was used; None unless generated.
      reason: one line when something else was done than asked for; else empty.
      person: tells the persons of one identity source apart; None where there is none.
      awaited: it is obfuscated only until its person has been made.
    """

    action: FaceAction
    done: Done
    candidate: int | None = None
    reason: str = ""
    person: str | None = None
    awaited: bool = False

    @property
    def fell_back(self) -> bool:
        """Whether a new face should have been made and could not be."""
        return self.done == Done.COVERED


def face_actions_of(faces: Sequence[Detection], master_key: bytes) -> list[FaceAction]:
    """All faces to be anonymized, with keys from `master_key` by their order."""
    return [
        FaceAction(face, key_derivation.track_key(master_key, i)) for i, face in enumerate(faces)
    ]


def obfuscation_of(
    action: FaceAction, settings: Settings, smallest: float = SMALLEST_GENERATED
) -> tuple[str, str]:
    """(method, reason) by which a face is covered; an empty method when a new face is to be made.

    Faces narrower than `smallest` px are not generated.
    """
    method = action.method or settings.method
    if method != "generate":
        return method, ""
    if action.face.source == FaceSource.LOW_CONFIDENCE and action.method is None:
        return "pixelate", "not surely a face"
    if min(action.face.box[2:]) < smallest:
        return "pixelate", f"smaller than {SMALLEST_GENERATED} px"
    return "", ""
