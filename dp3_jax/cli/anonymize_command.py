"""The command `dp3 anonymize`: its options, and what they ask of the library. See docs/cli/photos.md."""

import argparse
import json
import pathlib
import sys
import time

from dp3_jax.cli.identity_flags import (
    add_identity_options,
    asks_for_identity,
    identity_options,
)
from dp3_jax.common import allocator
from dp3_jax.common.choices import BODY_METHODS, EXTENTS, MOTIONS
from dp3_jax.common.errors import UserError

MAX_WORKERS = 64
CONTAINERS = ("mp4", "mov", "mkv", "webm", "avi")


def add_parser(commands) -> None:
    """Adds `anonymize` to the commands of an argparse parser."""
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
    how.add_argument(
        "--method",
        choices=BODY_METHODS,
        help="of every target that has it: silhouette and background are for bodies, and plates have neither "
        "these nor generate, but are solid then; default: generate, a new face, a redrawn body",
    )
    how.add_argument("--cover", choices=EXTENTS, help="what the other methods cover; default: face")
    how.add_argument(
        "--candidates", type=int, metavar="N", help="draw N faces, take the best fitting"
    )
    how.add_argument(
        "--weights", metavar="FILE", help="generator to use instead of the shipped one"
    )
    add_identity_options(parser.add_argument_group("who the new faces are"), expression=True)
    keys = how.add_mutually_exclusive_group()
    keys.add_argument("--seed", type=int, help="same seed, same faces; anyone can guess it")
    keys.add_argument("--secret-file", metavar="FILE", help="the master key: same key, same faces")
    _add_target_options(parser.add_argument_group("which faces, and what else"))
    _add_output_options(parser.add_argument_group("what is written and printed"))
    _add_video_options(parser.add_argument_group("videos"))
    _add_run_options(parser.add_argument_group("many files"))
    parser.set_defaults(run=_anonymize)


def _add_target_options(group) -> None:
    group.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="TARGET[=METHOD]",
        help="face, head, body or plate, perhaps with a method of its own: body=silhouette; repeatable; "
        "default: face",
    )
    group.add_argument(
        "--min-confidence", type=float, metavar="P", help="of a detection; default: 0.5"
    )
    given = group.add_mutually_exclusive_group()
    given.add_argument(
        "--boxes", metavar="FILE", help="your own boxes, JSON or CSV; nothing is detected"
    )
    given.add_argument(
        "--faces", metavar="FILE", help="a sidecar, perhaps edited, of the one photo or video"
    )
    group.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="X,Y,W,H|PHOTO",
        help="leave faces in this region, or of the person in this photo, as they are; repeatable",
    )


def _add_run_options(group) -> None:
    group.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes that share the photos, each with its own models; default: 1",
    )
    group.add_argument(
        "--manifest",
        metavar="FILE",
        help="what is done is written there, and not done again by the same command; default: "
        "OUTPUT.manifest.jsonl, or INPUT.manifest.jsonl of one folder without -o",
    )
    group.add_argument(
        "--redo", action="store_true", help="do again what the manifest says is done"
    )


