"""The command `dp3`: parses arguments and dispatches, nothing else. See docs/cli/photos.md.

Exit status: 0 everything was done as asked; 1 the rest was, but a file was skipped or a face was covered
because no new one could be made (standard error names them); 2 a mistake in the call, nothing was done;
130 interrupted.
"""

import argparse
import atexit
import errno
import gc
import hashlib
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import NoReturn

import dp3_jax
from dp3_jax.cli import (
    anonymize_command,
    audit_command,
    bank_command,
    dataset_command,
    evaluate_video_command,
    live_command,
    review_command,
)
from dp3_jax.common import allocator, compilations
from dp3_jax.common.errors import UserError, fail


class _Parser(argparse.ArgumentParser):
    """Answers a wrong argument with one line."""

    def error(self, message: str):
        if message.startswith("unrecognized arguments: ") and " -" not in message:
            message += " (inputs stand together, before the options)"
        sys.exit(fail(f"{message}; see {self.prog} --help"))


class _Version(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        print(f"dp3 {dp3_jax.__version__}")
        parser.exit()


def _add_assets(commands) -> None:
    parser = commands.add_parser(
        "assets",
        help="list, fetch and verify the pretrained models that are not in the package",
        description="List the pretrained models that are not in the package, with their state on this "
        "machine; --fetch downloads what is missing or damaged. Each is verified by its SHA-256.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--fetch", action="store_true", help="download what is missing or damaged")
    parser.set_defaults(run=_assets)


def _add_demo(commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="anonymize a public-domain photo and a clip, and measure them",
        description="Gives the astronaut photo of scikit-image (NASA, public domain) and a clip panned over "
        "it a new face; prints how similar a face verifier finds it to the old one, beside the classic "
        "methods, and how steady the clip is.",
    )
    parser.add_argument("-o", "--output", default="dp3_demo", help="folder; default: %(default)s")
    parser.add_argument("--seed", type=int, help="of the new face; default: a new master key")
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from dp3_jax.evaluation import demo
    from dp3_jax.metrics.verification import open_verifier

    allocator.keep_freed_memory()
    folder = pathlib.Path(arguments.output)
    report = demo.run_demo(folder, open_verifier("sface"), arguments.seed)
    print(demo.format_report(report, folder))
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="dp3", description="DeepPrivacy3: new faces for the people in your photos and videos."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    anonymize_command.add_parser(commands)
    dataset_command.add_parser(commands)
    live_command.add_parser(commands)
    evaluate_video_command.add_parser(commands)
    audit_command.add_parser(commands)
    bank_command.add_parser(commands)
    review_command.add_parser(commands)
    _add_demo(commands)
    _add_assets(commands)
    return parser


def _assets(arguments: argparse.Namespace) -> int:
    from dp3_jax.common import assets

    names = arguments.names or list(assets.ASSETS)
    if unknown := [name for name in names if name not in assets.ASSETS]:
        raise UserError(f"no asset {unknown[0]!r}; there are: {', '.join(assets.ASSETS)}")
    print(f"in {assets.cache_folder()} (set {assets.CACHE_VARIABLE} to use another folder)")
    if arguments.fetch:
        assets.fetch_all(names)
    for name in names:
        asset = assets.ASSETS[name]
        state = _state(assets.cache_folder() / asset.filename, asset.sha256)
        print(f"{name:13} {state:9} {asset.filename} ({asset.licence}), SHA-256 {asset.sha256}")
    return 0


def _state(path: pathlib.Path, sha256: str) -> str:
    if not path.is_file():
        return "missing"
    return "verified" if hashlib.sha256(path.read_bytes()).hexdigest() == sha256 else "damaged"


def _is_full(stream) -> bool:
    try:
        os.write(stream.fileno(), b"\n")
    except OSError as error:
        return error.errno == errno.ENOSPC
    return False


def _nothing_printed(why: str) -> int:
    """The exit status where standard output takes no more."""
    # When Python ends it would complain again of the rest.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return fail(f"{why}; files are written all the same")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    allocator.share_gpu_memory()
    compilations.let_jax_keep_programs()
    os.environ.setdefault(
        "SVT_LOG", "1"
    )  # errors only: the AV1 encoder has no other way to be quiet
    try:
        arguments = build_parser().parse_args(argv)
        status = arguments.run(arguments)
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
        return status
    except UserError as error:
        return fail(str(error))
    except BrokenPipeError:
        return _nothing_printed("nobody reads what is printed any more")
    except OSError as error:
        if error.errno != errno.ENOSPC or not _is_full(sys.stdout):
            raise  # a full disk under a file has been answered where that is written
        return _nothing_printed("there is no space left for what is printed")
    except KeyboardInterrupt:
        return 130
    except SystemExit as error:  # argparse's way out, also of --help
        return error.code if isinstance(error.code, int) else 0


def run() -> NoReturn:
    """The command as a process, which ends at once."""
    # Or Python looks for cycles in all of JAX, for 0.4 s. Neither in `main` nor in the library: JAX
    # crashes where Python's last step meets arrays that are still held and were frozen.
    atexit.register(gc.freeze)
    sys.exit(main())
