"""The fusion network at 256 px: as fusion128.py, on pictures of twice the side.

    python -m kits.fusion_gpu pack      (where there is a network: kits/README.md)
    python -m kits.fusion_gpu run       (on a machine with a GPU: renders, trains, exports)

or, with pictures and donors of one's own (`--mode=prepare`, `dp3_jax.data.donors`),

    python launch.py --config=configs/fusion256.py --config.data.path=PACKED --config.data.donors=DONORS

The generator has the widths of the one at 128 px and begins with its weights: each layer keeps its kernel,
and the learned map of places is enlarged from 8 to 16 px (`models.fusion.at_size`). A finer level instead
would have kept what the coarse layers see, but begin with a first and a last layer that know nothing. Not for
CPUs: an update costs four times one of fusion128.py.

`:smoke` and `:quick` are those of fusion128.py.
"""

from ml_collections import ConfigDict

from configs import fusion128


def get_config(variant: str = "") -> ConfigDict:
    """The config; `variant` as in fusion128.py."""
    config = fusion128.get_config(variant)
    if variant:
        return config
    with config.unlocked():
        config.data.image_size = 256  # px; CelebA's own pictures have 178 of them for it
        config.data.path = "runs/fusion256/packed"
        config.data.donors = "runs/fusion256/donors"
        config.data.on_device = True  # 197 kB for each picture

        config.model.generator_widths = (32, 64, 128, 256)  # channels at 128, 64, 32, 16 px
        config.model.discriminator_widths = (32, 64, 128, 256, 256, 256)  # at 128, 64, ..., 4 px

        config.train.initial_generator = "dp3_jax/weights/fusion128.safetensors"
        config.train.epochs = 20.0  # passes over the pictures; the kit ends by the clock
        config.train.batch_size = 32  # pictures per update, each with a donor; half of them with its own face
        config.train.ema_halflife = 500.0  # updates

        config.log.grid_images = 16
        config.log.grid_steps = 1000
        config.log.metrics_steps = 20
        config.log.checkpoint_minutes = 2.0
    return config
