"""What each method hides of whole persons, and what it keeps: `python benchmarks/bodies.py CLIP...`.

Persons are followed in the originals (boxes, optimal assignment). Who is to be recognised in an anonymized
frame is compared with everyone in the original of a later one, so nobody is compared with the same pixels, by
three descriptions: MobileNetV2's features of six stripes (of ImageNet; no package that we found holds an
embedding trained to re-identify persons), the colours of six stripes, and the colours at 30 places of the
pose. Kept are pose points (within a fifth of the trunk's length) and persons whom the detector still finds.
About four minutes of processor time for two clips of two pairs of frames each.
"""

import argparse
import functools
import json
import pathlib

import cv2
import jax
import numpy as np

from dp3_jax.common import assets
from dp3_jax.detection.body_outline import BONES, trunk_length
from dp3_jax.detection.detections import overlap
from dp3_jax.detection.person_detection import PersonDetector
from dp3_jax.detection.tracking import Tracker
from dp3_jax.media.video import reading
from dp3_jax.models import mobilenet
from dp3_jax.models.body_pose import PoseNetwork
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.replacement.key_derivation import master_key_from_seed

METHODS = ("solid", "blur", "pixelate", "silhouette", "background", "generate")
MIN_HEIGHT = 80  # px of a person's box
STRIPES, BINS = 6, 8
SEEN = 0.5  # of a pose point
NEAR = 0.2  # trunk lengths
LOOKS = 10  # detections a second, to follow persons


