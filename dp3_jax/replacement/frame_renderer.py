"""One frame with its faces anonymized: of a photo, or of a clip whose earlier frames are remembered.

The order of events is what keeps faces from leaking. First every face that is not kept is covered or erased;
then new faces are put into the background-filled frame, and nothing looks at the original any more. What
fails in between leaves a cover, never a face. (Live, who enters is blurred until a person has been made;
that is put over all the rest.)
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dp3_jax.replacement import bodies, generation, key_derivation, obfuscation, surroundings
from dp3_jax.replacement.face_actions import Done, FaceAction, FaceResult
from dp3_jax.replacement.generation import (
    FaceCheck,
    FaceRenderer,
    InpaintRequest,
    RenderedFace,
)
from dp3_jax.replacement.surroundings import Exposure
from dp3_jax.vision import blending, geometry

_DONE = bodies.DONE

_ROUND = 0.75  # of a face's size: how far round it the picture's exposure counts


@dataclasses.dataclass(eq=False)
class FaceTask:
    """What is to be done with one target of a frame: `done`, `to_obfuscate`, `request` or `body` says it.

    Attributes:
      action: of the face.
      reason: why it is not treated as the settings say; else empty.
      done: it is left as it is, and this says so.
      to_obfuscate: it is obfuscated so.
      request: a new face is made.
      body: it is drawn or covered so; of a head with a `request` too, what is round the new face.
    """

    action: FaceAction
    reason: str = ""
    done: Done | None = None
    to_obfuscate: obfuscation.ObfuscationTask | None = None
    request: InpaintRequest | None = None
    body: bodies.BodyTask | None = None


@dataclasses.dataclass
class FrameMemory:
    """What is remembered of whole frames.

    Attributes:
      toned: whether all frames with a new face were grey, or sepia, since the last cut; None before.
      in_clip: as of `surroundings.colour_curve`.
    """

    toned: bool | None = None
    in_clip: bool = False

    def forget(self) -> None:
        """After a cut."""
        self.toned = None

    def colour_curve(self, background_fill: np.ndarray) -> np.ndarray | None:
        """As `surroundings.colour_curve`, steady: a scene that once had colours has them to its end."""
        if self.toned is False:
            return None
        curve = surroundings.colour_curve(
            background_fill, was_toned=bool(self.toned), in_clip=self.in_clip
        )
        self.toned = curve is not None
        return curve


def mask_faces(
    frame: np.ndarray,
    obfuscated: Sequence[obfuscation.ObfuscationTask],
    others: Sequence[geometry.Region],
    *,
    bodies_there: Sequence[bodies.BodyTask] = (),
    quick: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """A copy of u8[h, w, 3] without any face: covered, or erased in the `others`; and bool[h, w], where.

    Bodies are drawn or covered before faces are covered. `quick` is that of `blending.fill_background`.
    """
    to_fill = [*(one.target for one in bodies_there), *others]
    to_cover = [one.target for one in obfuscated]
    if bodies_there:  # which may be drawn over faces that are covered only then
        to_fill, to_cover = to_cover + to_fill, []
    result = blending.fill_background(frame, to_fill, others=to_cover, quick=quick)
    if bodies_there:
        bodies.paint(frame, result, bodies_there)
    for one in sorted(obfuscated, key=lambda one: -one.scale):
        if one.target.inside.any():  # in the frame
            shown = obfuscation.apply(one.method, frame, one.target, one.scale)
            geometry.place(result, one.target, shown)
    return result, blending.union([*to_fill, *to_cover], frame.shape)


def render_frame(
    frame: np.ndarray,
    tasks: Sequence[FaceTask],
    renderer: FaceRenderer | None = None,
    is_face: FaceCheck | None = None,
    *,
    candidates: int = 1,
    memory: FrameMemory | None = None,
) -> tuple[np.ndarray, list[FaceResult]]:
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
    face_results = [_without_new_face(task) for task in tasks]
    obfuscated = [task.to_obfuscate for task in tasks if task.to_obfuscate is not None]
    by_number = {task.request.number: i for i, task in enumerate(tasks) if task.request is not None}
    requests = [tasks[i].request for i in by_number.values()]
    bodies_there = [task.body for task in tasks if task.body is not None]
    if not obfuscated and not requests and not bodies_there:
        return frame, [o for o in face_results if o is not None]
    if memory is not None and hasattr(renderer, "prepare"):
        renderer.prepare(requests)
    targets = [request.target for request in requests]
    quick = memory is not None
    result, masked = mask_faces(frame, obfuscated, targets, bodies_there=bodies_there, quick=quick)
    tones = FrameMemory() if memory is None else memory
    if requests:
        curve = tones.colour_curve(result)
        for request in requests:
            request.exposure = _exposure(result, request)
    filling = _Filling(result, masked, renderer, is_face, candidates)
    for batch in generation.batches(requests):
        # From here on the original frame is not looked at any more.
        own = [by_number[request.number] for request in batch]
        for i, face_result in zip(own, filling.fill([tasks[i] for i in own], curve), strict=True):
            face_results[i] = face_result
            if face_result.done == Done.COVERED and tasks[i].request.memory is not None:
                tasks[i].request.memory.forget_pictures()
    _obfuscate(
        frame,
        result,
        [request for request in requests if face_results[by_number[request.number]].awaited],
        requests,
    )
    return result, [o for o in face_results if o is not None]


def _obfuscate(
    frame: np.ndarray,
    result: np.ndarray,
    waiting: Sequence[InpaintRequest],
    requests: Sequence[InpaintRequest],
) -> None:
    """Blurs the erased faces whose persons are being made, in place, where no other of the jobs is."""
    for request in waiting:
        others = [other.target for other in requests if other is not request]
        inside = request.target.inside & ~blending.union(others, frame.shape)[request.target.slices]
        shown = obfuscation.apply("blur", frame, request.target, request.alignment.scale)
        geometry.place(result, dataclasses.replace(request.target, inside=inside), shown)


def _exposure(background_fill: np.ndarray, request: InpaintRequest) -> Exposure | None:
    """The exposure round a face; None for the usual one. A lit stage does not light the audience."""

    def observe() -> Exposure:
        part, _ = blending.neighbourhood(request.target, background_fill.shape, _ROUND)
        return surroundings.exposure(background_fill[part])

    if not request.target.inside.any():
        return None
    found = observe() if request.memory is None else request.memory.stabilise_exposure(observe)
    return None if found.is_usual else found


def _without_new_face(task: FaceTask) -> FaceResult | None:
    if task.done:
        return FaceResult(task.action, task.done, reason=task.reason)
    if task.to_obfuscate is not None:
        return FaceResult(task.action, _DONE[task.to_obfuscate.method], reason=task.reason)
    if task.body is not None and task.request is None:
        return FaceResult(task.action, bodies.DONE[task.body.method], reason=task.reason)
    return None


@dataclasses.dataclass(frozen=True, eq=False)
class _Filling:
    """Puts new faces into a background-filled frame, changed in place; what cannot be made stays erased.

    Attributes:
      background_fill: u8[h, w, 3] in which nothing of any face is left.
      masked: bool[h, w], pixels of all faces.
      renderer, is_face, candidates: as of `render_frame`.
    """

    background_fill: np.ndarray
    masked: np.ndarray
    renderer: FaceRenderer | None
    is_face: FaceCheck | None
    candidates: int

    def fill(self, batch: Sequence[FaceTask], curve: np.ndarray | None) -> list[FaceResult]:
        """Makes faces whose surroundings are finished; `curve` as of `surroundings.colour_curve`."""
        if self.renderer is None:
            reason = "there is no generator"
            return [FaceResult(task.action, Done.COVERED, reason=reason) for task in batch]
        seen = [task for task in batch if task.request.own.inside.any()]
        try:
            views = [self._view(task) for task in seen]
            rendered = self._draw(seen, views)
        except Exception as error:  # whatever it is, the faces stay covered
            return [generation.failed(task.request, error) for task in batch]
        made = {
            id(task): (view, face) for task, view, face in zip(seen, views, rendered, strict=True)
        }
        return [self._face_result(task, made.get(id(task)), curve) for task in batch]

    def _view(self, task: FaceTask) -> np.ndarray:
        view = geometry.extract(
            self.background_fill, task.request.alignment, quick=task.request.memory is not None
        )
        if task.request.memory is not None:
            task.request.memory.observe(view, task.request.mask)
        return view

    def _draw(
        self, batch: Sequence[FaceTask], views: Sequence[np.ndarray]
    ) -> list[RenderedFace | None]:
        """A new face for each view; a remembered one goes on, its first one that is a face settles it."""
        found: list[RenderedFace | None] = [None] * len(batch)
        there = [i for i, task in enumerate(batch) if not self._awaits(task.request)]
        settled = [
            i for i in there if (memory := batch[i].request.memory) and memory.candidate is not None
        ]
        if settled:
            went_on = self.renderer.transfer_motion_to(
                [batch[i].request for i in settled], [views[i] for i in settled]
            )
            for i, face in zip(settled, went_on, strict=True):
                found[i] = face
        new = [
            i
            for i in there
            if (memory := batch[i].request.memory) is None
            or (memory.candidate is None and memory.tries_now())
        ]
        if new:
            chosen = generation.choose_candidates(
                [batch[i].request for i in new],
                [views[i] for i in new],
                self.candidates,
                self.renderer,
                self.is_face,
            )
            for i, face in zip(new, chosen, strict=True):
                found[i] = face
                if batch[i].request.memory is not None and face is not None:
                    batch[i].request.memory.candidate = face.candidate
                    self.renderer.remember(batch[i].request, views[i], face)
        return found

    def _awaits(self, request: InpaintRequest) -> bool:
        return request.memory is not None and self.renderer.awaits(request)

    def _face_result(
        self,
        task: FaceTask,
        made: tuple[np.ndarray, RenderedFace | None] | None,
        curve: np.ndarray | None,
    ) -> FaceResult:
        if made is None:
            return FaceResult(task.action, Done.COVERED, reason="outside the frame")
        view, face = made
        if face is None:
            awaited = self._awaits(task.request)
            return generation.awaited(task.request) if awaited else generation.no_face(task.request)
        try:
            self._place(task, view, face, curve)
        except Exception as error:
            return generation.failed(task.request, error)
        return FaceResult(task.action, Done.GENERATED, face.candidate, person=face.person)

    def _place(
        self, task: FaceTask, view: np.ndarray, face: RenderedFace, curve: np.ndarray | None
    ) -> None:
        """Paints a face where it belongs."""
        request = task.request
        shown = self.renderer.paint(self.background_fill, request, view, face)
        if shown.shape != (*request.own.inside.shape, 3) or shown.dtype != np.uint8:
            raise ValueError(f"the renderer gave {shown.dtype}{shown.shape}")
        if curve is not None:
            shown = surroundings.coloured(shown, curve)
        geometry.place(self.background_fill, request.own, shown)
        if task.request.memory is None:
            random = key_derivation.grain_generator(task.action.key)
            blending.add_grain(self.background_fill, request.own, self.masked, random)
        else:
            task.request.memory.add_grain(
                self.background_fill, request.own, self.masked, task.action.key
            )
