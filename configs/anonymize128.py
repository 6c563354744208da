"""The anonymizer: fills the face in a 128x128 photo from its surroundings, never having seen the face.

    python launch.py --config=configs/anonymize128.py

CelebA is looked for in data/celeba. --mode=prepare decodes it once and for all (runs/anonymize128-packed), so
that training needs no TensorFlow. With further photos, as the released weights were trained:

    python -m dp3_jax.data.extended data/celeba EXTRA.zip runs/packed_all
    python launch.py --config=configs/anonymize128.py --config.data.source=packed \\
        --config.data.path=runs/packed_all

The same command goes on with an interrupted run. Give the result away, in half precision, with

    python launch.py --config=configs/anonymize128.py --mode=export --half

Without CelebA, on drawn shapes instead of photos (times on 2 CPU cores):

    python launch.py --config=configs/anonymize128.py:smoke  (about a minute)
    python launch.py --config=configs/anonymize128.py:quick  (some minutes)

From the paper: its losses (adversarial, pixel, perceptual content and style, total variation), each with its
factor in `config.losses`, and mixed precision. dp3_jax/weights/README.md tells what this config gave.
"""

from ml_collections import ConfigDict

from configs import shared


def get_config(variant: str = "") -> ConfigDict:
    """The config; `variant` is what follows the colon in --config=configs/anonymize128.py:VARIANT."""
    shared.check_variant(variant)
    config = ConfigDict()
    config.seed = 0  # of parameters, latents, masks and data order; same seed, same run

    config.data = ConfigDict()
    config.data.source = "celeba"  # tfds | celeba | folder | packed | clips | shapes
    config.data.path = "data/celeba"  # folder or zip of the source; tfds: its data_dir or ""
    config.data.image_size = 128  # px, side after the resize; a power of two
    config.data.crop = (0, 20, 178, 198)  # left, top, right, bottom in source px; () for the centred square
    config.data.train_examples = 0  # images in the seeded subset of the train split; 0 for all
    config.data.validation_examples = 0  # at most so many held-out images; 0 for all
    config.data.subset_seed = 0  # which subset; apart from `seed`, so that runs can share their images
    config.data.flip = True  # mirror training images at random
    config.data.max_unreadable = 0.01  # share of unreadable files above which the run stops
    config.data.on_device = False  # packed only: keep all images in device memory (49 kB each at 128 px)
    config.data.download = False  # tfds only: let it download CelebA
    config.data.clips = ""  # folder of videos for the temporal loss (dp3_jax/data/clips.py); "" for none
    config.data.clips_held_out = 0.2  # share of their pairs whose people only measure; 0 for none
    config.data.workers = 0  # images decoded at the same time; 0 lets tf.data choose

    config.model = ConfigDict()
    config.model.family = "anonymizer"  # which networks of dp3_jax/models
    config.model.latent_dim = 64  # numbers in z
    config.model.style_dim = 128  # numbers that z, and the context, give to the modulated convolutions
    config.model.generator_widths = (32, 64, 128, 256)  # channels at 64, 32, 16, 8 px
    config.model.discriminator_widths = (32, 64, 128, 256, 256)  # channels at 64, 32, 16, 8, 4 px
    config.model.perceptual = "mobilenet_v2"  # fixed network of the content and style losses: that or vgg19
    config.model.projected = False  # let the discriminator judge that network's features as well

    config.losses = ConfigDict()  # factors; formulas in losses.py and inpainting_losses.py
    config.losses.adversarial = 0.5  # binary cross-entropy
    config.losses.adversarial_rampup = 1500.0  # updates in which that factor rises from 0
    config.losses.hole = 10.0  # L1 under the mask
    config.losses.feature_matching = 2.0  # on the discriminator's features
    config.losses.fade_floor = 0.3  # share of these two factors that is left in the end
    config.losses.fade_halflife = 1500.0  # updates in which the way there halves
    config.losses.rim = 2.0  # L1 on the outermost 4 px of the mask
    config.losses.total_variation = 0.1  # on the same rim (Liu et al., 2018)
    config.losses.content = 2.0  # on perceptual features
    config.losses.style = 50.0  # on their Gram matrices
    config.losses.diversity = 1.0  # hinge on the difference between two latents' faces
    config.losses.diversity_target = 0.06  # where it ends: mean |a - b| in [-1, 1], pooled over 4 px
    config.losses.feature_diversity = 0.0  # the same on the coarser half of the perceptual features
    config.losses.feature_diversity_target = 0.23  # mean |a - b|; from a true face it is about 0.3
    config.losses.temporal = 0.0  # L1 between two views of one scene; see configs/video128.py

    config.train = ConfigDict()
    config.train.initial_generator = ""  # begin with the networks of an exported file or a run; "" afresh
    config.train.epochs = 1.5  # passes over the training images
    config.train.batch_size = 16  # images per update; half as many contexts, two latents each
    config.train.accumulation = 1  # micro-batches per update; each holds batch_size / accumulation images
    config.train.generator_learning_rate = 6e-4  # Adam
    config.train.discriminator_learning_rate = 3e-4  # Adam
    config.train.clip_norm = 5.0  # longer gradients are shortened to this norm; 0: none
    config.train.b1 = 0.5  # Adam's first decay rate (DCGAN)
    config.train.b2 = 0.99  # Adam's second decay rate (StyleGAN2)
    config.train.compute_dtype = "auto"  # auto: bfloat16 on GPU and TPU, float32 on CPU | bfloat16 | float32
    config.train.convolution = "auto"  # 4x4 ones; auto: winograd on CPU, else lax | lax | subpixel | winograd
    config.train.label_smoothing = 0.0  # one-sided: real images are labelled 1 minus this
    config.train.augment = ("translation",)  # of what the discriminator sees: any of translation, cutout
    config.train.r1_weight = 1.0  # factor of the R1 penalty; 0 for none
    config.train.r1_every = 8  # updates between two R1 penalties
    config.train.ema_halflife = 200.0  # updates until a weight's share in the average halves; 0: none
    config.train.max_skipped = 20  # micro-batches with non-finite gradients in a row that end the run

    config.log = shared.log()  # every key and its meaning: configs/shared.py
    config.log.grid_images = 36  # in one picture; each row is one held-out photo with different latents
    config.log.checkpoint_minutes = 5.0  # at most, between two checkpoints
    config.log.ssim_generated = 8  # generated images in the SSIM that tells the best checkpoint
    config.log.ssim_real = 256  # training images they are matched with

    config.evaluate = shared.evaluate()  # the other keys and their meaning: configs/shared.py
    config.evaluate.judges = ("sface", "dlib", "sface_forced")  # verifiers; sface_forced needs no detector
    config.evaluate.people = 400  # held-out identities in the gallery
    config.evaluate.probes_each = 1  # anonymized pictures of each
    config.evaluate.attack_people = 400  # an attacker learns from so many more; 0: no attack
    config.evaluate.slow_people = 120  # the same for the slow judges (dlib, sface_forced)
    config.evaluate.lfw = ""  # folder of LFW, one folder for each person; "" leaves it out
    config.evaluate.lfw_people = 100  # of LFW
    config.evaluate.lfw_slow_people = 40  # of LFW, for the slow judges

    if variant:
        _shrink(config, quick=variant == "quick")
    return config.lock()


def _shrink(config: ConfigDict, *, quick: bool) -> None:
    """Turns `config` into one that runs anywhere, on drawn shapes, without any download."""
    shared.shrink(config, quick=quick)
    config.data.flip = False
    config.evaluate.judges = ()
    config.model.update(
        latent_dim=16,
        style_dim=32,
        generator_widths=(32, 64, 128) if quick else (16, 32),
        discriminator_widths=(32, 64, 128, 128) if quick else (16, 32, 32),
    )
    config.train.update(epochs=12.0 if quick else 4.0, ema_halflife=20.0, r1_every=4)
    # Content and style need weights that are no part of the package.
    config.losses.update(fade_halflife=100.0, adversarial_rampup=20.0, content=0.0, style=0.0)
