"""One video of a review: its tracks, single frames drawn with them, and the whole result made anew."""

import dataclasses
import hashlib
import itertools
import pathlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.common.stages import Stage
from dp3_jax.detection import tracks
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.tracks import Track
from dp3_jax.media.names import as_one, is_pattern
from dp3_jax.media.photos import replace_file
from dp3_jax.media.video import probing
from dp3_jax.media.video.codecs import CODECS
from dp3_jax.media.video.encoding import EncoderSettings
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.video import detection_pass, job, track_file
from dp3_jax.pipelines.video.track_file import TrackFile
from dp3_jax.replacement.clip_rendering import Renderer
from dp3_jax.replacement.options import IdentityOptions
from dp3_jax.review import edits, track_edits
from dp3_jax.review.caches import ByteCache
from dp3_jax.review.frame_access import FrameAccess, PictureAccess
from dp3_jax.review.library import Item
from dp3_jax.review.models import Models
from dp3_jax.review.photo_item import parsed
from dp3_jax.review.risks import track_risks

_NEW = ".reviewed"  # ends the name of a folder that takes the place of one of pictures
_MAX_SHOWN = 128 << 20  # bytes of drawn frames that are kept

Progress = Callable[[str, int, int | None], None]


class VideoItem:
    """A video, as `session` works on it."""

    actions = edits.VIDEO_ACTIONS
    at_once = False  # the result is written when it is exported

    def __init__(self, item: Item, models: Models, motion: str = "face"):
        """Reads nothing yet; `motion` is what new faces follow, see `job.VideoOptions`."""
        self.item = item
        self.models = models
        self._motion = motion
        self._lock = threading.Lock()
        self._read: tuple[bytes, TrackFile] | None = None
        self._index: tuple[bytes, Callable] | None = None
        self._accesses: dict[pathlib.Path, tuple[Any, FrameAccess | PictureAccess]] = {}
        self._renderings: dict[str, _Rendering] = {}
        self._shown = ByteCache(_MAX_SHOWN)

    def read(self) -> bytes | None:
        """The tracks file; None where there is none."""
        if not self.item.sidecar.is_file():
            return None
        try:
            return self.item.sidecar.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {self.item.sidecar}: {error.strerror}") from error

    def tracks(self, content: bytes) -> TrackFile:
        """What a tracks file says, with a key for each track; the same ones while it does not change."""
        with self._lock:
            if self._read is None or self._read[0] != content:
                known = parsed(content, str(self.item.sidecar), track_file.FORMAT, ("tracks",))
                found = track_file.parse(known, str(self.item.sidecar))
                self._read = content, track_edits.with_keys(found)
            return self._read[1]

    def describe(self, content: bytes) -> dict[str, Any]:
        """What the page shows of a tracks file: no keys, and boxes only as `boxes` gives them."""
        read = self.tracks(content)
        tracking = read.tracking
        rate = 25.0
        if self.item.source is not None:
            rate = float(self.access(self.item.source).info.rate)
        return {
            "size": [tracking.width, tracking.height],
            "frames": tracking.frames,
            "rate": rate,
            "cuts": list(tracking.cuts),
            "method": read.settings.method,
            "faces": [_described(track) for track in tracking.tracks],
        }

    def boxes(self, content: bytes, first: int, last: int) -> dict[int, list]:
        """By frame: number, box and source of each track there, of frames first to last, both included."""
        index = self._by_frame(content)
        return {
            frame: [[track.number, list(seen.box), seen.source] for track, seen in index(frame)]
            for frame in range(first, last + 1)
        }

    def _by_frame(self, content: bytes) -> Callable:
        read = self.tracks(content)
        with self._lock:
            if self._index is None or self._index[0] != content:
                shown = detection_pass.treated(read.tracking, read.settings)
                self._index = content, tracks.by_frame(shown)
            return self._index[1]

    def changed(self, content: bytes, edit: edits.Edit) -> tuple[bytes, int | None]:
        """A tracks file after an edit, and the track that this was of; raises as `track_edits.apply`."""
        read, number = track_edits.apply(self.tracks(content), edit)
        new = _encoded(read)
        with self._lock:
            self._read = new, read
        return new, number

    def render(self, content: bytes, note: Callable[[bytes], None]) -> None:
        """Writes the tracks file; the video itself is made by `export`."""
        note(content)
        replace_file(self.item.sidecar, content)

    def remark(self, content: bytes, face: int | None, frame: int | None) -> dict[str, Any]:
        """As `PhotoItem.remark`, of a track."""
        read = self.tracks(content)
        common = {
            "size": (read.tracking.width, read.tracking.height),
            "frame": frame,
            "generator": read.generator,
        }
        track = next((t for t in read.tracking.tracks if t.number == face), None)
        if track is None:
            return common
        place = min(max(frame or track.first, track.first), track.last) - track.first
        seen = track.observations[place]
        return common | {
            "face": track.number,
            "frame": seen.frame,
            "frames": (track.first, track.last),
            "box": tuple(seen.box),
            "points": None if seen.keypoints is None else seen.keypoints.astype(float).tolist(),
            "confidence": seen.confidence,
            "key": read.keys[track.number].hex(),
            "vector": None if seen.vector is None else seen.vector._asdict(),
            "method": track.method or read.settings.method,
            "done": "kept" if track.keep else None,
        }

    def keys(self, content: bytes) -> dict[int, str]:
        """The keys of the tracks, hexadecimal, by number."""
        return {number: key.hex() for number, key in self.tracks(content).keys.items()}

    def identity(self, content: bytes) -> IdentityOptions | None:
        """Where the new faces come from; None where the tracks file does not say it."""
        return self.tracks(content).identity

    def access(self, path: pathlib.Path) -> FrameAccess | PictureAccess:
        """The frames of the original or the result as it is now; raises UserError where it cannot be read."""
        try:
            status = as_one(path).stat()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        state = status.st_mtime_ns, status.st_size
        with self._lock:
            known = self._accesses.get(path)
            if known is None or known[0] != state:
                if known is not None:
                    known[1].close()
                frames = None if self._read is None else self._read[1].tracking.frames
                made = (
                    PictureAccess(path, self._as_before().rate)
                    if is_pattern(path)
                    else FrameAccess(path, frames)
                )
                known = self._accesses[path] = state, made
            return known[1]

    def original(self, frame: int) -> np.ndarray:
        """u8[h, w, 3]: a frame of the original."""
        if self.item.source is None:
            raise UserError(f"{self.item.name}: {self.item.problem}")
        return self.access(self.item.source).frame(frame)

    def result(self, frame: int) -> np.ndarray:
        """u8[h, w, 3]: a frame of the result as it is on the disk."""
        return self.access(self.item.result).frame(frame)

    def drawn(self, content: bytes, frame: int) -> np.ndarray:
        """u8[h, w, 3]: a frame with its faces as the tracks say, whatever the result shows."""
        found = self._shown.get((frame, content))
        if found is None:
            _ = self.original(frame)  # decoded while others draw
            found = self.models.run(lambda: self.drawn_here(content, frame, "asked"))
        return found

    def drawn_here(self, content: bytes, frame: int, line: str) -> np.ndarray:
        """The same, in the thread for drawing.

        Frames that are asked for in their order remember the ones before, as in the whole video; so that two
        who ask do not disturb each other, each names its own `line`.
        """
        found = self._shown.get((frame, content))
        if found is not None:
            return found
        image, faces = self.original(frame), self._by_frame(content)(frame)
        rendering = self._renderings.get(line)
        if rendering is None or rendering.content != content:
            read = self.tracks(content)
            rendering = _Rendering(content, read, self._anonymizer(read), self._motion)
            self._renderings[line] = rendering
        found = rendering.frame(frame, image, faces)
        self._shown.put((frame, content), found, found.nbytes)
        return found

    def _anonymizer(self, read: TrackFile) -> Anonymizer:
        """Draws with what the tracks were drawn with, as far as that is known."""
        if read.identity is not None:
            return self.models.anonymizer(read.identity)
        builtin = self.models.anonymizer(IdentityOptions(source="builtin"))
        if read.generator and read.generator == builtin.renderer.fingerprint:
            return builtin
        return self.models.anonymizer(None)

    def export(self, content: bytes, folder: pathlib.Path, progress: Progress) -> None:
        """Makes the whole result as a tracks file says; goes on where a killed one was.

        Args:
          content: of the tracks file.
          folder: of the review, for a copy of it that stays as it is.
          progress: told what is done, how many frames are, and of how many.

        Raises:
          UserError: the video cannot be read or written.
        """
        read = self.tracks(content)
        content = _encoded(read)
        digest = hashlib.sha256(content).hexdigest()
        copy = folder / "exports" / f"{self.item.id}-{digest[:12]}{track_file.SUFFIX}"
        if not copy.is_file():
            files.write_bytes(copy, content)
            copy.chmod(0o600)
        self._process(self._anonymizer(read), progress, given_tracks=str(copy))
        copy.unlink(missing_ok=True)

    def first(self, progress: Progress) -> None:
        """Finds the faces of the original, and writes a result and a tracks file."""
        self._process(self.models.anonymizer(None), progress, sidecar=True)

    def _process(self, anonymizer: Anonymizer, progress: Progress, **more: Any) -> None:
        if self.item.source is None:
            raise UserError(f"{self.item.name}: {self.item.problem}")
        done = dict.fromkeys(Stage, 0)

        def told(what: str, count: int, total: int | None) -> None:
            done[what] = done.get(what, 0) + count
            progress(what, done[what], total)

        target = self.item.result
        if is_pattern(target):  # pictures appear all at once, in a new folder
            folder = as_one(target)
            target = folder.with_name(files.fitting(folder.name, _NEW)) / target.name
            files.remove(target.parent)
        request = job.Request(
            source=self.item.source, target=target, video=self._as_before(), **more
        )
        job.process(request, anonymizer, told)
        if target != self.item.result:
            files.remove(folder)
            target.parent.rename(folder)
        if self.item.manifest is not None:
            self.item.manifest.rewrite(self.item.source, self.item.result, None)

    def _as_before(self) -> job.VideoOptions:
        """As the result that is there was written: its codec, sound and subtitles where it has some.

        Sound that was left out tells who speaks. Quality and preset stand nowhere: the default ones. Numbered
        pictures follow one another as fast as in the result, if that is a video.
        """
        options = job.VideoOptions(motion=self._motion)
        if is_pattern(self.item.result) or not self.item.has_result:
            return options
        try:
            before = probing.open_video(self.item.result)
        except UserError:  # spoiled: it is made anew, which is no reason not to
            return options
        return dataclasses.replace(
            options,
            rate=before.rate,
            encoder=EncoderSettings(codec=before.codec if before.codec in CODECS else None),
            audio="copy" if before.audio else "drop",
            subtitles="copy" if before.subtitles else "drop",
        )


