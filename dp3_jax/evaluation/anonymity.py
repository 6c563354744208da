"""`--mode=evaluate` of an anonymizer: are people hidden, and do the pictures stay real?

Every person has one picture in a gallery, as it is, and another one, the probe, whose face is hidden. Two
recognizers that had no part in training say whether probe and gallery show one person. The same measures
on unchanged probes tell that the recognizers work; on probes that show someone else, what is left to chance.
All in the canonical face frame, before any blending into a photo.
"""

import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from dp3_jax.common import files, images
from dp3_jax.common.errors import UserError
from dp3_jax.data import ImageSet, load_arrays
from dp3_jax.evaluation import composites, people
from dp3_jax.evaluation.anonymity_report import format_report
from dp3_jax.evaluation.attacks import attack, parrot, recognition
from dp3_jax.evaluation.attacks.verify import recognize
from dp3_jax.evaluation.compared_methods import (
    AnonymizedPictures,
    Subject,
    anonymize_pictures,
    fill,
    open_subject,
    paste_over,
)
from dp3_jax.metrics import verification
from dp3_jax.training.configuration import data_options
from dp3_jax.vision import geometry, masks

# What config.evaluate may say, and what holds where it does not.
DEFAULTS = {
    "judges": ("sface", "dlib", "sface_forced"),  # recognizers; () measures everything else
    "people": 400,  # held-out people, each with one picture in the gallery
    "probes_each": 1,  # probes of each of them
    "slow_people": 120,  # so many of them for SLOW judges, 0.1 s a face
    "attack_people": 0,  # of the train split, whom an attacker trains on; 0: no attack; 0.3 s each
    "lfw": "",  # folder of Labeled Faces in the Wild, a folder for each person
    "lfw_people": 100,
    "lfw_slow_people": 40,
}
SLOW = ("dlib", "deepface", "sface_forced")  # verifiers
DIVERSITY_PICTURES = 64
LANDMARK_PICTURES = 200
SHOWN_PEOPLE = 16
# What an attacker trains on, by the names of tables.
ATTACKED = {"originals": "original", "anonymized": "generated", "blanked": "context"}
SHOWN_FACES = 4
ATTACK_PROBES = 4  # pictures of each person that an attacker trains on, besides the original
ATTACK_SAMPLE = 20  # pictures of the train split that are read for each of these people
CHANGED = (
    "generated",
    "copy_paste",
    "mean_face",
)  # kinds that differ from the original in the hole alone


def recognition_by(
    verifier: verification.Verifier, people_: people.People, by_kind: AnonymizedPictures
) -> dict:
    """`recognize` by one verifier."""
    embedded = {name: verifier.embed(pictures) for name, pictures in by_kind.items()}
    gallery = verifier.embed(people_.gallery)
    return recognize(gallery, embedded, people_.gallery_people, people_.probe_people)


def write_picture(path: pathlib.Path, subject: Subject, pictures: np.ndarray, seed: int) -> None:
    """Each row a person: what the generator sees, and what it makes of it with four latents."""
    size = pictures.shape[1]
    context = paste_over(pictures, np.full((1, size, size, 3), 128, np.uint8))
    faces = [fill(subject, pictures, seed, draw) for draw in range(10, 10 + SHOWN_FACES)]
    grid = np.stack([context, *faces], 1).reshape(-1, *pictures.shape[1:])
    images.write_png(path, images.make_grid(grid, columns=1 + SHOWN_FACES, padding=2))


def heldout_pictures(config: ConfigDict) -> ImageSet:
    """The pictures of the validation and test splits."""
    options = data_options(config.data)
    splits = [load_arrays(options, split) for split in ("validation", "test")]
    known = all(split.identities is not None for split in splits)
    return ImageSet(
        np.concatenate([split.images for split in splits]),
        np.concatenate([split.identities for split in splits]) if known else None,
        tuple(name for split in splits for name in split.names),
    )


def _settings(config: ConfigDict) -> dict[str, Any]:
    settings = {**DEFAULTS, **config.evaluate.to_dict()}
    if "judges" not in config.evaluate and config.evaluate.judge == "none":
        settings["judges"] = ()
    return settings


