"""What celeba128.py and anonymize128.py have in common: what a run writes, and how it is evaluated.

Every key of `config.log`, and of `config.evaluate` what all models are asked for. The configs say where they
deviate; any key can be set on the command line: --config.log.grid_steps=100.
"""

from ml_collections import ConfigDict

VARIANTS = ("", "smoke", "quick")


def check_variant(variant: str) -> None:
    """Refuses what follows the colon in --config=FILE:VARIANT when it is none of VARIANTS."""
    if variant not in VARIANTS:
        raise ValueError(
            f"no variant {variant!r} of this config; there are: {', '.join(VARIANTS[1:])}"
        )


def log() -> ConfigDict:
    """`config.log`; nothing here changes the trained parameters."""
    log = ConfigDict()
    log.metrics_steps = 10  # micro-batches between two records in metrics.jsonl
    log.console_seconds = 10.0  # between two progress lines
    log.grid_steps = 200  # micro-batches between two pictures in grids/
    log.grid_images = 64  # images in one; a square number looks best
    log.checkpoint_steps = 2000  # micro-batches between two checkpoints
    log.checkpoint_minutes = 10.0  # or so many minutes, whichever comes first; by the clock
    log.keep_latest = 2  # checkpoints kept for resuming
    log.keep_best = 1  # checkpoints kept for their SSIM to the matched real images
    log.ssim_generated = 16  # generated images in that SSIM
    log.ssim_real = 512  # training images they are matched with
    return log


def evaluate() -> ConfigDict:
    """`config.evaluate` without what only one kind of model is asked for."""
    evaluate = ConfigDict()
    evaluate.seed = 1  # of the generated images
    evaluate.num_generated = 500  # generated images
    evaluate.num_real = 0  # training images to match with; 0 for all that were trained on
    evaluate.num_heldout = 1000  # validation images for the controls
    evaluate.batch_size = 64  # images generated or embedded at a time
    evaluate.match = "ssim"  # ssim (at 64 px grey preselects, at full size picks) | l2
    evaluate.judge = "sface"  # face verifier: sface | deepface | none
    evaluate.kid_features = "mobilenet_v2"  # or faceres | dlib (faces) | random_conv (no download)
    return evaluate


def shrink(config: ConfigDict, *, quick: bool) -> None:
    """Data, records and evaluation of the variants: drawn shapes, a quick look at them, no download."""
    config.data.update(source="shapes", path="", crop=(), validation_examples=64)
    config.data.update(image_size=64 if quick else 32, train_examples=2000 if quick else 256)
    config.log.update(grid_steps=250 if quick else 32, checkpoint_steps=500 if quick else 32)
    config.log.update(console_seconds=5.0 if quick else 2.0, grid_images=36 if quick else 16)
    config.log.update(ssim_real=128 if quick else 64)
    config.evaluate.update(num_generated=100 if quick else 16, num_heldout=64 if quick else 32)
    config.evaluate.update(judge="none", kid_features="random_conv")
