"""How well the face verifiers of an evaluation tell people apart, and how long they take.

    python benchmarks/verifiers.py PHOTOS PAIRS.csv [--limit N]

PAIRS.csv has a header and lines `one.jpg,other.jpg,1 or 0`, the files' paths in PHOTOS and whether they show
one person. The face nearest the middle of each photo is taken. Times are processor time, so that other
jobs on the machine do not count.

    python benchmarks/verifiers.py PHOTOS PAIRS.csv --write-mean OUTPUT.safetensors

writes the mean embedding of `faceres` over PHOTOS instead: dp3_jax/weights/faceres_mean.safetensors is
that of 1,000 photos of CelebA's train split.
"""

import argparse
import csv
import pathlib
import time

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from dp3_jax.detection.face_detection import Detector
from dp3_jax.models import embedders, faceres


def read(path: pathlib.Path) -> np.ndarray:
    """u8[h, w, 3]."""
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def five_points(detector: Detector, photo: np.ndarray) -> np.ndarray | None:
    """f32[5, 2] of the face nearest the middle."""
    faces = [face for face in detector.detect(photo) if face.keypoints is not None]
    middle = np.array(photo.shape[1::-1]) / 2
    nearest = min(
        faces, key=lambda f: float(np.abs(f.keypoints.mean(0) - middle).max()), default=None
    )
    return None if nearest is None else nearest.keypoints


def rates(cosines: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """Best accuracy, equal error rate, its threshold, and the true accept rate at a false one of 1%."""
    thresholds = np.unique(cosines)
    false = np.array([(cosines[~same] >= t).mean() for t in thresholds])
    missed = np.array([(cosines[same] < t).mean() for t in thresholds])
    equal = int(np.argmin(np.abs(false - missed)))
    share = same.mean()
    return {
        "accuracy": float((1 - share * missed - (1 - share) * false).max()),
        "equal error": float((false[equal] + missed[equal]) / 2),
        "at cosine": float(thresholds[equal]),
        "accepted at 1%": float((cosines[same] > np.quantile(cosines[~same], 0.99)).mean()),
    }


def centred(rows: np.ndarray) -> np.ndarray:
    """Unit rows without their mean."""
    return embedders.unit(rows - rows.mean(0))


def write_mean(photos: list[np.ndarray], points: list[np.ndarray], output: pathlib.Path) -> None:
    """Writes the mean embedding of faceres."""
    rows = embedders.embed(embedders.Faceres(), photos, points) + faceres.mean()
    mean = np.ascontiguousarray(rows.mean(0), np.float32)
    save_file({"mean": mean}, output)
    print(f"wrote the mean of {len(rows)} faces to {output}")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=pathlib.Path)
    parser.add_argument("pairs", type=pathlib.Path)
    parser.add_argument(
        "--limit", type=int, default=0, help="only the first so many pairs of each kind"
    )
    parser.add_argument("--write-mean", type=pathlib.Path)
    arguments = parser.parse_args()
    with arguments.pairs.open(newline="") as opened:
        pairs = [(a, b, kind == "1") for a, b, kind in list(csv.reader(opened))[1:]]
    if arguments.limit:
        kinds = ([p for p in pairs if p[2] == kind][: arguments.limit] for kind in (True, False))
        pairs = [pair for kind in kinds for pair in kind]
    names = sorted({name for a, b, _ in pairs for name in (a, b)})
    detector, photos = Detector(rotations=False), {}
    points: dict[str, np.ndarray] = {}
    for name in names:
        photo = read(arguments.photos / name)
        if (five := five_points(detector, photo)) is not None:
            photos[name], points[name] = photo, five
    print(f"{len(photos)} of {len(names)} photos with a face, {len(pairs)} pairs")
    if arguments.write_mean:
        write_mean(list(photos.values()), list(points.values()), arguments.write_mean)
        return
    known = [pair for pair in pairs if pair[0] in points and pair[1] in points]
    place = {name: i for i, name in enumerate(photos)}
    left, right = ([place[pair[side]] for pair in known] for side in (0, 1))
    same = np.array([pair[2] for pair in known])
    for name, maker in embedders.EMBEDDERS.items():
        embedder = maker()
        few = list(photos)[: embedders.BATCH]
        embedders.embed(embedder, [photos[n] for n in few], [points[n] for n in few])  # compiled
        started = time.process_time()
        rows = embedders.embed(embedder, list(photos.values()), list(points.values()))
        spent = 1000 * (time.process_time() - started) / len(photos)
        for title, unit in ((name, embedders.unit(rows)), (f"{name}, centred here", centred(rows))):
            found = rates((unit[left] * unit[right]).sum(1), same)
            cells = ", ".join(f"{key} {value:.4f}" for key, value in found.items())
            print(f"{title}: {cells}, {spent:.1f} ms")


if __name__ == "__main__":
    main()
