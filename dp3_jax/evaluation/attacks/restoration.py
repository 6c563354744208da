"""Undoing an obfuscation without a network: the baseline of what blur, pixelation and solid colour leave.

Three ways are tried, each on the picture as it was released: deconvolution of a blur (Richardson, 1972; Lucy,
1974), smooth enlargement of a mosaic from its cells, and a linear map of coarse pixels, learned from pairs
(the least-squares inverse of any blur or mosaic, as in face hallucination: Baker and Kanade, 2000). The one
that recognises most of the people that are learned from is taken.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import cv2
import numpy as np

from dp3_jax.evaluation.attacks import recognition, restoring, ridge
from dp3_jax.evaluation.attacks.attack import AttackResult, FaceSet, gallery_and_probes
from dp3_jax.evaluation.attacks.remembering import remembered
from dp3_jax.evaluation.attacks.restoring import Restore, within
from dp3_jax.evaluation.attacks.verifiers import FACE_VERIFIERS, FAST, Embed

SIGMAS = (2.0, 4.0, 8.0)  # px of the canonical frame, of blurs that are undone
CELLS = (6.5, 13.0)  # px, sides of mosaics' cells
_ITERATIONS = 20
_SIDE = 32  # px, of the pictures that the linear map takes and gives
_HELD_BACK = 0.25  # of the people, on whom the ways are compared
_MIN_PEOPLE = 6


def deblurred(pictures: np.ndarray, sigma: float) -> np.ndarray:
    """u8[n, S, S, 3] by _ITERATIONS of Richardson and Lucy for a Gaussian of `sigma` px."""

    def blur(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)

    results = np.empty_like(pictures)
    for picture, result in zip(pictures, results, strict=True):
        seen = picture.astype(np.float32) + 1
        guess = seen.copy()
        for _ in range(_ITERATIONS):
            guess *= blur(seen / np.maximum(blur(guess), 1e-3))
        result[...] = np.clip(np.rint(guess - 1), 0, 255)
    return results


def enlarged(pictures: np.ndarray, cell: float) -> np.ndarray:
    """u8[n, S, S, 3]: means of cells of `cell` px, enlarged with bicubic interpolation."""
    size = pictures.shape[1]
    cells = max(2, round(size / cell))
    return np.array(
        [
            cv2.resize(
                cv2.resize(picture, (cells, cells), interpolation=cv2.INTER_AREA),
                (size, size),
                interpolation=cv2.INTER_CUBIC,
            )
            for picture in pictures
        ],
        np.uint8,
    ).reshape(pictures.shape)


def _coarse(pictures: np.ndarray) -> np.ndarray:
    """f32[n, _SIDE^2 * 3]."""
    small = [cv2.resize(p, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for p in pictures]
    return np.array(small, np.float32).reshape(len(pictures), -1)


def learned(pictures: np.ndarray, originals: np.ndarray, penalty: float) -> Restore:
    """The linear map of coarse pixels from pictures to originals, both u8[n, S, S, 3]."""
    (fitted,) = ridge.fit(_coarse(pictures), _coarse(originals), [penalty])

    def restore(shown: np.ndarray) -> np.ndarray:
        size = shown.shape[1]
        drawn = (_coarse(shown) - fitted.mean_in) @ fitted.weights + fitted.mean_out
        drawn = np.clip(np.rint(drawn), 0, 255).astype(np.uint8).reshape(-1, _SIDE, _SIDE, 3)
        large = [cv2.resize(one, (size, size), interpolation=cv2.INTER_CUBIC) for one in drawn]
        return np.array(large, np.uint8).reshape(shown.shape)

    return restore


def _ways() -> dict[str, Callable[[np.ndarray, np.ndarray], Restore]]:
    """By name what makes a way of pictures and their originals."""
    ways: dict[str, Callable[[np.ndarray, np.ndarray], Restore]] = {
        "as released": lambda pictures, originals: lambda shown: shown
    }
    for sigma in SIGMAS:
        ways[f"deconvolution of {sigma:g} px"] = lambda pictures, originals, sigma=sigma: (
            lambda shown: deblurred(shown, sigma)
        )
    for cell in CELLS:
        ways[f"enlargement of cells of {cell:g} px"] = lambda pictures, originals, cell=cell: (
            lambda shown: enlarged(shown, cell)
        )
    for penalty in (0.1, 1.0):
        ways[f"linear map, penalty {penalty:g}"] = lambda pictures, originals, penalty=penalty: (
            learned(pictures, originals, penalty)
        )
    return ways


def _area(pictures: np.ndarray, faces: FaceSet, restore: Restore, embed: Embed) -> float:
    """How often the right one of two people is picked from restored pictures of some faces."""
    gallery, probes = gallery_and_probes(faces.people)
    shown = pictures[probes]
    drawn = within(faces.masks[probes], restore(shown), shown)
    scores = recognition.fused(embed(drawn), embed(faces.originals[gallery]))
    same = faces.people[probes][:, None] == faces.people[gallery]
    return float(recognition.preferred(scores, same).mean())


@remembered
def _best(pictures: np.ndarray, faces: FaceSet, embed: Embed, seed: int) -> tuple[str, Restore]:
    """(name, way) that recognises most of the people who are held back, made from all of them.

    Of `faces` the originals are used, and who is who.
    """
    everyone = np.unique(faces.people[gallery_and_probes(faces.people)[0]])
    back = np.random.default_rng(seed).permutation(everyone)[
        : max(3, round(_HELD_BACK * len(everyone)))
    ]
    held = np.isin(faces.people, back)
    areas = {}
    for name, make in _ways().items():
        way = make(pictures[~held], faces.originals[~held])
        areas[name] = _area(pictures[held], faces.select(held), way, embed)
    name = max(areas, key=areas.__getitem__)
    return name, _ways()[name](pictures, faces.originals)


@dataclasses.dataclass(frozen=True, eq=False)
class FittedRestoration:
    """The ways taken for results and for blanked pictures."""

    attack: "Restoration"
    ways: Mapping[str, tuple[str, Restore]]

    def score(self, faces: FaceSet) -> AttackResult:
        """See `FittedAttack`."""
        restore = {kind: way for kind, (_, way) in self.ways.items()}
        how = f"undoes the obfuscation ({self.ways['anonymized'][0]})"
        return restoring.score(self.attack, faces, restore, self.attack.embed, how)


@dataclasses.dataclass(frozen=True)
class Restoration:
    """The attack.

    Attributes:
      embed: the verifiers that judge.
      choose: those that the ways are compared with.
    """

    embed: Embed = FACE_VERIFIERS
    choose: Embed = FAST

    name: ClassVar[str] = "restoration"
    title: ClassVar[str] = "Deblurring and super-resolution"
    trains: ClassVar[bool] = True
    needs_people: ClassVar[bool] = True

    def fit(self, faces: FaceSet, seed: int) -> FittedRestoration:
        """See `Attack`; with fewer than six people pictures are taken as released."""
        if len(gallery_and_probes(faces.people)[0]) < _MIN_PEOPLE:
            same = "as released", lambda shown: shown
            return FittedRestoration(self, {"anonymized": same, "blanked": same})
        known = dataclasses.replace(faces, anonymized=faces.originals)
        ways = {
            kind: _best(pictures, known, self.choose, seed)
            for kind, pictures in (("anonymized", faces.anonymized), ("blanked", faces.blanked))
        }
        return FittedRestoration(self, ways)
