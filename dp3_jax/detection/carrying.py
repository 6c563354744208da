"""Faces between two keyframes: carried from one to the next by what their heads do in the picture.

A face that is known in a keyframe is followed by optical flow up to the next one. Where a detection there
lies where the flow has led, both have been right, and the frames between need no look of their own; the
little that is missing at the end is shared out over them. In all other cases nothing is said about a face,
and it is looked for in every frame.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dp3_jax.detection import motion, region_detection
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.motion import Step
from dp3_jax.detection.prediction import measured
from dp3_jax.vision.geometry import Alignment

_CLOSED = 0.2  # sizes of the face between where the flow has led and the detection there
_SIZE_RATIO = 1.3  # between the two
_MAX_WAY = 0.6  # sizes of the face in a frame; no flow is followed over more
_MAX_ZOOM = 1.2  # in a frame
_FINE, _STRIDE = (
    64,
    3,
)  # px; of smaller faces the motion over so many frames is taken as that often the same
# Too small for flow; one that was detected in the same place all but stood still between.
_SMALL = 24  # px
_STILL = 0.3  # of its size from one keyframe to the next


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """Where the flow leads a face: its places in the frames after it was seen, and how it came there."""

    faces: tuple[Detection, ...]
    steps: tuple[Step, ...]


def _size(face: Detection) -> float:
    return float(np.sqrt(face.box[2] * face.box[3]))


def _stepped(face: Detection, step: Step) -> Detection:
    """The face after its head has moved; its box stays upright."""
    x, y, width, height = measured(face.box)
    centre, zoom = step.a * complex(x, y) + step.b, abs(step.a)
    box = (
        centre.real - zoom * width / 2,
        centre.imag - zoom * height / 2,
        zoom * width,
        zoom * height,
    )
    points = face.keypoints.astype(np.float64) @ (1, 1j) * step.a + step.b
    points = np.stack([points.real, points.imag], 1).astype(np.float32)
    return dataclasses.replace(face, box=tuple(map(float, box)), keypoints=points)


def _is_sane(face: Detection, step: Step) -> bool:
    x, y, *_ = measured(face.box)
    way = abs(step.a * complex(x, y) + step.b - complex(x, y))
    return way < _MAX_WAY * _size(face) and 1 / _MAX_ZOOM < abs(step.a) < _MAX_ZOOM


def chained(face: Detection, way: np.ndarray, greys: Sequence[np.ndarray]) -> Chain:
    """Follows a face by the flow, as long as that shows one motion.

    Args:
      face: as seen in the first frame.
      way: f64[2] px that it is expected to go to the second one.
      greys: u8[h, w] frames, from that in which it was seen.
    """
    faces, steps = [face], []
    alignment = face.alignment()
    stride = _STRIDE if min(face.box[2:]) < _FINE else 1
    step = Step(1 + 0j, complex(*way))
    try:
        before = motion.view(greys[0], alignment)
        while (left := len(greys) - len(faces)) > 0:
            count = min(stride, left)
            # Each view is cut out where the head should be, so that it differs little from the one before.
            expected = alignment
            for _ in range(count):
                expected = _led(expected, step)
            now = motion.view(greys[len(faces) + count - 1], expected, before.image.shape[0])
            found = motion.between(before, now)
            if found is None or not _is_sane(faces[-1], step := found.part(count)):
                break
            before, alignment = now, _led(alignment, found)
            for _ in range(count):
                faces.append(_stepped(faces[-1], step))
                steps.append(step)
    except ValueError:  # it has left the frame
        pass
    return Chain(tuple(faces[1:]), tuple(steps))


def _led(alignment: Alignment, step: Step) -> Alignment:
    """The alignment of a head that has moved."""
    return Alignment(alignment.a / step.a, alignment.b - alignment.a * step.b / step.a)


def apart(one: Detection, other: Detection) -> float:
    """Between their centres, in sizes."""
    way = measured(one.box)[:2] - measured(other.box)[:2]
    return float(np.abs(way).max()) / np.sqrt(_size(one) * _size(other))


def _alike(one: Detection, other: Detection) -> bool:
    return 1 / _SIZE_RATIO < _size(one) / _size(other) < _SIZE_RATIO


def carried(first: Detection, last: Detection, chain: Chain, count: int) -> list[Detection] | None:
    """A face in the frames between two keyframes; None where the flow does not tell.

    Args:
      first, last: as seen in these two.
      chain: of `first`.
      count: of the frames from the first keyframe to the last.
    """
    small = min(first.box[2:]) < _SMALL
    if len(chain.faces) == count and apart(chain.faces[-1], last) < _CLOSED:
        led = chain.faces
    elif small and apart(first, last) < _STILL:
        led = (first,) * count
    else:
        return None
    if not _alike(led[-1], last) or region_detection.is_turned(led[-1], last):
        return None
    error = measured(last.box)[:2] - measured(led[-1].box)[:2]
    zoom = np.array(last.box[2:]) / np.array(led[-1].box[2:])
    source = (
        FaceSource.LOW_CONFIDENCE
        if FaceSource.LOW_CONFIDENCE in (first.source, last.source)
        else last.source
    )
    confidence = min(first.confidence, last.confidence)
    result = []
    for i, face in enumerate(led[:-1], 1):
        share = i / count
        centre = measured(face.box)[:2] + share * error
        size = np.array(face.box[2:]) * zoom**share
        points = (face.keypoints + share * (last.keypoints - led[-1].keypoints)).astype(np.float32)
        box = tuple(map(float, (*(centre - size / 2), *size)))
        result.append(Detection(box, points, confidence, source))
    return result
