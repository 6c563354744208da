"""The faces of a clip: frames at even distances are looked at, and its tracks file where there is one."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.detection import tracks
from dp3_jax.detection.detections import Detection, overlap
from dp3_jax.detection.face_detection import Detector
from dp3_jax.evaluation.audit.faces import AuditedFace, audited, with_known
from dp3_jax.media.video.reading import VideoInfo, open_video, read_frames
from dp3_jax.pipelines.video import job, track_file

MAX_FRAMES = 60  # of a clip that are looked at
_A_SECOND = 2  # frames, where the clip is short enough
MAX_VIEWS = 8  # of a track whose pictures are kept, evenly over its time
_SAME = (
    0.3  # intersection over union of the boxes of one person in two frames that follow each other
)


@dataclasses.dataclass
class _Seen:
    """A track in a clip without a tracks file: its number, last box and the looked-at frame of it."""

    number: int
    box: Sequence[float]
    turn: int


class _Linker:
    """Numbers of tracks where no file tells them: the same place in the next frame is the same person."""

    def __init__(self, first: int):
        self._known: list[_Seen] = []
        self._next, self._turn = first, 0

    def __call__(self, faces: Sequence[Detection]) -> list[int]:
        """The track of each face of the next frame."""
        self._turn += 1
        near = [seen for seen in self._known if seen.turn == self._turn - 1]
        numbers = []
        for face in faces:
            best = max(near, key=lambda seen: overlap(seen.box, face.box), default=None)
            if best is None or overlap(best.box, face.box) < _SAME:
                best = _Seen(self._next, face.box, self._turn)
                self._known.append(best)
                self._next += 1
            else:
                near.remove(best)
            best.box, best.turn = face.box, self._turn
            numbers.append(best.number)
        return numbers


class _Views:
    """Faces of a clip, the pictures of each track thinned to at most MAX_VIEWS as they come."""

    def __init__(self):
        self.faces: list[AuditedFace] = []
        self._shown: dict[int, list[int]] = {}  # track -> faces with pictures
        self._stride: dict[int, int] = {}
        self._count: dict[int, int] = {}

    def add(self, face: AuditedFace) -> None:
        """Takes the next face."""
        number = face.track
        place = self._count.get(number, 0)
        self._count[number] = place + face.is_large
        stride, shown = self._stride.setdefault(number, 1), self._shown.setdefault(number, [])
        if not face.is_large or place % stride:
            face = _without_picture(face)
        else:
            shown.append(len(self.faces))
        self.faces.append(face)
        if len(shown) > MAX_VIEWS:
            for dropped in shown[1::2]:
                self.faces[dropped] = _without_picture(self.faces[dropped])
            self._shown[number], self._stride[number] = shown[::2], 2 * stride


def _without_picture(face: AuditedFace) -> AuditedFace:
    return dataclasses.replace(face, views=None, mask=None, has_views=False)


def _opened(original: pathlib.Path, result: pathlib.Path) -> VideoInfo:
    info, made = open_video(original), open_video(result)
    if info.canvas_size != made.canvas_size:
        sizes = ["{}x{}".format(*one.canvas_size) for one in (info, made)]
        raise UserError(f"{original} has {sizes[0]} px, its result {sizes[1]}; they must be equal")
    return info


def _step(info: VideoInfo) -> int:
    """Every how many frames one is looked at."""
    usual = max(1, round(float(info.rate) / _A_SECOND))
    expected = info.frames_estimate or (info.duration_seconds or 0) * float(info.rate)
    return max(usual, math.ceil(expected / MAX_FRAMES))


def _frames(
    original: pathlib.Path, result: pathlib.Path, step: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(number, frame of the original, of the result) of those that are looked at, up to MAX_FRAMES."""
    pairs = zip(read_frames(original), read_frames(result), strict=False)
    for number, (before, after) in enumerate(pairs):
        if number >= step * MAX_FRAMES:
            return
        if number % step == 0:
            yield number, np.asarray(before.image), np.asarray(after.image)


def read_tracking(result: pathlib.Path) -> tracks.Tracking | None:
    """What the tracks file beside a result says, where there is one.

    Raises:
      UserError: it cannot be used.
    """
    file = job.sidecar_path(result)
    return track_file.read(file).tracking if file.is_file() else None


def clip_faces(
    original: pathlib.Path,
    result: pathlib.Path,
    detector: Detector,
    progress: Callable[[int, int], None],
) -> list[AuditedFace]:
    """The faces of a clip: those that the detector finds in frames of the original, and its tracks.

    Args:
      original, result: of equal size; frames belong together by their number.
      detector: for the frames.
      progress: called with the number of frames looked at and the most there will be.

    Raises:
      UserError: one of them cannot be read, or they do not belong together.
    """
    info, tracking = _opened(original, result), read_tracking(result)
    at = tracks.by_frame(tracking) if tracking is not None else lambda _: []
    numbers = [track.number for track in tracking.tracks] if tracking is not None else []
    linker, views = _Linker(max(numbers, default=0) + 1), _Views()
    for turn, (number, before, after) in enumerate(_frames(original, result, _step(info)), 1):
        known = [(tracks.to_face(seen), track, seen) for track, seen in at(number)]
        faces = with_known(detector.detect(before), [face for face, *_ in known])
        by_file = {id(face): (track, seen) for face, track, seen in known}
        others = [face for face in faces if id(face) not in by_file]
        linked = {id(face): track for face, track in zip(others, linker(others), strict=True)}
        for face in faces:
            track, seen = by_file.get(id(face), (None, None))
            more = {"track": linked.get(id(face), 0)}
            if track is not None:
                more = {"track": track.number, "keep": track.keep, "vector": seen.vector}
            found = audited(before, after, face, frame=number, **more)
            if found is not None:
                views.add(found)
        progress(turn, MAX_FRAMES)
    return views.faces
