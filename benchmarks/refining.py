"""Refining by made ratings of a network with a known flaw: do they find it, does refining mend it?

    python benchmarks/refining.py PHOTOS WORK [--photos 40] [--keys 2] [--gain 0.3]

The flaw: the network changes blue too much, so that dark skin turns yellow and light skin blue. New faces are
drawn into the photos with it, and a rule in place of a person calls `colour` the half of them that is
furthest from how the unspoiled network draws the same person. `launch.py --config=configs/refine128.py`
begins with the spoiled network. Last, the tint that is left is measured on photos that were not rated.
"""

import argparse
import pathlib
import subprocess
import sys

import numpy as np

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from dp3_jax.data import feedback  # noqa: E402
from dp3_jax.media import photos  # noqa: E402
from dp3_jax.models.generator_file import read_generator, save_generator  # noqa: E402
from dp3_jax.pipelines.anonymize import Anonymizer  # noqa: E402
from dp3_jax.replacement import fusing, key_derivation  # noqa: E402
from dp3_jax.training.refine_run import REFINED  # noqa: E402

SPOILED = "spoiled.safetensors"


def spoil(path: pathlib.Path, gain: float) -> None:
    """Writes the shipped network with that much more gain in blue."""
    model, variables, _ = read_generator(fusing.WEIGHTS)
    params = {**variables["params"], "tone": dict(variables["params"]["tone"])}
    bias = np.array(params["tone"]["bias"], np.float32)
    bias[2] += gain
    params["tone"]["bias"] = bias
    save_generator(path, {"params": params}, model)


def draw(paths, seeds, weights):
    """{(photo, seed): (result, its face)} of photos in which one face is replaced."""
    anonymizer, drawn = Anonymizer(weights=weights, identity="prior"), {}
    for path in paths:
        pixels = photos.read_photo(path).pixels
        for seed in seeds:
            key = key_derivation.master_key_from_seed(seed)
            result = anonymizer(pixels, master_key=key)
            if len(result.face_results) == 1 and result.face_results[0].done == "generated":
                drawn[path, seed] = result.frame, result.face_results[0]
    return drawn


def tints(pictures, plain):
    """{name: levels by which a new face is bluer, or below 0 yellower, than the unspoiled network's}."""
    found = {}
    for name in pictures.keys() & plain.keys():
        x, y, w, h = pictures[name][1].action.face.box
        part = np.s_[int(y + h / 4) : int(y + 3 * h / 4), int(x + w / 4) : int(x + 3 * w / 4)]
        change = pictures[name][0][part].astype(float) - plain[name][0][part]
        found[name] = float(change[..., 2].mean() - change[..., :2].mean())
    return found


def rate(path: pathlib.Path, pictures, tinted) -> None:
    """Writes made ratings: `colour` where a face is tinted more than half of them are."""
    limit = np.median(np.abs(list(tinted.values())))
    for (photo, seed), value in sorted(tinted.items()):
        done = pictures[photo, seed][1]
        face = done.action.face
        entry = feedback.Feedback(
            action="rate",
            kind="photo",
            source=str(photo),
            sha256=feedback.sha256_of(photo),
            face=0,
            box=tuple(map(float, face.box)),
            points=None if face.keypoints is None else np.asarray(face.keypoints, float).tolist(),
            confidence=float(face.confidence),
            verdicts=("colour",) if abs(value) > limit else (),
            method="generate",
            key=done.action.key.hex(),
            candidate=done.candidate,
            vector=None if done.action.vector is None else done.action.vector._asdict(),
            done="generated",
        )
        feedback.append(path, entry)


def main() -> None:
    """Runs the whole experiment and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--fresh", type=int, default=12, help="further photos, for the measure")
    parser.add_argument("--keys", type=int, default=2)
    parser.add_argument("--gain", type=float, default=0.6)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    paths = sorted(p for p in asked.folder.iterdir() if photos.is_photo_name(p))
    paths = paths[: asked.photos + asked.fresh]
    rated, fresh = paths[: asked.photos], paths[asked.photos :]
    seeds, spoiled = range(1, asked.keys + 1), asked.work / SPOILED
    spoil(spoiled, asked.gain)
    bad, good = draw(rated, seeds, spoiled), draw(rated, seeds, None)
    said = asked.work / feedback.NAME
    said.unlink(missing_ok=True)
    rate(said, bad, tints(bad, good))
    run = asked.work / "run"
    line = [sys.executable, "launch.py", "--config=configs/refine128.py", f"--workdir={run}"]
    line += [f"--config.feedback={said}", f"--config.refine.initial={spoiled}"]
    status = subprocess.run(line, cwd=REPOSITORY, check=False).returncode
    print(f"refining ended with {status}; {len(bad)} faces rated")
    plain = draw(fresh, seeds, None)
    for name, weights in (("spoiled", spoiled), ("refined", run / REFINED)):
        if weights.is_file():
            left = list(tints(draw(fresh, seeds, weights), plain).values())
            size = np.abs(left).mean()
            print(
                f"{name}: tint of {size:.1f} levels ({np.mean(left):+.1f}) on {len(left)} unrated faces"
            )


if __name__ == "__main__":
    main()
