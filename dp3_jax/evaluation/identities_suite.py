"""`--mode=evaluate` of generated identities: do new faces hide people, differ from each other, and look real?

Photos of held-out people get new faces in the way that `dp3 anonymize` gives them. Beside the new faces
stand, in the same photos and measured alike:

  original      the photo as it is
  new           a generated person, by a key for each photo
  real_person   BASELINE: another real person's face in place of the generated one, with the same network and
                the same pasting. A face that is as real as a person's cannot be expected to hide better
  shipped       what the anonymizer that needs no other source of faces invents
  pasted        the generated person laid over that, with colours matched and nothing learned
  donors        the generated person alone
  ..._2         the same photo with another key: can two releases of one photo be linked?

It can be interrupted: photos are measured in parts, each written when it is done; the same command goes on.
"""

import hashlib
import json
import pathlib
import shutil
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from dp3_jax.common import files, images
from dp3_jax.common.errors import UserError
from dp3_jax.data import load_arrays
from dp3_jax.detection.face_detection import Detector
from dp3_jax.evaluation import identities_pictures as pictures
from dp3_jax.evaluation import identities_tables as tables
from dp3_jax.evaluation import people
from dp3_jax.evaluation.anonymity import heldout_pictures, result_folder
from dp3_jax.evaluation.attacks.verify import FARS, recognize
from dp3_jax.evaluation.identities_report import format_report
from dp3_jax.evaluation.identities_targets import targets
from dp3_jax.evaluation.real_people import RealPeople
from dp3_jax.evaluation.replacers import Fusing, Inpainting
from dp3_jax.metrics import identification
from dp3_jax.metrics.face_measures import MOBILENET, Measures, Ruler
from dp3_jax.models import embedders, generator_file
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.replacement import fusing
from dp3_jax.replacement.classes import load_classifier
from dp3_jax.replacement.prior_identities import PriorIdentities
from dp3_jax.training import checkpoint
from dp3_jax.training.options import data_options, model_section

# What config.evaluate may say, and what holds where it does not.
DEFAULTS = {
    "verifiers": ("sface", "dlib_resnet", "faceres"),  # of models.embedders
    "trained_on": (),  # those of them that the network under evaluation was trained on; marked in the tables
    "people": 400,  # held-out people, each with one picture in the gallery
    "probes_each": 4,  # photos of each of them that get new faces
    "real_people": 1000,  # photos of the train split whose faces are the baseline
    "lfw": "",  # folder of Labeled Faces in the Wild, a folder for each person; "": without
    "lfw_people": 100,
    "mobilenet": True,  # also KID on MobileNetV2's features, which our networks were trained on
    "seed": 1,
}
_VERSION = 1  # of what is measured; older parts are not used
SAVED_EVERY = 50  # photos


def _measured(kinds: dict[str, pictures.Kind], ruler: Ruler) -> dict[str, Measures]:
    """Measures by kind, with the probes' numbers and the persons besides."""
    measured = {}
    for kind, made in kinds.items():
        measures = ruler.measure(np.stack(made.pictures), features=True)
        measures |= {"index": np.array(made.index), "person": np.array(made.person, np.str_)}
        measured[kind] = measures
    return measured


def write_result(path: pathlib.Path, measured: dict[str, Measures]) -> None:
    """Writes measures of photos to a file, by what they are of."""
    flat = {f"{kind}/{name}": v for kind, row in measured.items() for name, v in row.items()}
    with files.atomic_target(path) as target, target.open("wb") as opened:
        np.savez(opened, **flat)


def _read(path: pathlib.Path) -> dict[str, Measures]:
    measured: dict[str, Measures] = {}
    with np.load(path) as stored:
        for name in stored.files:
            kind, measure = name.split("/")
            measured.setdefault(kind, {})[measure] = stored[name]
    return measured


def _joined(parts: Sequence[dict[str, Measures]]) -> dict[str, Measures]:
    kinds = list(dict.fromkeys(kind for part in parts for kind in part))
    return {
        kind: {
            name: np.concatenate([part[kind][name] for part in parts if kind in part])
            for name in next(part[kind] for part in parts if kind in part)
        }
        for kind in kinds
    }


