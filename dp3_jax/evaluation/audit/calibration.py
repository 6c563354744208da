"""At which cosine two faces count as one person's: from scores of impostors, the package's own or given ones.

impostors.json holds numbers alone, no face and no embedding of anybody; it says how it was made.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dp3_jax.metrics import identification

FILE = pathlib.Path(__file__).with_name("impostors.json")
FORMAT = "dp3 impostors 1"
FARS = (1e-2, 1e-3)
MIN_PAIRS = round(1 / FARS[1])  # of impostors, that the lower rate can be told


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Thresholds, and whose scores they come from.

    Attributes:
      by_far: {false accept rate of FARS: {verifier: least cosine of one person}}.
      about: one sentence on where they come from.
      is_given: whether the impostors were given, so that these thresholds are to be used whatever the faces
        of an audit would say themselves.
    """

    by_far: Mapping[float, Mapping[str, float]]
    about: str
    is_given: bool = False


@functools.cache
def impostors() -> Mapping[str, Any]:
    """The content of impostors.json."""
    return json.loads(FILE.read_text())


def brought() -> Calibration:
    """Of the impostors that the package brings."""
    told = impostors()
    by_far = {
        far: {
            name: entry["at_false_accept_rate"][f"{far:g}"]["threshold"]
            for name, entry in told["verifiers"].items()
        }
        for far in FARS
    }
    about = (
        f"Thresholds let one in a hundred of {told['pairs']:,} pairs of strangers pass "
        f"({told['people']} people of CelebA, of whom nothing here was trained)."
    )
    return Calibration(by_far, about)


def of_embeddings(
    rows: Mapping[str, np.ndarray], people: np.ndarray, where: str
) -> Calibration | None:
    """Of given impostors; None where there are fewer than MIN_PAIRS pairs of two people.

    Args:
      rows: by verifier unit rows f32[n, d] of faces.
      people: i[n], whose they are.
      where: what holds their photos, for reports.
    """
    different = np.triu(np.asarray(people)[:, None] != people, 1)
    pairs = int(different.sum())
    if pairs < MIN_PAIRS:
        return None
    by_far = {
        far: {
            name: identification.threshold_at_far((one @ one.T)[different], far)
            for name, one in rows.items()
        }
        for far in FARS
    }
    about = (
        f"Thresholds let one in a hundred of {pairs:,} pairs of strangers pass ({len(np.unique(people))} "
        f"people whose photos lie in {where})."
    )
    return Calibration(by_far, about, is_given=True)
