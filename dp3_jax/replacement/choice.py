"""Where the persons of a command come from: as asked, or the best source that this machine has."""

import dataclasses
import sys
from collections.abc import Callable

from dp3_jax import assets
from dp3_jax.anonymization.generation import FaceRenderer, Generator
from dp3_jax.compilations import prepare_jax
from dp3_jax.errors import UserError
from dp3_jax.replacement import fusing
from dp3_jax.replacement.identities import Wishes
from dp3_jax.replacement.renderers import BuiltinRenderer, FusedRenderer

SOURCES = ("auto", "prior", "bank", "builtin")
EXPRESSIONS = ("match", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class IdentityOptions:
    """What is asked of new faces; what a sidecar records and restores.

    Attributes:
      source: "prior", persons of the pretrained face prior; "bank", of a folder; "builtin", faces of the
        generator in the package; "auto", the prior where it can be had, else builtin.
      bank: the folder, with "bank".
      expression: "match", the mouth is as open and wide as the original's; "none", the person's own.
      wishes: of the persons.

    Raises:
      UserError: values that do not go together.
    """

    source: str = "auto"
    bank: str | None = None
    expression: str = "match"
    wishes: Wishes = dataclasses.field(default_factory=Wishes)

    def __post_init__(self):
        if self.source not in SOURCES:
            raise UserError(f"identity {self.source!r} is not one of {', '.join(SOURCES)}")
        if self.expression not in EXPRESSIONS:
            raise UserError(f"expression {self.expression!r} is not one of match, none")
        if self.source == "bank" and not self.bank:
            raise UserError("--identity bank needs --bank FOLDER (see dp3 bank)")
        if self.bank and self.source in ("prior", "builtin"):
            raise UserError(f"--bank does not go with --identity {self.source}")
        if self.wishes != Wishes() and self.source == "builtin":
            raise UserError(
                "the builtin generator takes no wishes; leave out --age, --sex, --glasses"
            )

    @property
    def wanted(self) -> str:
        """The source, with a bank that was given without more."""
        return "bank" if self.bank else self.source


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

    prepare_jax()
    network, classify = fusing.load_fusion(), ContextClassifier().classify
    if wanted == "bank":
        from dp3_jax.replacement.bank import BankIdentities

        return FusedRenderer(BankIdentities(options.bank, options.wishes), network, classify)
    from dp3_jax.replacement.prior_identities import PriorIdentities

    _announce()
    return FusedRenderer(PriorIdentities(wishes=options.wishes), network, classify)


def _announce() -> None:
    """Says on standard error what is about to be fetched, and under which licence."""
    if not assets.is_cached("prior"):
        licence = assets.ASSETS["prior"].licence
        print(f"fetching the face prior, 38 MB, once ({licence})", file=sys.stderr)
