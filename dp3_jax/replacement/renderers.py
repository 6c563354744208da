"""What draws new faces into an erased frame: the shipped generator, or persons that are fused into it.

A renderer draws a face for a key, candidate by candidate, and then paints the chosen one into the frame. It
sees the erased frame, the mask, the five points and the face's vector, and no pixel of the face itself.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.replacement import carried_parts, fusing, master_key, painting, stored_persons
from dp3_jax.replacement.background import background, with_background
from dp3_jax.replacement.fusing import Donor, FusionNetwork, Parts
from dp3_jax.replacement.generation import RETRIES, Drawn, Generator, Job, generate, is_flat
from dp3_jax.replacement.identities import Classes, IdentitySource, Rendering
from dp3_jax.replacement.painting import Fused
from dp3_jax.replacement.pose_grid import PoseGrid
from dp3_jax.replacement.stored_persons import StoredPersons
from dp3_jax.vision import blending, geometry

# Canonical px for each frame px from which on a face is put together at 128 px and then made smaller.
_SMALL = 0.9
# Canonical px inside the mask over which a fused face takes over. The network was taught to continue what is
# beside the mask; what the erased frame shows inside it is a guess, to which a face must not be corrected:
# that made pale halos round dark hair.
_FEATHER = 2.0
_NO_CORRECTION = np.zeros((1, 1, 3), np.float32)

Classify = Callable[[np.ndarray, np.ndarray], Classes]  # erased view u8[S, S, 3], mask f32[S, S, 1]


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
        self, wave: Sequence[Job], views: Sequence[np.ndarray], numbers: Sequence[Sequence[int]]
    ) -> list[list[Drawn | None]]:
        """See `generation.FaceRenderer`; all in one call of the generator."""
        made = generate(wave, views, numbers, self._generator)
        return [
            [Drawn(number, view) for number, view in zip(own, faces, strict=True)]
            for own, faces in zip(numbers, made, strict=True)
        ]

    def remember(self, job: Job, view: np.ndarray, face: Drawn) -> None:
        """See `generation.FaceRenderer`; the picture is kept as it is painted."""
        del view, face
        job.memory.drew()

    def awaits(self, job: Job) -> bool:
        """See `generation.FaceRenderer`; there is nothing to wait for."""
        del job
        return False

    def follow(self, wave: Sequence[Job], views: Sequence[np.ndarray]) -> list[Drawn | None]:
        """See `generation.FaceRenderer`; drawn anew now and then."""
        memories = [job.memory for job in wave]
        found = [
            Drawn(memory.candidate, memory.latest) if memory.rests() else None
            for memory in memories
        ]
        due = [i for i, face in enumerate(found) if face is None]
        if due:
            numbers = [[memories[i].candidate] for i in due]
            made = self.draw([wave[i] for i in due], [views[i] for i in due], numbers)
            for i, (face,) in zip(due, made, strict=True):
                if not is_flat(wave[i], face.view):
                    found[i] = face
                    memories[i].drew()
        return found

    def paint(self, erased: np.ndarray, job: Job, view: np.ndarray, face: Drawn) -> np.ndarray:
        """See `generation.FaceRenderer`."""
        if job.memory is None:
            blended = blending.blend(view, face.view, job.mask)
            return geometry.project(blended, job.alignment, job.own)
        composed = job.memory.compose(view, face.view, job.mask)
        return geometry.project(composed, job.alignment, job.own, quick=True)


def candidate_key(key: bytes, number: int) -> bytes:
    """The key of a face's candidate; that of number 0 is the face's own."""
    return key if number == 0 else master_key.derived_key(key, f"dp3 candidate {number}")


class FusedRenderer:
    """Persons of an identity source, fused into the picture. Calls may come from one thread only."""

    takes_vector = True

    def __init__(
        self,
        source: IdentitySource,
        network: FusionNetwork,
        classify: Classify = lambda view, mask: Classes(),
    ):
        """`classify` tells a person's coarse classes from the surroundings."""
        self.source, self._network, self._classify = source, network, classify
        self.identity = source.name
        self._shares = source.name == "prior"  # a bank is on the disk
        both = f"{network.fingerprint} {source.fingerprint}".encode()
        self.fingerprint = hashlib.sha256(both).hexdigest()

    @functools.cached_property
    def _grid(self) -> PoseGrid:
        return PoseGrid(StoredPersons(self.source) if self._shares else self.source)

    def warm(self, count: int) -> None:
        """Gets ready for the first face, however many there are."""
        del count
        self._network.warm()

    def close(self) -> None:
        """Lets go of what the background is still to render."""
        self._grid.close()

    def draw(
        self, wave: Sequence[Job], views: Sequence[np.ndarray], numbers: Sequence[Sequence[int]]
    ) -> list[list[Drawn | None]]:
        """See `generation.FaceRenderer`."""
        return [
            [self._draw(job, seen, n) for n in own]
            for job, seen, own in zip(wave, views, numbers, strict=True)
        ]

    def _draw(self, job: Job, seen: np.ndarray, number: int) -> Drawn | None:
        """One candidate, for the view u8[S, S, 3]."""
        view = _context(job, seen)
        classes = self._classes(job, view)
        if not self._is_there(job, classes, number):
            return None
        try:
            rendering = self._rendering(job, classes, number)
        except ValueError:  # that person shows no face in that pose
            return None
        donor = _placed(job, rendering)
        parts, share = self._parts(job, seen, view, donor)
        fused = Fused(donor, with_background(parts, share, seen), (parts, share))
        return Drawn(number, painting.composite(job, seen, fused), rendering.person, fused)

    def _classes(self, job: Job, view: np.ndarray) -> Classes:
        """Of a face's surroundings; of a track's in its first frame."""
        if job.memory is None:
            return self._classify(view, job.mask)
        if job.memory.classes is None:
            job.memory.classes = self._classify(view, job.mask)
        return Classes(*job.memory.classes)

    def _person_key(self, job: Job, number: int) -> bytes:
        """Of a candidate; those of small faces in clips are shared."""
        key = candidate_key(job.plan.key, number)
        small = job.memory is not None and job.memory.size == stored_persons.SMALL
        return stored_persons.shared_key(key) if small and self._shares else key

    def _rendering(self, job: Job, classes: Classes, number: int) -> Rendering:
        key, vector = self._person_key(job, number), job.plan.vector
        if job.memory is not None:
            vector = vector or FaceVector(0.0, 0.0)
            size, wait = job.memory.size, job.memory.wait
            return self._grid.rendering(key, classes, vector, size, wait=wait)
        pose = None if vector is None else vector.pose
        expression = None if vector is None else vector.expression
        return self.source.render(
            key, classes, pose, expression, fusing.rendering_size(job.alignment)
        )

    def awaits(self, job: Job) -> bool:
        """See `generation.FaceRenderer`; in clips in which renderings are not waited for."""
        memory = job.memory
        if memory is None or memory.wait or memory.classes is None:
            return False
        numbers = range(1 + RETRIES) if memory.candidate is None else [memory.candidate]
        keys = (self._person_key(job, number) for number in numbers)
        return any(self._grid.awaits(key, Classes(*memory.classes), memory.size) for key in keys)

    def _is_there(self, job: Job, classes: Classes, number: int) -> bool:
        """Whether a candidate can be rendered now; else it is asked for, one after the other."""
        if job.memory is None or job.memory.wait:
            return True
        key = self._person_key(job, number)
        return not self.awaits(job) and self._grid.begin(key, classes, job.memory.size)

    def _parts(
        self, job: Job, seen: np.ndarray, view: np.ndarray, donor: Donor
    ) -> tuple[Parts, np.ndarray]:
        """What the network says, and where background is; `seen` and the normalised `view` u8[S, S, 3]."""
        parts = self._network.parts(view, job.mask, donor)
        if job.exposure is not None:
            parts = parts.exposed(job.exposure)
        return parts, background(parts, donor, seen)

    def remember(self, job: Job, view: np.ndarray, face: Drawn) -> None:
        """See `generation.FaceRenderer`."""
        job.memory.said(carried_parts.said(*face.layers.said, face.layers.donor.mask, view))

    def follow(self, wave: Sequence[Job], views: Sequence[np.ndarray]) -> list[Drawn | None]:
        """See `generation.FaceRenderer`; the person in this frame's pose, the network now and then."""
        return [self._followed(job, seen) for job, seen in zip(wave, views, strict=True)]

    def _followed(self, job: Job, seen: np.ndarray) -> Drawn | None:
        memory = job.memory
        classes = Classes(*memory.classes)
        if not self._is_there(job, classes, memory.candidate):
            return None
        try:
            rendering = self._rendering(job, classes, memory.candidate)
        except ValueError:
            return None
        donor = _placed(job, rendering)
        carried = memory.moved(seen, job.mask)
        if carried is None or memory.is_due(seen, job.mask):
            both = self._parts(job, seen, _context(job, seen), donor)
            carried = memory.said(carried_parts.said(*both, donor.mask, seen, carried))
        fused = Fused(donor, carried_parts.placed(carried, donor.mask))
        view = painting.composite(job, seen, fused) if job.alignment.scale >= _SMALL else seen
        return Drawn(memory.candidate, view, rendering.person, fused)

    def paint(self, erased: np.ndarray, job: Job, view: np.ndarray, face: Drawn) -> np.ndarray:
        """See `generation.FaceRenderer`; at the size of the face."""
        if job.alignment.scale >= _SMALL:
            blended = blending.blend(view, face.view, job.mask, _NO_CORRECTION, _FEATHER)
            return geometry.project(blended, job.alignment, job.own, quick=job.memory is not None)
        if job.memory is None:
            return painting.painted(erased, job, face.layers)
        return painting.quickly_painted(erased, job, view, face.layers)


def _context(job: Job, seen: np.ndarray) -> np.ndarray:
    """u8[S, S, 3]: a view with the usual tones, and nothing under the mask."""
    view = seen if job.exposure is None else job.exposure.normalised(seen)
    return np.where(job.mask > 0, np.uint8(0), view)


def _placed(job: Job, rendering: Rendering) -> Donor:
    """The rendering where the face lies: in a photo by its five points, in a clip by its alignment alone."""
    points = job.plan.face.points
    if points is None or job.memory is not None:
        return fusing.place_donor(rendering, None, job.mask, quick=job.memory is not None)
    return fusing.place_donor(rendering, job.alignment.apply(points), job.mask)
