"""The one exception that means "the user can fix this", and how entry points tell it."""

import sys
from collections.abc import Sequence

USER_ERROR_STATUS = 2


class UserError(Exception):
    """A mistake or a missing thing that the user can fix.

    Its text is one line that says what is wrong, where, and what to do. Entry points print it after
    "error: " and exit with status 2; every other exception is a bug and keeps its traceback.

    Attributes:
      more: lines to print below that one, such as commands to copy; most have none.
    """

    more: Sequence[str] = ()


def fail(message: str, more: Sequence[str] = ()) -> int:
    """Prints "error: message" as one line on standard error, `more` below it; returns the exit status."""
    print("\n".join(["error: " + " ".join(message.split()), *more]), file=sys.stderr, flush=True)
    return USER_ERROR_STATUS
