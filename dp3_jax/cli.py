"""The command `dp3`: parses arguments and dispatches, nothing else. See docs/anonymize.md.

Exit status: 0 everything was done as asked; 1 the rest was, but a file was skipped or a face was covered
because no new one could be made (standard error names them); 2 a mistake in the call, nothing was done;
130 interrupted.
"""

import argparse
import errno
import hashlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence

import dp3_jax
from dp3_jax.errors import UserError, fail
from dp3_jax.evaluation import video_command
from dp3_jax.live import command as live_command

# Repeated from dp3_jax.anonymization, which takes a second to import; a test compares them.
METHODS = ("generate", "blur", "pixelate", "solid")
COVERS = ("face", "head")


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


def _add_anonymize(commands) -> None:
    parser = commands.add_parser(
        "anonymize",
        help="replace or cover the faces in photos and videos",
        description="Replace or cover the faces in photos and videos. Metadata is dropped; an input is never "
        "overwritten without --in-place. A video that was interrupted goes on with the same command.",
        epilog="Exit status: 0 done; 1 a file was skipped or a face covered because no new one could be "
        "made; 2 a mistake in the call.",
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="photo, video, folder (with all below it), glob pattern, or numbered pictures such as "
        "frames/%%05d.png; with --one-pass: or - for a video on standard input",
    )
    add(
        "-o",
        "--output",
        help="file or folder; default: NAME_anonymized.EXT beside each input; of numbered pictures a video, "
        "or FOLDER/%%05d.png; with --one-pass: or - for Matroska on standard output",
    )
    add("--in-place", action="store_true", help="overwrite the inputs")
    how = parser.add_argument_group("how faces are treated")
    how.add_argument("--method", choices=METHODS, help="default: generate, a new face")
    how.add_argument("--cover", choices=COVERS, help="what the other methods cover; default: face")
    how.add_argument(
        "--candidates", type=int, metavar="N", help="draw N faces, take the best fitting"
    )
    how.add_argument(
        "--weights", metavar="FILE", help="generator to use instead of the shipped one"
    )
    secret = how.add_mutually_exclusive_group()
    secret.add_argument("--seed", type=int, help="same seed, same faces; anyone can guess it")
    secret.add_argument("--secret-file", metavar="FILE", help="same secret, same faces")
    which = parser.add_argument_group("which faces")
    which.add_argument(
        "--min-confidence", type=float, metavar="P", help="of a detection; default: 0.5"
    )
    given = which.add_mutually_exclusive_group()
    given.add_argument(
        "--boxes", metavar="FILE", help="your own boxes, JSON or CSV; nothing is detected"
    )
    given.add_argument(
        "--faces", metavar="FILE", help="a sidecar, perhaps edited, of the one photo or video"
    )
    which.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="X,Y,W,H|PHOTO",
        help="leave faces in this region, or of the person in this photo, as they are; repeatable",
    )
    _add_output_options(parser.add_argument_group("what is written and printed"))
    _add_video_options(parser.add_argument_group("videos"))
    parser.set_defaults(run=_anonymize)


def _add_output_options(group) -> None:
    group.add_argument(
        "--keep-metadata", action="store_true", help="keep camera, exposure and time"
    )
    group.add_argument(
        "--no-mark",
        action="store_true",
        help="do not write into the file that faces in it were generated",
    )
    group.add_argument(
        "--sidecar",
        action="store_true",
        help="write NAME.EXT.faces.json, of a video NAME.EXT.tracks.json, beside each result",
    )
    group.add_argument(
        "--preview", action="store_true", help="write before | boxes | after; not for release"
    )
    group.add_argument("--json", action="store_true", help="print the report as JSON")
    group.add_argument("--quiet", action="store_true", help="no progress bar and no summary")


def _add_video_options(group) -> None:
    group.add_argument("--audio", choices=("copy", "drop"), default="copy", help="default: copy")
    group.add_argument(
        "--spans",
        metavar="START-END,...",
        help="hide faces only in these spans of time, in seconds or [H:]MM:SS",
    )
    group.add_argument(
        "--motion",
        choices=("face", "head"),
        default="face",
        help="what a new face follows: lips and lids too, or the head alone; default: face",
    )
    group.add_argument(
        "--rate", metavar="FPS", help="numbered pictures a second, such as 30000/1001; default: 25"
    )
    group.add_argument("--codec", help="h264, hevc, vp9, av1, ...; default: the input's")
    group.add_argument("--crf", type=float, help="quality, smaller is better")
    group.add_argument("--preset", help="speed against size, in the encoder's words")
    group.add_argument("--hardware", action="store_true", help="encode on the graphics card")
    group.add_argument(
        "--one-pass",
        action="store_true",
        help="read the video once and write it meanwhile, for pipes; fewer faces are found",
    )


def _check_one_pass(arguments: argparse.Namespace) -> None:
    """Raises UserError for what needs more than one pass, or for a pipe without --one-pass."""
    if not arguments.one_pass:
        if "-" in (*arguments.inputs, arguments.output):
            raise UserError("- is a video on standard input or output, which needs --one-pass")
        return
    for name in ("boxes", "faces", "keep", "sidecar", "preview"):
        if getattr(arguments, name):
            raise UserError(f"--{name} does not go with --one-pass; leave one of them out")
    if "-" in arguments.inputs and len(arguments.inputs) > 1:
        raise UserError("standard input, -, is one input; anonymize the others apart")
    if "-" in (*arguments.inputs, arguments.output) and arguments.in_place:
        raise UserError("--in-place writes files in their places, not to or from a pipe")


