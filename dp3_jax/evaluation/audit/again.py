"""Anonymizing once more, as the results of an audit were made: for attacks that must.

How that was stands in the sidecars and tracks files of `dp3 anonymize`. Blurred results say nothing of what
the same attack does to new faces, nor the other way round.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.evaluation.attacks.attack import Anonymize
from dp3_jax.evaluation.audit.pairing import Pair
from dp3_jax.pipelines import sidecar
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.video import job
from dp3_jax.replacement.options import IdentityOptions


class Way(NamedTuple):
    """How a result was made.

    Attributes:
      method, cover, candidates: as of `Anonymizer`.
      identity: where new faces come from.
    """

    method: str
    cover: str
    candidates: int
    identity: IdentityOptions


def _said(pair: Pair) -> Way | None:
    """How a result was made; None where no readable file says it."""
    if pair.is_video:
        path = job.sidecar_path(pair.anonymized)
    else:
        path = pair.anonymized.with_name(pair.anonymized.name + sidecar.SUFFIX)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, UserError):
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        settings = content["settings"]
        identity = sidecar.parse_identity(content, str(path)) or IdentityOptions()
        return Way(settings["method"], settings["cover"], settings["candidates"], identity)
    return None


def usual_way(pairs: Sequence[Pair]) -> Way | None:
    """How most results were made; None where no sidecar says it."""
    said = Counter(filter(None, map(_said, pairs)))
    return said.most_common(1)[0][0] if said else None


def anonymizer(way: Way) -> Anonymize:
    """Anonymizes a picture with a key in some way; raises UserError where it asks for what there is not."""
    made = Anonymizer(**way._asdict())

    def again(picture: np.ndarray, key: bytes) -> np.ndarray:
        return made(picture, master_key=key).frame

    return again
