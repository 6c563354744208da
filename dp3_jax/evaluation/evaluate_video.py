"""`dp3 evaluate-video`: is a clip's anonymization steady, complete and private?

Reads the source clip and all its anonymized variants side by side, once, frame by frame. Everything is
measured inside the faces' areas, and next to the source clip's own value.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dp3_jax.errors import UserError
from dp3_jax.evaluation import verification, video_metrics, video_privacy
from dp3_jax.evaluation.video_clip import JUDGES, SOURCE, Clip, Faces, Render, Values
from dp3_jax.video import reading
from dp3_jax.video.tracks import Tracking, by_frame

_WITHOUT = "do without it: all else is measured"  # what to do where a judge cannot be had

Variant = str | os.PathLike | Render


class _File:
    """An anonymized file as a variant."""

    def __init__(self, path: str | os.PathLike, frames: Iterator[reading.Frame]):
        """`frames`: of the file at `path`."""
        self._path = path
        self._frames = frames

    def __call__(self, image: np.ndarray, faces: Faces, cut: bool) -> np.ndarray:
        """Its next frame, which must have the size of `image`."""
        del faces, cut
        frame = next(self._frames, None)
        if frame is None:
            raise UserError(
                f"{self._path} has fewer frames than the original; give two equal clips"
            )
        if frame.image.shape != image.shape:
            own, other = (f"{i.shape[1]}x{i.shape[0]}" for i in (frame.image, image))
            raise UserError(f"{self._path} is {own}, the original {other}; give two equal clips")
        return frame.image

    def finish(self) -> None:
        """Makes sure that this was all."""
        if next(self._frames, None) is not None:
            raise UserError(f"{self._path} has more frames than the original; give two equal clips")


def _against(value: float | None, source: float | None) -> dict[str, float | None]:
    return {"value": value, "source": source, "ratio": video_metrics.ratio(value, source)}


def _row(values: Values, source: Values) -> dict[str, Any]:
    """What is reported of a track, or of all."""
    steadiness = {
        name: _against(getattr(values, field).value, getattr(source, field).value)
        for name, field in (
            ("warping_error", "warping"),
            ("identity_adjacent", "adjacent"),
            ("identity_all_pairs", "all_pairs"),
            ("landmark_jitter", "jitter"),
            ("flicker", "flicker"),
            ("face_found", "found"),
        )
    }
    if values is source:
        return {**steadiness, "faces": values.sightings}
    coverage = {
        "faces": values.sightings,
        "judged_faces": values.judged_faces,
        "shown_faces": values.shown_faces,
        "shown_in_frames": values.shown,
        "judged_pixels": values.judged_pixels,
        "shown_pixels": values.shown_pixels,
        "unchanged_around": values.outside.value,
    }
    return {**steadiness, "faces": values.sightings, "coverage": coverage}


def _other_people(clip: Clip, number: int) -> list[int]:
    """Tracks that are surely of someone else: on screen at the same time."""
    own = clip.tracks[number]
    return [
        n
        for n, track in clip.tracks.items()
        if n != number and track.first <= own.last and own.first <= track.last
    ]


def _recognition(
    clip: Clip, judge: str, strangers: np.ndarray, probe: str, gallery: str
) -> dict[str, Any]:
    """Are the tracks of variant `probe` known from pictures of variant `gallery`?"""
    people = {n: faces[gallery].embedded(judge) for n, faces in clip.faces.items()}
    recognitions = []
    for number, faces in clip.faces.items():
        others = [strangers]
        for other in _other_people(clip, number):
            chosen = video_privacy.evenly(len(people[other].frames), video_privacy.PICTURES)
            others.append(people[other].embeddings[chosen])
        rows = [pictures for pictures in others if len(pictures)]
        someone = np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)
        track = faces[probe].embedded(judge)
        recognitions.append(video_privacy.recognize(track, people[number], someone))
    return video_privacy.summary(recognitions, clip.judges[judge].threshold)


def _result(
    clip: Clip,
    names: Sequence[str],
    strangers: np.ndarray | None,
    links: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """All that was measured."""
    unknown = {}
    for judge, verifier in clip.judges.items():
        rows, found = (
            verifier.embed(strangers)
            if strangers is not None and len(strangers)
            else (np.zeros((0, 1), np.float32), np.zeros(0, bool))
        )
        unknown[judge] = rows[found]
    finished = {n: {name: face.finish() for name, face in f.items()} for n, f in clip.faces.items()}
    total = {name: Values() for name in names}
    for faces in finished.values():
        for name, values in faces.items():
            total[name].merge(values)
    variants = {}
    for name in names:
        variants[name] = {
            **_row(total[name], total[SOURCE]),
            "recognition": {
                judge: _recognition(clip, judge, unknown[judge], name, SOURCE)
                for judge in clip.judges
            },
            "tracks": {str(n): _row(faces[name], faces[SOURCE]) for n, faces in finished.items()},
        }
    linked = [
        {
            "first": first,
            "second": second,
            "recognition": {
                judge: _recognition(clip, judge, unknown[judge], first, second)
                for judge in clip.judges
            },
        }
        for first, second in links
    ]
    return {"variants": variants, "linkage": linked}


def _measure(
    clip: Clip,
    original: str | os.PathLike,
    source: reading.FrameReader,
    renders: Mapping[str, Render],
    *,
    tracking: Tracking,
    last: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Shows the clip the first `last` frames of the source, called `original`, and of all variants."""
    faces_in, cuts, done = by_frame(tracking), frozenset(tracking.cuts), 0
    for number, frame in enumerate(itertools.islice(source, last)):
        if frame.image.shape[:2] != (tracking.height, tracking.width):
            raise UserError(f"{original} has another size than its tracks; track it again")
        faces, cut = faces_in(number), number in cuts
        images = {SOURCE: frame.image}
        for name, render in renders.items():
            images[name] = render(frame.image, faces, cut)
        clip.frame(number, images, faces, cut)
        done = number + 1
        if progress is not None:
            progress(done, last)
    if done != last:
        raise UserError(f"{original} has {done} frames, its tracks {last}; track it again")


