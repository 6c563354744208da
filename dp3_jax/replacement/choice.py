"""Where the persons of a command come from: as asked, or the best source that this machine has."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable

from dp3_jax.common import assets
from dp3_jax.common.errors import UserError
from dp3_jax.models.person_mask import PersonMask
from dp3_jax.replacement import fusing
from dp3_jax.replacement.fusing import FusionNetwork
from dp3_jax.replacement.generation import FaceRenderer, Generator
from dp3_jax.replacement.identities import Wishes
from dp3_jax.replacement.options import IdentityOptions
from dp3_jax.replacement.renderers import BuiltinRenderer, FusedRenderer, Score

# What a face is measured and cut out with: where it comes out of one package, that is downloaded once.
_ONE_PACKAGE = "face_mesh", "iris", "person_mask"


def open_renderer(
    options: IdentityOptions,
    builtin: Callable[[], Generator],
    weights: str | os.PathLike | None = None,
    *,
    given: bool = False,
) -> tuple[FaceRenderer, str]:
    """What draws the faces of a command, and why it is not what "auto" prefers; else an empty text.

    Args:
      options: what is asked for.
      builtin: loads the generator that draws whole faces.
      weights: file that the user named: of the fusion network, or what `builtin` loads.
      given: the user handed in a generator, so "auto" means it.

    Raises:
      UserError: a named source cannot be had; "auto" takes another one instead.
    """
    wanted = options.wanted
    if weights is not None and wanted != "builtin" and fusing.is_fusion(weights):
        source = "prior" if wanted == "auto" else wanted
        return open_fused(options, source, fusing.load_fusion(weights), _scorer(weights)), ""
    given = given or weights is not None
    if wanted == "auto" and given:
        wanted = "builtin"
    if wanted in ("prior", "bank") and given:
        raise UserError(f"--weights is of the builtin generator, not of --identity {wanted}")
    if wanted == "builtin":
        return BuiltinRenderer(builtin()), ""
    try:
        return open_fused(options, wanted), ""
    except UserError as error:
        if wanted != "auto":
            raise
        if options.wishes != Wishes():
            raise UserError(
                f"--age, --sex, --glasses and --person need the prior: {error}"
            ) from error
        return BuiltinRenderer(builtin()), str(error)


def _scorer(weights: str | os.PathLike) -> Score | None:
    """What chooses among candidates, if it lies beside a refined network."""
    from dp3_jax.models import preference

    beside = preference.scorer_beside(weights)
    return preference.picture_scorer(beside) if beside.is_file() else None


def open_fused(
    options: IdentityOptions,
    wanted: str,
    network: FusionNetwork | None = None,
    score: Score | None = None,
) -> FusedRenderer:
    """The prior's or a bank's persons, fused into the photo; see `open_renderer`.

    Args:
      options: what is asked for.
      wanted: "prior" or "bank".
      network: that fuses; None for the one in the package.
      score: of candidates; None: they are compared by how they continue their surroundings.
    """
    from dp3_jax.replacement.classes import awaits_trunk, load_classifier

    if wanted != "bank" and not assets.is_cached("prior"):
        _announce("prior", "the face prior, 38 MB")
    if awaits_trunk():
        _announce("context_trunk", "MobileNetV2 for what surroundings tell, 14 MB")
    if not all(map(assets.is_cached, _ONE_PACKAGE)):
        assets.fetch_all(_ONE_PACKAGE)
    network, classifier = network or fusing.load_fusion(), load_classifier()
    _in_background(network.warm, classifier.warm)
    if wanted == "bank":
        from dp3_jax.replacement.bank import BankIdentities

        source = BankIdentities(options.bank, options.wishes)
    else:
        from dp3_jax.replacement.prior_identities import PriorIdentities

        source = PriorIdentities(wishes=options.wishes)
    return FusedRenderer(
        source,
        network,
        classifier.classify,
        classifier.fingerprint,
        score,
        smile=options.wishes.smile,
        heads=PersonMask(),
    )


def _in_background(*calls: Callable[[], None]) -> None:
    """Gets networks ready while the first photo is read and searched; Python waits for it before it ends."""

    def run() -> None:
        for call in calls:
            with contextlib.suppress(Exception):  # who needs the network will meet it again
                call()

    threading.Thread(target=run).start()


def _announce(asset: str, what: str) -> None:
    """Says on standard error what is about to be fetched, and under which licence."""
    print(f"fetching {what}, once ({assets.ASSETS[asset].licence})", file=sys.stderr)
