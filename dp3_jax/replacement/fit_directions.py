"""Fits the table of `dp3_jax.replacement.directions` on a survey, and draws what each direction does.

python -m dp3_jax.replacement.survey runs/survey.npz --count 6000
python -m dp3_jax.replacement.fit_directions runs/survey.npz --picture docs/directions.jpg
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Mapping

import cv2
import numpy as np

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.replacement import directions
from dp3_jax.replacement.attributes import NAMES
from dp3_jax.replacement.directions import Directions

# Numbers of surveyed faces that were looked at: with and without glasses, or something on the head.
_LABELS = pathlib.Path(__file__).parent / "labels.json"
_FITTED = (
    "yaw",
    "pitch",
    "mouth_opening",
    "mouth_width",
    "gaze_x",
    "age",
    "female",
    "ita",
    "light",
    "fringe",
    "hair_lightness",
)
# What is drawn: how far to each side a direction is followed.
RENDERED = {
    "yaw": (-30.0, 30.0),
    "pitch": (-15.0, 15.0),
    "mouth_opening": (0.0, 0.3),
    "mouth_width": (-0.15, 0.15),
    "gaze_x": (-0.1, 0.1),
    "age": (-20.0, 30.0),
    "female": (-4.0, 4.0),
    "ita": (-70.0, 30.0),
    "light": (-25.0, 25.0),
    "fringe": (-15.0, 25.0),
    "hair_lightness": (-25.0, 40.0),
    "glasses": (0.0, 1.0),
    "hat": (0.0, 1.0),
}


def attribute_values(stored: Mapping[str, np.ndarray], labels: Mapping) -> dict[str, np.ndarray]:
    """What is fitted, f64[N] by name, from a survey's columns and the labels; NaN where unknown."""
    values = {name: np.asarray(stored[name], np.float64) for name in _FITTED}
    values["female"] = directions.logit(values["female"])
    for name, numbers in labels.items():
        column = np.full(len(values["female"]), np.nan)
        for value, which in enumerate((numbers["without"], numbers["with"])):
            column[[i for i in which if i < len(column)]] = value
        values[name] = column
    return values


def report(table: Directions) -> str:
    """The table's quality, one line for each attribute."""
    lines = [f"{'attribute':16} {'R^2 held out':>12} {'spread':>8}  applied to rows"]
    for name, r2, spread in zip(table.names, table.r2, table.spread, strict=True):
        lines.append(f"{name:16} {r2:12.2f} {spread:8.3g}  {directions.APPLIED[name]}")
    return "\n".join(lines)


def picture(table: Directions, people: np.ndarray, render, side: int = 112) -> np.ndarray:
    """u8[h, w, 3]: a row for each direction; for each of f32[P, 512] people five steps along it.

    Args:
      render: f32[8, 512] -> u8[S, S, 3].
    """
    rows = []
    for name, (low, high) in RENDERED.items():
        steps = np.linspace(low, high, 5)
        row = [render(table.move(w, {name: step})) for w in people for step in steps]
        small = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in row]
        strip = np.hstack(small)
        cv2.putText(strip, name, (3, side - 5), 0, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
        rows.append(strip)
    return np.vstack(rows)


def _draw(table: Directions, path: pathlib.Path) -> None:
    from dp3_jax.replacement.identities import Classes
    from dp3_jax.replacement.prior_identities import PriorIdentities

    source = PriorIdentities()
    people = np.concatenate([source.person(bytes([i]) * 32, Classes()).rows[-1:] for i in (1, 2)])
    image = picture(table, people, lambda rows: source.picture(rows, 256))
    good, content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not good:
        raise UserError(f"OpenCV cannot encode {path}")
    files.write_bytes(path, content.tobytes())


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m dp3_jax.replacement.fit_directions", description=__doc__
    )
    parser.add_argument("survey", type=pathlib.Path, help="what dp3_jax.replacement.survey wrote")
    parser.add_argument("--picture", type=pathlib.Path, help="where to draw the directions")
    given = parser.parse_args(arguments)
    try:
        try:
            stored = np.load(given.survey)
            columns = {name: stored[name] for name in ("mean", "w", *NAMES)}
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{given.survey} is no survey of faces; make one") from error
        values = attribute_values(columns, json.loads(_LABELS.read_text()))
        table = directions.fit(columns["w"], values, columns["mean"])
        directions.save_directions(table)
        print(f"{len(columns['w'])} faces\n{report(table)}")
        if given.picture:
            directions.load_directions.cache_clear()
            _draw(table, given.picture)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
