"""One frame with its faces anonymized: of a photo, or of a clip whose earlier frames are remembered.

The order of events is what keeps faces from leaking. First every face that is not kept is covered or erased;
then new faces are put into the erased frame, and nothing looks at the original any more. What fails in
between leaves a cover, never a face. (Live, who enters is blurred until a person has been made; that is put
over all the rest.)
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from dp3_jax.replacement import generation, master_key, obfuscation, surroundings
from dp3_jax.replacement.face_actions import Outcome, Plan
from dp3_jax.replacement.generation import AWAITED, Drawn, FaceCheck, FaceRenderer, Job
from dp3_jax.replacement.surroundings import Exposure
from dp3_jax.vision import blending, geometry

DONE = {"blur": "blurred", "pixelate": "pixelated", "solid": "solid"}

_ROUND = 0.75  # of a face's size: how far round it the picture's exposure counts


class FaceMemory(Protocol):
    """What is remembered of one face from frame to frame; see `video.memory.Memory`.

    Attributes:
      candidate: number of the latent that was settled on; None before.
    """

    candidate: int | None

    def look(self, view: np.ndarray, mask: np.ndarray) -> None:
        """Sees how far the surroundings have changed: u8[S, S, 3] erased view, f32[S, S, 1] mask."""
        ...

    def tries_now(self) -> bool:
        """Whether a latent is to be looked for in this frame, where none is settled."""
        ...

    def add_grain(
        self, frame: np.ndarray, target: geometry.Region, hidden: np.ndarray, key: bytes
    ) -> None:
        """As `blending.add_grain`, with the grain of this frame."""
        ...

    def steady_exposure(self, look: Callable[[], Exposure]) -> Exposure:
        """The exposure round the face over time, looked at now and then."""
        ...

    def forget_pictures(self) -> None:
        """Lets go of all pictures."""
        ...


@dataclasses.dataclass(eq=False)
class FaceTask:
    """What is to be done with one face of a frame: exactly one of `done`, `cover` and `job` says it.

    Attributes:
      plan: of the face.
      reason: why it is not treated as the settings say; else empty.
      done: it is left as it is, with this outcome.
      cover: it is obfuscated so.
      job: a new face is made.
    """

    plan: Plan
    reason: str = ""
    done: str = ""
    cover: obfuscation.Cover | None = None
    job: Job | None = None


@dataclasses.dataclass
class FrameMemory:
    """What is remembered of whole frames.

    Attributes:
      toned: whether all frames with a new face were grey, or sepia, since the last cut; None before.
    """

    toned: bool | None = None

    def forget(self) -> None:
        """After a cut."""
        self.toned = None

    def colour_curve(self, erased: np.ndarray) -> np.ndarray | None:
        """As `surroundings.colour_curve`, steady: a scene that once had colours has them to its end."""
        if self.toned is False:
            return None
        curve = surroundings.colour_curve(erased, was_toned=bool(self.toned))
        self.toned = curve is not None
        return curve


def hide(
    frame: np.ndarray,
    covers: Sequence[obfuscation.Cover],
    others: Sequence[geometry.Region],
    *,
    quick: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """A copy of u8[h, w, 3] without any face: covered, or erased in the `others`; and bool[h, w], where.

    `quick` is that of `blending.erase`.
    """
    targets = [cover.target for cover in covers] + list(others)
    result = blending.erase(frame, targets, quick=quick)
    for cover in sorted(covers, key=lambda cover: -cover.scale):
        if cover.target.inside.any():  # in the frame
            shown = obfuscation.apply(cover.method, frame, cover.target, cover.scale)
            geometry.place(result, cover.target, shown)
    return result, blending.union(targets, frame.shape)


def render_frame(
    frame: np.ndarray,
    tasks: Sequence[FaceTask],
    renderer: FaceRenderer | None = None,
    is_face: FaceCheck | None = None,
    *,
    candidates: int = 1,
    memory: FrameMemory | None = None,
) -> tuple[np.ndarray, list[Outcome]]:
    """Treats the faces of a frame. Without memories, a pure function of its arguments.

    No pixel outside the faces' regions changes, and new faces do not depend on any pixel inside them, but
    through the plans' vectors.

    Args:
      frame: u8[h, w, 3] RGB; not changed.
      tasks: one for each face.
      renderer: makes the new faces; without one they are covered.
      is_face: verdict on new faces; None takes every one that is not a flat patch.
      candidates: new faces drawn for each one, of which the best is taken.
      memory: of earlier frames of the same clip; None for photos, which are treated with more care.

    Returns:
      The new frame, and what was done with each face, in the order of `tasks`. The frame itself is
      returned when there is nothing to do.
    """
    outcomes = [_without_new_face(task) for task in tasks]
    covers = [task.cover for task in tasks if task.cover is not None]
    by_number = {task.job.number: i for i, task in enumerate(tasks) if task.job is not None}
    jobs = [tasks[i].job for i in by_number.values()]
    if not covers and not jobs:
        return frame, [o for o in outcomes if o is not None]
    targets = [job.target for job in jobs]
    result, hidden = hide(frame, covers, targets, quick=memory is not None)
    tones = FrameMemory() if memory is None else memory
    if jobs:
        curve = tones.colour_curve(result)
        for job in jobs:
            job.exposure = _exposure(result, job)
    filling = _Filling(result, hidden, renderer, is_face, candidates)
    for wave in generation.waves(jobs):
        # From here on the original frame is not looked at any more.
        own = [by_number[job.number] for job in wave]
        for i, outcome in zip(own, filling.fill([tasks[i] for i in own], curve), strict=True):
            outcomes[i] = outcome
            if outcome.done == "covered" and tasks[i].job.memory is not None:
                tasks[i].job.memory.forget_pictures()
    _obfuscate(
        frame,
        result,
        [job for job in jobs if outcomes[by_number[job.number]].reason == AWAITED],
        jobs,
    )
    return result, [o for o in outcomes if o is not None]


def _obfuscate(
    frame: np.ndarray, result: np.ndarray, waiting: Sequence[Job], jobs: Sequence[Job]
) -> None:
    """Blurs the erased faces whose persons are being made, in place, where no other of the jobs is."""
    for job in waiting:
        others = [other.target for other in jobs if other is not job]
        inside = job.target.inside & ~blending.union(others, frame.shape)[job.target.slices]
        shown = obfuscation.apply("blur", frame, job.target, job.alignment.scale)
        geometry.place(result, dataclasses.replace(job.target, inside=inside), shown)


def _exposure(erased: np.ndarray, job: Job) -> Exposure | None:
    """The exposure round a face; None for the usual one. A lit stage does not light the audience."""

    def look() -> Exposure:
        part, _ = blending.neighbourhood(job.target, erased.shape, _ROUND)
        return surroundings.exposure(erased[part])

    if not job.target.inside.any():
        return None
    found = look() if job.memory is None else job.memory.steady_exposure(look)
    return None if found.is_usual else found


def _without_new_face(task: FaceTask) -> Outcome | None:
    if task.done:
        return Outcome(task.plan, task.done, reason=task.reason)
    if task.cover is not None:
        return Outcome(task.plan, DONE[task.cover.method], reason=task.reason)
    return None


@dataclasses.dataclass(frozen=True, eq=False)
class _Filling:
    """Puts new faces into an erased frame, changed in place; what cannot be made stays erased.

    Attributes:
      erased: u8[h, w, 3] in which nothing of any face is left.
      hidden: bool[h, w], pixels of all faces.
      renderer, is_face, candidates: as of `render_frame`.
    """

    erased: np.ndarray
    hidden: np.ndarray
    renderer: FaceRenderer | None
    is_face: FaceCheck | None
    candidates: int

    def fill(self, wave: Sequence[FaceTask], curve: np.ndarray | None) -> list[Outcome]:
        """Makes faces whose surroundings are finished; `curve` as of `surroundings.colour_curve`."""
        if self.renderer is None:
            reason = "there is no generator"
            return [Outcome(task.plan, "covered", reason=reason) for task in wave]
        seen = [task for task in wave if task.job.own.inside.any()]
        try:
            views = [self._view(task) for task in seen]
            drawn = self._draw(seen, views)
        except Exception as error:  # whatever it is, the faces stay covered
            return [generation.failed(task.job, error) for task in wave]
        made = {id(task): (view, face) for task, view, face in zip(seen, views, drawn, strict=True)}
        return [self._outcome(task, made.get(id(task)), curve) for task in wave]

    def _view(self, task: FaceTask) -> np.ndarray:
        view = geometry.extract(self.erased, task.job.alignment, quick=task.job.memory is not None)
        if task.job.memory is not None:
            task.job.memory.look(view, task.job.mask)
        return view

    def _draw(self, wave: Sequence[FaceTask], views: Sequence[np.ndarray]) -> list[Drawn | None]:
        """A new face for each view; a remembered one goes on, its first one that is a face settles it."""
        found: list[Drawn | None] = [None] * len(wave)
        there = [i for i, task in enumerate(wave) if not self._awaits(task.job)]
        settled = [
            i for i in there if (memory := wave[i].job.memory) and memory.candidate is not None
        ]
        if settled:
            went_on = self.renderer.follow(
                [wave[i].job for i in settled], [views[i] for i in settled]
            )
            for i, face in zip(settled, went_on, strict=True):
                found[i] = face
        new = [
            i
            for i in there
            if (memory := wave[i].job.memory) is None
            or (memory.candidate is None and memory.tries_now())
        ]
        if new:
            chosen = generation.choose(
                [wave[i].job for i in new],
                [views[i] for i in new],
                self.candidates,
                self.renderer,
                self.is_face,
            )
            for i, face in zip(new, chosen, strict=True):
                found[i] = face
                if wave[i].job.memory is not None and face is not None:
                    wave[i].job.memory.candidate = face.candidate
                    self.renderer.remember(wave[i].job, views[i], face)
        return found

    def _awaits(self, job: Job) -> bool:
        return job.memory is not None and self.renderer.awaits(job)

    def _outcome(
        self, task: FaceTask, made: tuple[np.ndarray, Drawn | None] | None, curve: np.ndarray | None
    ) -> Outcome:
        if made is None:
            return Outcome(task.plan, "covered", reason="outside the frame")
        view, face = made
        if face is None:
            awaited = self._awaits(task.job)
            return generation.awaited(task.job) if awaited else generation.no_face(task.job)
        try:
            self._place(task, view, face, curve)
        except Exception as error:
            return generation.failed(task.job, error)
        return Outcome(task.plan, "generated", face.candidate, person=face.person)

    def _place(
        self, task: FaceTask, view: np.ndarray, face: Drawn, curve: np.ndarray | None
    ) -> None:
        """Paints a face where it belongs."""
        job = task.job
        shown = self.renderer.paint(self.erased, job, view, face)
        if shown.shape != (*job.own.inside.shape, 3) or shown.dtype != np.uint8:
            raise ValueError(f"the renderer gave {shown.dtype}{shown.shape}")
        if curve is not None:
            shown = surroundings.coloured(shown, curve)
        geometry.place(self.erased, job.own, shown)
        if task.job.memory is None:
            random = master_key.grain_generator(task.plan.key)
            blending.add_grain(self.erased, job.own, self.hidden, random)
        else:
            task.job.memory.add_grain(self.erased, job.own, self.hidden, task.plan.key)
