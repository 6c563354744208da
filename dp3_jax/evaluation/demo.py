"""`dp3 demo`: new faces for the public-domain astronaut photo and for a clip, measured."""

import pathlib
from typing import Any

import numpy as np
import tqdm
from PIL import Image

from dp3_jax.common import images
from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_detection import Detection
from dp3_jax.evaluation import demo_clip
from dp3_jax.metrics.verification import Verifier
from dp3_jax.pipelines import preview
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.reports import PERSONS
from dp3_jax.replacement import key_derivation
from dp3_jax.vision import geometry


def demo_photo() -> np.ndarray:
    """u8[512, 512, 3]: Eileen Collins, photographed by NASA, public domain, from scikit-image.

    Raises:
      UserError: scikit-image is not installed.
    """
    try:
        import skimage.data
    except ImportError as error:
        raise UserError("the demo's photo is in scikit-image: pip install scikit-image") from error
    return skimage.data.astronaut()


def similarity(
    verifier: Verifier, left: np.ndarray, right: np.ndarray, face: Detection
) -> float | None:
    """Cosine of the embeddings of one face region in two frames u8[h, w, 3]; None: no face found in one."""
    alignment = face.alignment()
    crops = np.stack([geometry.extract(frame, alignment) for frame in (left, right)])
    embeddings, found = verifier.embed(crops)
    return float(embeddings[0] @ embeddings[1]) if found.all() else None


def run_demo(
    folder: pathlib.Path,
    verifier: Verifier,
    seed: int | None = None,
    frames: int | None = None,
) -> dict[str, Any]:
    """Anonymizes the photo by every method, and a clip, into `folder`; returns what was measured.

    Args:
      folder: gets astronaut.png, astronaut_METHOD.png, preview.png (before | boxes | after), and the clip's
        files (see `demo_clip.make`).
      verifier: judges the photos.
      seed: of the new faces; None for a fresh secret.
      frames: of the clip; None for as many as it takes.

    Raises:
      UserError: a model or the photo cannot be had, or a file cannot be written.
    """
    photo = demo_photo()
    master_key = (
        key_derivation.new_master_key()
        if seed is None
        else key_derivation.master_key_from_seed(seed)
    )
    anonymizer = Anonymizer()
    faces = anonymizer.detector.detect(photo)
    if len(faces) != 1:
        raise UserError(
            f"found {len(faces)} faces in the demo photo instead of 1; is OpenCV intact?"
        )
    images.write_png(folder / "astronaut.png", photo)
    brighter = np.asarray(Image.fromarray(photo).point(lambda v: min(255, round(v * 1.2))))
    report: dict[str, Any] = {
        "identity": anonymizer.renderer.identity,
        "judge": verifier.name,
        "same_person_from": verifier.threshold,
        "cosine_to_original": {
            "the same photo, brighter": similarity(verifier, photo, brighter, faces[0])
        },
    }
    for method in ("generate", "blur", "pixelate", "solid"):
        one = anonymizer if method == "generate" else Anonymizer(method=method)
        result = one(photo, faces, master_key)
        images.write_png(folder / f"astronaut_{method}.png", result.frame)
        name = f"{method} ({result.face_results[0].done})"
        report["cosine_to_original"][name] = similarity(verifier, photo, result.frame, faces[0])
        if method == "generate":
            preview.write_preview(folder / "preview.png", photo, result)
    # Each frame is looked at, drawn and measured; disable=None: no bar where nobody sees it.
    clip = demo_clip.original(photo, anonymizer, frames)
    with tqdm.tqdm(total=3 * clip.frames, desc="video", leave=False, disable=None) as bar:
        report["video"] = demo_clip.anonymize_clip(
            folder, clip, anonymizer, master_key, lambda _, count, __: bar.update(count)
        )
    return report


def format_report(report: dict[str, Any], folder: pathlib.Path) -> str:
    """What the command prints."""
    lines = [
        f"{report['judge']}: cosine to the original face; same person from {report['same_person_from']}"
    ]
    for name, value in report["cosine_to_original"].items():
        verdict = "no face found any more" if value is None else f"{value:.3f}"
        if value is not None:
            same = value >= report["same_person_from"]
            verdict += "  the same person" if same else "  not the same person"
        lines.append(f"  {name:<28} {verdict}")
    lines += [
        f"new faces: {PERSONS[report['identity']]}",
        f"before | boxes | after: {folder / 'preview.png'}",
        "",
        demo_clip.format_report(report["video"], folder),
    ]
    return "\n".join(lines)
