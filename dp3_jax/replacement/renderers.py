"""What draws new faces into a background-filled frame: the shipped generator, or persons that are fused
into it.

A renderer draws a face for a key, candidate by candidate, and then paints the chosen one into the frame. It
sees the background-filled frame, the mask, the five points and the face's vector, and no pixel of the face
itself.
"""

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.models.person_mask import PersonMask
from dp3_jax.replacement import (
    carried_parts,
    fusing,
    hair,
    key_derivation,
    painting,
    smiles,
    stored_persons,
)
from dp3_jax.replacement.background import background, with_background
from dp3_jax.replacement.fusing import Donor, FusionNetwork, Parts
from dp3_jax.replacement.generation import (
    RETRIES,
    Generator,
    InpaintRequest,
    RenderedFace,
    generate,
    is_flat,
)
from dp3_jax.replacement.identities import Classes, IdentitySource, Rendering
from dp3_jax.replacement.painting import Fused
from dp3_jax.replacement.pose_grid import PoseGrid
from dp3_jax.replacement.stored_persons import StoredPersons
from dp3_jax.vision import blending, geometry

# Canonical px for each frame px from which on a face is put together at 128 px and then made smaller.
_SMALL = 0.9
# Canonical px inside the mask over which a fused face takes over. The network was taught to continue what is
# beside the mask; what the background-filled frame shows inside it is a guess, to which a face must not be
# corrected: that made pale halos round dark hair.
_FEATHER = 2.0
_MAX_PLACED = 32  # donors of clips that are kept as they were placed
_NO_CORRECTION = np.zeros((1, 1, 3), np.float32)

Classify = Callable[
    [np.ndarray, np.ndarray], Classes
]  # background-filled view u8[S, S, 3], mask f32[S, S, 1]


Score = Callable[
    [np.ndarray, np.ndarray], float
]  # face u8[S, S, 3], mask f32[S, S, 1]: higher is better


class BuiltinRenderer:
    """Faces of a generator that draws them whole, at 128 px."""

    identity = "builtin"
    takes_vector = False

    def __init__(self, generator: Generator):
        self._generator = generator
        self.fingerprint = generator.fingerprint

    def warm(self, count: int) -> None:
        """Gets ready for so many faces at once."""
        if warm := getattr(self._generator, "warm", None):  # a given one need not have it
            warm(count)

    def draw(
        self,
        batch: Sequence[InpaintRequest],
        views: Sequence[np.ndarray],
        numbers: Sequence[Sequence[int]],
    ) -> list[list[RenderedFace | None]]:
        """See `generation.FaceRenderer`; all in one call of the generator."""
        made = generate(batch, views, numbers, self._generator)
        return [
            [RenderedFace(number, view) for number, view in zip(own, faces, strict=True)]
            for own, faces in zip(numbers, made, strict=True)
        ]

    def remember(self, request: InpaintRequest, view: np.ndarray, face: RenderedFace) -> None:
        """See `generation.FaceRenderer`; the picture is kept as it is painted."""
        del view, face
        request.memory.drew()

    def awaits(self, request: InpaintRequest) -> bool:
        """See `generation.FaceRenderer`; there is nothing to wait for."""
        del request
        return False

    def prepare(self, requests: Sequence[InpaintRequest]) -> None:
        """See `generation.FaceRenderer`; the generator needs the frame."""

    def transfer_motion_to(
        self, batch: Sequence[InpaintRequest], views: Sequence[np.ndarray]
    ) -> list[RenderedFace | None]:
        """See `generation.FaceRenderer`; drawn anew now and then."""
        memories = [request.memory for request in batch]
        found = [
            RenderedFace(memory.candidate, memory.latest) if memory.skips_inference() else None
            for memory in memories
        ]
        due = [i for i, face in enumerate(found) if face is None]
        if due:
            numbers = [[memories[i].candidate] for i in due]
            made = self.draw([batch[i] for i in due], [views[i] for i in due], numbers)
            for i, (face,) in zip(due, made, strict=True):
                if not is_flat(batch[i], face.view):
                    found[i] = face
                    memories[i].drew()
        return found

    def paint(
        self,
        background_fill: np.ndarray,
        request: InpaintRequest,
        view: np.ndarray,
        face: RenderedFace,
    ) -> np.ndarray:
        """See `generation.FaceRenderer`."""
        if request.memory is None:
            blended = blending.blend(view, face.view, request.mask)
            return geometry.project(blended, request.alignment, request.own)
        composed = request.memory.compose(view, face.view, request.mask)
        return geometry.project(composed, request.alignment, request.own, quick=True)


def candidate_key(key: bytes, number: int) -> bytes:
    """The key of a face's candidate; that of number 0 is the face's own."""
    return key if number == 0 else key_derivation.derived_key(key, f"dp3 candidate {number}")


