"""Command-line options that say who the new faces are, the same for every command that makes some."""

import argparse
from typing import Any

from dp3_jax.common.choices import EXPRESSIONS, IDENTITIES
from dp3_jax.common.errors import UserError

_NAMES = ("identity", "bank", "expression", "age", "sex", "glasses", "person")


def add_identity_options(group: Any, *, expression: bool) -> None:
    """Adds them to a group of an argparse parser; `expression` says whether --expression is one of them."""
    group.add_argument(
        "--identity",
        choices=IDENTITIES,
        help="persons of the pretrained face prior, of a bank, or the small generator in the package; "
        "default: auto, the prior where it can be had",
    )
    group.add_argument("--bank", metavar="FOLDER", help="take the persons from this bank")
    if expression:
        group.add_argument(
            "--expression",
            choices=EXPRESSIONS,
            help="whether mouths are as open as the original's; default: match",
        )
    group.add_argument("--age", type=float, metavar="YEARS", help="of every new face, 3 to 80")
    group.add_argument("--sex", choices=("female", "male"), help="of every new face")
    group.add_argument(
        "--person",
        metavar="TEXT",
        help="age, sex, skin, glasses and smile of every new face in words: 'woman in her forties, "
        "glasses, smiling'; a smile or serious face goes before the original's mouth",
    )
    group.add_argument(
        "--glasses", action=argparse.BooleanOptionalAction, help="on every new face; default: none"
    )


def asks_for_identity(arguments: argparse.Namespace) -> bool:
    """Whether any of these options was given."""
    return any(getattr(arguments, name, None) is not None for name in _NAMES)


def identity_options(arguments: argparse.Namespace):
    """The `IdentityOptions` of parsed arguments.

    Raises:
      UserError: values that do not go together.
    """
    from dp3_jax.replacement.identities import Wishes
    from dp3_jax.replacement.options import IdentityOptions
    from dp3_jax.replacement.person_description import describe

    female = None if arguments.sex is None else arguments.sex == "female"
    wishes = Wishes(arguments.glasses, female, arguments.age)
    if arguments.person is not None:
        if wishes != Wishes():
            raise UserError("--person says it all; leave out --age, --sex and --glasses")
        wishes = describe(arguments.person)
    asked = {
        "source": arguments.identity,
        "bank": arguments.bank,
        "expression": getattr(arguments, "expression", None),
    }
    return IdentityOptions(**{n: v for n, v in asked.items() if v}, wishes=wishes)
