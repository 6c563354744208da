"""Times that rise: clocks that start again within a file, and times that are given twice or not at all.

Recordings that were written one behind the other (`cat a.ts b.ts`) begin at the same time, each. The second
is put behind the first, in pictures, sound and subtitles by the same amount, so that they stay together.
"""

from collections.abc import Sequence
from fractions import Fraction

import av

_BACK = Fraction(1, 2)  # s: a time so much before the last one is of another recording, not a slip
_AHEAD = Fraction(
    10
)  # s: so much after it too, in formats whose times are of a broadcast; as ffmpeg has it
_STEPS = 3  # of the usual length, by which a slip may go back
_MARKED = 8  # packets before a restart that FFmpeg may have marked for it
_TOGETHER = Fraction(1)  # s by which the streams of a recording may end apart
BROADCAST = ("mpegts", "mpeg")  # FFmpeg's names of formats whose times may begin anywhere


def restarted(count: int) -> str:
    """A remark on a file whose clock starts again so many times."""
    again = "again" if count == 1 else f"again {count} times"
    return f"its clock starts {again}: the recordings in it were put one behind the other"


class Restarts:
    """Finds where the clock of one stream starts again, and puts what follows behind what came before.

    Attributes:
      jumps: seconds added to all times after each restart, in place of those before it.
    """

    def __init__(
        self,
        time_base: Fraction,
        container: str,
        pictures: Sequence[Fraction] = (),
        sparse: bool = False,
    ):
        """Begins a stream.

        Args:
          time_base: seconds per tick.
          container: FFmpeg's name of the format.
          pictures: `jumps` of the video stream, to be followed where they fit; may grow meanwhile.
          sparse: nothing may come for long, as of subtitles.
        """
        self.jumps: list[Fraction] = []
        self._time_base = time_base
        self._ahead = not sparse and container.split(",", maxsplit=1)[0] in BROADCAST
        self._sparse = sparse
        self._pictures = pictures

    def moved(self, time: int, last: int, expected: int) -> int:
        """A time of the stream, in ticks, after `last`, where about `expected` should come."""
        offset = round((self.jumps[-1] if self.jumps else 0) / self._time_base)
        apart = (time + offset - last) * self._time_base
        usual = _STEPS * (expected - last) * self._time_base  # of time lapse it may be long
        if apart >= -max(_BACK, usual) and not (self._ahead and apart > max(_AHEAD, usual)):
            return time + offset
        jump = (expected - time) * self._time_base
        if len(self.jumps) < len(self._pictures):
            of_pictures = self._pictures[len(self.jumps)]
            if self._sparse or abs(of_pictures - jump) <= _TOGETHER:
                jump = of_pictures
        self.jumps.append(jump)
        return time + round(jump / self._time_base)


class CorruptPackets:
    """Counts the packets of one stream that could not be read whole.

    Where one recording ends and another begins the counters of MPEG-TS do not fit, for which FFmpeg marks
    one of the last packets; but it is whole.

    Attributes:
      count: of them.
    """

    def __init__(self):
        self.count = 0
        self._time: Fraction | None = None
        self._since = _MARKED  # packets since one was marked

    def add(self, packet: av.Packet) -> None:
        """The next packet."""
        if packet.dts is not None:
            time = packet.dts * packet.time_base
            restarts = self._time is not None and not -_BACK <= time - self._time <= _AHEAD
            self.count -= restarts and self._since < _MARKED
            self._time = time
        self._since = 0 if packet.is_corrupt else self._since + 1
        self.count += packet.is_corrupt


class PacketTimes:
    """The times of the packets of one stream of sound or subtitles.

    Attributes:
      repaired: how many had none, or one that was not above the one before.
    """

    def __init__(
        self,
        time_base: Fraction,
        container: str,
        pictures: Sequence[Fraction] = (),
        sparse: bool = False,
    ):
        """As of `Restarts`; where packets are `sparse`, several may have one time, and overlap."""
        self.repaired = 0
        self.restarts = Restarts(time_base, container, pictures, sparse)
        self._together = sparse
        self._last: int | None = None
        self._end = 0
        self._begins = False  # the clock has just started again

    def fit(self, pts: int | None, dts: int | None, duration: int) -> tuple[int, int] | None:
        """The next packet's times of showing and decoding, in ticks; decoding rises strictly.

        A time that does not rise becomes the end of the packet before. None: the packet is of a recording
        whose beginning lies under the end of the one before it, so it is to be left out.
        """
        given = dts if dts is not None else pts
        if self._last is None:
            time = given or 0
        else:
            time = self._after(given)
            if time is None:
                return None
        self._last, self._end = time, time + (0 if self._together else max(duration, 0))
        ahead = pts - dts if pts is not None and dts is not None else 0
        return time + ahead, time

    def _after(self, given: int | None) -> int | None:
        before, time = len(self.restarts.jumps), given
        if given is not None:
            time = self.restarts.moved(given, self._last, self._end)
        self._begins = self._begins or len(self.restarts.jumps) > before
        # Half a packet under the end of the recording before is near enough.
        least = (self._last + self._end) // 2 if self._begins else self._last
        if time is not None and (time > least or (time == least and self._together)):
            self._begins = False
            return time
        if self._begins and not self._together:
            return None
        self.repaired += 1
        return max(self._last + (not self._together), self._end)
