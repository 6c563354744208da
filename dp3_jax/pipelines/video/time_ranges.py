"""Spans of time in which faces are hidden: --spans 0:05-0:10.5,1:02:00-"""

import dataclasses
import math
import re

from dp3_jax.common.errors import UserError

_TIME = re.compile(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d+)?)")
_FORM = "time ranges are START-END in seconds or [H:]MM:SS, e.g. 5-9.5,1:02:00-; no END means to the end"


@dataclasses.dataclass(frozen=True)
class TimeRange:
    """From `start` up to and without `end`, in seconds from the first frame."""

    start: float
    end: float


def _seconds(text: str, whole: str) -> float:
    match = _TIME.fullmatch(text.strip())
    if match is None or (match[2] and float(match[3]) >= 60):
        raise UserError(f"--spans {whole}: {text.strip()!r} is no time; {_FORM}")
    hours, minutes, seconds = match.groups()
    return 3600.0 * int(hours or 0) + 60.0 * int(minutes or 0) + float(seconds)


def parse_time_ranges(text: str) -> tuple[TimeRange, ...]:
    """The spans in a text such as "0:05-0:10.5,30-".

    Raises:
      UserError: it is not of this form, or a span ends before it starts.
    """
    masked_times = []
    for part in text.split(","):
        start, dash, end = part.strip().partition("-")
        if not dash:
            raise UserError(f"--spans {text}: {part.strip()!r} has no '-'; {_FORM}")
        begins = _seconds(start, text) if start.strip() else 0.0
        ends = _seconds(end, text) if end.strip() else math.inf
        if ends <= begins:
            raise UserError(f"--spans {text}: {part.strip()} ends before it starts")
        masked_times.append(TimeRange(begins, ends))
    return tuple(masked_times)


def masked_at(masked_times: tuple[TimeRange, ...], seconds: float) -> bool:
    """Whether faces are hidden at this time; without any span always."""
    return not masked_times or any(
        time_range.start <= seconds < time_range.end for time_range in masked_times
    )
