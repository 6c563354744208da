"""The second pass over a video file: every frame rendered and encoded, segment by segment.

A finished segment is written down in a journal with the renderer's state at its end, so that a killed job
goes on with the next one and gives the same frames as if it had not been killed.
"""

import dataclasses
import itertools
import pathlib
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.common.prefetch import Prefetcher
from dp3_jax.common.stages import Background
from dp3_jax.detection import tracks
from dp3_jax.detection.tracks import Tracking
from dp3_jax.media.video import encoding, reading, segments, sequence_writing, writing
from dp3_jax.media.video.canvas import Canvas
from dp3_jax.media.video.lazy_pictures import Image
from dp3_jax.media.video.reading import VideoInfo
from dp3_jax.pipelines.video import time_ranges
from dp3_jax.pipelines.video.work_folder import WorkFolder
from dp3_jax.replacement.clip_rendering import Renderer
from dp3_jax.replacement.face_actions import Done, FaceAction, FaceResult

JOURNAL = "segments.jsonl"
SEGMENT_SECONDS = 10.0
_AHEAD = 6  # frames decoded ahead, and frames that wait to be encoded


@dataclasses.dataclass
class Tally:
    """What was done with each track, in frames: by track number, {"generated": 120, "covered": 2}."""

    done: dict[int, Counter] = dataclasses.field(default_factory=dict)
    reasons: dict[int, str] = dataclasses.field(default_factory=dict)

    def add(self, numbers: Sequence[int], face_results: Sequence[FaceResult]) -> None:
        """Counts one frame."""
        for number, face_result in zip(numbers, face_results, strict=True):
            self.done.setdefault(number, Counter())[face_result.done] += 1
            if face_result.fell_back:
                self.reasons.setdefault(number, face_result.reason)

    def merge(self, other: "Tally") -> None:
        """Adds what another one counted."""
        for number, counts in other.done.items():
            self.done.setdefault(number, Counter()).update(counts)
        for number, reason in other.reasons.items():
            self.reasons.setdefault(number, reason)

    def face_result(self, number: int, action: FaceAction) -> FaceResult | None:
        """What was done with a track: what was done most, or the fall-back if there was one; None: nothing.

        The reason is that of the fall-back, or of the plan.
        """
        counts = self.done.get(number)
        if not counts:
            return None
        if fallen := counts.get(Done.COVERED):
            reason = f"in {fallen} of {counts.total()} frames: {self.reasons.get(number, '')}"
            return FaceResult(action, Done.COVERED, reason=reason)
        return FaceResult(action, counts.most_common(1)[0][0], reason=action.reason)

    def to_json(self) -> dict[str, Any]:
        """For a journal."""
        return {"done": self.done, "reasons": self.reasons}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Tally":
        """What `to_json` gave, after its way through a file."""
        return cls(
            {int(number): Counter(counts) for number, counts in entry["done"].items()},
            {int(number): reason for number, reason in entry["reasons"].items()},
        )


def _is_whole(path: pathlib.Path) -> bool:
    """Whether a segment is there and readable: after a power cut the disk may lack what the journal names."""
    try:
        segments.read_segment(path)
    except UserError:
        return False
    return True