def persons(clip: pathlib.Path, detector: PersonDetector, gap: float, pairs: int):
    """[(frame, boxes by person, later frame, boxes by person)], with who is large enough."""
    with reading.read_frames(clip) as frames:
        kept = [frame.image for frame in frames]
        rate = 25.0
    height, width = kept[0].shape[:2]
    step, later = max(1, round(rate / LOOKS)), max(1, round(gap * rate))
    tracker, boxes = Tracker(width, height), {}
    for n in range(0, len(kept), step):
        found = tracker.associate(n, detector.detect(kept[n], fine=False))
        boxes[n] = {number: s.box for number, s in found if s.box[3] >= MIN_HEIGHT}
    starts = [n for n in boxes if n + later // step * step in boxes]
    for n in starts[:: max(1, len(starts) // pairs)][:pairs]:
        m = n + later // step * step
        yield kept[n], boxes[n], kept[m], boxes[m]


def crop(frame: np.ndarray, box) -> np.ndarray:
    """u8[192, 96, 3] of a person's box."""
    x, y, w, h = (round(v) for v in box)
    part = frame[max(y, 0) : y + h, max(x, 0) : x + w]
    return cv2.resize(part, (96, 192), interpolation=cv2.INTER_AREA)


@functools.cache
def _trunk():
    network = mobilenet.MobileNetV2(layers=(18,))
    variables = mobilenet.load_variables(assets.fetch("mobilenet_v2"))
    return jax.jit(lambda x: network.apply(variables, x)[1][18])


def by_network(crops: list[np.ndarray]) -> np.ndarray:
    """f32[n, d]: features of six stripes."""
    x = np.stack([cv2.resize(one, (96, 192)) for one in crops]).astype(np.float32) / 127.5 - 1
    maps = np.concatenate([np.asarray(_trunk()(one[None])) for one in x])
    return np.stack(
        [stripe.mean((1, 2)) for stripe in np.array_split(maps, STRIPES, 1)], 1
    ).reshape(len(x), -1)


def by_colour(crops: list[np.ndarray]) -> np.ndarray:
    """f32[n, d]: square roots of the histograms of hue and saturation, and of brightness, of six stripes."""
    rows = []
    for one in crops:
        hsv, row = cv2.cvtColor(one[:, 16:80], cv2.COLOR_RGB2HSV), []
        for stripe in np.array_split(hsv, STRIPES):
            hue = cv2.calcHist([stripe], [0, 1], None, [BINS, 4], [0, 180, 0, 256]).ravel()
            row += [hue / hue.sum(), (value := cv2.calcHist([stripe], [2], None, [BINS], [0, 256]).ravel())
                    / value.sum()]  # fmt: skip
        rows.append(np.sqrt(np.concatenate(row)))
    return np.stack(rows)


def by_places(frame: np.ndarray, poses: list) -> np.ndarray:
    """f32[n, d]: mean colours at three places of each bone, and round the trunk's middle."""
    smooth = cv2.blur(frame, (5, 5)).astype(np.float32)
    rows = []
    for pose in poses:
        ends = [(pose.points[a], pose.points[b]) for a, b, _ in BONES]
        at = np.array([a + (b - a) * t for a, b in ends for t in (0.25, 0.5, 0.75)])
        at = np.clip(np.round(at), 0, (frame.shape[1] - 1, frame.shape[0] - 1)).astype(int)
        rows.append(smooth[at[:, 1], at[:, 0]].ravel())
    return np.stack(rows)


def ranks(probe: np.ndarray, gallery: np.ndarray, names: list, others: list) -> list[bool]:
    """Whether the nearest of the gallery, by cosine of what differs from its mean, is the same person."""
    mean, scale = gallery.mean(0), gallery.std(0) + 1e-3
    a, b = (probe - mean) / scale, (gallery - mean) / scale
    a, b = (x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-9) for x in (a, b))
    best = (a @ b.T).argmax(1)
    return [others[j] == name for j, name in zip(best, names, strict=True) if name in others]


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", type=pathlib.Path)
    parser.add_argument("--gap", type=float, default=0.8, help="s between the two frames")
    parser.add_argument("--pairs", type=int, default=2, help="of frames in each clip")
    parser.add_argument("--identity", default="builtin", help="where new faces come from")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    detector, read = PersonDetector(), PoseNetwork()
    shown = {"original": None, "faces only": ("face",)}
    shown |= {method: (f"body={method}",) for method in METHODS}
    tools = {
        name: None if targets is None else Anonymizer(targets=targets, identity=options.identity)
        for name, targets in shown.items()
    }
    tally = {
        name: {"network": [], "colour": [], "places": [], "pose": [], "found": []} for name in shown
    }
    people = chance = 0
    for clip in options.clips:
        for first, there, second, later in persons(clip, detector, options.gap, options.pairs):
            names, others = list(there), list(later)
            people += len(set(names) & set(others))
            chance += len(set(names) & set(others)) / max(len(others), 1)
            originals = [read(first, there[n]) for n in names]
            gallery = [crop(second, later[n]) for n in others]
            known = {
                "network": by_network(gallery),
                "colour": by_colour(gallery),
                "places": by_places(second, [read(second, later[n]) for n in others]),
            }
            for name, tool in tools.items():
                frame = first if tool is None else tool(first, None, master_key_from_seed(1)).frame
                crops = [crop(frame, there[n]) for n in names]
                probes = {
                    "network": by_network(crops),
                    "colour": by_colour(crops),
                    "places": by_places(frame, originals),
                }
                for how, probe in probes.items():
                    tally[name][how] += ranks(probe, known[how], names, others)
                for n, before in zip(names, originals, strict=True):
                    after = read(frame, there[n])
                    seen = before.visible > SEEN
                    away = np.hypot(*(after.points - before.points).T)[seen]
                    tally[name]["pose"] += list(away < NEAR * trunk_length(before.points))
                found = detector.detect(frame, fine=False)
                tally[name]["found"] += [
                    any(overlap(there[n], one.box) > 0.5 for one in found) for n in names
                ]
    result = {
        name: {what: round(float(np.mean(values)), 3) for what, values in row.items()}
        for name, row in tally.items()
    }
    print(f"{people} persons; by chance {chance / people:.3f}")
    for name, row in result.items():
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in row.values()) + " |")
    if options.json:
        options.json.write_text(json.dumps({"people": people, "chance": chance / people, **result}))


if __name__ == "__main__":
    main()
