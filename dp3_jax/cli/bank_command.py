"""`dp3 bank`: makes and shows banks of persons for `dp3 anonymize --bank`."""

import argparse
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from dp3_jax.common.errors import UserError

_MAX_PERSONS = 10_000
_SIZE = 512  # px
# Views of a person of the prior: yaw and pitch in degrees, mouth opening in eye distances.
_VIEWS = [(yaw, 0.0, 0.02) for yaw in (0.0, -15.0, 15.0, -30.0, 30.0)]
_VIEWS += [(0.0, -14.0, 0.02), (0.0, 14.0, 0.02), (0.0, 0.0, 0.2)]
_MOUTH_WIDTH = 0.9  # eye distances, of a mouth at rest
_CELL, _COLUMNS, _MAX_SHOWN = 96, 12, 96  # px and persons of a sheet


def add_parser(commands: Any) -> None:
    """Adds `bank` to the commands of `dp3`."""
    parser = commands.add_parser(
        "bank",
        help="make or show a folder of persons that new faces are taken from",
        description="A bank holds pictures of persons, consented or synthetic, that `dp3 anonymize --bank` "
        "takes new faces from instead of the pretrained face prior.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    build = actions.add_parser(
        "build",
        help="make a bank",
        description="Make a bank of your own pictures, or of persons that the face prior draws.",
    )
    build.add_argument("bank", metavar="BANK", help="the new folder")
    source = build.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--pictures",
        metavar="FOLDER",
        help="each picture there is a person, each folder there one person's pictures",
    )
    source.add_argument(
        "--prior", type=int, metavar="N", help="N persons of the face prior, eight views each"
    )
    build.add_argument("--seed", type=int, help="of the prior's persons; default: a new master key")
    build.set_defaults(run=_build)
    show = actions.add_parser("show", help="say who is in a bank")
    show.add_argument("bank", metavar="BANK")
    show.add_argument("--sheet", metavar="FILE", help="a picture of up to 96 persons, .jpg or .png")
    show.set_defaults(run=_show)


def _build(arguments: argparse.Namespace) -> int:
    from dp3_jax.replacement import bank

    target = pathlib.Path(arguments.bank)
    if target.exists():
        raise UserError(f"{target} is there already; choose another name")
    if arguments.pictures is not None:
        if arguments.seed is not None:
            raise UserError("--seed goes with --prior; pictures are what they are")
        count, skipped = bank.build_bank(arguments.pictures, target)
    else:
        if not 1 <= arguments.prior <= _MAX_PERSONS:
            raise UserError(f"--prior takes 1 to {_MAX_PERSONS} persons, not {arguments.prior}")
        count, skipped = bank.write_bank(_rendered(arguments.prior, arguments.seed), target)
    for line in skipped:
        print(f"left out {line}", file=sys.stderr)
    print(f"{target}: {count} {'person' if count == 1 else 'persons'}")
    return 1 if skipped else 0


def _rendered(count: int, seed: int | None) -> Iterator[tuple[str, str, bytes]]:
    """(person, file name, content) of the prior's persons in their views."""
    import cv2

    from dp3_jax.models.mesh import Expression, Pose
    from dp3_jax.replacement import key_derivation
    from dp3_jax.replacement.identities import Classes
    from dp3_jax.replacement.prior_identities import PriorIdentities

    source = PriorIdentities()
    master_key = (
        key_derivation.new_master_key()
        if seed is None
        else key_derivation.master_key_from_seed(seed)
    )
    for i in range(count):
        key = key_derivation.track_key(master_key, i)
        for j, (yaw, pitch, opening) in enumerate(_VIEWS):
            mouth = Expression(opening, _MOUTH_WIDTH, 0.0)
            shown = source.render(key, Classes(), Pose(yaw, pitch, 0.0), mouth, _SIZE)
            _, content = cv2.imencode(
                ".webp", shown.image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 95]
            )
            yield f"{i:05d}", f"{j}.webp", content.tobytes()


def _show(arguments: argparse.Namespace) -> int:
    from dp3_jax.replacement import bank, identities

    persons = bank.load_bank(arguments.bank)
    views = sum(len(p.views) for p in persons)
    women = sum(p.female > 0.5 for p in persons)
    print(f"{arguments.bank}: {len(persons)} persons, {views} views")
    print(f"called women {women}, men {len(persons) - women}")
    bands = [identities.age_band(max(p.age, 0.0)) for p in persons]
    print("ages: " + ", ".join(f"{name} {bands.count(name)}" for name in identities.AGE_BANDS))
    tones = np.bincount([identities.tone_band(p.ita) for p in persons], minlength=identities.TONES)
    print("tones, dark to very light: " + " ".join(str(n) for n in tones))
    if arguments.sheet is not None:
        _write_sheet(pathlib.Path(arguments.bank), persons, pathlib.Path(arguments.sheet))
        print(f"wrote {arguments.sheet}")
    return 0


def _write_sheet(folder: pathlib.Path, persons: list, target: pathlib.Path) -> None:
    import cv2

    from dp3_jax.common import files
    from dp3_jax.replacement import bank

    if target.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise UserError(f"--sheet {target} is no .jpg or .png")
    cells = []
    for person in persons[:_MAX_SHOWN]:
        path = folder / bank.PICTURES / person.views[0].file
        try:
            image = bank.read_picture(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path}; build the bank again") from error
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = image[top : top + side, left : left + side]
        cells.append(cv2.resize(square, (_CELL, _CELL), interpolation=cv2.INTER_AREA))
    columns = min(_COLUMNS, len(cells))
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    _, content = cv2.imencode(target.suffix, np.vstack(rows)[..., ::-1])
    files.write_bytes(target, content.tobytes())
