"""`dp3 evaluate-video`: checks its arguments, finds or reads the tracks, prints what was measured."""

import argparse
import pathlib
import sys
import tempfile
from typing import Any

from dp3_jax.common import allocator
from dp3_jax.common.errors import UserError

KEYS = 6  # repeated from `video_variants`, which takes long to import; a test compares them
MAX_KEYS = 64


def add_parser(commands: Any) -> None:
    """Adds `evaluate-video` to the commands of `dp3`."""
    parser = commands.add_parser(
        "evaluate-video",
        help="measure how stable and how private anonymized video is",
        description="Measure an anonymized clip against its source inside the face area: warping error, "
        "steadiness of identity, jitter, flicker, how faces move, faces shown, recognition. Without "
        "ANONYMIZED the source is anonymized in every way that there is, with several keys, and with and "
        "without each step against flicker.",
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
        help="photos of other people, FOLDER/NAME/FILE.jpg, for what chance gives; without ANONYMIZED half "
        "of them lend their faces to a row of real people",
    )
    add(
        "--also",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="also what another build or tool made of the source; repeat NAME for several keys",
    )
    add(
        "--keys",
        type=int,
        metavar="N",
        help=f"persons that each track is given in turn; default: {KEYS}",
    )
    add(
        "--motion-attack",
        nargs="+",
        metavar="CLIP",
        help="instead of all this: are the people in ORIGINAL and these clips known again by nothing but "
        "what new faces are told of their motion?",
    )
    add("--no-ablations", action="store_true", help="leave out the variants without single steps")
    add("--weights", metavar="FILE", help="generator to use instead of the shipped one")
    add("--seed", type=int, metavar="N", help="of the new faces; default: new master keys")
    add("--json", metavar="FILE", help="write all numbers to this file too")
    add("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def _check_target(path: pathlib.Path, inputs: list[str]) -> None:
    """Makes sure that a file can be written at `path`, which is none of the inputs."""
    from dp3_jax.common import files
    from dp3_jax.media import names, photos

    if path.is_dir():
        raise UserError(f"--json {path} is a folder; give the name of a file")
    if any(files.same_file(path, one) for one in inputs):
        raise UserError(f"--json {path} would overwrite an input; give another name")
    if photos.is_photo_name(path) or names.is_video_name(path):  # perhaps one of numbered pictures
        raise UserError(f"--json {path} ends like a photo or a video; give another name")
    files.check_place(path)


def _also(given: list[str]) -> dict[str, list[str]]:
    """NAME=FILE, given several times -> the files by name."""
    named: dict[str, list[str]] = {}
    for text in given:
        name, separator, file = text.partition("=")
        if not (separator and name and file):
            raise UserError(f'--also {text} is not NAME=FILE; give one such as "old build=old.mkv"')
        if name in ("source", "anonymized"):
            raise UserError(f"--also {text}: {name} has another meaning; choose another name")
        named.setdefault(name, []).append(file)
    return named


def _check_clips(arguments: argparse.Namespace, also: dict[str, list[str]]):
    """(VideoInfo of the source clip, its Tracking or None if there is no --tracks)."""
    from dp3_jax.media import image_sequences
    from dp3_jax.media.video import sequence_writing
    from dp3_jax.pipelines.video import track_file

    given = [name for name in (arguments.original, arguments.anonymized) if name is not None]
    given += [file for many in also.values() for file in many]
    rate = image_sequences.asked_rate(arguments.rate, given)
    info, *others = (sequence_writing.open_input(name, rate) for name in given)
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
    from dp3_jax.pipelines.video import face_tracks, work_folder

    with tempfile.TemporaryDirectory() as scratch:
        folder = work_folder.WorkFolder(pathlib.Path(scratch), resumed=False)
        return face_tracks.find_tracks(info, min_confidence, None, folder, lambda _: None)[0]


def _check(arguments: argparse.Namespace, also: dict[str, list[str]]) -> None:
    """What can be wrong in the call, as far as it can be told without opening a clip."""
    if arguments.frames is not None and arguments.frames < 2:
        raise UserError(f"--frames {arguments.frames}: at least 2 are needed")
    if arguments.keys is not None and not 1 <= arguments.keys <= MAX_KEYS:
        raise UserError(f"--keys is 1 to {MAX_KEYS}, not {arguments.keys}")
    for name in ("weights", "keys"):
        if getattr(arguments, name) and arguments.anonymized:
            raise UserError(f"--{name} goes without ANONYMIZED, which is measured as it is")
    if arguments.motion_attack and arguments.anonymized:
        raise UserError(
            "--motion-attack goes without ANONYMIZED; it takes clips as they were recorded"
        )
    if arguments.json is not None:
        given = [arguments.original, arguments.anonymized, arguments.tracks]
        given += arguments.motion_attack or []
        given += [file for many in also.values() for file in many]
        _check_target(pathlib.Path(arguments.json), [one for one in given if one])


def _impostors(arguments: argparse.Namespace, halved: bool):
    """(u8[k, 128, 128, 3] people for what chance gives, the same or None who lend their faces)."""
    import numpy as np

    from dp3_jax.evaluation import people, real_people

    if not arguments.strangers:
        return None, None
    images = people.read_folder(pathlib.Path(arguments.strangers), 1)[0].images
    if not halved or len(images) < 5 * real_people.NEAREST:
        return images, None
    images = images[np.random.default_rng(0).permutation(len(images))]
    return images[len(images) // 2 :], images[: len(images) // 2]


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status. What can be wrong in the call is looked at first."""
    also = _also(arguments.also)
    _check(arguments, also)
    if arguments.motion_attack:
        return _attack(arguments)
    import tqdm

    from dp3_jax.common import files
    from dp3_jax.evaluation import evaluate_video, video_report, video_targets
    from dp3_jax.pipelines.anonymize import Anonymizer

    info, tracking = _check_clips(arguments, also)
    anonymizer = Anonymizer(weights=arguments.weights)
    impostors, lent = _impostors(arguments, halved=not arguments.anonymized)
    hidden = True if arguments.quiet else None
    with (
        tempfile.TemporaryDirectory(prefix="dp3_evaluate_") as folder,
        tqdm.tqdm(unit="frame", disable=hidden) as bar,
    ):
        if arguments.anonymized:
            variants: dict[str, Any] = {"anonymized": arguments.anonymized}
            tracking = tracking or find_tracks(info, anonymizer.min_confidence)
        else:
            allocator.keep_freed_memory()
            made = _Making(arguments, info, anonymizer, pathlib.Path(folder), bar)
            variants, tracking = made(tracking, lent, also)
        bar.reset(min(arguments.frames or tracking.frames, tracking.frames))
        bar.set_description("measuring")
        result = evaluate_video.evaluate(
            arguments.original,
            {**variants, **also},
            tracking,
            impostors=impostors,
            frames=arguments.frames,
            progress=lambda done, _: bar.update(done - bar.n),
        )
    if not arguments.anonymized:
        result["files"] = also  # nothing is left of the others
        result["targets"] = video_targets.targets(result)
    print(video_report.format_report(result))
    if arguments.json:
        files.write_json(arguments.json, result)
    return 0


def _note(line: str) -> None:
    print(f"note: {line}", file=sys.stderr)


def _attack(arguments: argparse.Namespace) -> int:
    """What `--motion-attack` asks for; returns the exit status."""
    import tqdm

    from dp3_jax.common import files
    from dp3_jax.detection.face_detection import MIN_CONFIDENCE
    from dp3_jax.evaluation import clip_people
    from dp3_jax.evaluation.attacks import motion

    clips = [arguments.original, *arguments.motion_attack]
    with tqdm.tqdm(unit="frame", disable=True if arguments.quiet else None) as bar:
        result = clip_people.attack_clips(clips, MIN_CONFIDENCE, bar.update)
    print(motion.format_report(result))
    if arguments.json:
        files.write_json(arguments.json, result)
    return 0


class _Making:
    """The source, anonymized in every way that there is."""

    def __init__(self, arguments: argparse.Namespace, info, anonymizer, folder: pathlib.Path, bar):
        """`folder` is for all that is made; `bar` shows how far it is."""
        self._arguments, self._info, self._anonymizer = arguments, info, anonymizer
        self._folder, self._bar = folder, bar
        self._shown, self._done = "", 0

    def __call__(self, tracking, lent, also: dict[str, list[str]]):
        """(variants, Tracking of the frames that are compared).

        Args:
          tracking: of the whole clip; None to find it.
          lent: u8[k, 128, 128, 3], people who lend their faces, or None.
          also: variants from elsewhere, by name.
        """
        from dp3_jax.evaluation import real_people, video_variants
        from dp3_jax.media.video import sequence_writing

        if taken := sorted(set(also) & set(video_variants.NAMES)):
            raise UserError(f"--also {taken[0]}=: there is a row of that name; choose another")
        arguments, info = self._arguments, self._info
        options: dict[str, Any] = {
            "keys": arguments.keys or KEYS,
            "ablations": not arguments.no_ablations,
            "real": None,
        }
        if lent is not None:
            options["real"] = real_people.OnePerson(real_people.RealPeople(lent))
        _ = self._anonymizer.opened  # says what is missing
        most = arguments.frames or (None if tracking is None else tracking.frames)
        expected = most or info.frames_estimate or 0
        video_variants.check_room(info.canvas_size, expected, self._folder, **options)
        source = video_variants.write_source(arguments.original, self._folder, most, info.rate)
        if tracking is not None:
            tracking = video_variants.shortened(tracking, source.frames)
            source = video_variants.with_tracks(source, tracking)
        else:
            written = sequence_writing.open_input(source.pattern, source.rate)
            tracking = find_tracks(written, self._anonymizer.min_confidence)
        made = video_variants.standard(
            source, self._anonymizer, self._progress, _note, seed=arguments.seed, **options
        )
        return made, tracking

    def _progress(self, name: str, count: int, total: int) -> None:
        if name != self._shown or self._done >= total:
            self._bar.reset(total)
            self._bar.set_description(name)
            self._shown, self._done = name, 0
        self._done += count
        self._bar.update(count)
