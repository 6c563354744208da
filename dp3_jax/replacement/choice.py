"""Where the persons of a command come from: as asked, or the best source that this machine has."""

import contextlib
import sys
import threading
from collections.abc import Callable

from dp3_jax.common import assets
from dp3_jax.common.errors import UserError
from dp3_jax.replacement import fusing
from dp3_jax.replacement.generation import FaceRenderer, Generator
from dp3_jax.replacement.identities import Wishes
from dp3_jax.replacement.options import IdentityOptions
from dp3_jax.replacement.renderers import BuiltinRenderer, FusedRenderer


def open_renderer(
    options: IdentityOptions, builtin: Callable[[], Generator], weights_given: bool = False
) -> tuple[FaceRenderer, str]:
    """What draws the faces of a command, and why it is not what "auto" prefers; else an empty text.

    Args:
      options: what is asked for.
      builtin: loads the generator that draws whole faces.
      weights_given: the user named that generator, so "auto" means it.

    Raises:
      UserError: a named source cannot be had; "auto" takes another one instead.
    """
    wanted = options.wanted
    if wanted == "auto" and weights_given:
        wanted = "builtin"
    if wanted in ("prior", "bank") and weights_given:
        raise UserError(f"--weights is of the builtin generator, not of --identity {wanted}")
    if wanted == "builtin":
        return BuiltinRenderer(builtin()), ""
    try:
        return _fused(options, wanted), ""
    except UserError as error:
        if wanted != "auto":
            raise
        if options.wishes != Wishes():
            raise UserError(f"--age, --sex and --glasses need the prior: {error}") from error
        return BuiltinRenderer(builtin()), str(error)


def _fused(options: IdentityOptions, wanted: str) -> FusedRenderer:
    from dp3_jax.replacement.classes import ContextClassifier

    network, classifier = fusing.load_fusion(), ContextClassifier()
    _in_background(network.warm, classifier.warm)
    if wanted == "bank":
        from dp3_jax.replacement.bank import BankIdentities

        return FusedRenderer(
            BankIdentities(options.bank, options.wishes), network, classifier.classify
        )
    from dp3_jax.replacement.prior_identities import PriorIdentities

    _announce()
    return FusedRenderer(PriorIdentities(wishes=options.wishes), network, classifier.classify)


def _in_background(*calls: Callable[[], None]) -> None:
    """Gets networks ready while the first photo is read and searched; Python waits for it before it ends."""

    def run() -> None:
        for call in calls:
            with contextlib.suppress(Exception):  # who needs the network will meet it again
                call()

    threading.Thread(target=run).start()


def _announce() -> None:
    """Says on standard error what is about to be fetched, and under which licence."""
    if not assets.is_cached("prior"):
        licence = assets.ASSETS["prior"].licence
        print(f"fetching the face prior, 38 MB, once ({licence})", file=sys.stderr)
