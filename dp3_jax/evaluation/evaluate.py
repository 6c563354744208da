"""`--mode=evaluate`: how good the generated faces are, and whether they are training faces in disguise.

Every number comes with controls, the same measure on real images, because alone it says little: two
random CelebA faces have an SSIM of 0.18, the paper's 0.182 to a matched one; the mean face has 0.66 and an
empty grey picture 0.57, more than a real unseen face (0.38). A higher SSIM is not a better picture.
"""

import dataclasses
import math
import pathlib
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from dp3_jax.common import files, images
from dp3_jax.common.errors import UserError
from dp3_jax.data import ImageSet, load_arrays
from dp3_jax.evaluation.report import format_report
from dp3_jax.metrics import image_similarity, kid, memorisation, verification
from dp3_jax.training import provenance
from dp3_jax.training.export import Decoder, latents, open_decoder
from dp3_jax.training.options import data_options

PAPER_SSIM = 0.182  # generated to matched real, DeepPrivacy3 prototype
CONTROL_IMAGES = 200  # pictures in each control that needs a search by SSIM (0.15 s each)
KID_IMAGES = 1000  # at most so many pictures of each set in KID
IDENTITY_PAIRS = 1000  # at most so many pairs of each kind in the verifier's own control
SHOWN_PAIRS = 32  # in evaluation_pairs.png


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What is compared: all u8[N, S, S, 3]; `match` is the train index matched with each generated one."""

    generated: np.ndarray
    train: np.ndarray
    heldout: ImageSet
    match: np.ndarray


def _summary(values: np.ndarray) -> dict[str, float | int | None]:
    """Mean, standard deviation and number of the finite values (PSNR of equal pictures is infinite)."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return {"mean": None, "std": None, "n": 0}
    return {"mean": float(finite.mean()), "std": float(finite.std()), "n": len(finite)}


def _match(
    queries: np.ndarray, reference: np.ndarray, rule: str, skip: np.ndarray | None = None
) -> np.ndarray:
    """Index of the reference picture matched with each query, by "ssim" or "l2"."""
    search = {"ssim": image_similarity.match_by_ssim, "l2": image_similarity.match_by_l2}[rule]
    return search(queries, reference, skip=skip)[1]


def _similarity(pictures: Pictures, rule: str, rng: np.random.Generator) -> dict[str, Any]:
    """SSIM and PSNR of generated pictures with real ones, and of real pictures with real ones."""
    generated, train = pictures.generated, pictures.train
    heldout = pictures.heldout.images[:CONTROL_IMAGES]
    chosen = rng.permutation(len(train))[:CONTROL_IMAGES]
    first = rng.integers(len(train), size=len(generated))
    second = (first + rng.integers(1, len(train), size=len(first))) % len(train)  # never itself
    mean_image = np.round(train.mean(0, dtype=np.float64)).astype(np.uint8)[None]
    # Queries, and the train picture that each is compared with.
    rows = {
        "generated_vs_matched_train": (generated, pictures.match),
        "generated_vs_random_train": (generated, first),
        "heldout_vs_matched_train": (heldout, _match(heldout, train, rule)),
        "train_vs_matched_other_train": (
            train[chosen],
            _match(train[chosen], train, rule, skip=chosen),
        ),
        "random_train_vs_random_train": (train[first], second),
        "mean_image_vs_matched_train": (mean_image, _match(mean_image, train, rule)),
    }
    return {
        "ssim": {
            name: _summary(image_similarity.ssim_pairs(queries, train[index]))
            for name, (queries, index) in rows.items()
        },
        "psnr_db": {
            name: _summary(image_similarity.psnr_pairs(queries, train[index]))
            for name, (queries, index) in rows.items()
        },
    }


def _kid(pictures: Pictures, name: str, batch_size: int, rng: np.random.Generator) -> dict:
    """KID of generated and of held-out pictures against train pictures."""
    label = kid.FEATURE_NAMES[name]
    try:
        extract = kid.feature_extractor(name, batch_size)
    except UserError as error:
        return {"features": label, "not_measured": str(error)}
    sets = {
        key: extract(values[rng.permutation(len(values))[:KID_IMAGES]])
        for key, values in {
            "generated": pictures.generated,
            "heldout": pictures.heldout.images,
            "train": pictures.train,
        }.items()
    }
    result: dict[str, Any] = {"features": label}
    for key in ("generated", "heldout"):
        value, error = kid.kid(sets[key], sets["train"])
        result[f"{key}_vs_train"] = {
            "value": value,
            "standard_error": None if math.isnan(error) else error,
            "n": [len(sets[key]), len(sets["train"])],
        }
    return result


def _pixel_memorisation(pictures: Pictures) -> dict[str, Any]:
    distance, relative = memorisation.pixel_space(
        pictures.generated, pictures.heldout.images, pictures.train
    )
    return {
        "pixel_rms_distance": distance,
        f"pixel_distance_relative_to_next_{memorisation.NEIGHBOURS}": relative,
    }


