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
from dp3_jax.evaluation import composites, context_attack, people
from dp3_jax.evaluation.anonymity_report import format_report
from dp3_jax.evaluation.compared_methods import (
    Hidings,
    Subject,
    fill,
    hide,
    open_subject,
    paste_over,
)
from dp3_jax.metrics import identification, verification
from dp3_jax.training.configuration import data_options
from dp3_jax.vision import geometry

FAR = {"far_1e-2": 1e-2, "far_1e-3": 1e-3}
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
FALSE_NAMES = 20
SLOW = ("dlib", "deepface", "sface_forced")  # verifiers
DIVERSITY_PICTURES = 64
LANDMARK_PICTURES = 200
SHOWN_PEOPLE = 16
SHOWN_FACES = 4
ATTACK_PROBES = 4  # pictures of each person that an attacker trains on, besides the original
ATTACK_SAMPLE = 20  # pictures of the train split that are read for each of these people
CHANGED = (
    "generated",
    "copy_paste",
    "mean_face",
)  # kinds that differ from the original in the hole alone


def _scores(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines f[n, m] of unit rows; of none the width may be another."""
    return a @ b.T if len(a) and len(b) else np.zeros((len(a), len(b)), np.float32)


def _row(
    scores: np.ndarray, mates: np.ndarray, thresholds: dict[str, float | None]
) -> dict[str, Any]:
    """All rates of the probes whose f[n, G] scores with the gallery these are; `mates` as for rank_one."""
    return {
        "true_accept_rate": {
            key: None
            if threshold is None
            else identification.true_accept_rate(scores[mates], threshold).as_dict()
            for key, threshold in thresholds.items()
        },
        "rank_1": identification.rank_one(scores, mates).as_dict(),
        "area_under_curve": identification.area_under_curve(scores[mates], scores[~mates]),
        "mean_cosine": float(scores[mates].mean()) if mates.any() else None,
    }


def _impostors(same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probes under false names: (i64[n] rows, bool[n, G] whom each is said to be), several names each."""
    names = [
        np.roll(same, shift, axis=0) for shift in range(1, min(FALSE_NAMES, len(same) - 1) + 1)
    ]
    rows = np.tile(np.arange(len(same)), len(names))
    claimed = np.concatenate([np.zeros((0, same.shape[1]), bool), *names])
    false = ~(claimed & same[rows]).any(1)
    return rows[false], claimed[false]


def recognize(
    gallery: tuple[np.ndarray, np.ndarray],
    probes: dict[str, tuple[np.ndarray, np.ndarray]],
    gallery_people: np.ndarray,
    probe_people: np.ndarray,
) -> dict[str, Any]:
    """Verification and identification of each kind of probe against the gallery.

    The threshold at a false accept rate comes from the pairs of different people among `probes["original"]`
    and the gallery, where nothing is hidden: it is the one that a recognizer in use has. Probes and gallery
    pictures in which no face is found are counted and leave all rates, in either direction. The row
    "another_person" is the floor: originals said to show each of FALSE_NAMES others. It lies at the false
    accept rate but for chance.

    Args:
      gallery: (embeddings f[G, D], found bool[G]) as from `Verifier.embed`.
      probes: the same for each kind of probe, f[P, D] and bool[P].
      gallery_people, probe_people: i32[G], i32[P].
    """
    known = gallery[1]
    same = identification.same_person(probe_people, gallery_people[known])
    embeddings, found = probes["original"]
    reference, mates = _scores(embeddings[found], gallery[0][known]), same[found]
    thresholds = {
        name: identification.threshold_at_far(reference[~mates], far) for name, far in FAR.items()
    }
    rows = {}
    for name, (embeddings, found) in probes.items():
        rows[name] = {
            "probes": len(found),
            "face_not_found": int((~found).sum()),
            "found": identification.Rate(int(found.sum()), len(found)).as_dict(),
            **_row(_scores(embeddings[found], gallery[0][known]), same[found], thresholds),
        }
    chosen, claimed = _impostors(mates)
    counts = {key: rows["original"][key] for key in ("probes", "face_not_found", "found")}
    rows["another_person"] = {**counts, **_row(reference[chosen], claimed, thresholds)}
    return {
        "gallery": int(known.sum()),
        "gallery_face_not_found": int((~known).sum()),
        "different_pairs": int((~mates).sum()),
        "thresholds": thresholds,
        "rank_1_by_chance": 1 / int(known.sum()) if known.any() else None,
        "rows": rows,
    }


def judge(verifier: verification.Verifier, people_: people.People, hidden: Hidings) -> dict:
    """`recognize` by one verifier."""
    embedded = {name: verifier.embed(pictures) for name, pictures in hidden.items()}
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
        return None, {"not_measured": "config.evaluate.lfw names no folder, or there is no judge"}
    folder = pathlib.Path(settings["lfw"])
    if not folder.is_dir():
        raise UserError(f"config.evaluate.lfw is {folder}, which is no folder; correct it")
    try:
        photos, missed = people.read_folder(folder, photos_each=2)
    except UserError as error:
        return None, {"not_measured": str(error)}
    chosen = people.choose("lfw", photos, people=settings["lfw_people"], seed=settings["seed"])
    return chosen, {"photos": len(photos.images) + missed, "without_a_face": missed}


def _judge_all(
    groups: list[tuple[people.People, Hidings, int]],
    judges: Mapping[str, verification.Verifier],
    missing: Mapping[str, str],
) -> dict[str, Any]:
    """`judge` for all (people, their hidden probes, number of people for slow judges)."""
    result: dict[str, Any] = {everyone.name: {} for everyone, *_ in groups}
    for everyone, hidden, few in groups:
        for name, reason in missing.items():
            result[everyone.name][name] = {"not_measured": reason}
        for name, verifier in judges.items():
            started = time.monotonic()
            judged = everyone.first(few) if name in SLOW else everyone
            rows = np.isin(everyone.probe_people, judged.gallery_people)
            shown = {kind: pictures[rows] for kind, pictures in hidden.items()}
            result[everyone.name][verifier.name] = judge(verifier, judged, shown)
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


def _landmarks(hidden: Hidings, settings: dict[str, Any]) -> dict[str, Any]:
    if not settings["judges"]:
        return {"not_measured": "no judge is asked for"}
    kinds = {kind: hidden[kind] for kind in ("original", *CHANGED)}
    try:
        return composites.landmarks(kinds, LANDMARK_PICTURES)
    except UserError as error:
        return {"not_measured": str(error)}


def _attacks(
    subject: Subject, config: ConfigDict, held_out: people.People, settings: dict[str, Any]
) -> dict[str, Any]:
    """What an attacker recognizes who has trained on people of the train split; see context_attack."""
    if not settings["attack_people"]:
        return {"not_measured": "config.evaluate.attack_people is 0"}
    drawn = {"people": settings["attack_people"], "seed": settings["seed"]}
    sample = ATTACK_SAMPLE * settings["attack_people"]
    pictures = load_arrays(data_options(config.data), "train", limit=sample)
    known = people.choose("known", pictures, probes_each=ATTACK_PROBES, **drawn)
    if known is None:
        return {"not_measured": f"{settings['source']} does not tell who is who"}
    try:
        embed, features, name = context_attack.open_features(
            settings["kid_features"], settings["batch_size"]
        )
    except UserError as error:
        return {"not_measured": str(error)}
    grey = np.full((1, *held_out.probes.shape[1:]), 128, np.uint8)
    hidings = {
        "original": lambda pictures: pictures,
        "generated": lambda pictures: fill(subject, pictures, settings["seed"]),
        "context": lambda pictures: paste_over(pictures, grey),
    }
    started = time.monotonic()
    result = context_attack.attack(hidings, known, held_out, embed, features)
    logging.info("attacks: %.0f s", time.monotonic() - started)
    return {"features": name, **result}


def _measure(
    subject: Subject, config: ConfigDict, heldout: ImageSet, settings: dict[str, Any]
) -> dict[str, Any]:
    """All sections of the result that need pictures; and the picture's rows under "shown"."""
    seed, source = settings["seed"], settings["source"]
    draw = {"people": settings["people"], "seed": seed}
    own = people.choose("heldout", heldout, probes_each=settings["probes_each"], **draw)
    known = own is not None
    if own is None:
        own = people.strangers("heldout", heldout, **draw)
    hidden = hide(subject, own, seed)
    groups = [(own, hidden, settings["slow_people"])] if known else []
    lfw, about_lfw = _lfw(settings, subject.generator.size)
    if lfw is not None:
        groups.append((lfw, hide(subject, lfw, seed), settings["lfw_slow_people"]))
    judges, missing = verification.open_judges(
        settings["judges"],
        verification.VERIFIERS,
        "config.evaluate.judges",
        "leave it out of config.evaluate.judges",
    )
    recognition = _judge_all(groups, judges, missing)
    if not known:
        recognition["heldout"] = {"all": {"not_measured": f"{source} does not tell who is who"}}
        attacks = {"not_measured": f"{source} does not tell who is who"}
    else:
        attacks = _attacks(subject, config, own, settings)
    few, changed = own.probes[:DIVERSITY_PICTURES], {kind: hidden[kind] for kind in CHANGED}
    features = settings["kid_features"], settings["batch_size"]
    return {
        "recognition": recognition,
        "lfw": about_lfw,
        "attacks": attacks,
        "outside_mask": composites.outside(own.probes, hidden["generated"]),
        "rim_psnr_db": {k: composites.rim_psnr(own.probes, v) for k, v in changed.items()},
        "ssim": {k: composites.ssim(own.probes, v) for k, v in changed.items()},
        "perceptual_distance": composites.perceptual(own.probes, changed, *features),
        "landmarks": _landmarks(hidden, settings),
        "quality": composites.quality(hidden, own.gallery, *features),
        "diversity": composites.diversity(subject, few, judges.get("sface"), seed),
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
