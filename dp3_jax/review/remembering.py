"""New faces that were drawn before: a change of one face leaves the others of a photo to be drawn again."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from dp3_jax.replacement.generation import FaceRenderer, InpaintRequest, RenderedFace

_MAX_FACES = 48  # of at most some MB


class RememberingRenderer:
    """A `FaceRenderer` that draws each face by itself, and keeps what it drew of photos.

    What it gives is what the other one would: a face is a function of what it is known by here. Calls come
    from one thread only.
    """

    def __init__(self, renderer: FaceRenderer):
        """Takes the one that draws."""
        self._renderer = renderer
        self._drawn: OrderedDict[tuple, RenderedFace | None] = OrderedDict()

    def __getattr__(self, name: str) -> Any:
        """All else is the other one's."""
        return getattr(self._renderer, name)

    def draw(
        self,
        batch: Sequence[InpaintRequest],
        views: Sequence[np.ndarray],
        numbers: Sequence[Sequence[int]],
    ) -> list[list[RenderedFace | None]]:
        """See `FaceRenderer`."""
        return [
            [self._one(request, view, number) for number in own]
            for request, view, own in zip(batch, views, numbers, strict=True)
        ]

    def _one(self, request: InpaintRequest, view: np.ndarray, number: int) -> RenderedFace | None:
        if request.memory is not None:
            return self._renderer.draw([request], [view], [[number]])[0][0]
        known = _known_by(request, view, number)
        if known not in self._drawn:
            self._drawn[known] = self._renderer.draw([request], [view], [[number]])[0][0]
            if len(self._drawn) > _MAX_FACES:
                self._drawn.popitem(last=False)
        self._drawn.move_to_end(known)
        return self._drawn[known]


def _known_by(request: InpaintRequest, view: np.ndarray, number: int) -> tuple:
    """All that a face of a photo depends on."""
    digest = hashlib.sha256(np.ascontiguousarray(view))
    for array in (request.mask, request.target.inside, request.own.inside):
        digest.update(np.ascontiguousarray(array))
    places = tuple(
        (part.start, part.stop) for one in (request.target, request.own) for part in one.slices
    )
    alignment = request.alignment.a, request.alignment.b
    action = request.action
    return (
        number,
        action.key,
        action.vector,
        alignment,
        places,
        request.exposure,
        digest.digest(),
    )