def _lfw(settings: dict[str, Any], size: int) -> tuple[people.People | None, dict[str, Any]]:
    """The people in the folder `settings["lfw"]`, and what to say about them."""
    if not settings["lfw"] or not settings["judges"] or size != geometry.SIZE:
        return None, {
            "not_measured": "config.evaluate.lfw names no folder, or there is no verifier"
        }
    folder = pathlib.Path(settings["lfw"])
    if not folder.is_dir():
        raise UserError(f"config.evaluate.lfw is {folder}, which is no folder; correct it")
    try:
        photos, missed = people.read_folder(folder, photos_each=2)
    except UserError as error:
        return None, {"not_measured": str(error)}
    chosen = people.choose_people(
        "lfw", photos, people=settings["lfw_people"], seed=settings["seed"]
    )
    return chosen, {"photos": len(photos.images) + missed, "without_a_face": missed}


def _verify_all(
    groups: list[tuple[people.People, AnonymizedPictures, int]],
    verifiers: Mapping[str, verification.Verifier],
    missing: Mapping[str, str],
) -> dict[str, Any]:
    """`recognition_by` for all (people, their hidden probes, number of people for slow judges)."""
    result: dict[str, Any] = {everyone.name: {} for everyone, *_ in groups}
    for everyone, by_kind, few in groups:
        for name, reason in missing.items():
            result[everyone.name][name] = {"not_measured": reason}
        for name, verifier in verifiers.items():
            started = time.monotonic()
            judged = everyone.first(few) if name in SLOW else everyone
            rows = np.isin(everyone.probe_people, judged.gallery_people)
            shown = {kind: pictures[rows] for kind, pictures in by_kind.items()}
            result[everyone.name][verifier.name] = recognition_by(verifier, judged, shown)
            seconds = time.monotonic() - started
            logging.info("%s on %s: %.0f s", verifier.name, everyone.name, seconds)
    return result


def result_folder(workdir: pathlib.Path) -> pathlib.Path:
    """Where results go: the run's folder; for a file a folder beside it."""
    if not workdir.is_file():
        return workdir
    folder = workdir.with_name(f"{workdir.stem}_evaluation")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from error
    return folder


def _landmarks(by_kind: AnonymizedPictures, settings: dict[str, Any]) -> dict[str, Any]:
    if not settings["judges"]:
        return {"not_measured": "no verifier is asked for"}
    kinds = {kind: by_kind[kind] for kind in ("original", *CHANGED)}
    try:
        return composites.landmarks(kinds, LANDMARK_PICTURES)
    except UserError as error:
        return {"not_measured": str(error)}


def _attacks(
    subject: Subject, config: ConfigDict, held_out: people.People, settings: dict[str, Any]
) -> dict[str, Any]:
    """What an attacker recognizes who has trained on people of the train split; see attacks.parrot."""
    if not settings["attack_people"]:
        return {"not_measured": "config.evaluate.attack_people is 0"}
    drawn = {"people": settings["attack_people"], "seed": settings["seed"]}
    sample = ATTACK_SAMPLE * settings["attack_people"]
    pictures = load_arrays(data_options(config.data), "train", limit=sample)
    known = people.choose_people("known", pictures, probes_each=ATTACK_PROBES, **drawn)
    if known is None:
        return {"not_measured": f"{settings['source']} does not tell who is who"}
    started = time.monotonic()
    groups = [_face_set(subject, group, settings["seed"]) for group in (known, held_out)]
    try:
        eyes = parrot.open_eyes(settings["kid_features"], settings["batch_size"])
        fitted = parrot.Parrot(lambda: eyes).fit(groups[0], settings["seed"])
    except UserError as error:
        return {"not_measured": str(error)}
    rates = fitted.rates(groups[1])
    logging.info("attacks: %.0f s", time.monotonic() - started)
    return {
        "features": eyes.name,
        "people": len(known.gallery),
        "pictures": len(known.probes),
        "gallery": len(held_out.gallery),
        "far": recognition.FAR,
        "rank_1_by_chance": 1 / len(held_out.gallery),
        "rows": {name: rates[kind] for kind, name in ATTACKED.items()},
    }


def _face_set(subject: Subject, group: people.People, seed: int) -> attack.FaceSet:
    """Gallery and probes of a group; the probes' faces are replaced, the gallery's stay."""
    pictures = np.concatenate([group.gallery, group.probes])
    size = pictures.shape[1]
    mask = np.broadcast_to(masks.inference_mask(size)[..., 0] > 0, (len(pictures), size, size))
    return attack.FaceSet(
        originals=pictures,
        anonymized=np.concatenate([group.gallery, fill(subject, group.probes, seed)]),
        masks=mask,
        people=np.concatenate([group.gallery_people, group.probe_people]),
    )


