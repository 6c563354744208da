"""The video part of `dp3 demo`: a clip made from the public-domain photo, anonymized and measured."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import av
import cv2
import numpy as np

from dp3_jax.anonymization.anonymize import Anonymizer
from dp3_jax.errors import UserError
from dp3_jax.evaluation import evaluate_video, video_variants
from dp3_jax.evaluation.video_clip import SOURCE
from dp3_jax.files import atomic_target
from dp3_jax.video import job, reading, track_file
from dp3_jax.video.stages import Progress
from dp3_jax.video.tracks import Tracking

FRAMES, RATE = 75, 25
WIDTH, HEIGHT = 640, 480  # px
ORIGINAL, ANONYMIZED = "clip.mp4", "clip_anonymized.mp4"
MEASURING = "measuring"  # what `Progress` is told while frames are measured

_NOISE = 2.0  # levels, standard deviation of a camera's; without it nothing changes but by motion
# The camera's path over the photo, from the first frame to the last: where it looks in shares of the photo's
# size, px of the clip for each px of the photo, and degrees of roll.
_LOOKS_AT = ((0.36, 0.46), (0.54, 0.36))
_ZOOM = (1.45, 2.0)
_ROLL = (-3.0, 5.0)


def pan(photo: np.ndarray, frames: int = FRAMES) -> Iterator[np.ndarray]:
    """A camera that goes over a square photo u8[s, s, 3]: u8[480, 640, 3], one after the other."""
    random = np.random.default_rng(0)
    side = photo.shape[0]
    for when in np.linspace(0.0, 1.0, frames):
        when = when * when * (3 - 2 * when)  # starts and ends gently
        x, y = ((1 - when) * a + when * b for a, b in zip(*_LOOKS_AT, strict=True))
        zoom, roll = ((1 - when) * a + when * b for a, b in (_ZOOM, _ROLL))
        motion = cv2.getRotationMatrix2D((x * side, y * side), roll, zoom * 512 / side)
        motion[:, 2] += np.array([WIDTH / 2, HEIGHT / 2]) - (x * side, y * side)
        picture = cv2.warpAffine(
            photo, motion, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )
        noise = random.standard_normal(picture.shape, np.float32) * _NOISE
        yield np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def write_clip(path: pathlib.Path, photo: np.ndarray, frames: int = FRAMES) -> None:
    """Writes `pan` as H.264 in MP4.

    Raises:
      UserError: it cannot be written.
    """
    with atomic_target(path) as temporary, av.open(str(temporary), "w", format="mp4") as output:
        stream = output.add_stream("libx264", RATE, options={"crf": "16", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in pan(photo, frames):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))


def make(
    folder: pathlib.Path,
    photo: np.ndarray,
    anonymizer: Anonymizer,
    secret: bytes,
    progress: Progress,
    *,
    frames: int = FRAMES,
) -> tuple[Tracking, job.Summary]:
    """Makes the clip and anonymizes it as `dp3 anonymize` does, into `folder`.

    Args:
      folder: gets ORIGINAL, ANONYMIZED and its tracks.
      photo: u8[s, s, 3].
      anonymizer: detector and generator.
      secret: of the new face.
      progress: as of `job.process`.
      frames: of the clip.

    Raises:
      UserError: a model cannot be had, or a file cannot be written.
    """
    write_clip(folder / ORIGINAL, photo, frames)
    target = folder / ANONYMIZED
    request = job.Request(source=folder / ORIGINAL, target=target, secret=secret, sidecar=True)
    _, summary = job.process(request, anonymizer, progress)
    return track_file.read(job.sidecar_path(target)).tracking, summary


def run(
    folder: pathlib.Path,
    photo: np.ndarray,
    anonymizer: Anonymizer,
    secret: bytes,
    progress: Progress,
    *,
    frames: int = FRAMES,
) -> dict[str, Any]:
    """`make`, and measures the result beside frame-by-frame generation; arguments and errors as there.

    Returns:
      For JSON and `format_report`.
    """
    tracking, summary = make(folder, photo, anonymizer, secret, progress, frames=frames)
    generator, is_face = anonymizer.parts()
    per_frame = video_variants.PER_FRAME
    standard = video_variants.standard(tracking, generator, is_face, ablations=False)
    variants = {
        video_variants.GENERATE: folder / ANONYMIZED,
        per_frame: standard[per_frame],
    }
    result = evaluate_video.evaluate(
        folder / ORIGINAL,
        variants,
        tracking,
        judges=("sface",),
        progress=_counted(progress),
    )
    if missing := result["not_measured"]:
        raise UserError(missing["sface"])
    return {
        "frames": summary.frames,
        "tracks": len(tracking.tracks),
        "seconds_finding_faces": summary.seconds_of_passes[0],
        "seconds_drawing": summary.seconds_of_passes[1],
        "targets": video_variants.targets(result),
        "result": result,
    }


def _counted(progress: Progress) -> Callable[[int, int], None]:
    """Tells `progress` of one frame for each call with (frames done, frames in all)."""
    return lambda done, total: progress(MEASURING, 1, total)


def format_report(report: dict[str, Any], folder: pathlib.Path) -> str:
    """What the command prints."""
    variants = report["result"]["variants"]
    ours, per_frame = variants[video_variants.GENERATE], variants[video_variants.PER_FRAME]
    warping = ours["warping_error"]
    coverage = ours["coverage"]
    frames = report["frames"]

    def number(value: float | None) -> str:
        return "not measurable" if value is None else f"{value:.2f}"

    def pace(what: str) -> str:
        seconds = report[f"seconds_{what}"]
        return f"{seconds:.1f} s ({frames / seconds:.0f} frames/s)"

    def best(name: str) -> float | None:
        return variants[name]["recognition"]["sface"]["own"]["best_cosine"]

    faster = None if not warping["value"] else per_frame["warping_error"]["value"] / warping["value"]
    threshold = ours["recognition"]["sface"]["threshold"]
    lines = [
        f"The photo as a clip: {frames} frames of {WIDTH}x{HEIGHT}, {report['tracks']} person; finding faces "
        f"{pace('finding_faces')}, drawing {pace('drawing')}",
        f"  faces that show               {coverage['shown_faces']} of {coverage['judged_faces']}",
    ]
    return "\n".join(lines)
