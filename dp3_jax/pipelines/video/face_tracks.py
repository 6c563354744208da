"""The tracks of faces that a video is rendered by: detected, linked from given boxes, or given whole."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.detection.keyframes import interval
from dp3_jax.detection.sequence_detection import VideoDetector
from dp3_jax.detection.tracks import Tracking
from dp3_jax.detection.vector_meter import VectorMeter
from dp3_jax.media.video import reading
from dp3_jax.pipelines.allowlist import Allowlist
from dp3_jax.pipelines.video import boxes, detection_pass, track_file
from dp3_jax.pipelines.video.work_folder import WorkFolder
from dp3_jax.replacement import key_derivation
from dp3_jax.replacement.face_actions import Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """What the user says of the faces.

    Attributes:
      boxes: file with boxes instead of detection.
      tracks: file with tracks instead of detection.
      overrides: settings that go before those in a file of tracks.
      allowed: whose faces stay; None: nobody's.
    """

    boxes: str | None = None
    tracks: str | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    allowed: Allowlist | None = None

    @property
    def files(self) -> list[str]:
        """What is read of them."""
        return [file for file in (self.boxes, self.tracks) if file is not None]


@dataclasses.dataclass(frozen=True)
class Tracked:
    """The faces of a video.

    Attributes:
      tracking: where they are.
      keys: of the new faces, by number of track.
      settings: for all of them.
      times: i64[frames], ticks of the frames as they were detected in; None where they are given.
      generator: fingerprint of the weights that a given file of tracks was rendered with; None else.
      is_given: whether a file of tracks says all of it.
    """

    tracking: Tracking
    keys: Mapping[int, bytes]
    settings: Settings
    times: np.ndarray | None = None
    generator: str | None = None
    is_given: bool = False


def track_keys(tracking: Tracking, master_key: bytes) -> dict[int, bytes]:
    """The key of each track, by its number."""
    return {t.number: key_derivation.track_key(master_key, t.number) for t in tracking.tracks}


def find_tracks(
    info: reading.VideoInfo,
    min_confidence: float,
    allowed: Allowlist | None,
    folder: WorkFolder,
    progress: Callable[[int], None],
    *,
    saw: Callable[[detection_pass.FrameDetections], None] | None = None,
    meter: VectorMeter | None = None,
) -> tuple[Tracking, np.ndarray]:
    """The first pass: arguments as of `detection_pass.detect`, and the least confidence of a detection.

    Returns:
      The tracks, and i64[frames] the frames' times in ticks.
    """
    detector = VideoDetector(min_confidence, every=interval(float(info.rate), *info.canvas_size))
    found = detection_pass.detect(info, detector, allowed, folder, progress, saw=saw, meter=meter)
    return detection_pass.link(info, found), np.array([one.pts for one in found], np.int64)


def from_boxes(
    file: str, info: reading.VideoInfo, allowed: Allowlist | None, meter: VectorMeter | None
) -> Tracking:
    """Tracks of the boxes in a file.

    Raises:
      UserError: it cannot be read.
    """
    with reading.read_frames(info) as decoded:
        frames = sum(1 for _ in decoded)  # headers only estimate it
    width, height = info.canvas_size
    faces = boxes.read(file, frames, (width / info.width, height / info.height))
    return detection_pass.link(info, detection_pass.given(info, frames, faces, allowed, meter))


def from_track_file(
    file: str, info: reading.VideoInfo, master_key: bytes, overrides: Mapping[str, Any]
) -> Tracked:
    """What a file of tracks says, whose settings `overrides` go before.

    Raises:
      UserError: it cannot be read, or is of a video of another size.
    """
    read = track_file.read(file)
    if (read.tracking.width, read.tracking.height) != info.canvas_size:
        raise UserError(
            f"{file} is of a video of {read.tracking.width}x{read.tracking.height}, "
            f"{info.path} has {'x'.join(map(str, info.canvas_size))} in square pixels"
        )
    keys = track_keys(read.tracking, master_key) | dict(read.keys)
    settings = dataclasses.replace(read.settings, **overrides)
    return Tracked(read.tracking, keys, settings, generator=read.generator, is_given=True)


def tracked(
    given: Given,
    info: reading.VideoInfo,
    master_key: bytes,
    settings: Settings,
    *,
    meter: VectorMeter | None,
    find: Callable[[], tuple[Tracking, np.ndarray]],
) -> Tracked:
    """The faces of a video, as they are given, or as `find` finds them.

    Args:
      given: see Given.
      info: of the video.
      master_key: of the new faces.
      settings: for all of them, where no file says others.
      meter: measures the vectors of given boxes.
      find: as `find_tracks`.

    Raises:
      UserError: what is given cannot be read or is of another video.
    """
    if given.tracks is not None:
        return from_track_file(given.tracks, info, master_key, given.overrides)
    if given.boxes is not None:
        tracking, times = from_boxes(given.boxes, info, given.allowed, meter), None
    else:
        tracking, times = find()
    return Tracked(tracking, track_keys(tracking, master_key), settings, times)
