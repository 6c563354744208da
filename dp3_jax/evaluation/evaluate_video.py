"""`dp3 evaluate-video`: is a clip's anonymization steady, complete and private?

Reads the source clip and all its anonymized variants side by side, once, frame by frame. Everything is
measured inside the faces' areas, and next to the source clip's own value.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.detection.tracks import Tracking, by_frame
from dp3_jax.evaluation.video_clip import FACE_VERIFIERS, SOURCE, Clip, Faces, Render, Values
from dp3_jax.media.video import reading
from dp3_jax.metrics import temporal, verification, video_motion, video_privacy
from dp3_jax.models.mesh import FaceMesh

_WITHOUT = "do without it: all else is measured"  # what to do where a judge cannot be had

Variant = str | os.PathLike | Render
Variants = Variant | Sequence[Variant]  # of one key, or of several


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
    return {"value": value, "source": source, "ratio": temporal.ratio(value, source)}


def _row(values: Values, source: Values) -> dict[str, Any]:
    """What is reported of a track, or of all; `values` may be of several keys, `source` is of one."""
    steadiness = {
        name: _against(getattr(values, field).value, getattr(source, field).value)
        for name, field in (
            ("warping_error", "warping"),
            ("warping_error_own", "warping_own"),
            ("identity_adjacent", "adjacent"),
            ("identity_all_pairs", "all_pairs"),
            ("landmark_jitter", "jitter"),
            ("flicker", "flicker"),
            ("face_found", "found"),
            ("own_flow_seen", "own_seen"),
        )
    }
    if values is source:
        return {**steadiness, "faces": values.observations}
    coverage = {
        "faces": values.observations,
        "judged_faces": values.judged_faces,
        "shown_faces": values.shown_faces,
        "shown_in_frames": values.shown,
        "judged_pixels": values.judged_pixels,
        "shown_pixels": values.shown_pixels,
        "unchanged_around": values.outside.value,
    }
    return {**steadiness, "faces": values.observations, "coverage": coverage}


def _merged(many: Iterable[Values]) -> Values:
    total = Values()
    for values in many:
        total.merge(values)
    return total


def _motion(clip: Clip, members: Sequence[str]) -> dict[str, Any]:
    """How the faces of a variant, over its members, move as the source's do."""
    pairs = [(f[name].motion, f[SOURCE].motion) for f in clip.faces.values() for name in members]
    left_out = sum(own.left_out(source) for own, source in pairs)
    return video_motion.summary([own.follows(source) for own, source in pairs], left_out)


def _other_people(clip: Clip, number: int) -> list[int]:
    """Tracks that are surely of someone else: on screen at the same time."""
    own = clip.tracks[number]
    return [
        n
        for n, track in clip.tracks.items()
        if n != number and track.first <= own.last and own.first <= track.last
    ]


def _recognitions(
    clip: Clip, verifier_name: str, impostors: np.ndarray, member: str
) -> list[video_privacy.Recognition]:
    """For each track of the clip how well its person is known again in a member."""
    people = {n: faces[SOURCE].embedded(verifier_name) for n, faces in clip.faces.items()}
    found = []
    for number, faces in clip.faces.items():
        others = [impostors]
        for other in _other_people(clip, number):
            chosen = video_privacy.evenly(len(people[other].frames), video_privacy.PICTURES)
            others.append(people[other].embeddings[chosen])
        rows = [pictures for pictures in others if len(pictures)]
        someone = np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)
        track = faces[member].embedded(verifier_name)
        found.append(video_privacy.recognize(track, people[number], someone))
    return found


def _recognition(
    clip: Clip, impostors: Mapping[str, np.ndarray], members: Sequence[str]
) -> dict[str, Any]:
    """By judge: are the clip's people known again in a variant?"""
    result = {}
    for verifier_name, verifier in clip.verifiers.items():
        keys = [
            _recognitions(clip, verifier_name, impostors[verifier_name], name) for name in members
        ]
        summary = video_privacy.summary(itertools.chain(*keys), verifier.threshold)
        known = video_privacy.known(keys, verifier.threshold)
        result[verifier_name] = {**summary, "keys": len(keys), "keys_known": known}
    return result


def _linked(clip: Clip, members: Sequence[str]) -> dict[str, Any]:
    """By judge: are two keys' tracks of one person taken for one person?"""
    return {
        verifier_name: {
            "threshold": verifier.threshold,
            **video_privacy.linked(
                [
                    [f[m].embedded(verifier_name).embeddings for m in members]
                    for f in clip.faces.values()
                ],
                verifier.threshold,
            ),
        }
        for verifier_name, verifier in clip.verifiers.items()
    }


