"""The one exception that means "the user can fix this", and how entry points tell it."""

import sys

USER_ERROR_STATUS = 2


class UserError(Exception):
    """A mistake or a missing thing that the user can fix.

    Its text is one line that says what is wrong, where, and what to do. Entry points print it after
    "error: " and exit with status 2; every other exception is a bug and keeps its traceback.
    """


def fail(message: str) -> int:
    """Prints "error: message" as one line on standard error; returns the exit status for it."""
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    return USER_ERROR_STATUS