def _identity(arguments: argparse.Namespace):
    """Whom the new faces show: as asked, else as a sidecar says."""
    from dp3_jax.pipelines import sidecar

    asked = identity_options(arguments)  # says what is wrong with them
    if arguments.faces and not asks_for_identity(arguments):
        content = sidecar.read_json(arguments.faces)
        if found := sidecar.parse_identity(content, arguments.faces):
            return found
    return asked


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
        "--subtitles",
        choices=("copy", "drop"),
        default="drop",
        help="drones and dash cams write their place into them; default: drop",
    )
    group.add_argument(
        "--deinterlace", action="store_true", help="make whole frames of interlaced video"
    )
    group.add_argument(
        "--spans",
        metavar="START-END,...",
        help="anonymize faces only in these time ranges, in seconds or [H:]MM:SS",
    )
    group.add_argument(
        "--motion",
        choices=MOTIONS,
        default="face",
        help="what a new face follows: turns, mouth, lids and gaze; the turns of the head alone; or "
        "nothing but its place; default: face",
    )
    group.add_argument(
        "--rate", metavar="FPS", help="numbered pictures a second, such as 30000/1001; default: 25"
    )
    group.add_argument(
        "--container",
        choices=CONTAINERS,
        help="of videos whose names -o does not give; default: the input's, else mp4 or mkv",
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
    """The files to be made, and what else is in the folders."""
    from dp3_jax.media import names
    from dp3_jax.pipelines import outputs
    from dp3_jax.pipelines.video import work_folder

    _check_one_pass(arguments)
    inputs, output = arguments.inputs, arguments.output
    if inputs == ["-"] or output == "-":
        from dp3_jax.pipelines import batch

        if len(inputs) > 1:
            raise UserError(f"-o - takes one video, not {len(inputs)}")
        return [batch.pipe_task(inputs[0], output)], outputs.Rest()
    if output is not None and names.is_pattern(output):
        work_folder.remove_finished(pathlib.Path(output))
    tasks, rest = outputs.tasks_of(inputs, output, arguments.in_place)
    photos = [task.source for task in tasks if not task.is_video]
    if arguments.one_pass and photos:
        raise UserError(f"--one-pass is for videos, and {photos[0]} is none")
    return _placed(arguments, tasks), rest


def _placed(arguments: argparse.Namespace, tasks):
    """The tasks with videos in containers that can be written, and were asked for."""
    if not any(task.is_video for task in tasks):
        return tasks
    from dp3_jax.pipelines.video import containers  # loads FFmpeg

    wanted = containers.Wishes(
        output=arguments.output,
        container=arguments.container,
        audio=arguments.audio == "copy",
        subtitles=arguments.subtitles == "copy",
        in_place=arguments.in_place,
    )
    return containers.placed(tasks, wanted)


def _rate(arguments: argparse.Namespace):
    """Numbered pictures a second.

    Raises:
      UserError: there is another kind of input, or --one-pass, which does not read them.
    """
    from dp3_jax.media import image_sequences, names

    if arguments.one_pass and any(map(names.is_pattern, arguments.inputs)):
        raise UserError(f"--one-pass does not read pictures: {arguments.inputs[0]}; leave it out")
    return image_sequences.asked_rate(arguments.rate, arguments.inputs)


def _video_options(arguments: argparse.Namespace, rate):
    """What the options for videos say, as `video.job` takes it; `rate` of numbered pictures."""
    from dp3_jax.media.video import encoding
    from dp3_jax.pipelines.video import job, time_ranges
    from dp3_jax.replacement.coherence import Coherence

    settings = encoding.EncoderSettings(
        codec=arguments.codec,
        crf=arguments.crf,
        preset=arguments.preset,
        hardware=arguments.hardware,
    )
    when = time_ranges.parse_time_ranges(arguments.spans) if arguments.spans else ()
    use = Coherence(transfer_motion=arguments.motion == "grid")
    return job.VideoOptions(
        encoder=settings,
        audio=arguments.audio,
        subtitles=arguments.subtitles,
        masked_times=when,
        rate=rate,
        deinterlace=arguments.deinterlace,
        coherence=use,
        motion=arguments.motion,
    )


def _manifest(arguments: argparse.Namespace, tasks):
    """Where the run writes down what is done; None where it keeps no manifest."""
    from dp3_jax.pipelines import manifest, outputs

    if arguments.manifest:
        return manifest.Manifest(pathlib.Path(arguments.manifest))
    output = arguments.output
    if len(tasks) < 2 or output == "-":
        return None
    to_file = output is not None and outputs.is_file_name(output)
    path = manifest.default_path(output, arguments.inputs, to_file)
    try:
        return None if path is None else manifest.Manifest(path)
    except UserError as error:
        print(f"note: a killed run will begin anew: {error}", file=sys.stderr)
        return None


def _options(arguments: argparse.Namespace, tasks, overrides, rate):
    """What to do with each file, as `batch.Batch` takes it."""
    from dp3_jax.pipelines import batch
    from dp3_jax.replacement import key_derivation

    master_key = None
    if arguments.seed is not None:
        master_key = key_derivation.master_key_from_seed(arguments.seed)
    elif arguments.secret_file is not None:
        master_key = key_derivation.read_master_key(arguments.secret_file)
    video = any(task.is_video for task in tasks)
    return batch.Options(
        master_key=master_key,
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


def _anonymize(arguments: argparse.Namespace) -> int:
    start = time.monotonic()
    # What can be wrong in the call is looked at before anything slow is imported.
    rate = _rate(arguments)
    tasks, rest = _tasks(arguments)
    if arguments.faces and len(tasks) > 1:
        raise UserError(f"--faces {arguments.faces} belongs to one input, not to {len(tasks)}")
    if arguments.faces and arguments.keep:
        raise UserError('--keep does not go with --faces; write "keep": true into that file')
    if not 1 <= arguments.workers <= MAX_WORKERS:
        raise UserError(f"--workers is 1 to {MAX_WORKERS}, not {arguments.workers}")

    from dp3_jax.cli import unused_options
    from dp3_jax.pipelines import reports, running
    from dp3_jax.pipelines.anonymize import Anonymizer

    names = ("method", "cover", "candidates")
    chosen = {n: getattr(arguments, n) for n in names if getattr(arguments, n) is not None}
    more = {} if arguments.min_confidence is None else {"min_confidence": arguments.min_confidence}
    more["identity"] = _identity(arguments)
    if arguments.target:
        more["targets"] = tuple(arguments.target)
    settings = {**chosen, **more, "weights": arguments.weights}
    of_faces = Anonymizer(**settings).settings.method  # says what is wrong with them
    overrides = {**chosen, "method": of_faces} if "method" in chosen else chosen
    unused = unused_options.notes(arguments, [task.is_video for task in tasks])
    for line in (*rest.circles, *unused):
        print(f"note: {line}", file=sys.stderr)
    for line in rest.unread:
        print(f"skipped: {line}", file=sys.stderr)
    if any(task.is_video for task in tasks) and not arguments.one_pass:
        allocator.keep_freed_memory()  # pictures are made and thrown away all the time
    run = running.Run(
        settings=settings,
        options=_options(arguments, tasks, overrides, rate),
        workers=arguments.workers,
        manifest=_manifest(arguments, tasks),
        redo=arguments.redo,
        show_progress=not arguments.quiet,
    )
    try:
        done = run(tasks)
    finally:
        if run.manifest is not None:
            run.manifest.close()
    summary = reports.summarize(done.reports, time.monotonic() - start, *done.decided)
    summary |= reports.summarize_earlier(done.earlier, done.left)
    _print(arguments, done.reports, summary, rest)
    incomplete = rest.unread or done.left or summary["fallbacks_before"]
    return reports.exit_status(done.reports) or (
        reports.INCOMPLETE if incomplete else reports.COMPLETE
    )


def _print(arguments: argparse.Namespace, done, summary, rest) -> None:
    """Prints what became of the files, in the way that was asked for."""
    from dp3_jax.pipelines import reports

    if summary["instead"] and summary["photos"] and not arguments.quiet:
        print(f"note: the prior was not used: {summary['instead']}", file=sys.stderr)
    printed = sys.stderr if arguments.output == "-" else sys.stdout
    if arguments.json:
        written = {"sidecar": arguments.sidecar, "preview": arguments.preview}
        results = [reports.as_json(report, **written) for report in done]
        print(json.dumps({"files": results, "summary": summary}, indent=2), file=printed)
        return
    if arguments.quiet:
        return
    for line in reports.skipped_summary(done):
        print(line, file=sys.stderr)
    if not (arguments.output == "-" and summary["skipped"]):
        print(reports.summary_line(summary, rest), file=printed)