def measure_people(
    bench: pictures.Bench, ruler: Ruler, probes: people.People, folder: pathlib.Path, seed: int
) -> tuple[dict[str, Measures], Measures]:
    """Measures of every kind of picture of the probes, and of the gallery.

    Args:
      bench: what is compared.
      ruler: what is measured.
      probes: people in the canonical frame.
      folder: of finished parts; those that are there are not measured again.
      seed: of the keys.
    """
    folder.mkdir(parents=True, exist_ok=True)
    gallery = folder / "gallery.npz"
    if not gallery.exists():
        write_result(gallery, {"gallery": ruler.measure(probes.gallery, features=True)})
    if done := len(list(folder.glob("[0-9]*.npz"))):
        logging.info("%d parts of before are used; to measure all again, remove %s", done, folder)
    detector = Detector(rotations=False)
    parts, count, started = [], len(probes.probes), time.monotonic()
    for start in range(0, count, SAVED_EVERY):
        path = folder / f"{start:06d}.npz"
        if not path.exists():
            part = range(start, min(start + SAVED_EVERY, count))
            write_result(path, _measured(pictures.make(bench, detector, probes, part, seed), ruler))
            seconds = time.monotonic() - started
            logging.info("%s: %d of %d photos, %.0f s", probes.name, part.stop, count, seconds)
        parts.append(_read(path))
    return _joined(parts), _read(gallery)["gallery"]


def analyse(
    rows: dict[str, Measures], gallery: Measures, probes: people.People, ruler: Ruler
) -> dict[str, Any]:
    """All tables of one group of people."""
    same = identification.same_person(probes.probe_people, probes.gallery_people)
    count = len(probes.probes)
    whole = [k for k, row in rows.items() if len(row["index"]) == count and k[-2:] != "_2"]
    recognition, linked, donors = {}, {}, {}
    for name, embedder in ruler.verifiers.items():
        recognition[name] = recognize(
            (gallery[name], gallery["found"]),
            {kind: (rows[kind][name], rows[kind]["found"]) for kind in whole},
            probes.gallery_people,
            probes.probe_people,
        )
        threshold = recognition[name]["thresholds"]["far_1e-2"]
        recognition[name]["above_baseline"] = tables.above_baseline(
            rows, name, gallery, same, threshold
        )
        linked[name] = {"threshold": embedder.threshold, "rows": {}}
        for kind in ("new", "real_person", "shipped", "pasted", "donors"):
            linked[name]["rows"][kind] = tables.linkage(rows, kind, name, embedder.threshold)
        donors[name] = {
            kind: tables.likeness(rows, kind, name, embedder.threshold)
            for kind in ("new", "pasted")
        }
    found = {
        kind: identification.Rate(int(row["found"].sum()), len(row["found"])).as_dict()
        for kind, row in rows.items()
    }
    return {
        "photos": len(probes.probes),
        "people": len(probes.gallery),
        "found": found,
        "recognition": recognition,
        "vector_alone": tables.vector_alone(
            rows["original"], gallery, probes.probe_people, probes.gallery_people
        ),
        "two_keys": linked,
        "like_the_donor": donors,
        "kid": tables.realism(
            rows, gallery, (*ruler.verifiers, MOBILENET), probes.probe_people, probes.gallery_people
        ),
        "expression": tables.expressions(rows, probes.probe_people),
        "tone": tables.tones(rows, probes.probe_people),
    }


