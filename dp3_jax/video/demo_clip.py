"""The video part of `dp3 demo`: a clip made from the public-domain photo, anonymized and measured."""

import pathlib
from collections.abc import Iterator
from typing import Any

import av
import cv2
import numpy as np

from dp3_jax.anonymization.anonymize import Anonymizer
from dp3_jax.errors import UserError
from dp3_jax.evaluation import evaluate_video
from dp3_jax.files import atomic_target
from dp3_jax.video import job, track_file
from dp3_jax.video.stages import Progress
from dp3_jax.video.tracks import Tracking

FRAMES, RATE = 75, 25
WIDTH, HEIGHT = 640, 480  # px
ORIGINAL, ANONYMIZED = "clip.mp4", "clip_anonymized.mp4"

_NOISE = 2.0  # levels, standard deviation of a camera's; without it nothing changes but by motion
# The camera's path over the photo, from the first frame to the last: where it looks in shares of the photo's
# size, px of the clip for each px of the photo, and degrees of roll.
_LOOKS_AT = ((0.46, 0.345), (0.50, 0.29))
_ZOOM = (1.5, 2.0)
_ROLL = (-3.0, 5.0)


def pan(photo: np.ndarray, frames: int = FRAMES) -> Iterator[np.ndarray]:
    """A camera that goes over a square photo u8[s, s, 3]: u8[480, 640, 3], one after the other."""
    random = np.random.default_rng(0)
    side = photo.shape[0]
    steps = np.linspace(0.0, 1.0, frames)
    for when in steps * steps * (3 - 2 * steps):  # starts and ends gently
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
    """`make`, and measures the result; arguments and errors as there.

    Returns:
      For `format_report`: frames, tracks, seconds_finding, seconds_drawing, faces_judged, faces_shown;
      warping_to_original: warping error by the own flow, as a ratio; identity_to_original: the same of the
      likeness of all pairs of frames; best_cosine of any frame to the original, same_person_from.
    """
    tracking, summary = make(folder, photo, anonymizer, secret, progress, frames=frames)
    result = evaluate_video.compare(
        folder / ORIGINAL,
        folder / ANONYMIZED,
        tracking,
        judges=("sface",),
        progress=lambda _, total: progress("measuring", 1, total),
    )
    if "sface" in (missing := result["not_measured"]):
        raise UserError(missing["sface"])
    row = result["variants"]["anonymized"]
    warping, own = row["warping_error_own"], row["recognition"]["sface"]
    finding, drawing = summary.seconds_of_passes
    return {
        "frames": summary.frames,
        "tracks": len(tracking.tracks),
        "seconds_finding": finding,
        "seconds_drawing": drawing,
        "faces_judged": row["coverage"]["judged_faces"],
        "faces_shown": row["coverage"]["shown_faces"],
        "warping_to_original": warping["ratio"],
        "identity_to_original": row["identity_all_pairs"]["ratio"],
        "best_cosine": own["own"]["best_cosine"],
        "same_person_from": own["threshold"],
    }


def _ratio(value: float | None, of_what: str) -> str:
    return f"unknown, {of_what}" if value is None else f"{value:.2f} x {of_what}"


def format_report(report: dict[str, Any], folder: pathlib.Path) -> str:
    """What the command prints; `report` of `run`."""

    def pace(seconds: float) -> str:
        return f"{seconds:.1f} s, {report['frames'] / seconds:.0f} frames/s"

    best = report["best_cosine"]
    known = "no face found any more"
    if best is not None:
        same = best >= report["same_person_from"]
        known = f"{best:.3f}  {'the same person' if same else 'not the same person'}"
    people = "person" if report["tracks"] == 1 else "people"
    rows = {
        "finding faces": f"{pace(report['seconds_finding'])}; {report['tracks']} {people}",
        "drawing new ones": pace(report["seconds_drawing"]),
        "original face shows": f"in {report['faces_shown']} of {report['faces_judged']} frames",
        "flicker (warping error)": _ratio(report["warping_to_original"], "the original's"),
        "likeness between frames": _ratio(report["identity_to_original"], "the original's"),
        "cosine of the best frame": known,
    }
    return "\n".join(
        [
            f"The photo as a video, {report['frames']} frames of {WIDTH}x{HEIGHT}:",
            *(f"  {name:<28} {value}" for name, value in rows.items()),
            "  (A photo that is only moved hardly flickers, so the ratio of warping errors is high here.)",
            f"before: {folder / ORIGINAL}",
            f"after:  {folder / ANONYMIZED}",
        ]
    )