class FusedRenderer:
    """Persons of an identity source, fused into the picture. Calls may come from one thread only."""

    takes_vector = True

    def __init__(
        self,
        source: IdentitySource,
        network: FusionNetwork,
        classify: Classify = lambda view, mask: Classes(),
        classified_by: str = "",
        score: Score | None = None,
        *,
        smile: bool | None = None,
        heads: PersonMask | None = None,
    ):
        """`classify` tells a person's coarse classes from the surroundings, `classified_by` what it is;
        `score` compares candidates, `smile` is wished for (`smiles`), `heads` tells the heads of renderings:
        without it a face ends at its outline."""
        self.source, self._network, self._classify = source, network, classify
        self._score, self._smile = score, smile
        self._heads_of = None if heads is None else heads.of
        self.identity = source.name
        self._shares = source.name == "prior"  # a bank is on the disk
        self._begun: dict[int, tuple[InpaintRequest, Future[Donor | None]]] = {}
        self._lain: OrderedDict[int, tuple[Donor, np.ndarray]] = (
            OrderedDict()
        )  # by their renderings
        all_of_it = f"{network.fingerprint} {source.fingerprint} {classified_by}".encode()
        if smile is not None:
            all_of_it += f" smile {smile}".encode()
        if heads is not None:
            all_of_it += f" heads {heads.fingerprint}".encode()
        self.fingerprint = hashlib.sha256(all_of_it).hexdigest()

    @functools.cached_property
    def _grid(self) -> PoseGrid:
        source = StoredPersons(self.source) if self._shares else self.source
        return PoseGrid(source, smile=self._smile, heads=self._heads_of)

    def warm(self, count: int) -> None:
        """Gets ready for the first face, however many there are."""
        del count
        self._network.warm()

    def close(self) -> None:
        """Lets go of what the background is still to render."""
        self._grid.close()
        self._beside.shutdown()

    @functools.cached_property
    def _beside(self) -> ThreadPoolExecutor:
        """The one thread that asks the grid for looks."""
        return ThreadPoolExecutor(1, "looks")

    def prepare(self, requests: Sequence[InpaintRequest]) -> None:
        """See `generation.FaceRenderer`; persons do not depend on the frame, so they are rendered beside."""
        self._begun = {
            id(request): (request, self._beside.submit(self._donor, request))
            for request in requests
            if request.own.inside.any()
            and request.memory is not None
            and None not in (request.memory.candidate, request.memory.classes)
        }

    def draw(
        self,
        batch: Sequence[InpaintRequest],
        views: Sequence[np.ndarray],
        numbers: Sequence[Sequence[int]],
    ) -> list[list[RenderedFace | None]]:
        """See `generation.FaceRenderer`."""
        return [
            [self._draw(request, seen, n) for n in own]
            for request, seen, own in zip(batch, views, numbers, strict=True)
        ]

    def _draw(self, request: InpaintRequest, seen: np.ndarray, number: int) -> RenderedFace | None:
        """One candidate, for the view u8[S, S, 3]."""
        view = _context(request, seen)
        classes = self._classes(request, view)
        if not self._is_there(request, classes, number):
            return None
        try:
            rendering = self._beside.submit(self._rendering, request, classes, number).result()
        except ValueError:  # that person shows no face in that pose
            return None
        donor = _placed(request, rendering)
        parts, share = self._parts(request, seen, view, donor)
        fused = Fused(donor, with_background(parts, share, seen), (parts, share))
        shown = painting.composite(request, seen, fused)
        score = None if self._score is None else self._score(shown, request.mask)
        return RenderedFace(number, shown, rendering.person, fused, score)

    def _classes(self, request: InpaintRequest, view: np.ndarray) -> Classes:
        """Of a face's surroundings; of a track's in its first frame.

        The view u8[S, S, 3] has nothing under the mask.
        """
        memory = request.memory
        if memory is not None and memory.classes is not None:
            return Classes(*memory.classes)
        classes = self._classify(view, request.mask)
        if self._heads_of is not None:
            classes = hair.known_from(classes, hair.seen_round(view, request.mask, self._heads_of))
        if memory is not None:
            if memory.size == stored_persons.SMALL:  # these share their persons' pictures
                classes = classes.of_person
            memory.classes = classes
        return classes

    def _person_key(self, request: InpaintRequest, number: int) -> bytes:
        """Of a candidate; those of small faces in clips are shared."""
        key = candidate_key(request.action.key, number)
        small = request.memory is not None and request.memory.size == stored_persons.SMALL
        return stored_persons.shared_key(key) if small and self._shares else key

    def _rendering(self, request: InpaintRequest, classes: Classes, number: int) -> Rendering:
        key, vector = self._person_key(request, number), request.action.vector
        if request.memory is not None:
            vector = smiles.wished(vector or FaceVector(0.0, 0.0), self._smile, speaks=True)
            size, wait = request.memory.size, request.memory.wait
            return self._grid.rendering(key, classes, vector, size, wait=wait)
        pose = None if vector is None else vector.pose
        expression = None if vector is None else vector.expression
        if self._smile is not None:
            expression = smiles.mouth_of(self._smile)
        size = fusing.rendering_size(request.alignment)
        shown = self.source.render(key, classes.of_person, pose, expression, size)
        return hair.worn(shown, classes, self._heads_of)

    def awaits(self, request: InpaintRequest) -> bool:
        """See `generation.FaceRenderer`; in clips in which renderings are not waited for."""
        memory = request.memory
        if memory is None or memory.wait or memory.classes is None:
            return False
        numbers = range(1 + RETRIES) if memory.candidate is None else [memory.candidate]
        keys = (self._person_key(request, number) for number in numbers)
        return any(self._grid.awaits(key, Classes(*memory.classes), memory.size) for key in keys)

    def _is_there(self, request: InpaintRequest, classes: Classes, number: int) -> bool:
        """Whether a candidate can be rendered now; else it is asked for, one after the other."""
        if request.memory is None or request.memory.wait:
            return True
        key = self._person_key(request, number)
        return not self.awaits(request) and self._grid.begin(key, classes, request.memory.size)

    def _parts(
        self, request: InpaintRequest, seen: np.ndarray, view: np.ndarray, donor: Donor
    ) -> tuple[Parts, np.ndarray]:
        """What the network says, and where background is; `seen` and the normalised `view` u8[S, S, 3]."""
        parts = fusing.evened(self._network.parts(view, request.mask, donor), donor.mask)
        if request.exposure is not None:
            parts = parts.exposed(request.exposure)
        return parts, background(parts, donor, seen)

    def remember(self, request: InpaintRequest, view: np.ndarray, face: RenderedFace) -> None:
        """See `generation.FaceRenderer`."""
        request.memory.said(carried_parts.said(*face.layers.said, face.layers.donor.mask, view))

    def transfer_motion_to(
        self, batch: Sequence[InpaintRequest], views: Sequence[np.ndarray]
    ) -> list[RenderedFace | None]:
        """See `generation.FaceRenderer`; the person in this frame's pose, the network now and then."""
        return [self._followed(request, seen) for request, seen in zip(batch, views, strict=True)]

    def _donor(self, request: InpaintRequest) -> Donor | None:
        """A remembered face's person in this frame's pose, placed; None where there is none now."""
        memory = request.memory
        classes = Classes(*memory.classes)
        if not self._is_there(request, classes, memory.candidate):
            return None
        try:
            return self._again(request, self._rendering(request, classes, memory.candidate))
        except ValueError:  # that person shows no face in that pose
            return None

    def _again(self, request: InpaintRequest, rendering: Rendering) -> Donor:
        """A rendering placed in a clip, which a face that rests shows in the same place once more."""
        donor, mask = self._lain.get(id(rendering), (None, None))
        if donor is None or donor.rendering is not rendering or (mask != request.mask).any():
            donor = _placed(request, rendering)
            self._lain[id(rendering)] = donor, request.mask
            if len(self._lain) > _MAX_PLACED:
                self._lain.popitem(last=False)
        return donor

    def _followed(self, request: InpaintRequest, seen: np.ndarray) -> RenderedFace | None:
        memory = request.memory
        _, begun = self._begun.pop(id(request), (None, None))
        if begun is None:
            begun = self._beside.submit(self._donor, request)
        donor = begun.result()
        if donor is None:
            return None
        carried = memory.moved(seen, request.mask)
        if carried is None or memory.is_due(seen, request.mask):
            both = self._parts(request, seen, _context(request, seen), donor)
            carried = memory.said(carried_parts.said(*both, donor.mask, seen, carried))
        fused = Fused(donor, carried_parts.placed(carried, donor.mask))
        view = (
            painting.composite(request, seen, fused) if request.alignment.scale >= _SMALL else seen
        )
        return RenderedFace(memory.candidate, view, donor.rendering.person, fused)

    def paint(
        self,
        background_fill: np.ndarray,
        request: InpaintRequest,
        view: np.ndarray,
        face: RenderedFace,
    ) -> np.ndarray:
        """See `generation.FaceRenderer`; at the size of the face."""
        if request.alignment.scale >= _SMALL:
            blended = blending.blend(view, face.view, request.mask, _NO_CORRECTION, _FEATHER)
            return geometry.project(
                blended, request.alignment, request.own, quick=request.memory is not None
            )
        if request.memory is None:
            return painting.painted(background_fill, request, face.layers)
        return painting.quickly_painted(background_fill, request, view, face.layers)


def _context(request: InpaintRequest, seen: np.ndarray) -> np.ndarray:
    """u8[S, S, 3]: a view with the usual tones, and nothing under the mask."""
    view = seen if request.exposure is None else request.exposure.normalised(seen)
    return np.where(request.mask > 0, np.uint8(0), view)


def _placed(request: InpaintRequest, rendering: Rendering) -> Donor:
    """The rendering where the face lies: in a photo by its five points, in a clip by its alignment alone."""
    points = request.action.face.keypoints
    if points is None or request.memory is not None:
        return fusing.place_donor(rendering, None, request.mask, quick=request.memory is not None)
    return fusing.place_donor(rendering, request.alignment.apply(points), request.mask)
