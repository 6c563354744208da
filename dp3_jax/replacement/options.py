"""What is asked of new faces."""

import dataclasses

from dp3_jax.common.choices import EXPRESSIONS, IDENTITIES
from dp3_jax.common.errors import UserError
from dp3_jax.replacement.identities import Wishes

MIN_AGE, MAX_AGE = 3.0, 80.0  # years; what the prior draws and its faces are told apart by


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
        if self.source not in IDENTITIES:
            raise UserError(f"identity {self.source!r} is not one of {', '.join(IDENTITIES)}")
        if self.expression not in EXPRESSIONS:
            raise UserError(f"expression {self.expression!r} is not one of match, none")
        if self.source == "bank" and not self.bank:
            raise UserError("--identity bank needs --bank FOLDER (see dp3 bank)")
        if self.bank and self.source in ("prior", "builtin"):
            raise UserError(f"--bank does not go with --identity {self.source}")
        age = self.wishes.age
        if age is not None and not MIN_AGE <= age <= MAX_AGE:
            raise UserError(f"--age is {MIN_AGE:g} to {MAX_AGE:g} years, not {age:g}")
        if self.wishes != Wishes() and self.source == "builtin":
            raise UserError(
                "the builtin generator takes no wishes; leave out --age, --sex, --glasses, --person"
            )

    @property
    def wanted(self) -> str:
        """The source, with a bank that was given without more."""
        return "bank" if self.bank else self.source
