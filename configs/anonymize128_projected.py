"""The anonymizer's second stage: a discriminator that also judges a pretrained network's features.

    python launch.py --config=configs/anonymize128.py             (first)
    python launch.py --config=configs/anonymize128_projected.py

The discriminator of the first stage sees pixels, and in the time that a CPU has never learns much of faces.
Heads on MobileNetV2's features (Sauer et al., 2021, arXiv:2111.01007) know eyes, hair and outlines at once;
the new faces get their sharpness and their variety from this stage. `:smoke` and `:quick` exist as in
anonymize128.py; they begin afresh, on drawn shapes, without the pretrained network, which is a download.
"""

from ml_collections import ConfigDict

from configs import anonymize128


def get_config(variant: str = "") -> ConfigDict:
    """The config; `variant` as in anonymize128.py."""
    config = anonymize128.get_config(variant)
    with config.unlocked():
        config.losses.adversarial = 1.0
        if variant:
            return config
        config.model.projected = True
        config.losses.feature_diversity = 0.6  # 0.3: faces grow alike again; 1.0: closed eyes, glasses
        config.train.initial_generator = "runs/anonymize128"
        config.train.epochs = 1.0  # 2,000 updates
        config.losses.adversarial_rampup = 150.0  # until the new heads know something
        config.losses.hole = 3.0  # what anonymize128.py ends near, and from here on constant
        config.losses.feature_matching = 0.6
        config.losses.fade_floor = 1.0
    return config
