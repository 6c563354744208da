"""--keep: faces to leave as they are, by a region of the picture or by a reference photo of a person.

Leaving a face is the one thing here that shows it, so every doubt decides against: a face that is not clearly
the one meant is anonymized.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_detection import Detection, Detector
from dp3_jax.detection.kinds import FACE, HEAD
from dp3_jax.media.photos import read_photo
from dp3_jax.models import embedders

# SFace's published threshold is 0.363; one in a thousand strangers passes it. On 900 LFW photos this one lets
# none of 402,921 pairs of strangers pass and 94% of the pairs of one person.
SAME_PERSON = 0.5
_CLEARLY_BETTER = 0.1  # than any other face in the picture
_MIN_CONFIDENCE = 0.8  # of the detection, to be compared at all
_MIN_WIDTH = 40  # px
_INSIDE = 0.9  # of a face's box lies in the region


@dataclasses.dataclass(frozen=True)
class AllowedArea:
    """A rectangle of the picture, (x, y, width, height) in px, and its text for the record."""

    box: tuple[float, float, float, float]
    text: str


def parse_region(text: str) -> AllowedArea | None:
    """The region that `X,Y,W,H` stands for; None when the text has another form.

    Raises:
      UserError: four numbers without a positive size.
    """
    parts = text.split(",")
    try:
        x, y, w, h = (float(part) for part in parts)
    except ValueError:
        return None
    if not np.isfinite([x, y, w, h]).all() or w <= 0 or h <= 0:
        raise UserError(f"--keep {text}: the region X,Y,W,H needs a positive size")
    return AllowedArea((x, y, w, h), text)


class Allowlist:
    """Decides which faces are left as they are."""

    def __init__(self, rules: Sequence[str], detector: Detector | None = None):
        """Reads the rules, each `X,Y,W,H` or the path of a photo with one face.

        Args:
          rules: texts of --keep.
          detector: for reference photos; made when needed and not given.

        Raises:
          UserError: a reference photo cannot be read, shows no face or several, or SFace cannot be had.
        """
        self._regions: list[AllowedArea] = []
        self._people: list[tuple[str, np.ndarray]] = []
        self._embedder: embedders.SFace | None = None
        for rule in rules:
            if (found := parse_region(rule)) is not None:
                self._regions.append(found)
            else:
                detector = detector or Detector()
                self._people.append((pathlib.Path(rule).name, self._reference(rule, detector)))

    def _reference(self, path: str, detector: Detector) -> np.ndarray:
        frame = read_photo(path).pixels
        faces = [f for f in detector.detect(frame) if self._comparable(f)]
        if len(faces) != 1:
            found = "no clear face" if not faces else f"{len(faces)} faces"
            raise UserError(f"--keep {path}: the photo shows {found}; it must show one person's")
        return self._embed(frame, faces[0])

    def _comparable(self, face: Detection) -> bool:
        clear = face.confidence >= _MIN_CONFIDENCE and min(face.box[2:]) >= _MIN_WIDTH
        return face.kind in (FACE, HEAD) and face.keypoints is not None and clear

    def _embed(self, frame: np.ndarray, face: Detection) -> np.ndarray:
        """f32[128] of length 1: SFace (Zhong et al., 2021) of the face aligned by its five points."""
        if self._embedder is None:
            self._embedder = embedders.SFace()
        return embedders.unit(embedders.embed(self._embedder, [frame], [face.keypoints])[0])

    def decide(self, frame: np.ndarray, faces: Sequence[Detection]) -> list[str]:
        """For each face why it is kept; empty texts for those to be anonymized."""
        reasons = [self._by_region(face) for face in faces]
        if not self._people:
            return reasons
        comparable = [i for i, face in enumerate(faces) if self._comparable(face)]
        embeddings = {i: self._embed(frame, faces[i]) for i in comparable}
        for name, reference in self._people:
            likeness = sorted(
                ((float(e @ reference), i) for i, e in embeddings.items()), reverse=True
            )
            if not likeness or likeness[0][0] < SAME_PERSON:
                continue
            if len(likeness) > 1 and likeness[1][0] > likeness[0][0] - _CLEARLY_BETTER:
                continue  # one person is not twice in a picture: it cannot be told which is meant
            best, i = likeness[0]
            reasons[i] = reasons[i] or f"like {name} ({best:.2f})"
        return reasons

    def _by_region(self, face: Detection) -> str:
        x, y, w, h = face.box
        for one in self._regions:
            left, top, width, height = one.box
            right = min(x + w, left + width) - max(x, left)
            down = min(y + h, top + height) - max(y, top)
            if right > 0 and down > 0 and right * down >= _INSIDE * w * h:
                return f"in the region {one.text}"
        return ""
