"""Faces hidden in every way that an evaluation compares, in the canonical frame."""

import dataclasses
import pathlib

import jax
import numpy as np

from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.face_detection import Detection
from dp3_jax.evaluation import people
from dp3_jax.models import generator_file
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.replacement import key_derivation, obfuscation
from dp3_jax.replacement.generator import FaceGenerator, generator_of, load_anonymizer
from dp3_jax.training import checkpoint, export
from dp3_jax.training.options import model_section
from dp3_jax.vision import geometry, masks

AnonymizedPictures = dict[str, np.ndarray]  # by the name of the way


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is measured: the generator, where its weights came from and the training step, if known."""

    generator: FaceGenerator
    source: str
    step: int | None


def open_subject(workdir_or_file: pathlib.Path, step: int | str = "latest") -> Subject:
    """The anonymizer of a training run's checkpoint, or of an exported file.

    Raises:
      UserError: there is no such run or file, or it holds something else.
    """
    path = pathlib.Path(workdir_or_file)
    if path.is_file():
        generator = load_anonymizer(path)
        return Subject(generator, str(path), generator_file.read_generator(path)[2])
    restored = checkpoint.restore_generator(path, step)
    model, variables = model_section(restored.config), restored.variables
    fingerprint = generator_file.fingerprint_of(variables, model, restored.step)
    return Subject(generator_of(model, variables, fingerprint, path), str(path), restored.step)


def _masks(count: int, size: int) -> np.ndarray:
    mask = masks.inference_mask(size)
    return np.broadcast_to(mask, (count, *mask.shape))


def fill(subject: Subject, pictures: np.ndarray, seed: int, draw: int = 0) -> np.ndarray:
    """u8[N, S, S, 3] with the face of each replaced; other `draw`, other latents, other faces."""
    generator = subject.generator
    key = jax.random.fold_in(jax.random.key(seed), draw)
    z = export.latents(key, 0, len(pictures), generator.latent_dim)
    return generator.generate(pictures, _masks(len(pictures), generator.size), z)


def photograph(subject: Subject, pictures: np.ndarray, seed: int) -> np.ndarray:
    """u8[N, S, S, 3] with the face of each replaced as `dp3 anonymize` does it in a photo.

    That is: erased, drawn, its colours matched, its rim softened, grain added; S is 128.
    """
    anonymizer = Anonymizer(generator=subject.generator)
    face = Detection(geometry.CANONICAL_BOX, masks.CANONICAL_POINTS, 1.0, FaceSource.USER)
    master_key = key_derivation.master_key_from_seed(seed)
    results = []
    for number, picture in enumerate(pictures):
        key = key_derivation.track_key(master_key, number)
        results.append(anonymizer(picture, [face], key).frame)
    return np.stack(results)


def obfuscated(method: str, pictures: np.ndarray) -> np.ndarray:
    """u8[N, S, S, 3] covered by "blur", "pixelate" or "solid" as `dp3 anonymize` does it."""
    size = pictures.shape[1]
    scale = geometry.SIZE / size
    alignment = geometry.Alignment(complex(scale), complex(1, 1) * (scale - 1) / 2)
    low, extent = np.array(geometry.CANONICAL_BOX).reshape(2, 2)
    box = (*alignment.invert(low), *(extent / scale))
    target = obfuscation.extent(alignment, box, "face", pictures.shape[1:])
    result = pictures.copy()
    for picture in result:
        shown = obfuscation.apply(method, picture, target, alignment.scale)
        picture[target.slices][target.inside] = shown[target.inside]
    return result


def paste_over(pictures: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """`pictures` with the pixels under the mask taken from `faces` (broadcast), both u8[N, S, S, 3]."""
    masked = _masks(len(pictures), pictures.shape[1]) > 0
    return np.where(masked, faces, pictures)


def anonymize_pictures(subject: Subject, people_: people.People, seed: int) -> AnonymizedPictures:
    """The probes with their faces hidden in each way, and the two controls. u8[P, S, S, 3] each."""
    probes = people_.probes
    other = probes[people_.others()]
    mean_face = np.round(people_.gallery.mean(0, dtype=np.float64)).astype(np.uint8)
    by_kind = {"original": probes, "generated": fill(subject, probes, seed)}
    if probes.shape[1] == masks.SIZE:
        by_kind["in_a_photo"] = photograph(subject, probes, seed)
    return by_kind | {
        "blur": obfuscated("blur", probes),
        "pixelate": obfuscated("pixelate", probes),
        "solid": obfuscated("solid", probes),
        "copy_paste": paste_over(probes, other),
        "mean_face": paste_over(probes, mean_face),
    }
