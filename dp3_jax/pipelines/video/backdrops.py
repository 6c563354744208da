"""What is behind the persons of a clip whose camera stands still: the median of frames without them there."""

import bisect
from collections.abc import Sequence

import cv2
import numpy as np

from dp3_jax.detection.kinds import BODY
from dp3_jax.detection.tracks import Tracking, by_frame, shots
from dp3_jax.media.video import reading
from dp3_jax.media.video.reading import VideoInfo

Backdrop = tuple[np.ndarray, np.ndarray]  # u8[h, w, 3], and bool[h, w], where it is known

_SAMPLES = 15  # frames of a shot
_MIN_SEEN = 3  # of them in which a pixel must be free of persons
_DILATION = 0.15  # of a box's longer side
_STILL = 5.0  # levels that four fifths of what is free may differ by from frame to frame
_SMALL = 160  # px, the width in which that is looked at
_ROWS = 64  # medians are taken of so many rows at once


class Backdrops:
    """The scenes of a clip without persons."""

    def __init__(self, info: VideoInfo, tracking: Tracking):
        """Reads the clip once, if any body is to be removed from it.

        Args:
          info: of the clip.
          tracking: where the persons are.
        """
        self._starts: list[int] = []
        self._scenes: list[Backdrop | None] = []
        bodies = [t for t in tracking.tracks if t.observations[0].kind is BODY]
        if not any(track.method == "background" and not track.keep for track in bodies):
            return
        spans = shots(tracking.frames, tracking.cuts)
        wanted = {
            n: i
            for i, (start, stop) in enumerate(spans)
            for n in np.unique(np.linspace(start, stop - 1, _SAMPLES).round().astype(int)).tolist()
        }
        there, samples = by_frame(tracking), []
        with reading.read_frames(info) as frames:
            for frame in frames:
                if frame.number not in wanted:
                    continue
                boxes = [s.box for _, s in there(frame.number)]
                image = np.asarray(frame.image)
                samples.append((image, _free(boxes, image.shape)))
                if wanted.get(frame.number) != wanted.get(_next(wanted, frame.number)):
                    self._starts.append(spans[wanted[frame.number]][0])
                    self._scenes.append(_scene(samples))
                    samples = []

    def __call__(self, frame: int) -> Backdrop | None:
        """The scene of a frame; None where the camera moves or nobody is to be removed."""
        place = bisect.bisect_right(self._starts, frame) - 1
        return self._scenes[place] if place >= 0 else None


def _next(wanted: dict[int, int], number: int) -> int:
    return min((n for n in wanted if n > number), default=-1)


def _free(boxes: Sequence[Sequence[float]], shape: Sequence[int]) -> np.ndarray:
    """bool[h, w], where no target is."""
    free = np.ones(shape[:2], bool)
    for x, y, width, height in boxes:
        more = _DILATION * max(width, height)
        left, top = max(int(x - more), 0), max(int(y - more), 0)
        free[top : max(int(y + height + more), 0), left : max(int(x + width + more), 0)] = False
    return free


def _scene(samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> Backdrop | None:
    """The median of what is free in each frame; None where the camera moves."""
    if len(samples) < _MIN_SEEN or not _stands_still(samples):
        return None
    images = np.stack([image for image, _ in samples])
    free = np.stack([one for _, one in samples])
    known = free.sum(0) >= _MIN_SEEN
    result = np.zeros(images.shape[1:], np.uint8)
    for top in range(0, len(known), _ROWS):
        rows = slice(top, top + _ROWS)
        part = np.ma.masked_array(images[:, rows], np.repeat(~free[:, rows, :, None], 3, -1))
        result[rows] = np.ma.median(part, 0).filled(0).round().astype(np.uint8)
    return result, known


def _stands_still(samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether what is free in both changes little from each sample to the middle one."""
    middle, free = samples[len(samples) // 2]
    size = _SMALL, max(1, round(_SMALL * middle.shape[0] / middle.shape[1]))

    def small(image: np.ndarray) -> np.ndarray:
        return cv2.cvtColor(
            cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
        )

    def coarse(where: np.ndarray) -> np.ndarray:
        return cv2.resize(where.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0

    reference, ours = small(middle).astype(float), coarse(free)
    for image, there in samples:
        both = ours & coarse(there)
        if not both.any():
            return False
        change = np.abs(small(image).astype(float) - reference)[both]
        if np.percentile(change, 80) > _STILL:
            return False
    return True
