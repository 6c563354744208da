"""`dp3 evaluate-video`: parses its arguments, finds or reads the tracks, prints what was measured."""

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
    add("original", metavar="ORIGINAL", help="the source clip")
    add("anonymized", metavar="ANONYMIZED", nargs="?", help="what was made from it, frame by frame")
    add(
        "--tracks",
        metavar="FILE",
        help="NAME.tracks.json of `dp3 anonymize --sidecar`; default: faces are found again",
    )
    add("--frames", type=int, metavar="N", help="only the first N frames")
    add(
        "--strangers",
        metavar="FOLDER",
        help="photos of other people, FOLDER/NAME/FILE.jpg, for what chance gives",
    )
    add("--no-ablations", action="store_true", help="leave out the variants without single steps")
    add("--weights", metavar="FILE", help="generator to use instead of the shipped one")
    add("--json", metavar="FILE", help="write all numbers to this file too")
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def _tracking(arguments: argparse.Namespace):
    """The tracks of the source clip: from the file, or found."""
    from dp3_jax.anonymization.anonymize import Anonymizer
    from dp3_jax.video import job, reading, track_file, workfolder

    if arguments.tracks:
        return track_file.read(arguments.tracks).tracking
    source = pathlib.Path(arguments.original)
    info = reading.open_video(source)
    with tempfile.TemporaryDirectory() as scratch:
        folder = workfolder.WorkFolder(pathlib.Path(scratch), resumed=False)
        return job.find_tracks(info, Anonymizer().min_confidence, None, folder, lambda _: None)[0]


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    if arguments.frames is not None and arguments.frames < 2:
        raise UserError(f"--frames {arguments.frames}: at least 2 are needed")
    import tqdm

    from dp3_jax import files
    from dp3_jax.anonymization.anonymize import Anonymizer
    from dp3_jax.evaluation import evaluate_video, people, video_report, video_variants

    tracking = _tracking(arguments)
    options: dict[str, Any] = {"frames": arguments.frames}
    if arguments.strangers:
        options["strangers"] = people.read_folder(pathlib.Path(arguments.strangers), 1)[0].images
    hidden = True if arguments.quiet else None
    with tqdm.tqdm(total=arguments.frames or tracking.frames, unit="frame", disable=hidden) as bar:
        options["progress"] = lambda done, _: bar.update(done - bar.n)
        if arguments.anonymized:
            result = evaluate_video.compare(
                arguments.original, arguments.anonymized, tracking, **options
            )
        else:
            generator, is_face = Anonymizer(weights=arguments.weights).parts()
            variants = video_variants.standard(
                tracking, generator, is_face, ablations=not arguments.no_ablations
            )
            options["links"] = video_variants.LINKS
            result = evaluate_video.evaluate(arguments.original, variants, tracking, **options)
            result["targets"] = video_variants.targets(result)
    print(video_report.format_report(result))
    if arguments.json:
        files.write_json(arguments.json, result)
    return 0