def _measure(
    subject: Subject, config: ConfigDict, heldout: ImageSet, settings: dict[str, Any]
) -> dict[str, Any]:
    """All sections of the result that need pictures; and the picture's rows under "shown"."""
    seed, source = settings["seed"], settings["source"]
    draw = {"people": settings["people"], "seed": seed}
    own = people.choose_people("heldout", heldout, probes_each=settings["probes_each"], **draw)
    known = own is not None
    if own is None:
        own = people.impostors("heldout", heldout, **draw)
    by_kind = anonymize_pictures(subject, own, seed)
    groups = [(own, by_kind, settings["slow_people"])] if known else []
    lfw, about_lfw = _lfw(settings, subject.generator.size)
    if lfw is not None:
        groups.append((lfw, anonymize_pictures(subject, lfw, seed), settings["lfw_slow_people"]))
    verifiers, missing = verification.open_verifiers(
        settings["judges"],
        verification.VERIFIERS,
        "config.evaluate.judges",
        "leave it out of config.evaluate.judges",
    )
    recognition = _verify_all(groups, verifiers, missing)
    if not known:
        recognition["heldout"] = {"all": {"not_measured": f"{source} does not tell who is who"}}
        attacks = {"not_measured": f"{source} does not tell who is who"}
    else:
        attacks = _attacks(subject, config, own, settings)
    few, changed = own.probes[:DIVERSITY_PICTURES], {kind: by_kind[kind] for kind in CHANGED}
    features = settings["kid_features"], settings["batch_size"]
    return {
        "recognition": recognition,
        "lfw": about_lfw,
        "attacks": attacks,
        "outside_mask": composites.outside(own.probes, by_kind["generated"]),
        "rim_psnr_db": {k: composites.boundary_psnr(own.probes, v) for k, v in changed.items()},
        "ssim": {k: composites.ssim(own.probes, v) for k, v in changed.items()},
        "perceptual_distance": composites.perceptual(own.probes, changed, *features),
        "landmarks": _landmarks(by_kind, settings),
        "quality": composites.quality(by_kind, own.gallery, *features),
        "diversity": composites.diversity(subject, few, verifiers.get("sface"), seed),
        "shown": own.probes[np.unique(own.probe_people, return_index=True)[1][:SHOWN_PEOPLE]],
    }


def evaluate_anonymizer(
    workdir: pathlib.Path, config: ConfigDict, step: int | str = "latest"
) -> dict[str, Any]:
    """Measures an anonymizer; prints a table, writes anonymity.json and anonymity.png.

    Args:
      workdir: of a training run, or an exported file; results of FILE.safetensors go to FILE_evaluation.
      config: of `config.evaluate` the keys `seed`, `batch_size`, `kid_features` and those of DEFAULTS are
        used; and `config.data`, whose validation and test people are the held-out ones.
      step: which checkpoint of a run: a number, "latest" or "best".

    Returns:
      The content of anonymity.json. What needs a file or package that cannot be had is reported there
      as not measured, with the reason.

    Raises:
      UserError: no generator or data there, or a file cannot be written.
    """
    started = time.monotonic()
    workdir, settings = pathlib.Path(workdir), _settings(config)
    settings["source"] = config.data.source
    subject, folder = open_subject(workdir, step), result_folder(workdir)
    heldout = heldout_pictures(config)
    if heldout.images.shape[1] != subject.generator.size:
        raise UserError(
            f"the anonymizer takes pictures of {subject.generator.size} px, config.data.image_size is "
            f"{heldout.images.shape[1]}; make them the same"
        )
    measured = _measure(subject, config, heldout, settings)
    shown = measured.pop("shown")
    result = {
        "source": subject.source,
        "step": subject.step,
        "fingerprint": subject.generator.fingerprint,
        "settings": settings,
        **measured,
        "seconds": round(time.monotonic() - started, 1),
    }
    write_picture(folder / "anonymity.png", subject, shown, settings["seed"])
    files.write_json(folder / "anonymity.json", result)
    print(format_report(result))
    logging.info("wrote anonymity.json and anonymity.png to %s", folder)
    return result
