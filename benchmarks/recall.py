"""Which of the faces in a clip a build covers, against all passes of the photo detector on single frames.

The reference knows nothing of other frames, so it misses faces that a build follows, and takes some plants
for faces; it is the same for all builds, and so are the masks that are laid over their tracks here: what is
compared is where each build says that faces are.
"""

import itertools
import json
import pathlib
from collections.abc import Collection, Mapping, Sequence

import cv2
import numpy as np

from dp3_jax.detection.face_detection import Detection, Detector
from dp3_jax.media.video import reading
from dp3_jax.vision import geometry

COVERED = 0.9  # share of a face's ellipse from which on it counts as covered

Faces = Mapping[int, Sequence[Detection]]


def reference(clip: pathlib.Path, every: int) -> Faces:
    """The faces that the photo detector is sure of in every so-manieth frame, by frame."""
    detector = Detector()
    found = {}
    with reading.read_frames(clip) as frames:
        for frame in frames:
            if frame.number % every == 0:
                faces = detector.detect(frame.image)
                found[frame.number] = [face for face in faces if face.source != "unsure"]
    return found


def ellipse(face: Detection, shape: tuple[int, int]) -> np.ndarray:
    """bool[h, w]: the ellipse in a face's box."""
    x, y, width, height = face.box
    image = np.zeros(shape, np.uint8)
    centre = (x + width / 2, y + height / 2)
    cv2.ellipse(image, (centre, (width, height), 0.0), 1, -1)
    return image > 0


def _covered(
    tracks: Sequence[dict], shape: tuple[int, int], wanted: Collection[int]
) -> dict[int, np.ndarray]:
    """bool[h, w] for each frame that is wanted: what the masks of all tracks cover."""
    covered: dict[int, np.ndarray] = {}
    for track in tracks:
        for number, box, points in zip(
            itertools.count(track["first"]), track["boxes"], track["points"], strict=False
        ):
            if number not in wanted:
                continue
            alignment = geometry.align(box, points and np.array(points, np.float32))
            mask = geometry.face_mask(alignment, box)
            region = geometry.region(alignment, mask, shape)
            frame = covered.setdefault(number, np.zeros(shape, bool))
            if region.inside.size:
                frame[region.slices] |= region.inside
    return covered


def of_tracks(path: pathlib.Path, faces: Faces) -> dict[str, float]:
    """The share of faces that the tracks in a file cover, and of their area."""
    content = json.loads(path.read_text())
    shape = (content["video"]["height"], content["video"]["width"])
    covered = _covered([t for t in content["tracks"] if not t["keep"]], shape, faces.keys())
    shares, areas = [], []
    for number, found in faces.items():
        present = covered.get(number)
        for face in found:
            own = ellipse(face, shape)
            areas.append(int(own.sum()))
            inside = 0 if present is None else int((own & present).sum())
            shares.append(inside / areas[-1] if areas[-1] else 1.0)
    shares, areas = np.array(shares), np.array(areas)
    if not len(shares):
        return {"faces": 0, "faces_covered": 1.0, "area_covered": 1.0}
    area = float((shares * areas).sum() / areas.sum())
    return {
        "faces": len(shares),
        "faces_covered": float((shares >= COVERED).mean()),
        "area_covered": area,
    }
