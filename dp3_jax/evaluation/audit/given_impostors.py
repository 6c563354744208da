"""Impostors that a user gives: photos of people who are in none of the originals; thresholds from them."""

import math
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.face_detection import Detector
from dp3_jax.evaluation.attacks.verifiers import Embed
from dp3_jax.evaluation.audit import calibration
from dp3_jax.evaluation.audit.faces import MIN_WIDTH
from dp3_jax.media.photos import is_photo_name, read_photo
from dp3_jax.vision import geometry

MAX_PHOTOS = 1000  # half a million pairs; more photos than these are drawn from
_SAME_PHOTO = 0.995  # cosine; two photos of one person lie well below


def _photos(folder: pathlib.Path, seed: int) -> list[pathlib.Path]:
    """Photos in a folder and below, at most MAX_PHOTOS of them."""
    if not folder.is_dir():
        raise UserError(f"--impostors {folder} is no folder; give one with photos of other people")
    found = [p for p in files.walk(folder).files if is_photo_name(p) and p.name[0] != "."]
    chosen = np.random.default_rng(seed).permutation(len(found))[:MAX_PHOTOS]
    return [found[place] for place in sorted(chosen)]


def _face(path: pathlib.Path, detector: Detector) -> np.ndarray | None:
    """u8[128, 128, 3]: the largest sure face of a photo in the canonical frame; None without one."""
    try:
        picture = read_photo(path).pixels
        sure = [f for f in detector.detect(picture) if f.source != FaceSource.LOW_CONFIDENCE]
        face = max(sure, key=lambda f: f.box[2] * f.box[3], default=None)
        if face is None or min(face.box[2:]) < MIN_WIDTH:
            return None
        return geometry.extract(picture, face.alignment())
    except (UserError, ValueError):
        return None


def calibrate(
    folder: pathlib.Path,
    min_confidence: float,
    seed: int,
    embed: Embed,
    progress: Callable[[str], None],
) -> calibration.Calibration:
    """Thresholds from the pairs of different people in photos of a folder.

    Photos in one folder below it are of one person; each that lies in it itself is of another one.

    Args:
      folder: of photos.
      min_confidence: of detections.
      seed: of the choice where there are more than MAX_PHOTOS.
      embed: the verifiers.
      progress: is told what is done.

    Raises:
      UserError: there is no such folder, two photos are the same, or there are too few people.
    """
    detector, views, names = Detector(min_confidence), [], []
    photos = _photos(folder, seed)
    for done, path in enumerate(photos):
        progress(f"--impostors: photo {done + 1} of {len(photos)}")
        view = _face(path, detector)
        if view is not None:
            views.append(view)
            names.append(path)
    owners = [p.parent if p.parent != folder else p for p in names]
    people = np.unique([str(owner) for owner in owners], return_inverse=True)[1]
    rows = embed(np.stack(views)) if views else {}
    _refuse_copies(rows, people, names)
    found = calibration.of_embeddings(rows, people, str(folder))
    if found is None:
        least = math.ceil((1 + math.sqrt(1 + 8 * calibration.MIN_PAIRS)) / 2)
        raise UserError(
            f"--impostors {folder} has faces of {len(set(people.tolist()))} people in {len(photos)} photos; "
            f"it takes {calibration.MIN_PAIRS} pairs of two people, as {least} people with a photo each have"
        )
    return found


def _refuse_copies(
    rows: Mapping[str, np.ndarray], people: np.ndarray, names: list[pathlib.Path]
) -> None:
    """Raises UserError where two people are one photo: it would lift the thresholds, and leaks pass."""
    if not rows:
        return
    alike = np.minimum.reduce([one @ one.T for one in rows.values()]) > _SAME_PHOTO
    copies = np.argwhere(np.triu(alike & (people[:, None] != people), 1))
    if len(copies):
        first, second = (names[place] for place in copies[0])
        raise UserError(
            f"--impostors: {first} and {second} are one photo; keep one, or put a person's photos into a "
            "folder of their own"
        )
