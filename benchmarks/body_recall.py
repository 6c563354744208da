"""How many persons the detector of bodies misses, with faces as witnesses.

    python benchmarks/body_recall.py PHOTO... [--boxes FILE] [--json FILE]

Where a face is, there is a person: the share of faces of at least 20 px whose ellipse lies in the region of a
body, by nine tenths, as `--target body` covers it in photos; in a body's box; and that have a box of their
own, when each box stands for one face. `--target body` covers the faces that it finds as well; here they are
left out. Faces are those that FILE annotates (CSV: file, x, y, width, height in px), and those that the face
detector is certain of, another network that knows nothing of bodies. Who shows no face is not counted. By
chance: whether the place of a face in the mirrored photo is in a box. Sixty photos take two minutes of
processor time.
"""

import argparse
import csv
import itertools
import json
import pathlib

import numpy as np
from recall import COVERED, ellipse
from scipy.optimize import linear_sum_assignment

from dp3_jax.detection.detections import Detection, FaceSource
from dp3_jax.media import photos
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.target_finding import TargetFinder

MIN_FACE = 20.0  # px, the smaller side
SIZES = (20.0, 40.0, 80.0, np.inf)  # px: faces are counted by these


def annotated(path: pathlib.Path | None) -> dict[str, list[Detection]]:
    """The faces that a file tells, by photo."""
    faces: dict[str, list[Detection]] = {}
    if path is not None:
        with path.open(newline="") as opened:
            for name, *numbers in list(csv.reader(opened))[1:]:
                box = tuple(float(v) for v in numbers[:4])
                faces.setdefault(name, []).append(Detection(box, None, 1.0))
    return faces


def covered(frame: np.ndarray, finder: TargetFinder) -> tuple[np.ndarray, list[np.ndarray]]:
    """bool[h, w] of bodies' regions, and bool[h, w] of each body's box."""
    regions, boxes = np.zeros(frame.shape[:2], bool), []
    for body in finder(frame):
        target = finder.outline(frame, body.box).region
        regions[target.slices] |= target.inside
        x, y, w, h = (round(v) for v in body.box)
        boxes.append(np.zeros(frame.shape[:2], bool))
        boxes[-1][y : y + h, x : x + w] = True
    return regions, boxes


def with_own_box(ellipses: list[np.ndarray], boxes: list[np.ndarray]) -> np.ndarray:
    """bool[n]: which faces get a box that lies over them, when as many as can get one of their own."""
    fits = np.array([[box[own].mean() >= COVERED for box in boxes] for own in ellipses], bool)
    found = np.zeros(len(ellipses), bool)
    if fits.size:
        rows, columns = linear_sum_assignment(-fits.astype(float))
        found[rows] = fits[rows, columns]
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", type=pathlib.Path)
    parser.add_argument("--boxes", type=pathlib.Path, help="CSV with annotated faces")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    known, of_faces, finder = annotated(options.boxes), Anonymizer(), TargetFinder(["body"])
    _ = of_faces.renderer  # fetches the mesh, which confirms faces
    rows, empty = [], {}
    for path in options.photos:
        frame = photos.read_photo(path).pixels
        certain = [
            face for face in of_faces.find(frame) if face.source != FaceSource.LOW_CONFIDENCE
        ]
        regions, boxes = covered(frame, finder)
        anywhere = np.any([np.zeros_like(regions), *boxes], axis=0)
        witnesses = {"annotated": known.get(path.name, []), "detected": certain}
        if not any(witnesses.values()):
            empty[path.name] = len(boxes)
        for name, faces in witnesses.items():
            large = [face for face in faces if min(face.box[2:]) >= MIN_FACE]
            ellipses = [ellipse(face, frame.shape[:2]) for face in large]
            own = with_own_box(ellipses, boxes)
            for n, (face, there) in enumerate(zip(large, ellipses, strict=True)):
                shares = [part[there].mean() for part in (regions, anywhere)]
                shares.append(anywhere[:, ::-1][there].mean())
                inside = [share >= COVERED for share in shares]
                rows.append((name, min(face.box[2:]), *inside[:2], own[n], inside[2], path.name))
    result: dict = {"without a certain face: bodies found": empty}
    for name in ("annotated", "detected"):
        for low, high in [(MIN_FACE, np.inf), *itertools.pairwise(SIZES)]:
            ones = [row for row in rows if row[0] == name and low <= row[1] < high]
            if ones:
                shares = np.mean([row[2:6] for row in ones], 0).round(3).tolist()
                result[f"{name}, {low:g} to {high:g} px"] = [len(ones), *shares]
    missed = [row[6] for row in rows if row[0] == "detected" and not row[3]]
    result["missed by boxes"] = {name: missed.count(name) for name in dict.fromkeys(missed)}
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
