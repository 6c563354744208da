"""Who each live face becomes: which of a command's persons, and when another one.

The tracker gives a new number to everyone who enters, also to one who was lost for a while. In a call that
would be a new face each time somebody looks away for long. So persons have numbers of their own here: who
enters becomes the person who was last seen nearest to that place and is not in the picture now, and only
where there is none a new one. Nothing but the places of faces decides it.
"""

import math
import threading
from collections.abc import Sequence

from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.tracks import Observation, Track

_SAME_PLACE = 1.0  # longer sides of a box within which a face that was just lost is found again
_MAX_TRACKS = 10_000  # remembered, when each has a person of its own


class Persons:
    """Numbers of persons, from 1, for the tracks of one frame after another."""

    def __init__(self, *, each_entering: bool = False):
        """Knows nobody.

        Args:
          each_entering: whether every track becomes a person of its own.
        """
        self._each_entering = each_entering
        self._renewing = threading.Event()
        self._of: dict[int, int] = {}  # persons by track
        self._last: dict[int, Observation] = {}  # of each person
        self._count = 0
        self.renewed = 0  # times

    def renew(self) -> None:
        """From the next frame on all faces become persons who were not shown before; from any thread."""
        self._renewing.set()

    @property
    def renewing(self) -> bool:
        """Whether new persons were asked for and nobody has been assigned one since."""
        return self._renewing.is_set()

    def assign(self, seen: Sequence[tuple[Track, Observation]]) -> list[int]:
        """The persons of the tracks of a frame, each of another one.

        Faces that are not surely any (with a method of their own) become nobody: numbers below 0.
        """
        if self._renewing.is_set():
            self._renewing.clear()
            self.renewed += 1
            self._of, self._last = {}, {}
        sure = [(track.number, one) for track, one in seen if track.method is None]
        if not self._each_entering:
            self._release({number for number, _ in sure})
        for number, one in sure:
            if number not in self._of:
                self._of[number] = self._found(one, dict(sure))
        for number, one in sure:
            self._last[self._of[number]] = one
        if self._each_entering:
            self._forget()
        return [self._of[t.number] if t.method is None else -t.number for t, _ in seen]

    def _release(self, present: set[int]) -> None:
        """Frees the persons of tracks that are not in the frame."""
        self._of = {track: person for track, person in self._of.items() if track in present}

    def _found(self, entering: Observation, sure: dict[int, Observation]) -> int:
        """A person for a face that enters."""
        if not self._each_entering:
            free = self._last.keys() - set(self._of.values())
            if free:
                return min(free, key=lambda person: (_away(self._last[person], entering), person))
            for track, person in self._of.items():
                # Carried on where it was last seen: it is rather this one, who moved too fast.
                lost = (
                    track in sure
                    and sure[track].source == FaceSource.INTERPOLATED
                    and person in self._last
                )
                if lost and _away(self._last[person], entering) <= _SAME_PLACE:
                    self._of[track] = self._new()
                    return person
        return self._new()

    def _new(self) -> int:
        self._count += 1
        return self._count

    def _forget(self) -> None:
        """Lets go of those who entered long ago."""
        while len(self._of) > _MAX_TRACKS:
            self._last.pop(self._of.pop(next(iter(self._of))), None)


def _away(one: Observation, other: Observation) -> float:
    """How far apart two faces are, in longer sides of the first one's box."""
    (x, y, w, h), (u, v, a, b) = one.box, other.box
    return math.hypot(u + a / 2 - x - w / 2, v + b / 2 - y - h / 2) / max(w, h)
