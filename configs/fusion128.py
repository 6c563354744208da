"""The fusion network: puts generated faces into photos, never having seen the face that was there.

    python -m dp3_jax.data.extended CELEBA EXTRA.zip runs/packed_all   (once: photos to one packed folder)
    python -m dp3_jax.data.donors runs/packed_all runs/donors          (once: measures them, renders donors)
    python launch.py --config=configs/fusion128.py

With CelebA alone, the first step is

    python launch.py --config=configs/anonymize128.py --mode=prepare --workdir=runs/packed_all \\
        --config.data.source=celeba --config.data.path=CELEBA

The run begins with the anonymizer's weights that come with the package. The same command goes on with an
interrupted run. Give the result away, in half precision, with

    python launch.py --config=configs/fusion128.py --mode=export --half

`:smoke` and `:quick` need no download: synthetic shapes are their photos and their donors.
"""

from ml_collections import ConfigDict

from configs import anonymize128, shared


def get_config(variant: str = "") -> ConfigDict:
    """The config; `variant` is what follows the colon in --config=configs/fusion128.py:VARIANT."""
    shared.check_variant(variant)
    config = anonymize128.get_config(variant)
    with config.unlocked():
        # Folder that `dp3_jax.data.donors` wrote; "": donors are other photos of the batch, cut by one oval.
        config.data.donors = "" if variant else "runs/donors"
        if not variant:
            config.data.update(source="packed", path="runs/packed_all")

        config.model.family = "fusion"
        del config.model.latent_dim  # the donor is what varies
        config.model.projected = not variant  # judge a fixed network's features as well

        # Factors; formulas in losses.py, inpainting_losses.py and fusion_steps.py.
        config.losses = ConfigDict()
        config.losses.adversarial = 0.25  # binary cross-entropy
        config.losses.adversarial_rampup = 150.0  # updates in which that factor rises from 0
        config.losses.pixel = 6.0  # L1 under the mask, of self pairs
        config.losses.surroundings = 3.0  # L1 under the mask round the donor, of cross pairs
        config.losses.boundary = 2.0  # L1 on the mask's outermost 4 px
        config.losses.total_variation = 0.1  # on the same pixels
        # On perceptual features: of self pairs, and round the donor of cross pairs.
        config.losses.content = 0.0 if variant else 2.0
        config.losses.style = 0.0 if variant else 50.0  # on their Gram matrices
        config.losses.tone = 3.0  # L1 of mean colours over squares of 16 px, of cross pairs
        config.losses.keep = 1.0  # 1 - alpha in the donor's inner part, of cross pairs
        config.losses.correction = 0.2  # mean square of gain and bias
        config.losses.under = 2.0  # L1 of what lies under the donor's edge, of self pairs

        # Begin with the networks of an exported file or a run; "shipped": the anonymizer's in the package.
        config.train.initial_generator = "" if variant else "shipped"
        config.train.generator_learning_rate = 2e-4  # Adam
        config.train.discriminator_learning_rate = 2e-4  # Adam
        if not variant:
            config.train.r1_weight = 2.0  # with less the discriminator soon knows all fakes
            config.train.ema_halflife = 150.0
        config.train.epochs = 4.0 if variant else 1.5625  # passes over the photos
        config.train.batch_size = 16  # photos per update, each with a donor; half of them with its own face

        for key in ("judges", "attack_people", "slow_people", "lfw_slow_people"):
            del config.evaluate[key]  # the anonymizer's evaluation asks for them
        config.evaluate.verifiers = ("sface", "dlib_resnet", "faceres")  # each verifies, and gives a KID
        # Those of them that something here was trained on (`replacement.distinctness`).
        config.evaluate.trained_on = ("dlib_resnet",)
        config.evaluate.probes_each = 4  # photos of each held-out person that get new faces
        config.evaluate.real_people = 1000  # photos of the train split whose faces are the baseline
        config.evaluate.mobilenet = True  # also the KID of MobileNetV2's features, which losses look at
    return config
