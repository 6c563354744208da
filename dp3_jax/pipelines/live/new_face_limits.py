"""Which live faces get new ones where there is no time for all: the largest, and steadily the same."""

from collections.abc import Mapping

from dp3_jax.detection.tracks import Observation
from dp3_jax.pipelines.live.quality_controller import Level

_LARGER = 1.15  # times as large as others is a face that is no longer too small
_KEPT = 1.4  # times as large as a face that has a new one is the face that gets it instead


class NewFaceLimits:
    """Chooses in one frame after another; the faces that are not chosen are blurred."""

    def __init__(self):
        """Has chosen nobody yet."""
        self._chosen: set[int] = set()
        self._blurred: frozenset[int] = frozenset()

    def blurred(self, seen: Mapping[int, Observation], level: Level) -> frozenset[int]:
        """The tracks of a frame that are blurred for want of time.

        Args:
          seen: by number of track, those that would get new faces.
          level: says how small and how many these may be.
        """
        sizes = {number: max(one.box[2:]) for number, one in seen.items()}

        def fits(number: int) -> bool:
            limit = level.blurred_below * (_LARGER if number in self._blurred else 1.0)
            return sizes[number] >= limit

        def rank(number: int) -> tuple[float, int]:
            return -sizes[number] * (_KEPT if number in self._chosen else 1.0), number

        self._chosen = set(sorted(filter(fits, sizes), key=rank)[: level.most_new])
        self._blurred = frozenset(sizes.keys() - self._chosen)
        return self._blurred
