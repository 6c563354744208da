"""Made people for attacks: patterns for faces, verifiers of patterns, anonymizers that leak on purpose."""

import dataclasses

import cv2
import numpy as np

from dp3_jax.evaluation.attacks import FaceSet, recognition

SIZE = 32
MASK = np.zeros((SIZE, SIZE), bool)
MASK[8:24, 8:24] = True


def faces(seed, people=40, each=3, hair=False, noise=8.0):
    """A set of people who each have a pattern under the mask, and if `hair` a colour around it."""
    rng = np.random.default_rng(seed)
    patterns = rng.uniform(40, 215, (people, 3, 3, 3)).astype(np.float32)
    hairs = rng.uniform(40, 215, (people, 1, 1, 3))
    pictures = []
    for person in np.repeat(np.arange(people), each):
        around = hairs[person] if hair else rng.uniform(40, 215, (1, 1, 3))
        picture = np.broadcast_to(around, (SIZE, SIZE, 3)).copy()
        picture[8:24, 8:24] = cv2.resize(patterns[person], (16, 16))
        picture += rng.normal(0, noise, picture.shape)
        pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
    pictures = np.stack(pictures)
    numbers = np.repeat(np.arange(people), each) + 1000 * seed
    masks = np.broadcast_to(MASK, (len(pictures), SIZE, SIZE))
    return FaceSet(pictures, pictures, masks, numbers)


def _rows(pictures):
    rows = pictures.astype(np.float32).reshape(len(pictures), -1) - 128
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def embed(pictures):
    """Two verifiers: one looks at the face alone, the other also at what is around it."""
    small = np.array([cv2.resize(p, (8, 8), interpolation=cv2.INTER_AREA) for p in pictures])
    return {"inner": _rows(small[:, 2:6, 2:6]), "whole": _rows(small)}


def thresholds():
    """Of `embed`'s verifiers."""
    return {"inner": 0.5, "whole": 0.5}


def sees_face(pictures):
    """A detector: flat patches are no face."""
    return pictures[:, 8:24, 8:24].std((1, 2)).mean(1) > 12


def under_mask(pictures, change):
    """`pictures` with `change` applied to their part under the mask, u8[n, 16, 16, 3]."""
    result = pictures.copy()
    result[:, 8:24, 8:24] = change(pictures[:, 8:24, 8:24])
    return result


_ORDER = np.random.default_rng(7).permutation(16 * 16)

LEAKS = {
    "identity": lambda part: part,
    "half-transparent": lambda part: (part // 2 + 64).astype(np.uint8),
    "pixel-swapped": lambda part: part.reshape(-1, 256, 3)[:, _ORDER].reshape(part.shape),
}


def solid(part):
    """Cannot leak."""
    return np.full_like(part, 128)


def anonymized(set_, change):
    """The set anonymized by a function of the part under the mask."""
    return dataclasses.replace(set_, anonymized=under_mask(set_.originals, change))


def caught(result):
    """Checks that an attack found something, and that it says so."""
    assert result.found is True, result.sentence
    assert result.low > result.floor
    assert "it leaks" in result.sentence
    return result


def not_caught(result):
    """Checks that an attack judged and found nothing."""
    assert result.found is False, result.sentence
    assert result.count >= recognition.MIN_FACES
    assert "nothing found" in result.sentence
    return result
