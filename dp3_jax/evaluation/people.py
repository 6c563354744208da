"""Pictures of known people in the canonical face frame: a gallery of one each, and others as probes."""

import dataclasses
import pathlib

import numpy as np
from absl import logging

from dp3_jax.common.errors import UserError
from dp3_jax.data import ImageSet


@dataclasses.dataclass(frozen=True)
class People:
    """One gallery picture of each of G people and P probes of the same people, no picture in both.

    Attributes:
      name: of the data, for reports.
      gallery: u8[G, S, S, 3]; gallery_people i32[G], all different.
      probes: u8[P, S, S, 3]; probe_people i32[P], neighbours next to each other.
    """

    name: str
    gallery: np.ndarray
    gallery_people: np.ndarray
    probes: np.ndarray
    probe_people: np.ndarray

    def first(self, people: int) -> "People":
        """These people limited to the first `people` of the gallery."""
        kept = self.gallery_people[:people]
        rows = np.isin(self.probe_people, kept)
        return People(
            self.name, self.gallery[:people], kept, self.probes[rows], self.probe_people[rows]
        )

    def others(self) -> np.ndarray:
        """i64[P]: for each probe the index of a probe of another person; each index once.

        Raises:
          ValueError: one person has more than half of the probes, so there is no such assignment.
        """
        _, counts = np.unique(self.probe_people, return_counts=True)
        other = np.roll(np.arange(len(self.probes)), -int(counts.max(initial=0)))
        if (self.probe_people == self.probe_people[other]).any():
            raise ValueError(f"{self.name}: too few people to pair each with another")
        return other


def choose_people(
    name: str, pictures: ImageSet, *, people: int = 0, probes_each: int = 1, seed: int = 0
) -> People | None:
    """Draws gallery and probes from labelled pictures; None when fewer than three people have two pictures.

    Args:
      name: for reports.
      pictures: with identities; a negative one is unknown and left out.
      people: at most so many of them, drawn at random; 0 is all.
      probes_each: at most so many probes of each person.
      seed: of the draw.
    """
    if pictures.identities is None:
        return None
    rng = np.random.default_rng(seed)
    known, counts = np.unique(pictures.identities[pictures.identities >= 0], return_counts=True)
    known = known[counts >= 2]
    if len(known) < 3:
        return None
    chosen = known[rng.permutation(len(known))[: people or None]]
    gallery, probes = [], []
    for person in chosen:
        rows = rng.permutation(np.flatnonzero(pictures.identities == person))
        gallery.append(rows[0])
        probes += list(rows[1 : 1 + probes_each])
    return People(
        name=name,
        gallery=pictures.images[gallery],
        gallery_people=pictures.identities[gallery],
        probes=pictures.images[probes],
        probe_people=pictures.identities[probes],
    )


def impostors(name: str, pictures: ImageSet, *, people: int = 0, seed: int = 0) -> People:
    """Half the pictures as gallery, half as probes, each of someone else: where nobody is known."""
    order = np.random.default_rng(seed).permutation(len(pictures.images))
    half = min(len(order) // 2, people or len(order))
    numbers = np.arange(2 * half, dtype=np.int32)
    return People(
        name=name,
        gallery=pictures.images[order[:half]],
        gallery_people=numbers[:half],
        probes=pictures.images[order[half : 2 * half]],
        probe_people=numbers[half:],
    )


def read_folder(path: pathlib.Path, photos_each: int = 0) -> tuple[ImageSet, int]:
    """Photos in a folder for each person, as Labeled Faces in the Wild comes: path/NAME/FILE.jpg.

    The face of each photo that lies nearest its middle is brought into the canonical frame.

    Args:
      path: of the folder.
      photos_each: at most so many photos of each person, the first by name; 0 is all.

    Returns:
      (pictures with people numbered by name, number of photos in which no face was found).

    Raises:
      UserError: no such folder or no photos in it, or the detector cannot be had.
    """
    from PIL import Image

    from dp3_jax.detection import face_detection
    from dp3_jax.vision import geometry

    if not pathlib.Path(path).is_dir():
        raise UserError(f"there is no folder {path}; check the path")
    found = sorted(pathlib.Path(path).glob("*/*.jpg"))
    if not found:
        raise UserError(f"no photos of people in {path}; it needs a folder for each person")
    people = {name: i for i, name in enumerate(sorted({f.parent.name for f in found}))}
    each = {name: [f for f in found if f.parent.name == name] for name in people}
    files = [f for name in people for f in each[name][: photos_each or None]]
    detector = face_detection.Detector(rotations=False)
    crops, identities, names, missed = [], [], [], 0
    for file in files:
        try:
            with Image.open(file) as opened:
                photo = np.asarray(opened.convert("RGB"))
        except OSError as error:
            logging.warning("cannot read %s: %s", file, error)
            continue
        faces = [face for face in detector.detect(photo) if face.keypoints is not None]
        if not faces:
            missed += 1
            continue
        middle = np.array(photo.shape[1::-1]) / 2
        face = min(faces, key=lambda f: float(np.abs(f.keypoints.mean(0) - middle).max()))
        crops.append(geometry.extract(photo, geometry.align_points(face.keypoints)))
        identities.append(people[file.parent.name])
        names.append(str(file.relative_to(path)))
    if not crops:
        raise UserError(f"no face found in any of the {len(files)} photos in {path}")
    return ImageSet(np.stack(crops), np.array(identities, np.int32), tuple(names)), missed