def measure_identities(
    bench: pictures.Bench,
    groups: Sequence[people.People],
    settings: dict[str, Any],
    folder: pathlib.Path,
) -> dict[str, Any]:
    """Measures groups of people and writes identities.json and identities.png to `folder`; prints the tables.

    Args:
      bench: what is compared.
      groups: the first one is that of the targets and of the picture.
      settings: as DEFAULTS.
      folder: of results; finished parts lie in identities_parts.

    Raises:
      UserError: a network cannot be fetched, a name is not known, or a file cannot be written.
    """
    started = time.monotonic()
    if unknown := set(settings["verifiers"]) - set(embedders.EMBEDDERS):
        raise UserError(
            f"config.evaluate.verifiers names {', '.join(sorted(unknown))}; there are: "
            f"{', '.join(embedders.EMBEDDERS)}"
        )
    opened = {name: embedders.EMBEDDERS[name]() for name in settings["verifiers"]}
    ruler = Ruler(opened, mobilenet=settings["mobilenet"])
    what = [_VERSION, bench.fingerprint, settings, [g.probes.tobytes().hex()[:64] for g in groups]]
    mark = hashlib.sha256(json.dumps(what, default=str).encode()).hexdigest()[:16]
    parts = folder / "identities_parts"
    for old in parts.glob("*"):
        if old.name != mark:  # of other weights or settings
            shutil.rmtree(old, ignore_errors=True)
    result: dict[str, Any] = {"source": bench.name, "settings": settings, "far": FARS, "groups": {}}
    for group in groups:
        measured = measure_people(bench, ruler, group, parts / mark / group.name, settings["seed"])
        result["groups"][group.name] = analyse(*measured, group, ruler)
    first = result["groups"][groups[0].name]
    result["targets"] = targets(first, settings["trained_on"])
    shown = images.make_grid(
        pictures.grid(bench, groups[0], settings["seed"]),
        columns=2 + pictures.SHOWN_FACES,
        padding=2,
    )
    images.write_png(folder / "identities.png", shown)  # of real photos: not to be published
    result["seconds"] = round(time.monotonic() - started, 1)
    files.write_json(folder / "identities.json", result)
    print(format_report(result))
    logging.info("wrote identities.json and identities.png to %s", folder)
    return result


def _open_network(workdir: pathlib.Path, step: int | str) -> tuple[fusing.FusionNetwork, str]:
    """The fusion network of an exported file or of a run's checkpoint, and what to call it."""
    if workdir.is_file():
        return fusing.load_fusion(workdir), str(workdir)
    restored = checkpoint.restore_generator(workdir, step)
    model = model_section(restored.config)
    if model["family"] != "fusion":
        raise UserError(f"{workdir} holds no fusion network but a {model['family']!r}")
    fingerprint = generator_file.fingerprint_of(restored.variables, model, restored.step)
    variables = {name: tree for name, tree in restored.variables.items() if tree}
    network = fusing.fusion_of(model, variables, fingerprint)
    return network, f"{workdir}, step {restored.step}"


def _groups(config: ConfigDict, settings: dict[str, Any]) -> list[people.People]:
    heldout = heldout_pictures(config)
    drawn = {"seed": settings["seed"], "probes_each": settings["probes_each"]}
    own = people.choose_people("heldout", heldout, people=settings["people"], **drawn)
    if own is None:
        raise UserError(
            f"the held-out pictures of {config.data.source} do not tell who is who, so nobody can be "
            "recognized in them; evaluate on CelebA"
        )
    groups = [own]
    if settings["lfw"]:
        photos, _ = people.read_folder(pathlib.Path(settings["lfw"]), photos_each=2)
        known = people.choose_people(
            "lfw", photos, people=settings["lfw_people"], seed=settings["seed"]
        )
        groups += [] if known is None else [known]
    return groups


def evaluate_identities(
    workdir: pathlib.Path, config: ConfigDict, step: int | str = "latest"
) -> dict[str, Any]:
    """Measures a fusion network with the prior's people; writes identities.json and identities.png.

    Args:
      workdir: of a training run, or an exported file; results of FILE.safetensors go to FILE_evaluation.
      config: of `config.evaluate` the keys of DEFAULTS are used; and `config.data`, whose validation and
        test people are the held-out ones, and whose train split the real people of the baseline.
      step: which checkpoint of a run: a number, "latest" or "best".

    Returns:
      The content of identities.json.

    Raises:
      UserError: no network or data there, an asset cannot be fetched, or a file cannot be written.
    """
    workdir = pathlib.Path(workdir)
    settings = {key: config.evaluate.get(key, value) for key, value in DEFAULTS.items()}
    network, name = _open_network(workdir, step)
    folder, groups = result_folder(workdir), _groups(config, settings)
    lent = load_arrays(data_options(config.data), "train", limit=settings["real_people"])
    bench = pictures.Bench(
        replace=Fusing(network, load_classifier().classify),
        source=PriorIdentities(),
        real=RealPeople(lent.images),
        shipped=Inpainting(Anonymizer(identity="builtin")),
        name=name,
    )
    return measure_identities(bench, groups, settings, folder)
