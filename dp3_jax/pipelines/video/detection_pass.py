"""The first pass over a video file: every face of every frame, as tracks without gaps."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from dp3_jax.common.prefetch import Prefetcher
from dp3_jax.detection import motion, sequence_detection, tracking
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.detection.motion import Step
from dp3_jax.detection.sequence_detection import VideoDetector
from dp3_jax.detection.shots import CutDetector
from dp3_jax.detection.tracks import NOT_SURELY_A_FACE, Track, Tracking, from_face
from dp3_jax.detection.vector_meter import BesideMeter, VectorMeter, Vectors
from dp3_jax.media.video import lazy_pictures, reading
from dp3_jax.media.video.lazy_pictures import Image
from dp3_jax.media.video.reading import VideoInfo
from dp3_jax.pipelines.allowlist import Allowlist
from dp3_jax.pipelines.video.low_confidence import is_low_confidence, is_within
from dp3_jax.pipelines.video.work_folder import WorkFolder
from dp3_jax.replacement.face_actions import Settings

JOURNAL = "detections.jsonl"
COMPARED_EVERY = 5  # frames between two comparisons with the persons to be kept
_MIN_AGREEING = 0.9  # share of a track's compared observations that must show the person to be kept
_MIN_COMPARED = 3  # observations; a track with fewer is not kept


@dataclasses.dataclass(frozen=True)
class FrameDetections:
    """What was found in one frame.

    Attributes:
      number, pts: of the frame.
      cut: whether it is the first after a cut.
      faces: in it.
      kept: for each face why it is to be kept, empty if not; None in frames that were not compared.
      steps: for each face how its head has come there from the frame before, as far as that is known; empty
        where nobody looked.
      vectors: for each face, as `tracks.Observation.vector`; empty where nobody looked.
    """

    number: int
    pts: int
    cut: bool
    faces: tuple[Detection, ...]
    kept: tuple[str, ...] | None = None
    steps: tuple[Step | None, ...] = ()
    vectors: Vectors = ()


def to_json(found: FrameDetections) -> dict[str, Any]:
    """What stands in a work folder of the detections in a frame."""
    faces = [
        [
            list(f.box),
            None if f.keypoints is None else np.asarray(f.keypoints, np.float64).tolist(),
            f.confidence,
            f.source,
        ]
        for f in found.faces
    ]
    return {
        "n": found.number,
        "pts": found.pts,
        "cut": found.cut,
        "faces": faces,
        "kept": found.kept,
        "steps": [s and [s.a.real, s.a.imag, s.b.real, s.b.imag] for s in found.steps],
        "vectors": found.vectors,
    }


def from_json(entry: dict[str, Any]) -> FrameDetections:
    """What `to_json` gave."""
    faces = tuple(
        Detection(
            tuple(box),
            None if points is None else np.array(points, np.float32),
            confidence,
            FaceSource(source),
        )
        for box, points, confidence, source in entry["faces"]
    )
    kept = None if entry["kept"] is None else tuple(entry["kept"])
    steps = tuple(s and Step(complex(*s[:2]), complex(*s[2:])) for s in entry["steps"])
    vectors = tuple(v and FaceVector(*v) for v in entry["vectors"])
    return FrameDetections(entry["n"], entry["pts"], entry["cut"], faces, kept, steps, vectors)


def detect(
    info: VideoInfo,
    detector: VideoDetector,
    allowed: Allowlist | None,
    folder: WorkFolder,
    progress: Callable[[int], None],
    *,
    saw: Callable[[FrameDetections], None] | None = None,
    meter: VectorMeter | None = None,
) -> list[FrameDetections]:
    """Looks at every frame of a clip that the folder's journal does not have yet.

    The journal has a line for each chunk of frames, as the detector takes them, with what its parts remember
    at the end of it; so a killed job that goes on finds what it would have found.

    Args:
      info: of the clip.
      detector: of faces.
      allowed: tells which faces are to be kept; None keeps none.
      folder: where the journal is.
      progress: called with the number of frames that are done since the last call.
      saw: called with what is in each frame that is looked at.
      meter: of the faces' vectors; None leaves them out.

    Returns:
      What is in each frame, in order.
    """
    found: list[FrameDetections] = []
    cuts = CutDetector()
    for entry in folder.entries(JOURNAL):
        found += map(from_json, entry["found"])
        if entry["cuts"] is None:  # the last chunk
            progress(len(found))
            return found
        cuts.restore(entry["cuts"])
    progress(len(found))
    size = detector.chunk_of(np.broadcast_to(np.uint8(0), (*info.canvas_size[::-1], 3)))
    chunk: list[FrameDetections] = []
    ends: list[dict[str, Any]] = []  # what `cuts` remembered at each end of a chunk: it is ahead
    images = itertools.count(1)

    def is_cut(image: Image) -> bool:
        cut = cuts.update(image)
        if next(images) % size == 0:
            ends.append(cuts.state())
        return cut

    before = found[-sequence_detection.MEMORY :]
    for one in _detections(info, detector, is_cut, allowed, before, size=size, meter=meter):
        chunk.append(one)
        if saw is not None:
            saw(one)
        progress(1)
        if len(chunk) == size:
            folder.append(JOURNAL, {"found": [*map(to_json, chunk)], "cuts": ends.pop(0)})
            found += chunk
            chunk = []
    folder.append(JOURNAL, {"found": [*map(to_json, chunk)], "cuts": None})
    return found + chunk


def _detections(
    info: VideoInfo,
    detector: VideoDetector,
    is_cut: Callable[[Image], bool],
    allowed: Allowlist | None,
    before: Sequence[FrameDetections],
    *,
    size: int,
    meter: VectorMeter | None,
) -> Iterator[FrameDetections]:
    """What is in the frames after those of `before`, which end with a chunk; chunks have `size` frames."""
    start = before[-1].number + 1 if before else 0
    known: list[tuple[Detection, ...]] = []
    for one in before:
        known = [*([] if one.cut else known), one.faces]
    times: dict[int, int] = {}
    images: dict[int, Image] = {}  # that wait for their faces; the detector has them all the same

    def noted(frames: Iterator[reading.Frame]) -> Iterator[reading.Frame]:
        for frame in frames:
            times[frame.number] = frame.pts
            images[frame.number] = frame.image
            yield frame

    # A whole chunk, as what the journal has is whole ones.
    waiting: list[tuple[FrameDetections, list[Future | Step | None], Future | None]] = []
    # The frame before tells how heads have come into the first one.
    decoded = reading.read_frames(info, max(start - 1, 0), lazy=True)
    with (
        ThreadPoolExecutor(2) as pool,
        BesideMeter(meter) as beside,
        Prefetcher(decoded, 4) as frames,
    ):
        last = next(frames).image if start else None
        for number, faces, cut, followed in detector.find(noted(frames), is_cut, known, last):
            image = images.pop(number)
            looked = allowed is not None and number % COMPARED_EVERY == 0
            kept = tuple(allowed.decide(np.asarray(image), faces)) if looked else None
            steps: list[Future | Step | None] = [followed.get(i) for i in range(len(faces))]
            if last is not None and not cut and len(followed) < len(faces):
                greys = lazy_pictures.grey(last), lazy_pictures.grey(image)
                for i in set(range(len(faces))) - followed.keys():
                    steps[i] = pool.submit(motion.step, *greys, faces[i].box, faces[i].keypoints)
            last = image
            vectors = beside.submit(number, image, faces)
            waiting.append(
                (
                    FrameDetections(number, times.pop(number), cut, tuple(faces), kept),
                    steps,
                    vectors,
                )
            )
            if len(waiting) == size:
                yield from (_measured(*one) for one in waiting)
                waiting = []
        yield from (_measured(*one) for one in waiting)


def _measured(
    found: FrameDetections, steps: Sequence[Future | Step | None], vectors: Future | None
) -> FrameDetections:
    """What was found, with what others have measured meanwhile."""
    known = tuple(one.result() if isinstance(one, Future) else one for one in steps)
    return dataclasses.replace(found, steps=known, vectors=vectors.result() if vectors else ())


def given(
    info: VideoInfo,
    frames: int,
    faces: Mapping[int, Sequence[Detection]],
    allowed: Allowlist | None,
    meter: VectorMeter | None = None,
) -> list[FrameDetections]:
    """The same of faces that someone else has found, where there are any; times are not known (0).

    Args:
      info: of the clip.
      frames: number of frames in it.
      faces: by frame.
      allowed, meter: as of `detect`.
    """
    compared, vectors = {}, {}
    if allowed is not None or meter is not None:
        with reading.read_frames(info) as decoded:
            for frame in decoded:
                number, image, there = frame.number, frame.image, faces.get(frame.number, ())
                if allowed is not None and number % COMPARED_EVERY == 0 and there:
                    compared[number] = tuple(allowed.decide(image, there))
                if meter is not None and there:
                    vectors[number] = meter(number, image, there)
    return [
        FrameDetections(
            n, 0, False, tuple(faces.get(n, ())), compared.get(n), (), vectors.get(n, ())
        )
        for n in range(frames)
    ]


def _allowed_because(track: Track, compared: dict[tuple[int, tuple[float, ...]], str]) -> str:
    """Why a track is kept; empty if it is not: only if nearly all compared ones show the person."""
    verdicts = [compared[key] for s in track.observations if (key := (s.frame, s.box)) in compared]
    reasons = [verdict for verdict in verdicts if verdict]
    if len(verdicts) < min(_MIN_COMPARED, len(track.observations)) or not reasons:
        return ""
    return reasons[0] if len(reasons) >= _MIN_AGREEING * len(verdicts) else ""


def linking(info: VideoInfo) -> tracking.Linking:
    """For how many frames of this clip faces are followed that are not seen."""
    return tracking.Linking.at_rate(float(info.rate))


def link(info: VideoInfo, found: Sequence[FrameDetections]) -> Tracking:
    """Tracks of all that was found, those to be kept marked so."""
    detections = {one.number: one.faces for one in found}
    cuts = tuple(one.number for one in found if one.cut and one.number > 0)
    tracks = tracking.link(len(found), detections, cuts, *info.canvas_size, options=linking(info))
    compared = {
        (one.number, from_face(one.number, face).box): reason
        for one in found
        if one.kept is not None
        for face, reason in zip(one.faces, one.kept, strict=True)
    }
    steps = {
        (one.number, from_face(one.number, face).box): step
        for one in found
        for face, step in zip(one.faces, one.steps, strict=False)  # there may be no steps
        if step is not None
    }
    tracks = _with_vectors(tracks, found)
    measured = any(vector is not None for one in found for vector in one.vectors)
    low_confidence = {track.number for track in tracks if is_low_confidence(track, measured)}
    decided = [
        _decided(motion.stabilised(track, steps), compared, track.number in low_confidence)
        for track in tracks
    ]
    high_confidence = {
        (observation.frame, track.number): observation.box
        for track in decided
        if not track.keep and track.number not in low_confidence
        for observation in track.observations
    }
    numbers = {number for _, number in high_confidence}
    left = [
        track
        for track in decided
        if track.number not in low_confidence or not is_within(track, high_confidence, numbers)
    ]
    return Tracking(len(found), *info.canvas_size, cuts, tuple(left))


def _with_vectors(tracks: Sequence[Track], found: Sequence[FrameDetections]) -> list[Track]:
    """The tracks, with what was measured of their faces."""
    vectors = {
        (one.number, from_face(one.number, face).box): vector
        for one in found
        for face, vector in zip(one.faces, one.vectors, strict=False)  # there may be none
        if vector is not None
    }
    if not vectors:
        return list(tracks)
    return [
        dataclasses.replace(
            track,
            observations=tuple(
                dataclasses.replace(s, vector=vectors.get((s.frame, s.box)))
                for s in track.observations
            ),
        )
        for track in tracks
    ]


def _decided(
    track: Track, compared: dict[tuple[int, tuple[float, ...]], str], low_confidence: bool
) -> Track:
    """The track with what is to be done with it, where that is not the usual."""
    if reason := _allowed_because(track, compared):
        return dataclasses.replace(track, keep=True, reason=reason)
    if low_confidence:
        # A new face on a plant would be worse than a blur.
        reason = NOT_SURELY_A_FACE
        return dataclasses.replace(track, method="blur", reason=reason, low_confidence=True)
    return track


def treated(tracking_: Tracking, settings: Settings) -> Tracking:
    """The tracking as it is rendered: those of low confidence are blurred only where others get new faces."""
    if settings.method == "generate":
        return tracking_
    tracks = tuple(
        dataclasses.replace(track, method=None) if track.low_confidence else track
        for track in tracking_.tracks
    )
    return dataclasses.replace(tracking_, tracks=tracks)
