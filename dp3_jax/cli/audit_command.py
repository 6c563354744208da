"""The command `dp3 audit`: its options, the report's files and the exit status. See docs/cli/audit.md."""

import argparse
import pathlib
import sys
from typing import Any

from dp3_jax.common.errors import UserError

REPORT = "report"
PAGE, DATA = "audit.html", "audit.json"


def add_parser(commands: Any) -> None:
    """Adds `audit` to the commands of `dp3`."""
    parser = commands.add_parser(
        "audit",
        help="is anybody still seen or recognised in anonymized photos and videos?",
        description="Compare originals with what was made of them, by dp3 or any other tool: faces that "
        "still show or were changed too little, and people whom three face verifiers or trained attackers "
        "recognise. Writes audit.html and audit.json; an interrupted audit goes on with the same command.",
        epilog="Exit status: 0 nothing found; 1 a file was skipped; 2 a mistake in the call; 3 a face "
        "shows, or somebody is recognised above the floor; 4 it could not be judged: fewer than 30 faces, "
        "or the verifiers do not know the originals either.",
    )
    add = parser.add_argument
    add("originals", metavar="ORIGINALS", help="photo, video, or folder with all below it")
    add(
        "anonymized",
        metavar="ANONYMIZED",
        help="its result: a file, or a folder with the same names in it, or with NAME_anonymized.EXT",
    )
    add(
        "--people",
        metavar="FILE|folders",
        help="who is who: CSV with the columns file,person, or the word folders where each original lies "
        "in a folder for its person",
    )
    add(
        "-o",
        "--output",
        default=REPORT,
        metavar="FOLDER",
        help="where the report goes; default: %(default)s",
    )
    add(
        "--attacks",
        metavar="NAME,...",
        help="further attacks, some of which train for minutes: all, or names that a wrong one lists",
    )
    add(
        "--min-confidence",
        type=float,
        default=0.5,
        metavar="P",
        help="of a detection; default: 0.5",
    )
    add(
        "--impostors",
        metavar="FOLDER",
        help="photos of people who are in no original (46 or more; several of one person in a folder): what "
        "counts as one person is set by them; default: the scores of 400 people of CelebA that dp3 brings",
    )
    add("--seed", type=int, default=0, help="of what attacks draw; default: 0")
    add("--json", action="store_true", help="print audit.json instead of the table")
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def _check_report(folder: pathlib.Path) -> None:
    """Raises UserError where the report would replace something else, or cannot be written."""
    from dp3_jax.common import files
    from dp3_jax.evaluation.audit.run import FORMAT

    if folder.exists() and not folder.is_dir():
        raise UserError(f"-o {folder} is a file; name a folder")
    data, page = folder / DATA, folder / PAGE
    if data.exists() and not files.begins_with(data, FORMAT):
        raise UserError(f"{data} is not an audit of dp3; choose another -o")
    if page.exists() and not data.exists():
        raise UserError(f"{page} is there already; choose another -o")
    for path in (data, page):
        files.check_place(path)
        files.check_writable(path)


class _Bar:
    """Progress as a bar on standard error."""

    def __init__(self, quiet: bool):
        import tqdm

        self._bar = tqdm.tqdm(unit="file", disable=True if quiet else None, dynamic_ncols=True)

    def files(self, done: int, total: int, name: str) -> None:
        """See `evaluation.audit.run.Progress`."""
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        self._bar.set_postfix_str(name, refresh=True)

    def step(self, what: str) -> None:
        """See `evaluation.audit.run.Progress`."""
        self._bar.set_postfix_str(what, refresh=True)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()


def _names(text: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (text or "").split(","))
    return tuple(name for name in names if name)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    if not 0 < arguments.min_confidence <= 1:
        raise UserError(f"--min-confidence {arguments.min_confidence} is not above 0 and up to 1")
    from dp3_jax.evaluation.audit import pairing, people

    found = pairing.pair(arguments.originals, arguments.anonymized)
    who = people.read_people(arguments.people, [pair.name for pair in found.pairs])
    folder = pathlib.Path(arguments.output)
    _check_report(folder)

    from dp3_jax.evaluation.audit import attacking, report
    from dp3_jax.evaluation.audit import run as auditing

    attacking.check(_names(arguments.attacks))
    options = auditing.Options(
        people=who,
        attacks=_names(arguments.attacks),
        min_confidence=arguments.min_confidence,
        seed=arguments.seed,
        impostors=pathlib.Path(arguments.impostors) if arguments.impostors else None,
    )
    bar = _Bar(arguments.quiet)
    try:
        result = auditing.audit(found, folder, options, bar)
    except KeyboardInterrupt:
        print(
            f"stopped; the same command goes on; {folder} holds views of originals", file=sys.stderr
        )
        raise
    finally:
        bar.close()
    text = report.write(result, folder / DATA, folder / PAGE)
    auditing.remove_parts(folder)
    for line in result["skipped"]:
        print(f"skipped: {line}", file=sys.stderr)
    print(text if arguments.json else report.table(result, folder))
    return result["status"]