class RenderingPass:
    """Renders a clip into segments in a work folder.

    Attributes:
      damage: after `run`, what of the clip could not be read, in words; empty if all could.
      jumps: after `run`, see `clocks.Restarts`.
      captions: after `run`, whether there are some inside the pictures.
    """

    def __init__(
        self,
        info: VideoInfo,
        tracking: Tracking,
        renderer: Renderer,
        chosen: encoding.Encoding | sequence_writing.Pictures,
        folder: WorkFolder,
        *,
        weights: str | None = None,
        times: np.ndarray | None = None,
        masked_times: tuple[time_ranges.TimeRange, ...] = (),
    ):
        """Takes what is needed; starts nothing.

        Args:
          info: of the clip.
          tracking: its tracks.
          renderer: of its frames.
          chosen: how they are encoded, or written as pictures.
          folder: where segments go.
          weights: fingerprint of those that draw the faces; segments drawn with others are not used.
          times: i64[frames], ticks; where a damaged file is decoded to frames of other times, their
            numbers would be others too and the tracks be in the wrong places. None: not compared.
          masked_times: when faces are hidden; always if empty.
        """
        self._info = info
        self._tracking = tracking
        self._renderer = renderer
        self._encoding = chosen
        self._folder = folder
        self._weights = weights
        self._times = times
        self._masked_times = masked_times
        self._cuts = frozenset(tracking.cuts)
        self._faces = tracks.by_frame(tracking)
        self._first_pts: int | None = None
        self.damage = ""
        self.jumps: list[Fraction] = []
        self.captions = False

    def run(self, progress: Callable[[int], None]) -> tuple[list[pathlib.Path], Tally]:
        """Renders what the journal does not have yet.

        Args:
          progress: called with the number of frames that are done since the last call.

        Returns:
          All segments in order, and what was done with each track.

        Raises:
          UserError: the clip has other frames than its tracks were made for.
        """
        entries = self._finished()
        total, start = Tally(), 0
        for entry in entries:
            total.merge(Tally.from_json(entry))
            start += entry["frames"]
        if entries:
            self._first_pts = entries[0]["first_pts"]
        progress(start)
        number = len(entries)
        length = max(1, round(SEGMENT_SECONDS * float(self._info.rate)))
        chosen = self._encoding
        stored = isinstance(chosen, encoding.Encoding) and chosen.keeps_stored
        # Of most frames a few parts are drawn in; the rest goes from decoder to encoder as it is.
        lazy = isinstance(chosen, encoding.Encoding) and encoding.takes_planes(self._info, chosen)
        self._canvas = Canvas(self._info, stored)
        decoded = reading.read_frames(self._info, start, stored=stored, lazy=lazy)
        with Prefetcher(decoded, _AHEAD) as frames:
            waiting = next(frames, None)
            while waiting is not None:
                tally, count, waiting = self._segment(number, waiting, frames, length, progress)
                total.merge(tally)
                start += count
                number += 1
        self.damage = decoded.damage or ""
        self.jumps, self.captions = decoded.jumps, decoded.captions
        if start != self._tracking.frames:
            raise UserError(
                f"{self._info.path}: {start} frames, but its tracks are of {self._tracking.frames}; "
                "is it the same file?"
            )
        return [self._path(i) for i in range(number)], total

    def _finished(self) -> list[dict[str, Any]]:
        """What the journal says of the segments to go on after, with the renderer as it was at their end.

        All other segments are removed.
        """
        listed = list(self._folder.entries(JOURNAL))
        entries = list(
            itertools.takewhile(
                lambda e: e["weights"] == self._weights and _is_whole(self._path(e["number"])),
                listed,
            )
        )
        while entries and not self._restored(len(entries) - 1):
            entries.pop()
        self._folder.clear_segments(after=len(entries))
        if len(entries) < len(listed):
            self._folder.rewrite(JOURNAL, entries)
        return entries

    def _restored(self, number: int) -> bool:
        """Sets the renderer to the state at the end of a segment; whether that is there."""
        try:
            self._renderer.restore(self._state(number).read_bytes())
        except (OSError, ValueError):
            return False
        return True

    def _path(self, number: int) -> pathlib.Path:
        return self._folder.segment(number, writing.SEGMENT_SUFFIX)

    def _state(self, number: int) -> pathlib.Path:
        return self._folder.segment(number, ".state")

    def _segment(
        self,
        number: int,
        frame: reading.Frame,
        frames: Prefetcher,
        length: int,
        progress: Callable[[int], None],
    ) -> tuple[Tally, int, reading.Frame | None]:
        """Writes one segment from `frame` on; (what was done, frames, the frame after it)."""
        if self._first_pts is None:
            self._first_pts = frame.pts
        tally, count = Tally(), 0
        following: reading.Frame | None = frame
        with (
            sequence_writing.segment_writer(
                self._path(number), self._info, self._encoding
            ) as writer,
            Background(lambda item: self._write(writer, *item), _AHEAD) as encoder,
        ):
            while following is not None and count < length:
                image = self._render(following, tally)
                encoder.put((image, following))
                count += 1
                progress(1)
                following = next(frames, None)
        # Every segment begins without them, so that it does not matter which ones are made in one run.
        self._renderer.forget_originals()
        files.write_bytes(self._state(number), self._renderer.state())
        entry = {
            "number": number,
            "frames": count,
            "first_pts": self._first_pts,
            "weights": self._weights,
            **tally.to_json(),
        }
        self._folder.append(JOURNAL, entry)
        if number > 1:  # one more than is needed stays, in case that one is lost
            self._state(number - 2).unlink(missing_ok=True)
        return tally, count, following

    def _write(self, writer, image: Image, frame: reading.Frame) -> None:
        """Adds a frame with what was drawn in it to a segment."""
        if frame.stored is not None:
            image = self._canvas.merged(frame.stored, np.asarray(frame.image), np.asarray(image))
        writer.write(image, frame.pts, frame.duration)

    def _render(self, frame: reading.Frame, tally: Tally) -> Image:
        """The frame with its faces hidden, counted in `tally`."""
        if frame.number >= self._tracking.frames or (
            self._times is not None and self._times[frame.number] != frame.pts
        ):
            raise UserError(
                f"{self._info.path}: frame {frame.number} is not the one that was looked at; is it another "
                "file, or a damaged one?"
            )
        seconds = float((frame.pts - self._first_pts) * self._info.time_base)
        if not time_ranges.masked_at(self._masked_times, seconds):
            return frame.image
        faces = self._faces(frame.number)
        cut = frame.number in self._cuts
        image, face_results = self._renderer.render(frame.image, faces, cut=cut)
        tally.add([track.number for track, _ in faces], face_results)
        return image
