"""In how many new faces what `--person` asks for is seen, and whether a smile leaves somebody who it is.

    python benchmarks/person.py PHOTO... [--sheet FILE] [--json FILE]

One face in each photo, photo n with key n. Sex and age are read by faceres, which had no part in choosing or
moving persons; skin by the angle of its colour, within a band; a smile by the mouth's width in the mesh, by
which renderings are steered as well. Identity: SFace's cosine between the results of one key without a wish,
smiling and serious; beside it that of two keys in one photo. 24 photos take six minutes of processor time.
"""

import argparse
import json
import pathlib

import cv2
import jax
import numpy as np

from dp3_jax.common import assets
from dp3_jax.media import photos
from dp3_jax.models import embedders, faceres
from dp3_jax.models.mesh import FaceMesh, expression, five_points
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.replacement.attributes import ita, skin
from dp3_jax.replacement.identities import Wishes, tone_band
from dp3_jax.replacement.key_derivation import master_key_from_seed
from dp3_jax.replacement.options import IdentityOptions
from dp3_jax.replacement.person_description import describe

PLAIN = ""
DESCRIPTIONS = (
    PLAIN, "smiling", "serious", "woman", "man", "man in his twenties", "woman in her sixties",
    "dark skin", "very light skin", "smiling man in his fifties, dark skin",
)  # fmt: skip
SMILES = 0.90  # eye distances: a mouth at least that wide
YEARS = 10.0
OTHER_KEYS = 1000


class Reader:
    """What is seen of a face."""

    def __init__(self):
        """Loads the networks."""
        self.mesh, self.sface = FaceMesh(), embedders.SFace()
        network = faceres.Faceres(assets.fetch("faceres_graph"), assets.fetch("faceres"))
        told = jax.jit(lambda x: network.apply(network.parameters, x)[1:])
        self.told = lambda x: [np.asarray(part) for part in told(x)]

    def __call__(self, picture: np.ndarray, face) -> dict:
        """Of the face in u8[h, w, 3] where one was found in the original."""
        mesh, _ = self.mesh.points(picture, face.box, face.keypoints)
        points = five_points(mesh)
        crop = embedders.align(picture, points, embedders.Faceres)
        age, male = self.told(crop[None].astype(np.float32))
        return {
            "female": bool(male[0] < 0.5),
            "age": float(faceres.years(age)[0]),
            "tone": tone_band(ita(*skin(picture, mesh))),
            "smile": bool(expression(mesh).mouth_width >= SMILES),
            "embedding": embedders.unit(embedders.embed(self.sface, [picture], [points]))[0],
        }


def agrees(seen: dict, wishes: Wishes) -> dict[str, bool]:
    """Whether each wish is seen."""
    near = {
        "female": seen["female"] == wishes.female,
        "age": wishes.age is not None and abs(seen["age"] - wishes.age) <= YEARS,
        "tone": wishes.tone is not None and abs(seen["tone"] - wishes.tone) <= 1,
        "smile": seen["smile"] == wishes.smile,
    }
    return {name: near[name] for name in near if getattr(wishes, name) is not None}


def made(text: str, frames: list, faces: list, first_key: int = 0) -> list[np.ndarray]:
    """The photos with new faces."""
    wishes = describe(text) if text else Wishes()
    tool = Anonymizer(identity=IdentityOptions(source="prior", wishes=wishes))
    return [
        tool(frame, [face], master_key_from_seed(first_key + n)).frame
        for n, (frame, face) in enumerate(zip(frames, faces, strict=True))
    ]


def share(values) -> float:
    """Of those that are true."""
    return round(float(np.mean(list(values))), 3)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", type=pathlib.Path)
    parser.add_argument(
        "--sheet", type=pathlib.Path, help="all pictures; of real photos, not for release"
    )
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    finder, read = Anonymizer(), Reader()
    frames, faces = [], []
    for path in options.photos:
        frame = photos.read_photo(path).pixels
        if found := finder.find(frame):
            frames.append(frame)
            faces.append(max(found, key=lambda face: face.box[2] * face.box[3]))
    rows = {text: made(text, frames, faces) for text in DESCRIPTIONS}
    seen = {
        text: [read(*pair) for pair in zip(results, faces, strict=True)]
        for text, results in rows.items()
    }
    result: dict = {"photos": len(frames), "agree": {}, "unasked": {}, "same person": {}}
    result["age read"] = {
        text: round(float(np.mean([one["age"] for one in there])), 1)
        for text, there in seen.items()
    }
    for text in DESCRIPTIONS[1:]:
        wishes = describe(text)
        for name in agrees(seen[text][0], wishes):
            result["agree"][f"{text}: {name}"] = share(agrees(s, wishes)[name] for s in seen[text])
            result["unasked"][f"{text}: {name}"] = share(
                agrees(s, wishes)[name] for s in seen[PLAIN]
            )
    strangers = [
        read(*pair) for pair in zip(made("smiling", frames, faces, OTHER_KEYS), faces, strict=True)
    ]
    pairs = {
        "smiling and unasked": (seen["smiling"], seen[PLAIN]),
        "serious and unasked": (seen["serious"], seen[PLAIN]),
        "smiling and serious": (seen["smiling"], seen["serious"]),
        "two keys, smiling": (seen["smiling"], strangers),
    }
    for name, (some, others) in pairs.items():
        cosines = np.array(
            [a["embedding"] @ b["embedding"] for a, b in zip(some, others, strict=True)]
        )
        same = float((cosines >= embedders.SFace.threshold).mean())
        result["same person"][name] = [round(float(np.mean(cosines)), 3), round(same, 3)]
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result))
    if options.sheet:
        side = 200
        lines = [frames, *rows.values()]
        cells = [[cv2.resize(one, (side * 178 // 218, side)) for one in line] for line in lines]
        cv2.imwrite(str(options.sheet), np.vstack([np.hstack(line) for line in cells])[..., ::-1])


if __name__ == "__main__":
    main()
