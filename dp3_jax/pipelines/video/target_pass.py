"""What a video shows besides faces, as tracks without gaps: persons and licence plates.

They are looked for ten times a second and at cuts; between, their boxes are interpolated and wider. Outlines
are made when a frame is rendered.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dp3_jax.detection import tracking
from dp3_jax.detection.detections import Detection
from dp3_jax.detection.kinds import FACE, HEAD, KINDS
from dp3_jax.detection.tracks import Track, Tracking
from dp3_jax.media.video import reading
from dp3_jax.media.video.reading import VideoInfo
from dp3_jax.pipelines.target_finding import TargetFinder
from dp3_jax.pipelines.video.face_tracks import Tracked, track_keys
from dp3_jax.pipelines.video.work_folder import WorkFolder
from dp3_jax.replacement.targets import Targets

JOURNAL = "targets.jsonl"
_A_SECOND = 10.0  # times that is looked for targets
_MAX_GAP = 1.0  # s that a target may be unseen and is still the same one


def with_targets(
    found: Tracked,
    info: VideoInfo,
    targets: Targets,
    finder: TargetFinder,
    *,
    folder: WorkFolder,
    master_key: bytes,
) -> Tracked:
    """The tracks of faces, with those of all other targets after them.

    Args:
      found: the faces, of which none is left where no target asks for them.
      info: of the clip.
      targets: what is anonymized, and how.
      finder: finds all but faces.
      folder: where the journal is; a killed job goes on with it.
      master_key: of the targets' keys.
    """
    faces = _faces(found.tracking, targets)
    seen = _looked(info, finder, folder, found.tracking)
    tracks = list(faces)
    for kind in dict.fromkeys(one.kind for there in seen.values() for one in there):
        own = {n: [one for one in there if one.kind is kind] for n, there in seen.items()}
        linked = tracking.link(
            found.tracking.frames,
            own,
            found.tracking.cuts,
            found.tracking.width,
            found.tracking.height,
            options=tracking.Linking.at_rate(float(info.rate), max_gap=_MAX_GAP),
        )
        last = max((track.number for track in tracks), default=0)
        tracks += [
            dataclasses.replace(track, number=last + track.number, method=targets.method_of(kind))
            for track in linked
        ]
    whole = dataclasses.replace(found.tracking, tracks=tuple(tracks))
    keys = {**track_keys(whole, master_key), **found.keys}
    return dataclasses.replace(found, tracking=whole, keys=keys)


def _faces(found: Tracking, targets: Targets) -> tuple[Track, ...]:
    """The tracks of faces as the kind of target that they are."""
    if targets.face == FACE.name:
        return found.tracks
    if targets.face != HEAD.name:
        return ()
    return tuple(
        dataclasses.replace(
            track,
            observations=tuple(dataclasses.replace(s, kind=HEAD) for s in track.observations),
        )
        for track in found.tracks
    )


def _looked(
    info: VideoInfo, finder: TargetFinder, folder: WorkFolder, found: Tracking
) -> dict[int, list[Detection]]:
    """What is in the frames that are looked at, by number."""
    seen = {e["n"]: [_detection(one) for one in e["found"]] for e in folder.entries(JOURNAL)}
    every = max(1, round(float(info.rate) / _A_SECOND))
    cuts = set(found.cuts)
    keys = {
        n
        for n in range(found.frames)
        if n % every == 0 or n in cuts or n + 1 in cuts or n + 1 == found.frames
    }
    left = keys - seen.keys()
    if not left:
        return seen
    with reading.read_frames(info, min(left)) as frames:
        for frame in frames:
            if frame.number in left:
                there = finder(np.asarray(frame.image), fine=False)
                folder.append(JOURNAL, {"n": frame.number, "found": [_entry(one) for one in there]})
                seen[frame.number] = there
    return seen


def _entry(one: Detection) -> list[Any]:
    points = None if one.keypoints is None else np.asarray(one.keypoints, np.float64).tolist()
    return [one.kind.name, list(one.box), points, one.confidence]


def _detection(entry: Sequence[Any]) -> Detection:
    name, box, points, confidence = entry
    known = None if points is None else np.array(points, np.float32)
    return Detection(tuple(box), known, confidence, kind=KINDS[name])
