"""`dp3 live`: parses its arguments, puts the parts together and tells how it goes."""

import argparse
import contextlib
import gc
import json
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dp3_jax.cli.identity_flags import add_identity_options, identity_options
from dp3_jax.common.choices import EXTENTS, METHODS, MOTIONS, NEW_PERSONS
from dp3_jax.common.errors import UserError

_LARGEST = 16384  # px


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not found or not all(0 < int(side) <= _LARGEST for side in found.groups()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not WIDTHxHEIGHT, such as 1280x720, up to {_LARGEST}x{_LARGEST}"
        )
    return int(found[1]), int(found[2])


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0.001 <= rate <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of frames a second")
    return rate


def _delay(text: str) -> int:
    if not text.isdecimal() or int(text) > 30:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of frames from 0 to 30")
    return int(text)


def add_parser(commands: Any) -> None:
    """Adds `live` to the commands of `dp3`."""
    parser = commands.add_parser(
        "live",
        help="anonymize a camera, a stream or a pipe as it comes",
        description="Anonymize live video. Frames are dropped rather than shown late, and never shown "
        "before the faces in them are covered. Ctrl-C ends it.",
        epilog="Exit status: 0 done; 1 frames were held back because something failed, or a face was covered "
        "because no new one could be made; 2 a mistake in the call, or the source or the target failed.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="number of a camera, address of a stream, file (at its own rate), numbered pictures such as "
        "frames/%%05d.png, or - for raw rgb24 frames",
    )
    parser.add_argument(
        "--to",
        default="preview",
        metavar="SINK",
        help="preview[:[HOST:]PORT], window, camera[:DEVICE], address of a stream, file, - for raw rgb24 "
        "frames, or null; default: preview, a page on this machine",
    )
    _add_source(parser)
    add = parser.add_argument_group("how faces are treated").add_argument
    add("--method", choices=METHODS, help="default: generate, a new face")
    add("--cover", choices=EXTENTS, help="what the other methods cover; default: face")
    add(
        "--motion",
        choices=MOTIONS,
        default="face",
        help="what a new face follows: turns, mouth, lids and gaze; the turns of the head alone; or "
        "nothing but its place; default: face",
    )
    add("--weights", metavar="FILE", help="generator to use instead of the shipped one")
    add("--min-confidence", type=float, metavar="P", help="of a detection; default: 0.5")
    add(
        "--delay",
        type=_delay,
        default=1,
        metavar="N",
        help="look at N later frames before one is shown, for faces that come in; default: 1",
    )
    _add_identity(parser)
    add = parser.add_argument_group("file or stream that is written").add_argument
    add("--codec", help="such as h264, hevc, vp9; default: by the name's ending")
    add("--crf", type=float, help="quality, smaller is better")
    add("--preset", help="speed against size, in the encoder's words")
    add("--hardware", action="store_true", help="use a hardware encoder")
    add = parser.add_argument_group("what is printed").add_argument
    add("--json", action="store_true", help="print the summary as JSON")
    add("--quiet", action="store_true", help="no status and no summary")
    parser.set_defaults(run=run)


