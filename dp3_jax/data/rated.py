"""Faces that somebody rated, as the fusion network saw them: from feedback.jsonl and the originals.

The feedback holds no pixels. The originals are read again, the face that was there is taken out as it was
then, and the person of the rated key is rendered again; what a network is trained on therefore holds nothing
of the face that was replaced. Originals that are gone or have changed since are left out and counted.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.data import feedback
from dp3_jax.data.feedback import Feedback
from dp3_jax.detection.detections import Detection, FaceSource
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.media import photos
from dp3_jax.media.video.reading import read_frames
from dp3_jax.replacement.face_actions import FaceAction
from dp3_jax.replacement.frame_renderer import FaceTask, render_frame
from dp3_jax.replacement.fusing import Donor, FusionNetwork, Parts
from dp3_jax.replacement.generation import FaceRenderer, request_for

# What a fusion network can do something about; ages, sexes and likenesses are the person's.
BY_FUSION = frozenset(("eyes", "mouth", "boundary", "colour"))
_PLACES = 8.0  # px to which boxes are rounded to tell faces of one photo apart


@dataclasses.dataclass(frozen=True)
class Rating:
    """The last that was said of one new face.

    Attributes:
      entry: the remark.
      wrong: how much looks wrong: the number of verdicts of BY_FUSION; one half for a person who was thrown
        away without a word.
      context: the same number for all new faces in one place of one photo.
    """

    entry: Feedback
    wrong: float
    context: int


@dataclasses.dataclass(frozen=True, eq=False)
class RatedFaces:
    """Inputs of the fusion network for n rated faces.

    Attributes:
      image: u8[n, S, S, 3]; nothing under the mask.
      mask: bool[n, S, S, 1].
      donor: u8[n, S, S, 3].
      donor_mask: bool[n, S, S, 1].
      wrong: f32[n], as `Rating.wrong`.
      context: i64[n], as `Rating.context`.
    """

    image: np.ndarray
    mask: np.ndarray
    donor: np.ndarray
    donor_mask: np.ndarray
    wrong: np.ndarray
    context: np.ndarray

    def __len__(self) -> int:
        return len(self.wrong)

    def of(self, rows: np.ndarray) -> "RatedFaces":
        """Those of some rows, bool[n] or i[m]."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return RatedFaces(*(value[rows] for value in values))


def ratings(entries: Iterable[Feedback]) -> list[Rating]:
    """What was said of generated faces, the last of each; in the order in which they were first rated."""
    last: dict[tuple, tuple[Feedback, float]] = {}
    contexts: dict[tuple, int] = {}
    for entry in entries:
        if entry.action not in ("rate", "another_person") or None in (entry.key, entry.box):
            continue
        if entry.done not in (None, "generated"):
            continue
        place = (entry.sha256, entry.frame, *(round(v / _PLACES) for v in entry.box))
        contexts.setdefault(place, len(contexts))
        name = (place, entry.key, entry.candidate)
        if entry.action == "rate":
            last[name] = entry, float(len(BY_FUSION & set(entry.verdicts)))
        elif name not in last:
            last[name] = entry, 0.5
    return [Rating(entry, wrong, contexts[name[0]]) for name, (entry, wrong) in last.items()]


def is_unchanged(entry: Feedback) -> bool:
    """Whether the original that a remark is about is there, as it was."""
    try:
        return feedback.sha256_of(entry.source) == entry.sha256
    except (OSError, UserError):
        return False


def picture(entry: Feedback) -> np.ndarray:
    """u8[h, w, 3]: the original photo, or the frame of the clip that was looked at.

    Raises:
      UserError: it cannot be read.
    """
    if entry.kind == "photo":
        return photos.read_photo(entry.source).pixels
    for frame in read_frames(pathlib.Path(entry.source)):
        if frame.number == entry.frame:
            return frame.image
    raise UserError(f"{entry.source} has no frame {entry.frame}")


class _Recorder(FusionNetwork):
    """A fusion network that keeps what it is given."""

    def __init__(self, network: FusionNetwork):
        self.fingerprint, self._inner = network.fingerprint, network
        self.given: list[tuple[np.ndarray, ...]] = []

    def warm(self) -> None:
        """See `FusionNetwork.warm`."""
        self._inner.warm()

    def parts(self, context: np.ndarray, mask: np.ndarray, donor: Donor) -> Parts:
        """See `FusionNetwork.parts`."""
        masked, shown = mask > 0, donor.mask > 0
        image = np.where(masked, np.uint8(0), context)
        self.given.append((image, masked, np.where(shown, donor.view, np.uint8(0)), shown))
        return self._inner.parts(context, mask, donor)


def load(
    rated: Sequence[Rating],
    network: FusionNetwork,
    open_renderer: Callable[[FusionNetwork], FaceRenderer],
    report: Callable[[int], None] = lambda done: None,
) -> RatedFaces:
    """Renders the rated faces again, up to what the network is given.

    Args:
      rated: of originals that are unchanged (`is_unchanged`).
      network: any fusion network; what it answers does not matter.
      open_renderer: makes a renderer that uses the network it is given.
      report: told after each face how many are done.

    Raises:
      UserError: none of them can be rendered.
    """
    recorder = _Recorder(network)
    renderer = open_renderer(recorder)
    rows, kept = [], []
    for done, rating in enumerate(rated, start=1):
        before = len(recorder.given)
        _render(rating.entry, renderer)
        if len(recorder.given) > before:
            rows.append(recorder.given[before])
            kept.append(rating)
        report(done)
    if not rows:
        raise UserError("none of the rated faces can be rendered again; rate results of the prior")
    columns = (np.stack(column) for column in zip(*rows, strict=True))
    wrong = np.array([rating.wrong for rating in kept], np.float32)
    return RatedFaces(*columns, wrong, np.array([rating.context for rating in kept]))


def _render(entry: Feedback, renderer: FaceRenderer) -> None:
    points = None if entry.points is None else np.asarray(entry.points, np.float32)
    face = Detection(entry.box, points, entry.confidence or 1.0, FaceSource.USER)
    vector = None if entry.vector is None else FaceVector(**entry.vector)
    action = FaceAction(face, bytes.fromhex(entry.key), candidate=entry.candidate, vector=vector)
    shown = picture(entry)
    render_frame(shown, [FaceTask(action, request=request_for(0, action, shown.shape))], renderer)
