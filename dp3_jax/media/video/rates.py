"""Frames per second, from the times of the frames themselves where the header is not to be believed."""

import itertools
from collections.abc import Sequence
from fractions import Fraction

MEASURED = 32  # frames that are enough
# Times the measured rate: a stated one within is the more exact. Far below lie means over long pauses, and
# half of it has interlaced video whose packets are fields.
_AGREES = Fraction(1, 3), Fraction(3, 2)
_PAUSE = 3  # times the median from one frame to the next: more is a pause


def measured(times: Sequence[int | None], time_base: Fraction) -> Fraction | None:
    """Frames per second of frames at these times, pauses apart; None if that cannot be told.

    Args:
      times: in ticks, in any order; None for unknown ones.
      time_base: seconds per tick.
    """
    known = sorted({time for time in times if time is not None})
    steps = sorted(b - a for a, b in itertools.pairwise(known))
    if len(steps) < 2:
        return None
    usual = [step for step in steps if step <= _PAUSE * steps[len(steps) // 2]]
    return Fraction(len(usual)) / (sum(usual) * time_base)


def believed(stated: Fraction | None, counted: Fraction | None) -> Fraction | None:
    """The rate of a header, unless `measured` says otherwise: browsers write 1000 into theirs."""
    if not stated or not counted:
        return stated or counted
    agrees = _AGREES[0] <= stated / counted <= _AGREES[1]
    return stated if agrees else counted.limit_denominator(1001)
