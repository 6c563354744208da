"""The floor of attacks that read more than a name: what they make of a stranger of the same coarse classes.

A new face may share sex, age, skin tone and pose with the old one. An attacker who learns reads these too,
and then picks the right one of two people more often than from a blanked picture, though nobody is known by
them. So the same attacker gets the photo with the face of somebody else of the same classes, and must pick
whose photo it is. What is as good with a stranger's face is no trace of the person.

Where the anonymizer is at hand, the stranger is laid in before it (`laid_in`): the floor is then exact for
all that it passes from the surroundings. In an audit only results are there: the masked regions of two of
them are exchanged (`exchanged`).
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from dp3_jax.evaluation.attacks.attack import UNKNOWN, FaceSet

# What makes a difference of one: a sex, years, degrees of skin tone, of yaw and of pitch.
_UNITS = {"female": 0.25, "age": 10.0, "ita": 15.0, "yaw": 15.0, "pitch": 15.0}

ReadClasses = Callable[[np.ndarray], np.ndarray]  # u8[n, S, S, 3] -> f32[n, k], in comparable units


def read_classes(pictures: np.ndarray) -> np.ndarray:
    """f32[n, 5]: sex, age, tone, yaw and pitch of faces in the canonical frame, in _UNITS; 10 ms each.

    Raises:
      UserError: a network cannot be had.
    """
    from dp3_jax.models.age_sex import AgeSex
    from dp3_jax.models.mesh import FaceMesh, five_points, yaw_pitch_roll
    from dp3_jax.replacement.attributes import ita, skin
    from dp3_jax.vision.masks import CANONICAL_POINTS

    mesh, reader, rows = FaceMesh(), AgeSex(), []
    for picture in pictures:
        points, _ = mesh.points(picture, five=CANONICAL_POINTS)
        age, female = reader(picture, five_points(points))
        yaw, pitch, _ = yaw_pitch_roll(points)
        rows.append([female, age, ita(*skin(picture, points)), yaw, pitch])
    return np.array(rows, np.float32).reshape(-1, len(_UNITS)) / np.float32([*_UNITS.values()])


def companions(people: np.ndarray, classes: np.ndarray, count: int = 1) -> np.ndarray:
    """i64[n, count]: for each face those of other people nearest in classes, of as many people.

    Args:
      people: i64[n]; each UNKNOWN one is taken for a person of its own.
      classes: f[n, k], in comparable units; what is no number is as far as can be.
      count: of people.

    Raises:
      ValueError: there are not so many other people.
    """
    people = np.asarray(people)
    owners = np.where(people == UNKNOWN, -2 - np.arange(len(people)), people)
    if len(np.unique(owners)) <= count:
        raise ValueError(f"{count} strangers take {count + 1} people, and there are fewer")
    apart = np.linalg.norm(classes[:, None] - classes[None], axis=-1)
    apart = np.where(np.isfinite(apart), apart, np.finfo(np.float32).max)
    chosen = np.zeros((len(people), count), np.int64)
    for row, distances in enumerate(apart):
        order = np.argsort(distances, kind="stable")
        order = order[owners[order] != owners[row]]
        first = np.unique(owners[order], return_index=True)[1]
        chosen[row] = order[np.sort(first)[:count]]
    return chosen


def laid_in(faces: FaceSet, rows: np.ndarray) -> np.ndarray:
    """u8[n, S, S, 3]: each original with the face of the original `rows` i64[n] under its own mask."""
    inside = np.asarray(faces.masks, bool)[..., None]
    return np.where(inside, faces.originals[rows], faces.originals)


def exchanged(faces: FaceSet, rows: np.ndarray) -> np.ndarray:
    """u8[n, S, S, 3]: each result with the masked region of the result `rows` i64[n], in its own mean colour.

    The mean colour stays, as new faces take it from their surroundings; it says no more than the skin tone.
    """
    inside = np.asarray(faces.masks, bool)
    results = faces.anonymized.copy()
    for result, mask, other in zip(results, inside, faces.anonymized[rows], strict=True):
        if mask.any():
            part = other[mask].astype(np.float32)
            moved = part + result[mask].mean(0) - part.mean(0)
            result[mask] = np.clip(np.rint(moved), 0, 255)
    return results


def with_exchanged(faces: FaceSet, read: ReadClasses = read_classes) -> FaceSet:
    """The set with its classes and strangers by exchange; as it is where there are too few people.

    Raises:
      UserError: a network of `read` cannot be had.
    """
    classes = read(faces.originals)
    try:
        rows = companions(faces.people, classes)[:, 0]
    except ValueError:
        return faces
    return dataclasses.replace(faces, classes=classes, impostors=exchanged(faces, rows))
