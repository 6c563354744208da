"""Anonymizing once more, as the results of an audit were made: for attacks that must.

How that was stands in the sidecars and tracks files of `dp3 anonymize`. Blurred results say nothing of what
the same attack does to new faces, nor the other way round.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.evaluation.attacks.attack import Anonymize
from dp3_jax.evaluation.audit.pairing import Pair
from dp3_jax.pipelines import sidecar
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.video import job
from dp3_jax.replacement.options import IdentityOptions


def _said(pair: Pair) -> tuple[str, str, int, IdentityOptions] | None:
    """Method, mask extent, candidates and identity of a result; None where no readable file says it."""
    if pair.is_video:
        path = job.sidecar_path(pair.anonymized)
    else:
        path = pair.anonymized.with_name(pair.anonymized.name + sidecar.SUFFIX)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, UserError):
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        settings = content["settings"]
        identity = sidecar.parse_identity(content, str(path)) or IdentityOptions()
        return settings["method"], settings["cover"], settings["candidates"], identity
    return None


def anonymizer(pairs: Sequence[Pair]) -> Anonymize | None:
    """Anonymizes a picture with a key as most results were; None where no sidecar says how.

    Raises:
      UserError: a sidecar asks for what there is not.
    """
    said = Counter(filter(None, map(_said, pairs)))
    if not said:
        return None
    method, cover, candidates, identity = said.most_common(1)[0][0]
    made = Anonymizer(method=method, cover=cover, candidates=candidates, identity=identity)

    def again(picture: np.ndarray, key: bytes) -> np.ndarray:
        return made(picture, master_key=key).frame

    return again