def _tasks(arguments: argparse.Namespace):
    """The files to be made, and how many other files are in the folders."""
    from dp3_jax.anonymization import outputs
    from dp3_jax.video import names, workfolder

    _check_one_pass(arguments)
    inputs, output = arguments.inputs, arguments.output
    if inputs == ["-"] or output == "-":
        from dp3_jax.anonymization import batch

        if len(inputs) > 1:
            raise UserError(f"-o - takes one video, not {len(inputs)}")
        return [batch.pipe_task(inputs[0], output)], 0
    if output is not None and names.is_pattern(output):
        workfolder.remove_finished(pathlib.Path(output))
    tasks, others = outputs.plan(inputs, output, arguments.in_place)
    photos = [task.source for task in tasks if not task.is_video]
    if arguments.one_pass and photos:
        raise UserError(f"--one-pass is for videos, and {photos[0]} is none")
    return tasks, others


def _rate(arguments: argparse.Namespace):
    """Numbered pictures a second.

    Raises:
      UserError: there is another kind of input, or --one-pass, which does not read them.
    """
    from dp3_jax.video import names, sequences

    if arguments.one_pass and any(map(names.is_pattern, arguments.inputs)):
        raise UserError(f"--one-pass does not read pictures: {arguments.inputs[0]}; leave it out")
    return sequences.asked_rate(arguments.rate, arguments.inputs)


def _video_options(arguments: argparse.Namespace, rate):
    """What the options for videos say, as `video.job` takes it; `rate` of numbered pictures."""
    from dp3_jax.video import encoding, job, spans
    from dp3_jax.video.coherence import Coherence

    settings = encoding.EncoderSettings(
        codec=arguments.codec,
        crf=arguments.crf,
        preset=arguments.preset,
        hardware=arguments.hardware,
    )
    when = spans.parse_spans(arguments.spans) if arguments.spans else ()
    use = Coherence(follow_motion=arguments.motion == "face")
    return job.VideoOptions(
        encoder=settings, audio=arguments.audio, spans=when, rate=rate, coherence=use
    )


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
    parser.add_argument("--seed", type=int, help="of the new face; default: a fresh secret")
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from dp3_jax.anonymization import demo
    from dp3_jax.evaluation.verification import open_verifier

    folder = pathlib.Path(arguments.output)
    report = demo.run(folder, open_verifier("sface"), arguments.seed)
    print(demo.format_report(report, folder))
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="dp3", description="DeepPrivacy3: new faces for the people in your photos and videos."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    _add_anonymize(commands)
    live_command.add_parser(commands)
    video_command.add_parser(commands)
    _add_demo(commands)
    _add_assets(commands)
    return parser


def _assets(arguments: argparse.Namespace) -> int:
    from dp3_jax import assets

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


def _anonymize(arguments: argparse.Namespace) -> int:
    start = time.monotonic()
    # What can be wrong in the call is looked at before anything slow is imported.
    rate = _rate(arguments)
    tasks, others = _tasks(arguments)
    if arguments.faces and len(tasks) > 1:
        raise UserError(f"--faces {arguments.faces} belongs to one input, not to {len(tasks)}")
    if arguments.faces and arguments.keep:
        raise UserError('--keep does not go with --faces; write "keep": true into that file')

    from dp3_jax.anonymization import batch, reports, secrets
    from dp3_jax.anonymization.anonymize import Anonymizer

    secret = None
    if arguments.seed is not None:
        secret = secrets.secret_from_seed(arguments.seed)
    elif arguments.secret_file is not None:
        secret = secrets.read_secret(arguments.secret_file)
    names = ("method", "cover", "candidates")
    overrides = {n: getattr(arguments, n) for n in names if getattr(arguments, n) is not None}
    more = {} if arguments.min_confidence is None else {"min_confidence": arguments.min_confidence}
    anonymizer = Anonymizer(**overrides, **more, weights=arguments.weights)
    video = any(task.is_video for task in tasks)
    options = batch.Options(
        secret=secret,
        boxes=arguments.boxes,
        faces=arguments.faces,
        overrides=overrides,
        keep=tuple(arguments.keep),
        sidecar=arguments.sidecar,
        preview=arguments.preview,
        keep_metadata=arguments.keep_metadata,
        mark=not arguments.no_mark,
        video=_video_options(arguments, rate) if video else None,
        one_pass=arguments.one_pass,
    )
    loaded = batch.Batch(anonymizer, options, photos=not all(task.is_video for task in tasks))
    done = batch.run(loaded, tasks, not arguments.quiet)
    summary = reports.summarize(done, time.monotonic() - start)
    printed = sys.stderr if arguments.output == "-" else sys.stdout
    if arguments.json:
        written = {"sidecar": options.sidecar, "preview": options.preview}
        results = [reports.as_json(report, **written) for report in done]
        print(json.dumps({"files": results, "summary": summary}, indent=2), file=printed)
    elif not arguments.quiet and not (arguments.output == "-" and summary["skipped"]):
        print(reports.summary_line(summary, others), file=printed)
    return reports.exit_status(done)


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


if __name__ == "__main__":
    sys.exit(main())
