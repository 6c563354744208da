"""All attacks on all anonymizers, on held-out people of CelebA: the table of docs/results/attacks.md.

    python benchmarks/attacks.py CELEBA FOLDER [--known 60] [--tried 50] [--each 3]

CELEBA has CelebA's own layout. Of the people of its validation and test splits some are learned from, others
tried. Faces and results lie in FOLDER, which must not be published: an interrupted run goes on there.
"""

import argparse
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from PIL import Image

from dp3_jax.common import files
from dp3_jax.detection import face_vector
from dp3_jax.detection.face_detection import Detector
from dp3_jax.evaluation import attacks
from dp3_jax.evaluation.attacks import impostors, inversion, linkage, memorisation, repeat, tuned
from dp3_jax.evaluation.attacks.attack import Anonymize, FaceSet
from dp3_jax.evaluation.attacks.verifiers import FACE_VERIFIERS
from dp3_jax.evaluation.identities_pictures import find
from dp3_jax.evaluation.replacers import donor_view
from dp3_jax.models.mesh import FaceMesh, Pose
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.replacement.identities import Classes
from dp3_jax.replacement.prior_identities import PriorIdentities
from dp3_jax.vision import masks

SEED = 1
# Of the table, and of what is measured first; the one on clips is `dp3 evaluate-video --motion-attack`.
ORDER = (
    "verify", "conditioning", "context", "parrot", "linkage", "repeat", "memorisation", "inversion",
    "parrot_tuned", "restoration",
)  # fmt: skip
SHOWN = 0.3  # share of the original in the copy that leaks
_CROP = (0, 20, 178, 198)
# Whose changed pixels are an anonymizer's masked region: those that share one lay it alike.
_REGION_OF = {"leaking": "builtin", "blur": "solid", "pixelate": "solid"}


def _read(celeba: pathlib.Path, name: str) -> np.ndarray:
    """u8[128, 128, 3], a face in the canonical frame."""
    with Image.open(celeba / "img_align_celeba" / name) as opened:
        cut = opened.convert("RGB").crop(_CROP)
        return np.asarray(cut.resize((masks.SIZE, masks.SIZE), Image.Resampling.LANCZOS))


def _names(celeba: pathlib.Path) -> tuple[dict[int, list[str]], list[str]]:
    """(names of held-out pictures by person, names of training pictures)."""
    parts = dict(line.split() for line in (celeba / "list_eval_partition.txt").open())
    people: dict[int, list[str]] = {}
    for line in (celeba / "identity_CelebA.txt").open():
        name, person = line.split()
        if parts.get(name, "0") != "0" and (celeba / "img_align_celeba" / name).is_file():
            people.setdefault(int(person), []).append(name)
    present = sorted(path.name for path in (celeba / "img_align_celeba").glob("*.jpg"))
    return people, [name for name in present if parts.get(name) == "0"]


