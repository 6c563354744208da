"""What each loss of the anonymizer does to its faces.

    python benchmarks/ablation.py --start=runs/anonymize128 --data=runs/packed_all --workdir=runs/ablation

Each variant goes on from one trained run for the same number of updates, with one kind of loss left out (or
nothing but L1), and is measured on the same held-out people with the same latents. So the table shows what
a loss holds in place at the end of training, not what a run without it from the start would give. A variant
that is finished is not trained again. KID and the content loss look at the same features, so KID speaks for
content.
"""

import argparse
import pathlib
import subprocess
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np

from configs import anonymize128
from dp3_jax.common import files
from dp3_jax.evaluation import anonymity, compared_methods, composites, people
from dp3_jax.metrics import verification

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What is left out together: both of a pair look at the same pixels or features.
LOSSES = (
    ("adversarial",), ("hole",), ("feature_matching",), ("rim", "total_variation"), ("content", "style"),
    ("diversity",),
)  # fmt: skip
# The losses as they are at the end of training, from the first update on.
SETTLED = {
    "losses.hole": 3.0,
    "losses.feature_matching": 0.6,
    "losses.fade_floor": 1.0,
    "losses.adversarial_rampup": 0.0,
    "train.ema_halflife": 20.0,
}
COLUMNS = {
    "kid": "KID", "perceptual": "perceptual distance", "rim_psnr": "rim PSNR, dB", "rim_ssim": "rim SSIM",
    "found": "found again", "verified": "verified at FAR 1%", "two_latents": "two latents, levels",
}  # fmt: skip


def variants() -> dict[str, dict[str, float]]:
    """Config overrides by name."""
    off = [{f"losses.{name}": 0.0 for name in names} for names in LOSSES]
    left_out = {
        f"without {' and '.join(names).replace('_', ' ')}": factors
        for names, factors in zip(LOSSES, off, strict=True)
    }
    only = {name: 0.0 for factors in off for name in factors if name != "losses.hole"}
    return {"all losses": {}, **left_out, "L1 alone": only}


def train(name: str, overrides: dict[str, float], arguments: argparse.Namespace) -> pathlib.Path:
    """Runs the training of one variant; returns its folder."""
    workdir = pathlib.Path(arguments.workdir) / name.replace(" ", "_")
    settings = {
        **SETTLED,
        **overrides,
        "train.initial_generator": arguments.start,
        "train.epochs": arguments.updates * 16 / arguments.images,
        "data.path": arguments.data,
        "log.checkpoint_minutes": 1000.0,
    }
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    command = [
        sys.executable,
        "launch.py",
        "--config=configs/anonymize128.py",
        f"--workdir={workdir}",
    ]
    subprocess.run([*command, *flags], cwd=ROOT, check=True)
    return workdir


def measure(
    workdir: pathlib.Path, held: people.People, verifier: verification.Verifier
) -> dict[str, Any]:
    """The numbers of one variant."""
    subject = compared_methods.open_subject(workdir)
    probes = held.probes
    made = compared_methods.fill(subject, probes, 1)
    shown = {"original": probes, "generated": made}
    known = anonymity.recognition_by(verifier, held, shown)["rows"]["generated"]
    quality = composites.quality({"generated": made}, held.gallery, "mobilenet_v2", 64)
    distance = composites.perceptual(probes, {"generated": made}, "mobilenet_v2", 64)
    return {
        "kid": quality["rows"]["generated"]["kid"],
        "perceptual": distance["rows"]["generated"]["distance"],
        "rim_psnr": composites.boundary_psnr(probes, made),
        "rim_ssim": composites.ssim(probes, made)["rim"],
        "found": known["found"]["value"],
        "verified": known["true_accept_rate"]["far_1e-2"]["value"],
        "two_latents": composites.diversity(subject, probes[:200], None, 1)[
            "mean_pixel_difference"
        ],
    }


def main() -> None:
    """Trains and measures what is missing; prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", required=True, help="folder of the run to go on from")
    parser.add_argument("--data", required=True, help="packed folder")
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--images", type=int, default=32000, help="in the packed train split")
    arguments = parser.parse_args()
    config = anonymize128.get_config()
    config.data.path = arguments.data
    held = people.choose_people(
        "heldout", anonymity.heldout_pictures(config), people=400, probes_each=1, seed=1
    )
    verifier = verification.open_verifier("sface")
    results = {}
    for name, overrides in variants().items():
        results[name] = measure(train(name, overrides, arguments), held, verifier)
        files.write_json(pathlib.Path(arguments.workdir) / "ablation.json", results)
    print(f"| | {' | '.join(COLUMNS.values())} |")
    print("|---" * (1 + len(COLUMNS)) + "|")
    for name, row in results.items():
        print(f"| {name} | {' | '.join(f'{np.float64(row[key]):.3g}' for key in COLUMNS)} |")


if __name__ == "__main__":
    main()
