"""The one exception that means "the user can fix this"."""


class UserError(Exception):
    """A mistake or a missing thing that the user can fix.

    Its text is one line that says what is wrong, where, and what to do. Entry points print it after
    "error: " and exit with status 2; every other exception is a bug and keeps its traceback.
    """
