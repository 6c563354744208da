"""New faces for an erased frame: in which order, from which latent, and what counts as a face."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from dp3_jax.anonymization import blending, geometry, secrets
from dp3_jax.anonymization.plans import Outcome, Plan
from dp3_jax.masks import SIZE

RETRIES = 3  # further latents tried when none of the candidates is a face
_FLAT = 4.0  # levels of standard deviation under the mask: less is no face but a patch

FaceCheck = Callable[[np.ndarray], np.ndarray]  # u8[B, S, S, 3] canonical views -> bool[B]


class Generator(Protocol):
    """What is needed of a generator; see `generator.FaceGenerator`."""

    latent_dim: int
    size: int
    fingerprint: str

    def generate(self, image: np.ndarray, mask: np.ndarray, z: np.ndarray) -> np.ndarray:
        """u8[B, S, S, 3] views, f32[B, S, S, 1] masks, f32[B, Z] latents -> u8[B, S, S, 3]."""
        ...


@dataclasses.dataclass(eq=False)
class Job:
    """A face on its way to being generated."""

    number: int
    plan: Plan
    alignment: geometry.Alignment
    mask: np.ndarray  # f32[S, S, 1]
    target: geometry.Region
    wave: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """A new face: the number of its latent, and its view u8[S, S, 3]."""

    candidate: int
    view: np.ndarray


def waves(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs in rounds: small faces (further away) before large ones, each seeing the ones before it.

    A face whose surroundings show another face waits until that one has been replaced, so the new faces
    fit one another; all faces of a round go through the generator together.
    """
    ordered = sorted(jobs, key=lambda job: (-job.alignment.scale, job.number))
    parts: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for i, job in enumerate(ordered):
        corners = job.alignment.invert(np.array([(0, 0), (0, SIZE), (SIZE, 0), (SIZE, SIZE)]))
        seen = (*corners.min(0), *corners.max(0))
        height, width = job.target.inside.shape
        own = (job.target.left, job.target.top, job.target.left + width, job.target.top + height)
        for j in range(i):
            their_seen, their_own = parts[j]
            if _overlap(seen, their_own) or _overlap(their_seen, own):
                job.wave = max(job.wave, ordered[j].wave + 1)
        parts.append((seen, own))
    rounds: list[list[Job]] = [
        [] for _ in range(max((job.wave for job in ordered), default=-1) + 1)
    ]
    for job in ordered:
        rounds[job.wave].append(job)
    return rounds


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two rectangles (left, top, right, bottom) overlap."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def fill(
    erased: np.ndarray,
    hidden: np.ndarray,
    wave: Sequence[Job],
    *,
    candidates: int,
    generator: Generator | None,
    is_face: FaceCheck | None,
) -> list[Outcome]:
    """Puts new faces into the erased frame, changed in place; what cannot be made stays erased.

    Args:
      erased: u8[h, w, 3] in which nothing of any hidden face is left.
      hidden: bool[h, w], pixels of all hidden faces.
      wave: faces to be made, whose surroundings are finished.
      candidates: new faces drawn for each one.
      generator: None leaves all as they are.
      is_face: verdict on new faces; None takes every one.

    Returns:
      What was done, for each job.
    """
    if generator is None:
        return [Outcome(job.plan, "covered", reason="there is no generator") for job in wave]
    try:
        views = [geometry.extract(erased, job.alignment) for job in wave]
        chosen = choose(wave, views, candidates, generator, is_face)
    except Exception as error:  # whatever it is, the faces stay covered and the photo is finished
        return [failed(job, error) for job in wave]
    outcomes = []
    for job, view, face in zip(wave, views, chosen, strict=True):
        try:
            outcomes.append(_place(erased, hidden, job, view, face))
        except Exception as error:
            outcomes.append(failed(job, error))
    return outcomes


def failed(job: Job, error: Exception) -> Outcome:
    """A face that stays covered because of an error."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return Outcome(job.plan, "covered", reason=f"generation failed: {reason}")


def _place(
    erased: np.ndarray, hidden: np.ndarray, job: Job, view: np.ndarray, face: Drawn | None
) -> Outcome:
    """Blends a new face into the erased frame, changed in place."""
    if face is None:
        return no_face(job)
    blended = blending.blend(view, face.view, job.mask)
    shown = geometry.project(blended, job.alignment, job.target)
    geometry.place(erased, job.target, shown)
    blending.add_grain(erased, job.target, hidden, secrets.grain_generator(job.plan.key))
    return Outcome(job.plan, "generated", face.candidate)


def no_face(job: Job) -> Outcome:
    """A face that stays covered because there is none to put in its place."""
    return Outcome(job.plan, "covered", reason="no face came out of the generator")


def choose(
    wave: Sequence[Job],
    views: Sequence[np.ndarray],
    candidates: int,
    generator: Generator,
    is_face: FaceCheck | None,
) -> list[Drawn | None]:
    """The new face for each view, or None where none of them is a face.

    The best of the candidates by how it continues its surroundings; when none is a face, the best of
    RETRIES more. A plan with a settled candidate gets that one, computed in the same batch as before.
    """
    found: list[Drawn | None] = [None] * len(views)
    open_ones = list(range(len(views)))
    for numbers in (range(candidates), range(candidates, candidates + RETRIES)):
        made = generate(
            [wave[i] for i in open_ones],
            [views[i] for i in open_ones],
            [numbers] * len(open_ones),
            generator,
        )
        still_open = []
        for i, faces in zip(open_ones, made, strict=True):
            good = _acceptable(wave[i], faces, numbers, is_face)
            errors = [
                blending.rim_error(views[i], face, wave[i].mask) if ok else np.inf
                for face, ok in zip(faces, good, strict=True)
            ]
            best = int(np.argmin(errors))
            if np.isfinite(errors[best]):
                found[i] = Drawn(numbers[best], faces[best])
            else:
                still_open.append(i)
        open_ones = still_open
        if not open_ones:
            break
    return found


def _acceptable(
    job: Job, faces: np.ndarray, numbers: range, is_face: FaceCheck | None
) -> Sequence[bool]:
    """Which of a face's candidates may be shown."""
    if job.plan.candidate is not None:
        return [n == job.plan.candidate for n in numbers]
    good = np.array([not is_flat(job, face) for face in faces])
    return good if is_face is None else good & is_face(faces)


def is_flat(job: Job, face: np.ndarray) -> bool:
    """Whether a new face u8[S, S, 3] is no face but a patch."""
    return float(face[job.mask[..., 0] > 0].std()) <= _FLAT


def generate(
    wave: Sequence[Job],
    views: Sequence[np.ndarray],
    numbers: Sequence[Sequence[int]],
    generator: Generator,
) -> np.ndarray:
    """u8[B, N, S, S, 3]: N new faces for each of B views, in one call.

    Args:
      wave, views: B faces to be made and their views u8[S, S, 3].
      numbers: N numbers of latents for each face.
      generator: makes them.

    Raises:
      ValueError: what came out is no pictures of the right size.
    """
    count = len(numbers[0])
    z = [
        secrets.latent(job.plan.key, n, generator.latent_dim)
        for job, own in zip(wave, numbers, strict=True)
        for n in own
    ]
    images = np.repeat(np.stack(views), count, 0)
    masks = np.repeat(np.stack([job.mask for job in wave]), count, 0)
    made = np.asarray(generator.generate(images, masks, np.stack(z)))
    if made.shape != images.shape or made.dtype != np.uint8:
        raise ValueError(f"the generator gave {made.dtype}{made.shape}")
    return made.reshape(len(views), count, *made.shape[1:])
