"""Pictures with new faces: how real they look, what changed outside, how much z changes."""

from typing import Any

import cv2
import jax.numpy as jnp
import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_detection import Detector
from dp3_jax.evaluation.compared_methods import AnonymizedPictures, Subject, fill
from dp3_jax.metrics import (
    head_pose,
    image_similarity,
    kid,
    perceptual_distance,
    verification,
)
from dp3_jax.vision import masks

BOUNDARY_WIDTH = 4  # px inside the mask
_STABLE = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # SSIM's constants for grey levels up to 255


def diversity(
    subject: Subject, pictures: np.ndarray, verifier: verification.Verifier | None, seed: int
) -> dict[str, Any]:
    """How much the face changes with z: between two latents in one context.

    Returns:
      mean_pixel_difference: mean |a - b| under the mask in grey levels (0 to 255); cosine: mean of the
      verifier's cosine between the two faces (None without a verifier or a face).
    """
    a, b = (fill(subject, pictures, seed, draw) for draw in (1, 2))
    masked = masks.inference_mask(pictures.shape[1])[..., 0] > 0
    difference = np.abs(a.astype(np.int16) - b)[:, masked].mean()
    cosine = None
    if verifier is not None:
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


def quality(
    by_kind: AnonymizedPictures, reference: np.ndarray, features: str, batch: int
) -> dict[str, Any]:
    """KID of each kind of composite against other real pictures; its floor is that of "original".

    Args:
      by_kind: u8[P, S, S, 3] each, "original" among them.
      reference: u8[M, S, S, 3], real pictures none of which is in `by_kind`.
      features: a key of kid.FEATURE_NAMES.
      batch: pictures in one call of the features.
    """
    result: dict[str, Any] = {"features": kid.FEATURE_NAMES[features]}
    try:
        extract = kid.feature_extractor(features, batch)
    except UserError as error:
        return {**result, "not_measured": str(error)}
    real, rows = extract(reference), {}
    for name, pictures in by_kind.items():
        value, error = kid.kid(extract(pictures), real)
        finite = error if np.isfinite(error) else None
        rows[name] = {"kid": value, "standard_error": finite}
    return {**result, "rows": rows}


def perceptual(
    pictures: np.ndarray, composites: AnonymizedPictures, features: str, batch: int
) -> dict[str, Any]:
    """Mean perceptual distance of each kind of composite from the picture that it was made of.

    Args:
      pictures: u8[P, S, S, 3]; composites: the same for each kind.
      features: those of `quality`; with others than MobileNetV2's it is not measured.
      batch: pairs in one call.
    """
    result: dict[str, Any] = {"features": perceptual_distance.NAME}
    if features != "mobilenet_v2":
        return {**result, "not_measured": f"config.evaluate.kid_features is {features}"}
    try:
        distance = perceptual_distance.load_distance(batch)
    except UserError as error:
        return {**result, "not_measured": str(error)}
    rows = {}
    for name, changed in composites.items():
        values = distance(pictures, changed)
        rows[name] = {
            "distance": float(values.mean()),
            "standard_error": float(values.std() / np.sqrt(len(values))),
        }
    return {**result, "rows": rows}


def _boundary(size: int) -> np.ndarray:
    """bool[S, S]: the outermost RIM px of the mask, where a new face must continue its surroundings."""
    mask = jnp.asarray(masks.inference_mask(size))[None]
    return np.asarray(masks.boundary(mask, BOUNDARY_WIDTH))[0, ..., 0] > 0


def ssim_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """f64[S, S]: SSIM of u8[S, S, 3] pictures round each pixel, mean over the colours; as metrics.ssim."""

    def blur(x: np.ndarray) -> np.ndarray:
        window = (image_similarity.WINDOW, image_similarity.WINDOW)
        return cv2.GaussianBlur(
            x, window, image_similarity.WINDOW_SIGMA, borderType=cv2.BORDER_REFLECT_101
        )

    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = blur(a), blur(b)
    variances = blur(a * a) - mean_a**2 + blur(b * b) - mean_b**2
    together = blur(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + _STABLE[0]) / (mean_a**2 + mean_b**2 + _STABLE[0])
    return (light * (2 * together + _STABLE[1]) / (variances + _STABLE[1])).mean(-1)


def ssim(pictures: np.ndarray, composites: np.ndarray) -> dict[str, float]:
    """Mean SSIM (see metrics.ssim) in two places.

    Returns:
      outside: of windows that touch no pixel of the mask; 1 where nothing outside changed. rim: of windows
      round the pixels of the mask's rim, which reach into the face and its surroundings.
    """
    size = pictures.shape[1]
    masked = masks.inference_mask(size)[..., 0]
    window = np.ones((image_similarity.WINDOW, image_similarity.WINDOW), np.uint8)
    far, boundary = cv2.dilate(masked, window) == 0, _boundary(size)
    maps = [ssim_map(a, b) for a, b in zip(pictures, composites, strict=True)]
    return {
        "outside": float(np.mean([m[far].mean() for m in maps])),
        "rim": float(np.mean([m[boundary].mean() for m in maps])),
    }


def boundary_psnr(pictures: np.ndarray, composites: np.ndarray) -> float | None:
    """PSNR in dB over the outermost RIM px of the mask."""
    inside = _boundary(pictures.shape[1])
    error = ((pictures.astype(np.float64) - composites) ** 2)[:, inside].mean()
    return None if error == 0 else 10 * float(np.log10(255**2 / error))


def _points(detector: Detector, picture: np.ndarray) -> np.ndarray | None:
    """f64[5, 2] points of the face nearest the middle."""
    faces = [face for face in detector.detect(picture) if face.keypoints is not None]
    if not faces:
        return None
    middle = picture.shape[0] / 2
    nearest = min(faces, key=lambda f: float(np.abs(f.keypoints.mean(0) - middle).max()))
    return nearest.keypoints.astype(np.float64)


def landmarks(by_kind: AnonymizedPictures, count: int) -> dict[str, Any]:
    """Whether a detector finds a face in the first `count` pictures, and where its points are.

    Returns for each kind: pictures; found, how many with a face; point_error, the mean distance of the five
    points from the original's in eye distances; pose_error, the mean difference of yaw, pitch and roll from
    the original's in degrees (None where no face is found).

    Raises:
      UserError: the detector cannot be had.
    """
    detector = Detector(rotations=False)
    result, originals = {}, [_points(detector, p) for p in by_kind["original"][:count]]
    for kind, pictures in by_kind.items():
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
        poses = [[head_pose.head_pose(x, pictures.shape[1]) for x in pair] for pair in pairs]
        apart = [head_pose.difference(a, b) for a, b in poses]
        angles = np.mean(apart, 0).tolist() if pairs else [None] * len(head_pose.ANGLES)
        result[kind] = {
            "pictures": len(points),
            "found": sum(p is not None for p in points),
            "point_error": float(np.mean(errors)) if pairs else None,
            "pose_error": dict(zip(head_pose.ANGLES, angles, strict=True)),
        }
    return result
