"""What entry points share: one line for a user's mistake, and a log without other libraries' chatter."""

import logging as standard_logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging

from dp3_jax.common.errors import UserError, fail


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses absl flags, config overrides included; a wrong one ends the program with one line."""
    try:
        rest = flags.FLAGS(list(argv))
        # A config file that cannot be loaded says so only when the config is first looked into.
        config: Any = flags.FLAGS["config"].value
        _ = config.is_locked
        return rest
    except Exception as error:  # whatever: a config file is the user's program
        # ml_collections puts the traceback of a failing config file into the message; its last line
        # says what is wrong.
        message = str(error).strip()
        if "Traceback" in message:
            message = message.splitlines()[-1].removeprefix("ValueError: ")
        if error.args and isinstance(error.args[0], KeyError):
            error = error.args[0]
        if isinstance(error, KeyError):  # of an override; the message may be little but the key
            message = str(error.args[0])
            if message.startswith("'"):
                message = "in the config there is no " + message.replace("\n", "; ")
        sys.exit(fail(f"{message}; see --help"))


def _is_ours_or_a_warning(record: standard_logging.LogRecord) -> bool:
    """Whether a log record is for the user's eyes.

    Orbax reports each of its phases at INFO, warns that a single item has no metadata of a whole, and
    prints the traceback of a failed write that it raises as well.
    """
    if "dp3_jax" in record.pathname:
        return True
    known = ("Metadata file does not exist", "_SignalingThread.run() raised")
    return record.levelno > standard_logging.INFO and not any(
        text in record.getMessage() for text in known
    )


def run_command(main: Callable[[list[str]], int], argv: list[str]) -> int:
    """Calls `main` with a quiet log; returns its exit status, or that of the user's mistake it raised."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow only decodes and resizes here; its oneDNN kernels bring nothing but a notice of themselves.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    logging.set_verbosity(logging.INFO)
    logging.use_absl_handler()
    handler = logging.get_absl_handler()
    handler.setFormatter(standard_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(_is_ours_or_a_warning)
    try:
        return main(argv)
    except UserError as error:
        # The writers that orbax leaves behind a checkpoint that failed complain when they are collected.
        sys.unraisablehook = lambda _: None
        return fail(str(error), error.more)
