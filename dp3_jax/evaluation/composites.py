"""Pictures with new faces: how real they look, what changed outside, how much z changes."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from dp3_jax import masks
from dp3_jax.anonymization.detection import Detector
from dp3_jax.errors import UserError
from dp3_jax.evaluation import kid, verification
from dp3_jax.evaluation.hiding import Hidings, Subject, fill

RIM = 4  # px inside the mask


def diversity(subject: Subject, pictures: np.ndarray, verifier: Any, seed: int) -> dict[str, Any]:
    """How much the face changes with z: between two latents in one context.

    Returns:
      mean_pixel_difference: mean |a - b| under the mask in grey levels (0 to 255); cosine: mean of the
      verifier's cosine between the two faces (None without a verifier or a face).
    """
    a, b = (fill(subject, pictures, seed, draw) for draw in (1, 2))
    hole = masks.inference_mask(pictures.shape[1])[..., 0] > 0
    difference = np.abs(a.astype(np.int16) - b)[:, hole].mean()
    cosine = None
    if verifier is not None and not isinstance(verifier, str):
        verdict = verification.verify(verifier, verifier.embed(a), verifier.embed(b))
        cosine = verdict["mean_cosine"]
    return {"pictures": len(pictures), "mean_pixel_difference": float(difference), "cosine": cosine}


def outside(pictures: np.ndarray, composites: np.ndarray) -> dict[str, Any]:
    """Whether the pixels outside the mask are those of the picture. PSNR is None where it is infinite."""
    kept = masks.inference_mask(pictures.shape[1])[..., 0] == 0
    error = ((pictures.astype(np.float64) - composites) ** 2)[:, kept]
    mean = float(error.mean())
    return {
        "identical_pictures": int((error == 0).all((1, 2)).sum()),
        "pictures": len(pictures),
        "psnr_db": None if mean == 0 else 10 * float(np.log10(255**2 / mean)),
    }


def quality(hidden: Hidings, reference: np.ndarray, features: str, batch: int) -> dict[str, Any]:
    """KID of each kind of composite against other real pictures; its floor is that of "original".

    Args:
      hidden: u8[P, S, S, 3] each, "original" among them.
      reference: u8[M, S, S, 3], real pictures none of which is in `hidden`.
      features: a key of kid.FEATURE_NAMES.
      batch: pictures in one call of the features.
    """
    result: dict[str, Any] = {"features": kid.FEATURE_NAMES[features]}
    try:
        extract = kid.feature_extractor(features, batch)
    except UserError as error:
        return {**result, "not_measured": str(error)}
    real, rows = extract(reference), {}
    for name, pictures in hidden.items():
        value, error = kid.kid(extract(pictures), real)
        finite = error if np.isfinite(error) else None
        rows[name] = {"kid": value, "standard_error": finite}
    return {**result, "rows": rows}


def rim_psnr(pictures: np.ndarray, composites: np.ndarray) -> float | None:
    """PSNR in dB over the outermost RIM px of the mask, where a new face must continue its surroundings."""
    mask = jnp.asarray(masks.inference_mask(pictures.shape[1]))[None]
    inside = np.asarray(masks.rim(mask, RIM))[0, ..., 0] > 0
    error = ((pictures.astype(np.float64) - composites) ** 2)[:, inside].mean()
    return None if error == 0 else 10 * float(np.log10(255**2 / error))


def _points(detector: Detector, picture: np.ndarray) -> np.ndarray | None:
    """f64[5, 2] points of the face nearest the middle."""
    faces = [face for face in detector.detect(picture) if face.points is not None]
    if not faces:
        return None
    middle = picture.shape[0] / 2
    nearest = min(faces, key=lambda f: float(np.abs(f.points.mean(0) - middle).max()))
    return nearest.points.astype(np.float64)


def _turn(points: np.ndarray) -> float:
    """How far the nose lies beside the middle of the eyes, in eye distances: 0 frontal, grows with yaw."""
    eyes = points[1] - points[0]
    return float((points[2] - points[:2].mean(0)) @ eyes / (eyes @ eyes))


def landmarks(hidden: Hidings, count: int) -> dict[str, Any]:
    """Whether a detector finds a face in the first `count` pictures, and where its points are.

    Returns for each kind: pictures; found, how many with a face; point_error, the mean distance of the five
    points from the original's in eye distances; turn_error, the mean difference of the nose's sideways
    offset in eye distances, which stands for yaw (None where no face is found).

    Raises:
      UserError: the detector cannot be had.
    """
    detector = Detector(rotations=False)
    result, originals = {}, [_points(detector, p) for p in hidden["original"][:count]]
    for kind, pictures in hidden.items():
        points = (
            originals if kind == "original" else [_points(detector, p) for p in pictures[:count]]
        )
        pairs = [
            (a, b)
            for a, b in zip(originals, points, strict=True)
            if a is not None and b is not None
        ]
        errors = [
            np.linalg.norm(a - b, axis=1).mean() / np.linalg.norm(a[1] - a[0]) for a, b in pairs
        ]
        turns = [abs(_turn(a) - _turn(b)) for a, b in pairs]
        result[kind] = {
            "pictures": len(points),
            "found": sum(p is not None for p in points),
            "point_error": float(np.mean(errors)) if pairs else None,
            "turn_error": float(np.mean(turns)) if pairs else None,
        }
    return result
