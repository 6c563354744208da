"""Which tracks are not surely those of a face: they are blurred where others get new faces."""

from collections.abc import Mapping

import numpy as np

from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.second_opinion import MIN_GENERATED_CONFIDENCE
from dp3_jax.detection.tracks import Box, Track
from dp3_jax.detection.vector_meter import MIN_SIZE

# A track of which the best detection is not this sure, and half of them not that sure, is not surely one.
_SURE, _USUAL_SURE = 0.85, 0.65
_MIN_LARGE = 8  # faces that the mesh could have known, of which it looks at every second or fourth


def is_low_confidence(track: Track, measured: bool) -> bool:
    """Whether a track is not surely one of a face; `measured`: vectors were, in this clip.

    As for photos (`second_opinion`): on a crest of arms, on hair, a person's face is worse than a blur.
    """
    if any(observation.source == FaceSource.USER for observation in track.observations):
        return False
    seen = [
        observation.confidence for observation in track.observations if observation.confidence > 0
    ]
    best = max(seen, default=0.0)
    if best < MIN_GENERATED_CONFIDENCE:
        return True
    return (best < _SURE and float(np.median(seen)) < _USUAL_SURE) or (
        measured and _mesh_doubts(track)
    )


def _mesh_doubts(track: Track) -> bool:
    """Whether the mesh knew none of a track's larger faces, of which it looked at several."""
    large = [s for s in track.observations if s.confidence > 0 and min(s.box[2:]) >= MIN_SIZE]
    known = [s for s in large if s.vector is not None and s.vector.mouth_opening is not None]
    return len(large) >= _MIN_LARGE and not known


def is_within(
    track: Track, high_confidence: Mapping[tuple[int, int], Box], numbers: set[int]
) -> bool:
    """Whether a track of low confidence shows the face of one of high confidence, anonymized anyway.

    Its middle then lies in that face's box wherever it was detected.
    """
    seen = [
        observation
        for observation in track.observations
        if observation.source != FaceSource.INTERPOLATED
    ]
    for number in numbers:
        boxes = [high_confidence.get((observation.frame, number)) for observation in seen]
        if all(box and _has_middle(box, s.box) for box, s in zip(boxes, seen, strict=True)):
            return True
    return False


def _has_middle(box: Box, other: Box) -> bool:
    """Whether the middle of the other box lies in this one."""
    x, y = other[0] + other[2] / 2, other[1] + other[3] / 2
    return box[0] < x < box[0] + box[2] and box[1] < y < box[1] + box[3]
