"""How fast the verifiers of `dp3 audit` are, and the impostor scores that it brings.

    python benchmarks/audit.py FOLDER [--pairs 1000]

takes the faces of photos below FOLDER (repeated up to the number of pairs, each with a blurred copy) and
compares the embeddings of all three verifiers in batches with the same networks called a face at a time, as
`models.embedders` does; both in this process, in turns, after a warm-up. Peak memory is the process's.

    python benchmarks/audit.py --calibrate CELEBA [--each 3]

writes dp3_jax/evaluation/audit/impostors.json from the people of CelebA's validation and test splits: numbers
only. CELEBA has CelebA's own layout and landmarks_detected.csv (five points of each photo).
"""

import argparse
import csv
import pathlib
import resource
import time
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from PIL import Image

from dp3_jax.common import files
from dp3_jax.evaluation.audit import calibration
from dp3_jax.metrics import batch_embedding, identification
from dp3_jax.metrics.verification import canonical_points
from dp3_jax.models import embedders
from dp3_jax.vision import geometry

CHUNK = 50  # pairs of a turn


def _views(folder: pathlib.Path, wanted: int) -> np.ndarray:
    """u8[n, 128, 128, 3], up to `wanted` faces in the canonical frame."""
    from dp3_jax.detection.face_detection import Detector

    detector, found = Detector(rotations=False), []
    for path in sorted(folder.rglob("*.jpg")):
        with Image.open(path) as opened:
            photo = np.asarray(opened.convert("RGB"))
        for face in detector.detect(photo):
            if face.keypoints is not None and min(face.box[2:]) > 40:
                found.append(geometry.extract(photo, geometry.align(face.box, face.keypoints)))
        if len(found) >= wanted:
            break
    if not found:
        raise SystemExit(f"no face in the photos below {folder}")
    return np.stack(found[:wanted])


def _pairs(folder: pathlib.Path, count: int) -> Iterator[np.ndarray]:
    """u8[2 n, 128, 128, 3], n pairs of a face and its blurred copy at a time, `count` pairs in all."""
    import cv2

    views = _views(folder, min(count, 200))
    for start in range(0, count, CHUNK):
        rows = np.arange(start, min(start + CHUNK, count)) % len(views)
        yield np.concatenate([views[rows], [cv2.GaussianBlur(views[i], (0, 0), 6) for i in rows]])


def measure(folder: pathlib.Path, count: int) -> None:
    """Prints both times, their ratio, the largest difference, and peak memory."""
    opened = {name: embedders.EMBEDDERS[name]() for name in batch_embedding.VERIFIERS}
    seconds = {"batches": 0.0, "one at a time": 0.0}
    processor = dict(seconds)
    least = 1.0

    def one_at_a_time(views: np.ndarray) -> dict[str, np.ndarray]:
        points = canonical_points(views)
        return {
            name: np.concatenate(
                [
                    embedders.unit(embedders.embed(embedder, views[i : i + 1], points[i : i + 1]))
                    for i in range(len(views))
                ]
            )
            for name, embedder in opened.items()
        }

    ways = {"batches": batch_embedding.embed, "one at a time": one_at_a_time}
    for turn, views in enumerate(_pairs(folder, count)):
        if not turn:
            for way in ways.values():
                way(views[:2])
        rows = {}
        for name, way in ways.items():
            wall, used = time.perf_counter(), time.process_time()
            rows[name] = way(views)
            seconds[name] += time.perf_counter() - wall
            processor[name] += time.process_time() - used
        for name in opened:
            cosines = (rows["batches"][name] * rows["one at a time"][name]).sum(1)
            least = min(least, float(cosines.min()))
        if not turn:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, value in seconds.items():
        print(f"{name:14} {value:7.1f} s, processor {processor[name]:7.1f} s, {count} pairs")
    print(f"{seconds['one at a time'] / seconds['batches']:.2f} times as fast")
    memory, first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, memory
    print(f"peak memory {memory / 1e6:.2f} GB ({first / 1e6:.2f} GB after the first {CHUNK} pairs)")
    print(f"least cosine between the two ways {least:.6f}")


def _held_out(folder: pathlib.Path, each: int) -> tuple[np.ndarray, np.ndarray]:
    """(u8[n, 128, 128, 3], i[n] whose): up to `each` photos of each person of the held-out splits."""
    parts = dict(
        line.split() for line in (folder / "list_eval_partition.txt").read_text().splitlines()
    )
    people = dict(
        line.split() for line in (folder / "identity_CelebA.txt").read_text().splitlines()
    )
    views, owners, seen = [], [], defaultdict(int)
    with (folder / "landmarks_detected.csv").open(newline="") as opened:
        for row in csv.reader(opened):
            name, *numbers = row
            if parts.get(name, "0") == "0" or seen[people[name]] >= each:
                continue
            points = np.array(numbers[:10], np.float64).reshape(5, 2)
            with Image.open(folder / "img_align_celeba" / name) as picture:
                photo = np.asarray(picture.convert("RGB"))
            views.append(geometry.extract(photo, geometry.align_points(points)))
            owners.append(int(people[name]))
            seen[people[name]] += 1
    return np.stack(views), np.array(owners)


def calibrate(folder: pathlib.Path, each: int) -> None:
    """Writes impostors.json."""
    views, owners = _held_out(folder, each)
    first = np.triu(np.ones((len(views),) * 2, bool), 1)
    same = (owners[:, None] == owners) & first
    different = (owners[:, None] != owners) & first
    verifiers = {}
    for name, rows in batch_embedding.embed(views).items():
        scores = rows @ rows.T
        impostors = scores[different]
        entry = {}
        for far in calibration.FARS:
            threshold = identification.threshold_at_far(impostors, far)
            accepted = identification.true_accept_rate(scores[same], threshold)
            entry[f"{far:g}"] = {
                "threshold": round(threshold, 5),
                "same_person_accepted": round(accepted.value, 4),
            }
        verifiers[name] = {
            "at_false_accept_rate": entry,
            "impostors_mean": round(float(impostors.mean()), 5),
            "impostors_deviation": round(float(impostors.std()), 5),
        }
    content = {
        "format": calibration.FORMAT,
        "made": "benchmarks/audit.py --calibrate: cosines of photos of different people of CelebA's "
        "validation and test splits, in the canonical frame of 128 px; numbers alone are kept",
        "people": len(np.unique(owners)),
        "photos": len(views),
        "pairs": int(different.sum()),
        "verifiers": verifiers,
    }
    files.write_json(calibration.FILE, content)
    print(f"wrote {calibration.FILE} from {len(views)} photos of {content['people']} people")


def main() -> None:
    """Measures or calibrates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--calibrate", action="store_true", help="folder is CelebA")
    parser.add_argument("--each", type=int, default=3, help="photos of each person")
    arguments = parser.parse_args()
    if arguments.calibrate:
        calibrate(arguments.folder, arguments.each)
    else:
        measure(arguments.folder, arguments.pairs)


if __name__ == "__main__":
    main()
