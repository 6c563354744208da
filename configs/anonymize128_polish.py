"""The last 50 updates of the anonymizer: without the adversarial loss, which leaves blotches behind.

    python launch.py --config=configs/anonymize128.py --workdir=runs/anonymize128          (first)
    python launch.py --config=configs/anonymize128_polish.py --workdir=runs/polish
    python launch.py --config=configs/anonymize128_polish.py --workdir=runs/polish --mode=export --half

The weights in the package were made by these three commands. benchmarks/ablation.py shows what this does
beside other losses left out. `:smoke` and `:quick` exist as in anonymize128.py; they begin afresh, on shapes.
"""

from ml_collections import ConfigDict

from configs import anonymize128


def get_config(variant: str = "") -> ConfigDict:
    """The config; `variant` as in anonymize128.py."""
    config = anonymize128.get_config(variant)
    with config.unlocked():
        config.losses.adversarial = 0.0
        if variant:
            return config
        config.train.initial_generator = "runs/anonymize128"
        config.train.epochs = 0.025  # 50 updates
        config.train.ema_halflife = 20.0
        config.losses.adversarial_rampup = 0.0
        config.losses.hole = 3.0  # what anonymize128.py ends near, and from here on constant
        config.losses.feature_matching = 0.6
        config.losses.fade_floor = 1.0
    return config
