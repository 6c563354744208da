"""The anonymizer's last stage: as the second one, with a quarter of the step and a shorter average.

    python launch.py --config=configs/anonymize128_projected.py --workdir=runs/projected    (first)
    python launch.py --config=configs/anonymize128_polish.py --workdir=runs/polish
    python launch.py --config=configs/anonymize128_polish.py --workdir=runs/polish --mode=export --half

dp3_jax/weights/README.md tells what it gave. `:smoke` and `:quick` exist as in anonymize128.py; they begin
afresh, on drawn shapes.
"""

from ml_collections import ConfigDict

from configs import anonymize128_projected


def get_config(variant: str = "") -> ConfigDict:
    """The config; `variant` as in anonymize128.py."""
    config = anonymize128_projected.get_config(variant)
    with config.unlocked():
        config.train.generator_learning_rate /= 4
        config.train.discriminator_learning_rate /= 4
        if variant:
            return config
        config.train.initial_generator = "runs/projected"
        config.train.epochs = 0.1  # 200 updates
        config.train.ema_halflife = 40.0
        config.losses.adversarial_rampup = 50.0  # until Adam knows the gradients' sizes
    return config