def _faces(pictures: Pictures, verifier_name: str, seed: int) -> tuple[dict, dict]:
    """(face_verification, memorisation in face space), or why they were not measured."""
    if verifier_name == "none":
        reason = {"not_measured": "config.evaluate.judge=none"}
        return reason, reason
    try:
        verifier = verification.open_verifier(verifier_name)
    except UserError as error:
        reason = {"not_measured": f"{error}; or choose config.evaluate.judge=none"}
        return reason, reason
    logging.info("embedding faces with %s", verifier.name)
    train = verifier.embed(pictures.train)
    generated = verifier.embed(pictures.generated)
    heldout = verifier.embed(pictures.heldout.images)
    matched = tuple(part[pictures.match] for part in train)
    verdicts: dict[str, Any] = {
        "judge": verifier.name,
        "same_person_if_cosine_at_least": verifier.threshold,
        "face_not_found": {
            name: {"pictures": int((~found).sum()), "of": len(found)}
            for name, (_, found) in (
                ("generated", generated),
                ("heldout", heldout),
                ("train", train),
            )
        },
        "generated_vs_matched_train": verification.verify(verifier, generated, matched),
    }
    verdicts.update(_verifier_controls(verifier, heldout, pictures.heldout.identities, seed))
    return verdicts, memorisation.face_space(verifier, generated, heldout, train)


def _verifier_controls(
    verifier: verification.Verifier,
    embedded: tuple[np.ndarray, np.ndarray],
    identities: np.ndarray | None,
    seed: int,
) -> dict[str, Any]:
    """How often the verifier is right about held-out pictures of known people."""
    names = ("heldout_same_person_pairs", "heldout_different_person_pairs")
    if identities is None:
        return {name: {"not_measured": "the data has no identities"} for name in names}
    kinds = verification.identity_pairs(identities, IDENTITY_PAIRS, seed)
    result = {}
    for name, pairs in zip(names, kinds, strict=True):
        left, right = (tuple(part[pairs[:, side]] for part in embedded) for side in (0, 1))
        result[name] = verification.verify(verifier, left, right)
    return result


def _load(workdir: pathlib.Path, config: ConfigDict, decoder: Decoder) -> tuple[ImageSet, ImageSet]:
    """The train pictures that the generator has learnt from, and held-out ones."""
    options = data_options(config.data)
    if options.image_size != decoder.image_size:
        raise UserError(
            f"{decoder.source} makes {decoder.image_size} px pictures, config.data.image_size is "
            f"{options.image_size}; evaluate with the config that trained it"
        )
    train = load_arrays(options, "train", limit=config.evaluate.num_real)
    if train.of:
        provenance.check(workdir, *train.of[::-1], options.path)
    heldout = load_arrays(options, "validation", limit=config.evaluate.num_heldout)
    for name, loaded in (("train", train), ("validation", heldout)):
        if len(loaded.images) < 2:
            raise UserError(
                f"evaluation needs at least 2 {name} images; {options.source} data at "
                f"{options.path or 'its default place'} has {len(loaded.images)}"
            )
    return train, heldout


def _write_pairs(path: pathlib.Path, pictures: Pictures) -> None:
    """Picture of generated | matched train pairs, eight pictures in a row."""
    count = min(SHOWN_PAIRS, len(pictures.generated))
    pairs = [
        np.concatenate([pictures.generated[i], pictures.train[pictures.match[i]]], axis=1)
        for i in range(count)
    ]
    images.write_png(path, images.make_grid(np.stack(pairs), columns=4, padding=4))


def evaluate(
    workdir: pathlib.Path, config: ConfigDict, step: int | str = "latest"
) -> dict[str, Any]:
    """Measures a checkpoint in `workdir`; writes evaluation.json and evaluation_pairs.png there.

    What needs a model file or a package that cannot be had is reported as not measured, with the
    reason; the rest is measured. The same seeds and data give the same numbers.

    Args:
      workdir: of a training run.
      config: the run's; of `config.evaluate` all keys are used, and `config.data`.
      step: which checkpoint: a number, "latest" or "best" (by SSIM, see this module's first lines).

    Returns:
      The content of evaluation.json.

    Raises:
      UserError: no run or checkpoint there, the data cannot be had, or a file cannot be written.
    """
    workdir = pathlib.Path(workdir)
    settings = config.evaluate
    decoder = open_decoder(workdir, settings.batch_size, step)
    train, heldout = _load(workdir, config, decoder)
    logging.info(
        "evaluating step %s: %d generated, %d train, %d held-out pictures of %d px",
        decoder.step, settings.num_generated, len(train.images), len(heldout.images),
        decoder.image_size,
    )  # fmt: skip
    z = latents(jax.random.key(settings.seed), 0, settings.num_generated, decoder.latent_dim)
    generated = images.to_uint8(decoder.decode(z))
    match = _match(generated, train.images, settings.match)
    pictures = Pictures(generated, train.images, heldout, match)
    rng = np.random.default_rng(settings.seed)
    similarity = _similarity(pictures, settings.match, rng)
    distances = _kid(pictures, settings.kid_features, settings.batch_size, rng)
    faces, face_distance = _faces(pictures, settings.judge, settings.seed)
    result = {
        "checkpoint_step": decoder.step,
        "data": {
            "source": config.data.source,
            "image_size": decoder.image_size,
            "train_images": len(train.images),
            "heldout_images": len(heldout.images),
            "generated_images": len(generated),
        },
        "settings": settings.to_dict(),
        **similarity,
        "paper_ssim_generated_vs_matched": PAPER_SSIM,
        "kid": distances,
        "memorisation": {**_pixel_memorisation(pictures), "face_cosine_distance": face_distance},
        "face_verification": faces,
    }
    _write_pairs(workdir / "evaluation_pairs.png", pictures)
    files.write_json(workdir / "evaluation.json", result)
    print(format_report(result))
    logging.info("wrote evaluation.json and evaluation_pairs.png to %s", workdir)
    return result