def _add_source(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("source").add_argument
    add("--size", type=_size, metavar="WxH", help="of raw frames; asked of a camera")
    add(
        "--fps",
        type=_rate,
        metavar="N",
        help="of raw frames or numbered pictures; asked of a camera",
    )
    add(
        "--as-fast-as-possible",
        action="store_true",
        help="take every frame and drop none: a file or a pipe need not be watched live",
    )


def _add_identity(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who the new faces are")
    add_identity_options(group, expression=False)
    group.add_argument(
        "--new-person",
        choices=NEW_PERSONS,
        default="key",
        help="when a face becomes another person: when n is pressed (in the terminal, the page or the "
        "window), whoever comes and goes meanwhile; or also with everyone who enters; default: key",
    )
    group = group.add_mutually_exclusive_group()
    group.add_argument("--seed", type=int, help="same seed, same faces; anyone can guess it")
    group.add_argument("--secret-file", metavar="FILE", help="the master key: same key, same faces")


def _master_key(arguments: argparse.Namespace) -> bytes:
    from dp3_jax.replacement import key_derivation

    if arguments.seed is not None:
        return key_derivation.master_key_from_seed(arguments.seed)
    if arguments.secret_file is not None:
        return key_derivation.read_master_key(arguments.secret_file)
    return key_derivation.new_master_key()


def open_rendering_of(arguments: argparse.Namespace):
    """What treats the frames, as the options say."""
    from dp3_jax.pipelines.live.rendering import open_rendering
    from dp3_jax.pipelines.live.track_keys import Keys
    from dp3_jax.replacement.face_actions import Settings

    asked = {name: getattr(arguments, name) for name in ("method", "cover")}
    settings = Settings(**{name: value for name, value in asked.items() if value is not None})
    return open_rendering(
        settings,
        identity_options(arguments),
        Keys(_master_key(arguments)),
        motion=arguments.motion,
        weights=arguments.weights,
        wait=arguments.as_fast_as_possible,
    )


def _policy(arguments: argparse.Namespace, source, motion: str):
    from dp3_jax.detection.face_detection import MIN_CONFIDENCE
    from dp3_jax.pipelines.live.release_policy import new_release_policy

    return new_release_policy(
        (source.width, source.height),
        source.rate,
        arguments.method or "generate",
        MIN_CONFIDENCE if arguments.min_confidence is None else arguments.min_confidence,
        delay=arguments.delay,
        motion=motion,
    )


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Lets a service manager's request to end work like Ctrl-C: a recording is finished."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _keys(renew: Callable[[], None] | None) -> Iterator[bool]:
    """Reads keys from the terminal; gives whether there are any."""
    from dp3_jax.media.live import sinks
    from dp3_jax.pipelines.live import keyboard

    if renew is None:
        yield False
        return
    with keyboard.pressed(lambda key: key == sinks.NEW_PERSON_KEY and renew()) as there:
        yield there


def _opened(arguments: argparse.Namespace, stopping: threading.Event):
    """(source, watch, drawing), of which the last is loaded beside the others."""
    from dp3_jax.media.live import sources

    wanted = sources.Wanted(arguments.size, arguments.fps, paced=not arguments.as_fast_as_possible)
    with ThreadPoolExecutor(1) as beside:
        opening = beside.submit(open_rendering_of, arguments)
        source = sources.open_source(arguments.source, wanted, stopping.wait)
        policy = _policy(arguments, source, arguments.motion)
        live_rendering = opening.result()
    if live_rendering.identity and live_rendering.motion != arguments.motion:
        policy = _policy(arguments, source, live_rendering.motion)
    return source, policy, live_rendering


def _controller(rate: float, delay: int, drop: bool) -> Any:
    """What decides how thorough each frame can be; where no frame is dropped all are."""
    from dp3_jax.pipelines.live import quality_controller as quality

    frame = 1000 / max(rate, 1.0)
    return quality.QualityController(
        quality.START if drop else quality.THOROUGH,
        fixed=not drop,
        latest=quality.LATEST + delay * frame,
        frame=frame,
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    began = time.perf_counter()
    from dp3_jax.common import files
    from dp3_jax.common.opencv import one_thread_each
    from dp3_jax.media.live import sinks
    from dp3_jax.media.video.encoding import EncoderSettings
    from dp3_jax.pipelines.live.persons import Persons
    from dp3_jax.pipelines.live.pipeline import Pipeline
    from dp3_jax.pipelines.live.status import (
        Status,  # imports all that the threads of `_opened` share
    )

    if files.same_file(arguments.source, arguments.to):
        raise UserError(f"--to {arguments.to} would overwrite the source; give another name")
    sinks.check(arguments.to)
    stopping = threading.Event()
    drop = not arguments.as_fast_as_possible
    source, policy, live_rendering = _opened(arguments, stopping)
    persons = Persons(each_entering=arguments.new_person == "entering")
    renew = persons.renew if live_rendering.identity else None
    controller = _controller(source.rate, arguments.delay, drop)
    gc.collect()
    gc.freeze()  # or what all the libraries have made is looked through again and again, 0.1 s each time
    encoder = EncoderSettings(arguments.codec, arguments.crf, arguments.preset, arguments.hardware)
    size = source.width, source.height
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_thread_each())  # the stages share the cores
        stack.callback(live_rendering.close)
        opened = sinks.open_sink(arguments.to, *size, source.rate, encoder, on_new_person=renew)
        sink = stack.enter_context(opened)
        stack.enter_context(_ended_by_sigterm())
        pipeline = Pipeline(
            source.frames,
            policy,
            live_rendering.new_renderer,
            sink,
            controller=controller,
            stopping=stopping,
            drop=drop,
            persons=persons,
            generates=bool(live_rendering.identity),
        )
        typed = arguments.source != "-" and stack.enter_context(_keys(renew))
        shown = arguments.to.partition(":")[0] in ("preview", "window")
        status = Status(
            source, sink, pipeline, policy, controller,
            live_rendering=live_rendering, has_keys=typed or shown, quiet=arguments.quiet, began=began,
        )  # fmt: skip
        try:
            pipeline.run(status.tick)
        finally:
            status.end()
    if pipeline.source_error is not None:  # only now: a recording is finished first
        raise pipeline.source_error
    summary = status.summary()
    if arguments.json:
        print(json.dumps(summary, indent=2), file=sys.stderr if arguments.to == "-" else sys.stdout)
    failed = summary["failures"]["detector"] or summary["failures"]["renderer"]
    return 1 if failed or summary["faces"].get("covered") else 0
