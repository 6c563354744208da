"""The video part of `dp3 demo`: a clip of a generated person, anonymized and measured.

Where the face prior cannot be had, the clip is made from the public-domain photo.
"""

import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.common.files import atomic_target
from dp3_jax.common.stages import Progress
from dp3_jax.detection.tracks import Tracking
from dp3_jax.evaluation import demo_person, evaluate_video
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.video import job, track_file

RATE = demo_person.RATE  # frames a second
WIDTH, HEIGHT = 640, 480  # px, of the photo's clip
ORIGINAL, ANONYMIZED = "clip.mp4", "clip_anonymized.mp4"

_TALKING_FRAMES, _TALKING_SIDE = 50, 384  # px
_PANNED_FRAMES = 75
_NOISE = 2.0  # levels, standard deviation of a camera's; without it nothing changes but by motion
# The camera's path over the photo, from the first frame to the last: where it looks in shares of the photo's
# size, px of the clip for each px of the photo, and degrees of roll.
_EXPRESSION_AT = ((0.46, 0.345), (0.50, 0.29))
_ZOOM = (1.5, 2.0)
_ROLL = (-3.0, 5.0)


def pan(photo: np.ndarray, frames: int) -> Iterator[np.ndarray]:
    """A camera that goes over a square photo u8[s, s, 3]: u8[480, 640, 3], one after the other."""
    random = np.random.default_rng(0)
    side = photo.shape[0]
    steps = np.linspace(0.0, 1.0, frames)
    for when in steps * steps * (3 - 2 * steps):  # starts and ends gently
        x, y = ((1 - when) * a + when * b for a, b in zip(*_EXPRESSION_AT, strict=True))
        zoom, roll = ((1 - when) * a + when * b for a, b in (_ZOOM, _ROLL))
        motion = cv2.getRotationMatrix2D((x * side, y * side), roll, zoom * 512 / side)
        motion[:, 2] += np.array([WIDTH / 2, HEIGHT / 2]) - (x * side, y * side)
        picture = cv2.warpAffine(
            photo, motion, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )
        noise = random.standard_normal(picture.shape, np.float32) * _NOISE
        yield np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


class Original(NamedTuple):
    """A clip to be anonymized.

    Attributes:
      what: it shows, as the report says it.
      frames: how many.
      pictures: u8[h, w, 3], one after the other.
    """

    what: str
    frames: int
    pictures: Iterable[np.ndarray]


def original(photo: np.ndarray, anonymizer: Anonymizer, frames: int | None = None) -> Original:
    """The best clip that can be made: of a generated person, or of the photo u8[s, s, 3] without the prior.

    Raises:
      UserError: no new faces can be had.
    """
    renderer = anonymizer.renderer
    if renderer.identity == "prior":
        frames = frames or _TALKING_FRAMES
        pictures = demo_person.talking(renderer.source, frames, _TALKING_SIDE)
        return Original("a generated person who turns, speaks and blinks", frames, pictures)
    frames = frames or _PANNED_FRAMES
    return Original("the photo, over which a camera moves", frames, pan(photo, frames))


def write_clip(path: pathlib.Path, pictures: Iterable[np.ndarray]) -> None:
    """Writes u8[h, w, 3] as H.264 in MP4.

    Raises:
      UserError: it cannot be written.
    """
    with atomic_target(path) as temporary, av.open(str(temporary), "w", format="mp4") as output:
        stream = output.add_stream("libx264", RATE, options={"crf": "16", "preset": "veryfast"})
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))


def make(
    folder: pathlib.Path,
    pictures: Iterable[np.ndarray],
    anonymizer: Anonymizer,
    master_key: bytes,
    progress: Progress,
) -> tuple[Tracking, job.Summary]:
    """Writes a clip and anonymizes it as `dp3 anonymize` does, into `folder`.

    Args:
      folder: gets ORIGINAL, ANONYMIZED and its tracks.
      pictures: u8[h, w, 3], of the clip.
      anonymizer: detector and what makes new faces.
      master_key: of the new face.
      progress: as of `job.process`.

    Raises:
      UserError: a model cannot be had, or a file cannot be written.
    """
    write_clip(folder / ORIGINAL, pictures)
    target = folder / ANONYMIZED
    request = job.Request(
        source=folder / ORIGINAL, target=target, master_key=master_key, sidecar=True
    )
    _, summary = job.process(request, anonymizer, progress)
    return track_file.read(job.sidecar_path(target)).tracking, summary


def anonymize_clip(
    folder: pathlib.Path,
    clip: Original,
    anonymizer: Anonymizer,
    master_key: bytes,
    progress: Progress,
) -> dict[str, Any]:
    """`make`, and measures the result; arguments and errors as there.

    Returns:
      For `format_report`: what, frames, tracks, seconds_finding, seconds_drawing, faces_judged, faces_shown;
      warping_to_original: warping error by the own flow, as a ratio; identity_to_original: the same of the
      likeness of all pairs of frames; best_cosine of any frame to the original, same_person_from.
    """
    tracking, summary = make(folder, clip.pictures, anonymizer, master_key, progress)
    result = evaluate_video.compare(
        folder / ORIGINAL,
        folder / ANONYMIZED,
        tracking,
        verifiers=("sface",),
        progress=lambda _, total: progress("measuring", 1, total),
    )
    if "sface" in (missing := result["not_measured"]):
        raise UserError(missing["sface"])
    row = result["variants"]["anonymized"]
    warping, own = row["warping_error_own"], row["recognition"]["sface"]
    finding, drawing = summary.seconds_of_passes
    return {
        "what": clip.what,
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
        "detecting faces": f"{pace(report['seconds_finding'])}; {report['tracks']} {people}",
        "rendering new ones": pace(report["seconds_drawing"]),
        "original face shows": f"in {report['faces_shown']} of {report['faces_judged']} frames",
        "flicker (warping error)": _ratio(report["warping_to_original"], "the original's"),
        "likeness between frames": _ratio(report["identity_to_original"], "the original's"),
        "cosine of the best frame": known,
    }
    return "\n".join(
        [
            f"A clip of {report['what']}, {report['frames']} frames:",
            *(f"  {name:<28} {value}" for name, value in rows.items()),
            f"before: {folder / ORIGINAL}",
            f"after:  {folder / ANONYMIZED}",
        ]
    )
