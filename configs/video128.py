"""The anonymizer for video: goes on from a run of anonymize128.py and learns to keep a face still over time.

    python launch.py --config=configs/anonymize128.py   (first)
    python launch.py --config=configs/video128.py

To begin with exported weights instead, such as those in the package, with a new discriminator:
--config.train.initial_generator=FILE.safetensors --config.losses.adversarial_rampup=300. The pairs of views
come from the still images, moved at random with a known flow. To add pairs from clips of your own, a folder
of videos: --config.data.clips=FOLDER. They are split by person, and at each checkpoint the warping error of
those who are held out is measured. Without CelebA, on the clips alone:

    python launch.py --config=configs/video128.py --config.data.source=clips --config.data.path=FOLDER \\
        --config.train.initial_generator=dp3_jax/weights/anonymizer128.safetensors \\
        --config.losses.adversarial_rampup=300

`:smoke` and `:quick` exist as in anonymize128.py; they begin afresh, on drawn shapes.
"""

from ml_collections import ConfigDict

from configs import anonymize128


def get_config(variant: str = "") -> ConfigDict:
    """The config; `variant` as in anonymize128.py."""
    config = anonymize128.get_config(variant)
    with config.unlocked():
        config.losses.temporal = (
            5.0  # L1 of |G(second view) - warp(G(first view))|, see temporal_steps.py
        )
        if variant:
            return config
        config.train.initial_generator = "runs/anonymize128"
        config.train.epochs = 0.38  # passes over the training images
        config.train.generator_learning_rate = 3e-4  # half of where those weights come from
        config.train.ema_halflife = 300.0
        config.losses.adversarial_rampup = 50.0  # until Adam knows the gradients' sizes
        config.losses.diversity_target = 0.07  # more draws blocks of light and dark
        config.losses.hole = 3.0  # what anonymize128.py ends with, and from here on constant
        config.losses.feature_matching = 0.6
        config.losses.fade_floor = 1.0
    return config