def _faces(celeba: pathlib.Path, people: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """(u8[n, 128, 128, 3] of `each` pictures of so many held-out people, i64[n] who it is)."""
    held_out, _ = _names(celeba)
    rng = np.random.default_rng(SEED)
    enough = sorted(person for person, names in held_out.items() if len(names) >= each)
    chosen = rng.permutation(enough)[:people]
    pictures = [
        _read(celeba, name) for person in chosen for name in sorted(held_out[person])[:each]
    ]
    return np.stack(pictures), np.repeat(chosen, each)


def _training(celeba: pathlib.Path, count: int) -> np.ndarray:
    """Faces that the builtin generator and the fusion network were trained on."""
    names = np.random.default_rng(SEED).permutation(_names(celeba)[1])[:count]
    return np.stack([_read(celeba, name) for name in names])


def _unseen(options: argparse.Namespace) -> np.ndarray:
    """As many faces of held-out people who are in no other part of this."""
    held_out, _ = _names(options.celeba)
    rng = np.random.default_rng(SEED)
    enough = sorted(person for person, names in held_out.items() if len(names) >= options.each)
    used = set(rng.permutation(enough)[: options.known + options.tried].tolist())
    names = sorted(name for person in held_out if person not in used for name in held_out[person])
    chosen = np.random.default_rng(SEED).permutation(names)[: options.training]
    return np.stack([_read(options.celeba, name) for name in chosen])


def _anonymizers() -> dict[str, Anonymize]:
    """By name; each finds the face nearest the middle by itself."""
    detector = Detector(rotations=False)

    def of(anonymizer: Anonymizer) -> Anonymize:
        def call(picture: np.ndarray, key: bytes) -> np.ndarray:
            return anonymizer(picture, [find(detector, picture)], key).frame

        return call

    builtin = of(Anonymizer(identity="builtin"))

    def leaking(picture: np.ndarray, key: bytes) -> np.ndarray:
        mixed = (1 - SHOWN) * builtin(picture, key) + SHOWN * picture
        return np.rint(mixed).astype(np.uint8)

    return {
        "generate": of(Anonymizer()),
        "builtin": builtin,
        "leaking": leaking,
        "blur": of(Anonymizer(method="blur")),
        "pixelate": of(Anonymizer(method="pixelate")),
        "solid": of(Anonymizer(method="solid")),
    }


def _stored(path: pathlib.Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array of before, or a new one."""
    if path.exists():
        return np.load(path)
    array = make()
    with files.atomic_target(path) as target, target.open("wb") as opened:
        np.save(opened, array)
    return array


def _changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """bool[n, 128, 128], the region in which pictures differ, its gaps closed."""
    window = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    apart = (before != after).any(-1).astype(np.uint8)
    return np.stack([cv2.morphologyEx(x, cv2.MORPH_CLOSE, window) for x in apart]) > 0


def _vectors(pictures: np.ndarray) -> np.ndarray:
    """f32[n, 4], what passes on to a generated face."""
    detector, mesh = Detector(rotations=False), FaceMesh()
    found = [face_vector.measure(picture, find(detector, picture), mesh) for picture in pictures]
    rows = [
        [np.nan] * 4 if v is None else [np.nan if x is None else x for x in v[:4]] for v in found
    ]
    return np.array(rows, np.float32)


def _attacks(
    options: argparse.Namespace, anonymize: Anonymize, training: np.ndarray
) -> dict[str, attacks.Attack]:
    """All but the one on clips, in the order of their cost."""
    found = attacks.offered()
    return {
        "verify": found["verify"],
        "conditioning": found["conditioning"],
        "context": found["context"],
        "parrot": found["parrot"],
        "linkage": linkage.Linkage(anonymize),
        "repeat": repeat.Repeat(anonymize),
        "memorisation": memorisation.Memorisation(training, unseen=_unseen(options)),
        "inversion": inversion.Inversion(updates=options.inversion),
        "parrot_tuned": tuned.Tuned(updates=options.tuned),
        "restoration": found["restoration"],
    }


def _with_impostors(
    faces: FaceSet, known: int, call: Anonymize, folder: pathlib.Path, name: str
) -> FaceSet:
    """The faces that are tried, and beside them strangers of the same classes, anonymized in their place.

    Each stranger is laid into the photo under its own mask; the anonymizer, with the same key, finds and
    measures that face by itself.
    """
    tried = faces.select(slice(known, None))
    classes = _stored(folder / "classes.npy", lambda: impostors.read_classes(tried.originals))
    laid = impostors.laid_in(tried, impostors.companions(tried.people, classes)[:, 0])

    def make() -> np.ndarray:
        keys = ((known + row).to_bytes(32, "big") for row in range(len(laid)))
        return np.stack([call(*pair) for pair in zip(laid, keys, strict=True)])

    shown = _stored(folder / f"impostors-{name}.npy", make)
    return dataclasses.replace(tried, classes=classes, impostors=shown)


def _one_each(faces: FaceSet) -> FaceSet:
    """The first face of each person: anonymizing again takes time."""
    return faces.select(np.sort(np.unique(faces.people, return_index=True)[1]))


def _measure(options: argparse.Namespace, known: int) -> None:
    folder: pathlib.Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    pictures, people = _faces(options.celeba, options.known + options.tried, options.each)
    vectors = _stored(folder / "vectors.npy", lambda: _vectors(pictures))
    training = _training(options.celeba, options.training)
    shown: dict[str, np.ndarray] = {}
    calls = _anonymizers()
    for name, anonymize in calls.items():
        shown[name] = _stored(
            folder / f"{name}.npy",
            lambda call=anonymize: np.stack(
                [call(picture, row.to_bytes(32, "big")) for row, picture in enumerate(pictures)]
            ),
        )
        print(name, flush=True)
    sets = {
        name: FaceSet(
            pictures,
            results,
            _changed(pictures, shown[_REGION_OF.get(name, name)]),
            people,
            vectors if name == "generate" else None,
        )
        for name, results in shown.items()
    }
    made = {name: _attacks(options, call, training) for name, call in _anonymizers().items()}
    for attack in options.only.split(",") if options.only else ORDER:
        for name, faces in sets.items():
            path = folder / f"{attack}_{name}.json"
            if path.exists():
                continue
            started = time.process_time()
            learned = faces.select(slice(0, known))
            tried = _with_impostors(faces, known, calls[name], folder, name)
            if attack in {"linkage", "repeat"}:
                tried = _one_each(tried)
            result = made[name][attack].fit(learned, SEED).score(tried)
            seconds = round(time.process_time() - started, 1)
            files.write_json(path, {**result.as_dict(), "cpu_seconds": seconds})
            print(f"{attack} on {name} ({seconds} s): {result.sentence}", flush=True)


def _two_keys(options: argparse.Namespace) -> dict:
    """How often two keys give one person, and two real people are taken for one, by verifier."""
    source = PriorIdentities()
    groups = {"any class": Classes(), "one class": Classes(True, "middle", 4)}
    renderings: dict[str, list[np.ndarray]] = {name: [] for name in groups}
    for name, classes in groups.items():
        number = 0
        while len(renderings[name]) < options.keys:
            number += 1
            key = number.to_bytes(32, "big")
            try:
                drawn = source.render(key, classes, Pose(0, 0, 0), None, masks.SIZE)
            except ValueError:
                continue
            renderings[name].append(donor_view(drawn))
    real, _ = _faces(options.celeba, options.keys, 1)
    sets = {**{name: np.stack(made) for name, made in renderings.items()}, "real people": real}
    limits = FACE_VERIFIERS.thresholds
    return {name: memorisation.of_two_keys(x, FACE_VERIFIERS, limits) for name, x in sets.items()}


def _cell(result: Mapping | None) -> str:
    if result is None or result["value"] is None:
        return "-"
    mark = {True: "**leaks** ", False: "", None: "? "}[result["found"]]
    numbers = [100 * result[key] for key in ("value", "low", "high", "floor")]
    return mark + "{:.0f} ({:.0f}-{:.0f}; {:.0f})".format(*numbers)


def table(folder: pathlib.Path) -> str:
    """Markdown: attacks down, anonymizers across; % (95% interval; floor)."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*_*.json"))}
    names = list(_anonymizers())
    lines = ["| attack | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for attack in ORDER:
        row = [_cell(found.get(f"{attack}_{name}")) for name in names]
        lines.append(f"| {attack} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measures what is not measured yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("celeba", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--known", type=int, default=60, help="people to learn from")
    parser.add_argument("--tried", type=int, default=50, help="people to be recognised")
    parser.add_argument("--each", type=int, default=3, help="pictures of each")
    parser.add_argument("--only", help="attacks to measure now, with commas; default: all")
    parser.add_argument("--training", type=int, default=400, help="training faces to compare with")
    parser.add_argument("--inversion", type=int, default=120, help="updates of that attack")
    parser.add_argument("--tuned", type=int, default=40, help="updates of that attack")
    parser.add_argument("--keys", type=int, default=60, help="keys whose people are compared")
    options = parser.parse_args()
    _measure(options, options.known * options.each)
    path = options.folder / "keys.json"
    if not path.exists():
        files.write_json(path, _two_keys(options))
    print(table(options.folder))
    for name, row in json.loads(path.read_text()).items():
        print(name, {verifier: one["linked"]["value"] for verifier, one in row.items()})


if __name__ == "__main__":
    main()
