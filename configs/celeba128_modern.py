"""The paper's data and budget with what the field has learned since; to be compared with celeba128.py.

    python launch.py --config=configs/celeba128_modern.py

It changes only the switches below; set one back (for example --config.model.spectral_norm=false) to see
what it alone does. `:smoke` and `:quick` exist as in celeba128.py.
"""

from ml_collections import ConfigDict

from configs import celeba128


def get_config(variant: str = "") -> ConfigDict:
    """The config; `variant` as in celeba128.py."""
    config = celeba128.get_config(variant)
    with config.unlocked():
        config.model.upsampling = "pixel_shuffle"  # no checkerboard from uneven kernel overlap
        config.model.spectral_norm = True  # bounds the discriminator's slope
        config.model.dropout = (
            0.0  # spectral norm, R1 and augmentation hold the discriminator back instead
        )
        config.train.augment = (
            "color",
            "translation",
            "cutout",
        )  # 5,000 images are few: DiffAugment
        config.train.label_smoothing = 0.0  # 0.1 is the usual value; R1 makes it unnecessary
        config.train.r1_weight = 1.0  # R1's gamma / 2 for logits of spectrally normalized networks
        config.train.r1_every = 16  # lazy
        config.train.ema_halflife = 150.0  # updates: about 10,000 images, as StyleGAN2-ADA
        config.train.b1 = 0.0  # Adam without momentum, as in StyleGAN2
        config.train.b2 = 0.99
    return config
