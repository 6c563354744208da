"""At which cosine two faces count as one person's: from scores of strangers that the package brings.

impostors.json holds numbers alone, no face and no embedding of anybody; it says how it was made.
"""

import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

FILE = pathlib.Path(__file__).with_name("impostors.json")
FORMAT = "dp3 impostors 1"
FARS = (1e-2, 1e-3)


@functools.cache
def impostors() -> Mapping[str, Any]:
    """The content of impostors.json."""
    return json.loads(FILE.read_text())


def thresholds(far: float = FARS[0]) -> dict[str, float]:
    """By verifier the least cosine of one person: a share `far`, one of FARS, of strangers reaches it."""
    return {
        name: entry["at_false_accept_rate"][f"{far:g}"]["threshold"]
        for name, entry in impostors()["verifiers"].items()
    }


def about() -> str:
    """One sentence on where the thresholds come from."""
    told = impostors()
    return (
        f"Thresholds let one in a hundred of {told['pairs']:,} pairs of strangers pass "
        f"({told['people']} people of CelebA, of whom nothing here was trained)."
    )