class _Rendering:
    """Draws frames with one state of the tracks; what is remembered holds while they come in order."""

    def __init__(self, content: bytes, read: TrackFile, anonymizer: Anonymizer, motion: str):
        self.content = content
        shown = detection_pass.treated(read.tracking, read.settings)
        self._cuts = shown.cuts
        makes = any(
            (t.method or read.settings.method) == "generate" for t in shown.tracks if not t.keep
        )
        rendering, is_face = anonymizer.parts() if makes else (None, None)
        self._new: Callable[[], Renderer] = lambda: Renderer(
            read.settings, rendering, read.keys, is_face=is_face, motion=motion, cuts=self._cuts
        )
        self._renderer = self._new()
        self._last: int | None = None

    def frame(self, number: int, image: np.ndarray, faces: Any) -> np.ndarray:
        """u8[h, w, 3]."""
        if self._last is None or number != self._last + 1:
            self._renderer = self._new()
        self._last = number
        result, _ = self._renderer.render(image, faces, cut=number in self._cuts)
        return result


def _encoded(read: TrackFile) -> bytes:
    """A tracks file with its edits made."""
    return track_file.encode(
        read.tracking, read.settings, read.keys, read.generator, identity=read.identity
    )


def _described(track: Track) -> dict[str, Any]:
    seen = [s for s in track.observations if s.source is not FaceSource.INTERPOLATED]
    runs = itertools.groupby(s.source for s in track.observations)
    confidence = [s.confidence for s in seen]
    interpolated = 1 - len(seen) / len(track.observations)
    boxes = [s.box for s in track.observations]
    best = max(track.observations, key=lambda s: (s.confidence, min(s.box[2:])))
    return {
        "number": track.number,
        "first": track.first,
        "last": track.last,
        "frame": best.frame,
        "box": list(best.box),
        "runs": [[source, len(list(run))] for source, run in runs],
        "confidence": max(confidence, default=0.0),
        "interpolated": round(interpolated, 3),
        "width": round(float(np.median([box[2] for box in boxes])), 1),
        "keep": track.keep,
        "method": track.method,
        "reason": track.reason,
        "risks": track_risks(confidence, boxes, interpolated, keep=track.keep),
    }