def _result(
    clip: Clip, members: Mapping[str, Sequence[str]], impostors: np.ndarray | None
) -> dict[str, Any]:
    """All that was measured, by the names of the variants."""
    unknown = {}
    for verifier_name, verifier in clip.verifiers.items():
        rows, found = (
            verifier.embed(impostors)
            if impostors is not None and len(impostors)
            else (np.zeros((0, 1), np.float32), np.zeros(0, bool))
        )
        unknown[verifier_name] = rows[found]
    for faces in clip.faces.values():
        for face in faces.values():
            face.embed_rest(clip.verifiers)
    finished = {n: {name: face.finish() for name, face in f.items()} for n, f in clip.faces.items()}
    source = _merged(faces[SOURCE] for faces in finished.values())
    variants = {}
    for name, own in members.items():
        alone = {m: _merged(faces[m] for faces in finished.values()) for m in own}
        total = source if name == SOURCE else _merged(alone.values())
        tracks = {}
        for number, faces in finished.items():
            track = faces[SOURCE] if name == SOURCE else _merged(faces[m] for m in own)
            tracks[str(number)] = _row(track, faces[SOURCE])
        variants[name] = {
            **_row(total, source),
            "recognition": _recognition(clip, unknown, own),
            "tracks": tracks,
        }
        if name != SOURCE and clip.has_mesh:
            variants[name]["motion"] = _motion(clip, own)
        if len(own) > 1:
            variants[name]["keys"] = [
                {
                    **_row(alone[m], source),
                    **({"motion": _motion(clip, [m])} if clip.has_mesh else {}),
                }
                for m in own
            ]
            variants[name]["linked"] = _linked(clip, own)
    return {"variants": variants}


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


def _files(given: Mapping[str, Sequence[Variant]]) -> dict[str, list[str]]:
    """Names of the files of those variants that are some."""
    named = {name: [str(one) for one in many if not callable(one)] for name, many in given.items()}
    return {name: many for name, many in named.items() if many}


def _mesh(missing: dict[str, str]) -> FaceMesh | None:
    """The mesh; None, and the reason in `missing`, where it cannot be had."""
    try:
        return FaceMesh()
    except UserError as error:
        missing["motion"] = str(error)
        return None


def _render(variant: Variant, stack: contextlib.ExitStack) -> Render:
    """A variant's frames as a function, open as long as `stack`."""
    if callable(variant):
        return variant
    return _File(variant, stack.enter_context(reading.read_frames(variant)))


def _members(variants: Mapping[str, Variants]) -> dict[str, list[Variant]]:
    return {
        name: list(given) if isinstance(given, list | tuple) else [given]
        for name, given in variants.items()
    }


def evaluate(
    original: str | os.PathLike,
    variants: Mapping[str, Variants],
    tracking: Tracking,
    *,
    verifiers: Sequence[str] = tuple(FACE_VERIFIERS),
    impostors: np.ndarray | None = None,
    frames: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measures anonymized variants of a clip.

    Args:
      original: the source clip, or the pattern of numbered pictures.
      variants: by name, anonymized files or patterns, or functions that anonymize frame by frame; several of
        one name are of several keys, and are reported together.
      tracking: the faces of the source clip. Tracks that are kept are not looked at.
      verifiers: of JUDGES; the first one measures how steady identity is, all whether people are known again.
      impostors: u8[k, 128, 128, 3] canonical views of people who are not in the clip, for what chance gives;
        people who are on screen at the same time serve too.
      frames: only so many, from the start; variants may then be longer.
      progress: called with (frames done, frames in all).

    Returns:
      For JSON and `video_report.format_report`. Measures come with the source's own values and the ratios.

    Raises:
      UserError: a file cannot be read, the clips or the tracks do not belong together, a judge is unknown,
        or the detector's network cannot be had.
    """
    given = _members(variants)
    if SOURCE in given:
        raise UserError(f"a variant cannot be called {SOURCE!r}, which is the original; rename it")
    members = {SOURCE: [SOURCE]} | {
        name: [f"{name} {i}" for i, _ in enumerate(many)] for name, many in given.items()
    }
    opened, missing = verification.open_verifiers(verifiers, FACE_VERIFIERS, "verifiers", _WITHOUT)
    clip = Clip(tracking, list(itertools.chain(*members.values())), opened, _mesh(missing))
    last = min(frames or tracking.frames, tracking.frames)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(reading.read_frames(original))
        renders = {
            member: _render(one, stack)
            for name, many in given.items()
            for member, one in zip(members[name], many, strict=True)
        }
        _measure(clip, original, source, renders, tracking=tracking, last=last, progress=progress)
        for render in renders.values():
            if isinstance(render, _File) and frames is None:
                render.finish()
    return {
        "original": str(original),
        "files": _files(given),
        "frames": last,
        "tracks": len(clip.tracks),
        "judges": {name: one.name for name, one in opened.items()},
        "not_measured": missing,
        "strangers": 0 if impostors is None else len(impostors),
        **_result(clip, members, impostors),
    }


def compare(
    original: str | os.PathLike,
    anonymized: str | os.PathLike,
    tracking: Tracking,
    **options: Any,
) -> dict[str, Any]:
    """`evaluate` of one anonymized file, called "anonymized"."""
    return evaluate(original, {"anonymized": anonymized}, tracking, **options)
