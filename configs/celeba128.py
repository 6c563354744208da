"""The paper's experiment: a DCGAN on 5,000 CelebA faces at 128x128, for 1,000 epochs.

    python launch.py --config=configs/celeba128.py

The run is then in runs/celeba128; --workdir names another folder. data/celeba, or the folder that
--config.data.path names, holds CelebA: `img_align_celeba/` or `img_align_celeba.zip`, and if you have them
`list_eval_partition.txt` and `identity_CelebA.txt`. Expect 156,250 micro-batches of 32 images;
docs/results/prototype.md says how far which machine came in what time, and with which pictures.

Without CelebA, on drawn shapes instead of photos (times on 2 CPU cores):

    python launch.py --config=configs/celeba128.py:smoke  (under a minute)
    python launch.py --config=configs/celeba128.py:quick  (a few minutes)

From the paper: the 5,000 images, Lanczos to 128x128, [-1, 1], the kinds and the order of layers, binary
cross-entropy, Adam, mixed precision, gradient accumulation, 1,000 epochs. The paper leaves the numbers in
the lines marked (DCGAN) open; they follow Radford et al., 2016, and the authors' code: widths, latent size,
initialization, batch 64, learning rate 2e-4, b1 0.5.
"""

from ml_collections import ConfigDict

from configs import shared


def get_config(variant: str = "") -> ConfigDict:
    """The config; `variant` is what follows the colon in --config=configs/celeba128.py:VARIANT."""
    shared.check_variant(variant)
    config = ConfigDict()
    config.seed = 0  # of parameters, latents, dropout and data order; same seed, same run

    config.data = ConfigDict()
    config.data.source = "celeba"  # tfds | celeba | folder | packed | shapes
    config.data.path = "data/celeba"  # folder or zip of the source; tfds: its data_dir, "" for the default
    config.data.image_size = 128  # px, side after the resize; a power of two
    config.data.crop = (0, 20, 178, 198)  # left, top, right, bottom in source px; () for the centred square
    config.data.train_examples = 5000  # images in the seeded subset of the train split; 0 for all
    config.data.validation_examples = 0  # at most so many held-out images; 0 for all
    config.data.subset_seed = 0  # which subset; apart from `seed`, so that runs can share their images
    config.data.flip = False  # mirror training images at random
    config.data.max_unreadable = 0.01  # share of unreadable files above which the run stops
    config.data.on_device = False  # packed only: keep all images in device memory (49 kB each at 128 px)
    config.data.download = False  # tfds only: let it download CelebA
    config.data.workers = 0  # images decoded at the same time; 0 lets tf.data choose

    config.model = ConfigDict()
    config.model.family = "dcgan"  # which networks of dp3_jax/models
    config.model.latent_dim = 100  # numbers in z (DCGAN)
    config.model.generator_widths = (512, 256, 128, 64)  # channels at 8, 16, 32, 64 px (DCGAN from 8 px on)
    config.model.discriminator_widths = (64, 128, 256, 512)  # channels at 64, 32, 16, 8 px (DCGAN code)
    config.model.upsampling = "transposed"  # transposed | pixel_shuffle
    config.model.negative_slope = 0.2  # of LeakyReLU (DCGAN)
    config.model.dropout = 0.3  # share dropped in the discriminator (TensorFlow's DCGAN tutorial)
    config.model.spectral_norm = False  # in the discriminator

    config.train = ConfigDict()
    config.train.epochs = 1000.0  # passes over the training images
    config.train.batch_size = 64  # images per update (DCGAN authors' code)
    config.train.accumulation = 2  # micro-batches per update; each holds batch_size / accumulation images
    config.train.generator_learning_rate = 2e-4  # Adam (DCGAN)
    config.train.discriminator_learning_rate = 2e-4  # Adam (DCGAN)
    config.train.clip_norm = 0.0  # longer gradients are shortened to this norm; 0: none
    config.train.b1 = 0.5  # Adam's first decay rate (DCGAN)
    config.train.b2 = 0.999  # Adam's second decay rate
    config.train.compute_dtype = "auto"  # auto: bfloat16 on GPU and TPU, float32 on CPU | bfloat16 | float32
    config.train.convolution = "auto"  # 4x4 ones; auto: winograd on CPU, else lax | lax | subpixel | winograd
    config.train.label_smoothing = 0.0  # one-sided: real images are labelled 1 minus this
    config.train.augment = ()  # differentiable augmentation: any of color, translation, cutout
    config.train.r1_weight = 0.0  # factor of the R1 penalty; 0 for none
    config.train.r1_every = 16  # updates between two R1 penalties
    config.train.ema_halflife = 0.0  # updates until a weight's share in the average halves; 0 for no average
    config.train.max_skipped = 20  # micro-batches with non-finite gradients in a row that end the run

    config.log = shared.log()  # every key and its meaning: configs/shared.py
    config.log.grid_steps = 780  # micro-batches between two pictures in grids/: 5 epochs
    config.log.checkpoint_steps = 4680  # micro-batches between two checkpoints: 30 epochs

    config.evaluate = shared.evaluate()  # every key and its meaning: configs/shared.py

    if variant:
        _shrink(config, quick=variant == "quick")
    return config.lock()


def _shrink(config: ConfigDict, *, quick: bool) -> None:
    """Turns `config` into one that runs anywhere, on drawn shapes, without any download."""
    shared.shrink(config, quick=quick)
    config.model.update(
        latent_dim=64,
        generator_widths=(128, 64, 32) if quick else (64, 32),
        discriminator_widths=(32, 64, 128) if quick else (32, 64),
    )
    config.train.update(epochs=12.0 if quick else 4.0, batch_size=32, accumulation=2)