def evaluate(
    original: str | os.PathLike,
    variants: Mapping[str, Variant],
    tracking: Tracking,
    *,
    judges: Sequence[str] = tuple(JUDGES),
    strangers: np.ndarray | None = None,
    links: Sequence[tuple[str, str]] = (),
    frames: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measures anonymized variants of a clip.

    Args:
      original: the source clip, or the pattern of numbered pictures.
      variants: by name, anonymized files or patterns or functions that anonymize frame by frame.
      tracking: the faces of the source clip. Tracks that are kept are not looked at.
      judges: of JUDGES; the first one measures how steady identity is, all whether people are known again.
      strangers: u8[k, 128, 128, 3] canonical views of people who are not in the clip, for what chance gives;
        people who are on screen at the same time serve too.
      links: pairs of variants, made with different secrets, in which the tracks are searched for each other.
      frames: only so many, from the start.
      progress: called with (frames done, frames in all).

    Returns:
      For JSON and `video_report.format_report`. Each measure comes with the source clip's own value and
      the ratio of both.

    Raises:
      UserError: a file cannot be read, the clips or the tracks do not belong together, a judge is unknown,
        or the detector's network cannot be had.
    """
    if SOURCE in variants:
        raise UserError(f"a variant cannot be called {SOURCE!r}, which is the original; rename it")
    opened, missing = verification.open_judges(judges, JUDGES, "judges", _WITHOUT)
    clip = Clip(tracking, names := [SOURCE, *variants], opened)
    last = min(frames or tracking.frames, tracking.frames)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(reading.read_frames(original))
        renders: dict[str, Render] = {
            name: one
            if callable(one)
            else _File(one, stack.enter_context(reading.read_frames(one)))
            for name, one in variants.items()
        }
        _measure(clip, original, source, renders, tracking=tracking, last=last, progress=progress)
        for render in renders.values():
            if isinstance(render, _File) and last == tracking.frames:
                render.finish()
    return {
        "original": str(original),
        "files": {n: str(v) for n, v in variants.items() if not callable(v)},
        "frames": last,
        "tracks": len(clip.tracks),
        "judges": {name: judge.name for name, judge in opened.items()},
        "not_measured": missing,
        "strangers": 0 if strangers is None else len(strangers),
        **_result(clip, names, strangers, links),
    }


def compare(
    original: str | os.PathLike,
    anonymized: str | os.PathLike,
    tracking: Tracking,
    **options: Any,
) -> dict[str, Any]:
    """`evaluate` of one anonymized file, called "anonymized"."""
    return evaluate(original, {"anonymized": anonymized}, tracking, **options)
