"""Fits what a candidate's rendering will show (weights/forecasts.safetensors).

  python -m dp3_jax.replacement.fit_forecasts runs/candidates.npz --keys 700

renders candidates of all classes and measures them, as the choice of a person does. Goes on where it was
interrupted; about .2 s a candidate on two idle cores.
"""

import argparse
import hashlib
import itertools
import json
import os
import pathlib
import sys

import numpy as np

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.replacement import forecasts, survey_file
from dp3_jax.replacement.directions import load_directions
from dp3_jax.replacement.identities import AGE_BANDS, HAIR_BANDS, TONES, Classes

# One after the other; half of them ask for no hair.
CLASSES = tuple(
    Classes(female, age, tone, hair)
    for hair in (None, None, None, *HAIR_BANDS)
    for female in (True, False)
    for age in AGE_BANDS
    for tone in range(TONES)
)
_OF_KEY = 5  # candidates
_BLOCK = 20  # keys between two savings
_COLUMNS = "key", "away", "amounts", "measures"


def survey(path: pathlib.Path, count: int) -> dict[str, np.ndarray]:
    """Columns of the candidates of `count` keys, saved to .npz as it goes.

    key i64[n], away f32[n, 512], amounts f32[n, m] and measures f32[n, k], as `forecasts.fit` asks for them.
    """
    from dp3_jax.replacement.prior_identities import PriorIdentities

    found = survey_file.read(path, _COLUMNS, "candidates")
    first = int(max(found["key"])) + 1 if found["key"] else 0
    source = PriorIdentities() if first < count else None
    for number in range(first, count):
        key = hashlib.sha256(f"forecast{number}".encode()).digest()
        tried = source.tried(key, CLASSES[number % len(CLASSES)])
        for away, amounts, own in itertools.islice(tried, _OF_KEY):
            if own is None:
                continue
            moved = [amounts.get(name, 0.0) for name in forecasts.MOVES]
            shown = [forecasts.scaled(name, own[name]) for name in forecasts.MEASURES]
            for name, value in zip(found, (number, away, moved, shown), strict=True):
                found[name].append(np.float32(value) if name != "key" else value)
        if number % _BLOCK == _BLOCK - 1 or number == count - 1:
            survey_file.write(path, found)
            print(f"{number + 1} of {count} keys", flush=True)
    return {name: np.array(values) for name, values in found.items()}


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m dp3_jax.replacement.fit_forecasts", description=__doc__
    )
    parser.add_argument("survey", type=pathlib.Path)
    parser.add_argument("--keys", type=int, default=700, help="of which candidates are rendered")
    parser.add_argument("--out", type=pathlib.Path, default=forecasts.TABLE)
    given = parser.parse_args(arguments)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from safetensors.numpy import save

    try:
        seen = survey(given.survey, given.keys)
    except UserError as error:
        sys.exit(f"error: {error}")
    table, held_out = forecasts.fit(
        *(seen[name].astype(np.float64) for name in ("away", "amounts", "measures")),
        seen["key"],
        load_directions().regression,
    )
    arrays = {k: np.ascontiguousarray(v, np.float16) for k, v in table._asdict().items()}
    names = {"names": json.dumps([forecasts.MEASURES, forecasts.MOVES, list(forecasts.BETTERED)])}
    files.write_bytes(given.out, save(arrays, names))
    unknown = ((seen["measures"] - held_out) ** 2).mean(0) / seen["measures"].var(0)
    for name, share in zip(forecasts.MEASURES, 1 - unknown, strict=True):
        print(f"{name:16} R^2 held out {share:5.2f}")
    print(f"{given.out}: from {len(held_out)} candidates of {len(set(seen['key']))} keys")


if __name__ == "__main__":
    main()
