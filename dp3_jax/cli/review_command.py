"""`dp3 review`: the page on this machine where results are looked at, corrected and rated."""

import argparse
import contextlib
import os
import pathlib
import sys
import threading
from typing import Any

from dp3_jax.cli.identity_flags import (
    add_identity_options,
    asks_for_identity,
    identity_options,
)
from dp3_jax.common import allocator
from dp3_jax.common.choices import MOTIONS
from dp3_jax.common.errors import UserError


def add_parser(commands: Any) -> None:
    """Adds `review` to the commands of `dp3`."""
    parser = commands.add_parser(
        "review",
        help="look at results, correct and rate them, on a page on this machine",
        description="Serve a page to your own browser on this machine (127.0.0.1) where results are shown "
        "beside their originals: add missed faces, say what is no face, choose other methods or persons, "
        "edit tracks, rate. Corrections are written to the sidecars at once. Ctrl-C ends it.",
        epilog="Prints one line, the address of the page with its token. Exit status: 0 ended; 2 a mistake "
        "in the call.",
    )
    parser.add_argument(
        "path",
        metavar="FOLDER|FILE",
        help="folder of results or originals; one photo, video, image sequence (FOLDER/%%05d.png) or sidecar",
    )
    parser.add_argument(
        "--originals",
        metavar="FOLDER",
        help="of results that neither lie beside their originals nor have a manifest; of one clip also "
        "FRAMES/%%05d.png, the image sequence that it was made from",
    )
    parser.add_argument("--port", type=int, default=0, metavar="N", help="default: a free one")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument(
        "--audit",
        metavar="FILE",
        help="audit.json of dp3 audit, whose worst come first; default: report/audit.json, if it is there",
    )
    parser.add_argument(
        "--state",
        metavar="FOLDER",
        help="where feedback.jsonl and what undoing needs are kept; default: FOLDER.review beside it",
    )
    parser.add_argument(
        "--motion", choices=MOTIONS, default="face", help="of videos, as of dp3 anonymize"
    )
    add_identity_options(
        parser.add_argument_group("who new faces are, if not as the sidecars say"), expression=True
    )
    parser.set_defaults(run=_review)


def _review(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.port <= 65535:
        raise UserError(f"--port is 0 to 65535, not {arguments.port}")
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"dp3 review needs {error.name}: pip install 'dp3_jax[review]'") from error
    allocator.keep_freed_memory()
    session, target = _session(arguments)

    from dp3_jax.review import app, server
    from dp3_jax.review.exporting import Exporter

    exporter = Exporter(session, target)

    def tell(address: str) -> None:
        print(address, flush=True)
        # The page is there at once; what a kill left undone, and the networks, come meanwhile.
        threading.Thread(target=_prepare, args=(session,), name="preparing", daemon=True).start()

    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        review = app.Review(session, exporter, str(arguments.path))
        server.serve(review, arguments.port, tell, browser=not arguments.no_browser)
    exporter.close()
    session.close()
    # All that was done is on the disk. Threads that load networks would hold the process up, or abort it.
    os._exit(0)


def _session(arguments: argparse.Namespace):
    """The review, and where its results are exported to."""
    from dp3_jax.common import files
    from dp3_jax.media import names
    from dp3_jax.review import audit_file, exporting, library
    from dp3_jax.review.models import Models
    from dp3_jax.review.session import Session

    path = pathlib.Path(arguments.path)
    originals = None if arguments.originals is None else pathlib.Path(arguments.originals)
    if originals is not None and not originals.exists() and not names.is_pattern(originals):
        raise UserError(f"there is no --originals {originals}")
    items = library.find(path, originals)
    default = library.state_folder(path)
    state = default if arguments.state is None else pathlib.Path(arguments.state)
    files.check_place(state / "feedback.jsonl")
    folder = path if path.is_dir() else path.parent
    report = arguments.audit or audit_file.look_for(folder)
    audit = {} if report is None else audit_file.read(pathlib.Path(report), items)
    models = Models(identity_options(arguments) if asks_for_identity(arguments) else None)
    session = Session(items, state, models, audit=audit, motion=arguments.motion)
    return session, default.with_name(
        files.fitting(default.name.removesuffix(library.STATE_ENDING), exporting.ENDING)
    )


def _prepare(session) -> None:
    """Does what a kill left undone, and loads what draws faces."""
    for line in session.recover():
        print(f"note: {line}", file=sys.stderr)
    session.warm()
