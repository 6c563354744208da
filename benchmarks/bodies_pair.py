"""What another tool's result hides of bodies, beside ours of the same photo.

    python benchmarks/bodies_pair.py ORIGINAL NAME=RESULT...

RESULT is what a tool made of ORIGINAL, of the same size. The persons in a result are looked for among those
of the original itself, by the three descriptions of `bodies.py`: pose, place and what is behind a person are
the same, so more is found than in another frame. Kept are pose points, and persons whom the detector still
finds. Half a minute of processor time for nine persons.
"""

import argparse
import pathlib

import bodies
import numpy as np

from dp3_jax.detection.body_outline import trunk_length
from dp3_jax.detection.detections import overlap
from dp3_jax.detection.person_detection import PersonDetector
from dp3_jax.media import photos
from dp3_jax.models.body_pose import PoseNetwork
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.replacement.key_derivation import master_key_from_seed


def results(original: np.ndarray, identity: str) -> dict[str, np.ndarray]:
    """The original, and what our methods make of it, by name."""
    shown = {"faces only": ("face",)} | {name: (f"body={name}",) for name in bodies.METHODS}
    made = {
        name: Anonymizer(targets=targets, identity=identity)(
            original, None, master_key_from_seed(1)
        ).frame
        for name, targets in shown.items()
    }
    return {"original": original, **made}


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("original", type=pathlib.Path)
    parser.add_argument("others", nargs="*", help="NAME=RESULT of another tool")
    parser.add_argument("--identity", default="builtin", help="where new faces come from")
    options = parser.parse_args()
    original = photos.read_photo(options.original).pixels
    rows = results(original, options.identity)
    rows |= {
        name: photos.read_photo(path).pixels
        for name, path in (other.split("=", 1) for other in options.others)
    }
    detector, read = PersonDetector(), PoseNetwork()
    boxes = [one.box for one in detector.detect(original) if one.box[3] >= bodies.MIN_HEIGHT]
    names, poses = list(range(len(boxes))), [read(original, box) for box in boxes]
    gallery = [bodies.crop(original, box) for box in boxes]
    known = [
        bodies.by_network(gallery),
        bodies.by_colour(gallery),
        bodies.by_places(original, poses),
    ]
    print(f"{len(boxes)} persons; by chance {1 / len(boxes):.2f}")
    for name, frame in rows.items():
        crops = [bodies.crop(frame, box) for box in boxes]
        probes = [
            bodies.by_network(crops),
            bodies.by_colour(crops),
            bodies.by_places(frame, poses),
        ]
        values = [
            np.mean(bodies.ranks(probe, there, names, names))
            for probe, there in zip(probes, known, strict=True)
        ]
        near = []
        for box, before in zip(boxes, poses, strict=True):
            seen = before.visible > bodies.SEEN
            away = np.hypot(*(read(frame, box).points - before.points).T)[seen]
            near += list(away < bodies.NEAR * trunk_length(before.points))
        found = detector.detect(frame)
        there = [any(overlap(box, one.box) > 0.5 for one in found) for box in boxes]
        values += [np.mean(near), np.mean(there)]
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")


if __name__ == "__main__":
    main()
