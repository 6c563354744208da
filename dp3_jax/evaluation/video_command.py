"""`dp3 evaluate-video`: checks its arguments, finds or reads the tracks, prints what was measured."""

import argparse
import pathlib
import tempfile
from typing import Any

from dp3_jax.errors import UserError


def add_parser(commands: Any) -> None:
    """Adds `evaluate-video` to the commands of `dp3`."""
    parser = commands.add_parser(
        "evaluate-video",
        help="measure how steady and how private anonymized video is",
        description="Measure an anonymized clip against its source inside the face area: warping error, "
        "steadiness of identity, jitter, flicker, faces shown, recognition. Without ANONYMIZED the source is "
        "anonymized in every way that there is, with and without each step against flicker.",
    )
    add = parser.add_argument
    add(
        "original",
        metavar="ORIGINAL",
        help="the source clip, or numbered pictures such as frames/%%05d.png",
    )
    add("anonymized", metavar="ANONYMIZED", nargs="?", help="what was made from it, frame by frame")
    add(
        "--tracks",
        metavar="FILE",
        help="NAME.tracks.json of `dp3 anonymize --sidecar`; default: faces are found again",
    )
    add("--rate", metavar="FPS", help="numbered pictures a second; default: 25")
    add("--frames", type=int, metavar="N", help="only the first N frames")
    add(
        "--strangers",
        metavar="FOLDER",
        help="photos of other people, FOLDER/NAME/FILE.jpg, for what chance gives",
    )
    add("--no-ablations", action="store_true", help="leave out the variants without single steps")
    add("--weights", metavar="FILE", help="generator to use instead of the shipped one")
    add("--seed", type=int, metavar="N", help="of the new faces; default: fresh secrets")
    add("--json", metavar="FILE", help="write all numbers to this file too")
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def _check_target(path: pathlib.Path, inputs: list[str]) -> None:
    """Makes sure that a file can be written at `path`, which is none of the inputs."""
    from dp3_jax import files
    from dp3_jax.anonymization import photos
    from dp3_jax.video import names

    if path.is_dir():
        raise UserError(f"--json {path} is a folder; give the name of a file")
    if any(files.same_file(path, one) for one in inputs):
        raise UserError(f"--json {path} would overwrite an input; give another name")
    if photos.is_photo_name(path) or names.is_video_name(path):  # perhaps one of numbered pictures
        raise UserError(f"--json {path} ends like a photo or a video; give another name")
    files.check_place(path)


def _check_clips(arguments: argparse.Namespace):
    """(VideoInfo of the source clip, its Tracking or None if there is no --tracks)."""
    from dp3_jax.video import pictures, sequences, track_file

    given = [name for name in (arguments.original, arguments.anonymized) if name is not None]
    rate = sequences.asked_rate(arguments.rate, given)
    info, *others = (pictures.open_input(name, rate) for name in given)
    for other in others:
        if other.canvas_size != info.canvas_size:
            raise UserError(
                f"{other.path} is {_size(other)}, the original {_size(info)}; give two equal clips"
            )
    if not arguments.tracks:
        return info, None
    tracking = track_file.read(arguments.tracks).tracking
    if (tracking.width, tracking.height) != info.canvas_size:
        raise UserError(
            f"{arguments.tracks} is of a clip of {tracking.width}x{tracking.height}, {info.path} is "
            f"{_size(info)}; give the tracks of this clip"
        )
    return info, tracking


def _size(info) -> str:
    """Of a clip's pictures, in square pixels."""
    return "{}x{}".format(*info.canvas_size)


def find_tracks(info, min_confidence: float):
    """The Tracking of the clip with this VideoInfo, found anew; leaves no file."""
    from dp3_jax.video import job, workfolder

    with tempfile.TemporaryDirectory() as scratch:
        folder = workfolder.WorkFolder(pathlib.Path(scratch), resumed=False)
        return job.find_tracks(info, min_confidence, None, folder, lambda _: None)[0]


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status. What can be wrong in the call is looked at first."""
    if arguments.frames is not None and arguments.frames < 2:
        raise UserError(f"--frames {arguments.frames}: at least 2 are needed")
    if arguments.weights and arguments.anonymized:
        raise UserError("--weights goes without ANONYMIZED, which is measured as it is")
    if arguments.json is not None:
        given = (arguments.original, arguments.anonymized, arguments.tracks)
        _check_target(pathlib.Path(arguments.json), [one for one in given if one])
    import tqdm

    from dp3_jax import files
    from dp3_jax.anonymization.anonymize import Anonymizer
    from dp3_jax.evaluation import evaluate_video, people, video_report, video_variants

    info, tracking = _check_clips(arguments)
    anonymizer = Anonymizer(weights=arguments.weights)
    generator = None if arguments.anonymized else anonymizer.generator
    options: dict[str, Any] = {"frames": arguments.frames}
    if arguments.strangers:
        options["strangers"] = people.read_folder(pathlib.Path(arguments.strangers), 1)[0].images
    tracking = tracking or find_tracks(info, anonymizer.min_confidence)
    hidden = True if arguments.quiet else None
    with tqdm.tqdm(total=arguments.frames or tracking.frames, unit="frame", disable=hidden) as bar:
        options["progress"] = lambda done, _: bar.update(done - bar.n)
        if generator is None:
            result = evaluate_video.compare(
                arguments.original, arguments.anonymized, tracking, **options
            )
        else:
            variants = video_variants.standard(
                tracking,
                *anonymizer.parts(),
                seed=arguments.seed,
                ablations=not arguments.no_ablations,
            )
            options["links"] = video_variants.LINKS
            result = evaluate_video.evaluate(arguments.original, variants, tracking, **options)
            result["targets"] = video_variants.targets(result)
    print(video_report.format_report(result))
    if arguments.json:
        files.write_json(arguments.json, result)
    return 0
