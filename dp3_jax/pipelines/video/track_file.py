"""The tracks file: one JSON file beside a video with its tracks, to look at, edit and render again.

Each track holds its observations as columns, so that an hour stays a few megabytes. Numbers come back exactly
as they were. By hand one sets `keep` or `method` of a track, or adds to `edits`, which are applied in their
order when the file is read; its form is described in tracks.schema.json. The file holds the keys of the new
faces but not the secret they come from, and neither the video's name nor any of its pixels.
"""

import dataclasses
import itertools
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import dp3_jax
from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.detection import tracks
from dp3_jax.detection.detections import FaceSource
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.detection.kinds import FACE, TargetKind
from dp3_jax.detection.tracks import (
    NOT_SURELY_A_FACE,
    SOURCES,
    Observation,
    Track,
    Tracking,
)
from dp3_jax.pipelines.sidecar import (
    identity_entry,
    parse_identity,
    read_box,
    read_json,
    read_kind,
    read_points,
)
from dp3_jax.replacement import key_derivation
from dp3_jax.replacement.face_actions import Settings
from dp3_jax.replacement.options import IdentityOptions

FORMAT = "dp3 tracks 1"
SUFFIX = ".tracks.json"
SCHEMA = pathlib.Path(__file__).with_name("tracks.schema.json")


@dataclasses.dataclass(frozen=True)
class TrackFile:
    """What a tracks file says, its edits applied.

    Attributes:
      tracking: where the faces are.
      keys: of the new faces, 32 bytes, by track number.
      settings: how faces are anonymized.
      generator: sha256 of the weights that drew the faces; None when none was drawn.
      identity: where they come from; None where it is not said.
    """

    tracking: Tracking
    keys: Mapping[int, bytes]
    settings: Settings
    generator: str | None
    identity: IdentityOptions | None = None


def _single(values: np.ndarray) -> list:
    """f32 values as the shortest decimals that give the same f32 when read back."""
    return [[float(str(v)) for v in row] for row in values]


def _track(track: Track, key: bytes | None) -> dict[str, Any]:
    runs = itertools.groupby(s.source for s in track.observations)
    kind = track.observations[0].kind
    measured = any(s.vector is not None for s in track.observations)
    return {
        "number": track.number,
        **({} if kind is FACE else {"kind": kind.name}),
        "keep": track.keep,
        "method": track.method,
        "reason": track.reason,
        **({"low_confidence": True} if track.low_confidence else {}),
        "key": None if key is None else key.hex(),
        "first": track.first,
        "sources": [[source, len(list(run))] for source, run in runs],
        "confidence": [float(s.confidence) for s in track.observations],
        "boxes": [[float(v) for v in s.box] for s in track.observations],
        "points": [
            None if s.keypoints is None else _single(s.keypoints) for s in track.observations
        ],
        **({"vectors": [s.vector for s in track.observations]} if measured else {}),
    }


def encode(
    tracking: Tracking,
    settings: Settings,
    keys: Mapping[int, bytes],
    generator: str | None,
    *,
    identity: IdentityOptions | None = None,
) -> bytes:
    """The content of a tracks file.

    Args:
      tracking: what it holds.
      settings: that the video is rendered with.
      keys: of the new faces by track number; a track may have none.
      generator: fingerprint of the weights; None when no face was drawn.
      identity: where the new faces come from; None likewise.
    """
    head = {
        "format": FORMAT,
        "version": dp3_jax.__version__,
        "video": {
            "frames": tracking.frames,
            "width": tracking.width,
            "height": tracking.height,
        },
        "settings": dataclasses.asdict(settings),
        "generator": generator,
        **({} if identity is None else {"identity": identity_entry(identity)}),
        "cuts": list(tracking.cuts),
        "edits": [],
    }

    # One line for each column: json's own indentation would take a line for each number.
    def line(name: str, value: Any) -> str:
        return f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}"

    described = (_track(track, keys.get(track.number)) for track in tracking.tracks)
    bodies = (",\n ".join(line(*item) for item in track.items()) for track in described)
    listed = ",\n".join(f"{{{body}}}" for body in bodies)
    text = ",\n".join([*(line(*item) for item in head.items()), f'"tracks": [\n{listed}\n]'])
    return f"{{{text}}}\n".encode()


def write(
    path: str | os.PathLike,
    tracking: Tracking,
    settings: Settings,
    keys: Mapping[int, bytes],
    generator: str | None,
    *,
    identity: IdentityOptions | None = None,
) -> None:
    """Writes a tracks file, atomically; arguments as of `encode`.

    Raises:
      UserError: the file cannot be written.
    """
    files.write_bytes(path, encode(tracking, settings, keys, generator, identity=identity))


class _Wrong(Exception):
    """What is wrong with the content, for one line to the user."""


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise _Wrong(message)


def _is_whole(value: Any, least: int = 0) -> bool:
    return type(value) is int and value >= least


def _known(entry: Any, names: Sequence[str], where: str) -> dict[str, Any]:
    """The entry, an object without names that mean nothing: a slip of the pen must not go unseen."""
    _check(isinstance(entry, dict), f"{where} is not an object")
    strange = [name for name in entry if name not in names]
    _check(not strange, f"{where} has {strange[:1]}, which is not one of {', '.join(names)}")
    return entry


def _column(entry: Mapping[str, Any], name: str, count: int, where: str) -> list:
    column = entry.get(name)
    _check(isinstance(column, list), f"{where}: {name} is not a list")
    _check(
        len(column) == count,
        f"{where}: {name} has {len(column)} entries, sources say {count} frames",
    )
    return column


def _sources(entry: Mapping[str, Any], where: str) -> list[str]:
    runs, found = entry.get("sources"), []
    _check(isinstance(runs, list) and len(runs) > 0, f"{where}: sources is not a list with entries")
    for run in runs:
        ok = isinstance(run, list) and len(run) == 2 and run[0] in SOURCES and _is_whole(run[1], 1)
        _check(
            ok,
            f"{where}: sources has {run!r}, not one of {', '.join(SOURCES)} and a number of frames",
        )
        found += [run[0]] * run[1]
    return found


def _observations(
    entry: Mapping[str, Any], frames: int, where: str, kind: TargetKind
) -> tuple[Observation, ...]:
    first, sources = entry.get("first"), _sources(entry, where)
    ends = _is_whole(first) and first + len(sources) <= frames
    _check(
        ends, f"{where} begins at {first!r} and has {len(sources)} frames; the video has {frames}"
    )
    names = ("boxes", "points", "confidence")
    columns = [_column(entry, name, len(sources), where) for name in names]
    vectors = [None] * len(sources)  # of a track in which nothing was measured
    if entry.get("vectors") is not None:
        vectors = _column(entry, "vectors", len(sources), where)
    found = []
    rows = zip(sources, *columns, vectors, strict=True)
    for i, (source, box, points, sure, vector) in enumerate(rows):
        place = f"{where}, frame {first + i}"
        ok = type(sure) in (int, float) and math.isfinite(sure) and 0 <= sure <= 1
        _check(ok, f"{place}: confidence {sure!r} is not between 0 and 1")
        known = read_box(box, place), read_points(points, place, kind)
        found.append(
            Observation(
                first + i,
                *known,
                float(sure),
                FaceSource(source),
                _read_vector(vector, place),
                kind,
            )
        )
    return tuple(found)


def _read_vector(value: Any, place: str) -> FaceVector | None:
    if value is None:
        return None
    names = FaceVector._fields
    ok = isinstance(value, list) and len(value) == len(names) and None not in value[:2]
    ok = ok and all(v is None or (type(v) in (int, float) and math.isfinite(v)) for v in value)
    _check(ok, f"{place}: vector {value!r} does not have the numbers {', '.join(names)}")
    return FaceVector(*(None if v is None else float(v) for v in value))


_OF_TRACK = [
    "number",
    "kind",
    "keep",
    "method",
    "reason",
    "low_confidence",
    "key",
    "first",
    "sources",
    "confidence",
    "boxes",
    "points",
    "vectors",
]


def _read_track(entry: Any, place: int, frames: int) -> tuple[Track, bytes | None]:
    entry = _known(entry, _OF_TRACK, f"entry {place} of tracks")
    number = entry.get("number")
    _check(
        _is_whole(number, 1),
        f"entry {place} of tracks: number {number!r} is not a whole number from 1",
    )
    where = f"track {number}"
    keep, method, reason = entry.get("keep", False), entry.get("method"), entry.get("reason", "")
    _check(isinstance(keep, bool), f"{where}: keep is true or false, not {keep!r}")
    kind = read_kind(entry.get("kind", FACE.name), where)
    methods = kind.methods
    _check(method in (None, *methods), f"{where}: method {method!r} is not one of {methods}")
    _check(isinstance(reason, str), f"{where}: reason is not a text")
    if keep and not reason:
        reason = "by the tracks file"
    # Versions before this key told it by the reason alone.
    doubted = entry.get("low_confidence", reason == NOT_SURELY_A_FACE)
    _check(isinstance(doubted, bool), f"{where}: low_confidence is true or false, not {doubted!r}")
    key = entry.get("key")
    try:
        key = None if key is None else bytes.fromhex(key)
    except (TypeError, ValueError):
        key = b""
    _check(
        key is None or len(key) == key_derivation.KEY_BYTES,
        f"{where}: key is not 64 hexadecimal digits",
    )
    seen = _observations(entry, frames, where, kind)
    doubted = doubted and method == "blur"  # another one is the user's own choice
    return Track(number, seen, keep, method, reason, doubted), key


# What an edit is called, and what else it says.
_EDITS = {
    "keep": ("track",),
    "method": ("track", "method"),
    "box": ("box", "first", "last", "method"),
    "split": ("track", "frame"),
    "merge": ("tracks",),
}


def _edited(tracking: Tracking, edit: Any, where: str) -> Tracking:
    """The tracking after one edit."""
    _check(isinstance(edit, dict), f"{where} is not an object")
    action = edit.get("do")
    _check(action in tuple(_EDITS), f"{where}: do is one of {', '.join(_EDITS)}, not {action!r}")
    _known(edit, ("do", *_EDITS[action]), where)
    for name in _EDITS[action]:
        value = edit.get(name)
        if name in ("track", "frame", "first", "last"):
            _check(_is_whole(value), f"{where}: {name} is a whole number, not {value!r}")
    try:
        match action:
            case "keep":
                return tracks.exclude(tracking, edit["track"])
            case "method":
                return tracks.change_method(tracking, edit["track"], edit.get("method"))
            case "box":
                box = read_box(edit.get("box"), where)
                span = edit["first"], edit["last"]
                return tracks.add_box(tracking, box, *span, method=edit.get("method"))
            case "split":
                return tracks.split(tracking, edit["track"], edit["frame"])
        pair = edit.get("tracks")
        ok = isinstance(pair, list) and len(pair) == 2 and all(map(_is_whole, pair))
        _check(ok, f"{where}: tracks is a list of two numbers, not {pair!r}")
        return tracks.merge(tracking, *pair)
    except UserError as error:
        raise _Wrong(str(error) if where in str(error) else f"{where}: {error}") from error


_OF_FILE = [
    "format",
    "version",
    "video",
    "settings",
    "generator",
    "identity",
    "cuts",
    "edits",
    "tracks",
]


def _parse(content: Any) -> TrackFile:
    _check(isinstance(content, dict), "it is not a JSON object")
    found = content.get("format")
    _check(found == FORMAT, f"its format is {found!r} and not {FORMAT!r}")
    _known(content, _OF_FILE, "the file")
    video = _known(content.get("video"), ("frames", "width", "height"), "video")
    for name in ("frames", "width", "height"):
        value = video.get(name)
        _check(_is_whole(value, 1), f"video: {name} is a whole number from 1, not {value!r}")
    cuts, frames = content.get("cuts", []), video["frames"]
    ok = isinstance(cuts, list) and all(_is_whole(cut, 1) and cut < frames for cut in cuts)
    _check(
        ok and cuts == sorted(set(cuts)), f"cuts are rising frame numbers from 1 to {frames - 1}"
    )
    entries, edits = content.get("tracks"), content.get("edits", [])
    _check(isinstance(entries, list), "tracks is not a list")
    _check(isinstance(edits, list), "edits is not a list")
    keys, read_tracks = {}, []
    for place, entry in enumerate(entries):
        track, key = _read_track(entry, place, frames)
        _check(
            track.number not in {t.number for t in read_tracks},
            f"two tracks are numbered {track.number}",
        )
        crossed = [cut for cut in cuts if track.first < cut <= track.last]
        _check(not crossed, f"track {track.number} goes across the cut at frame {crossed[:1]}")
        read_tracks.append(track)
        keys |= {} if key is None else {track.number: key}
    ordered = tuple(sorted(read_tracks, key=lambda track: track.number))
    tracking = Tracking(frames, video["width"], video["height"], tuple(cuts), ordered)
    for place, edit in enumerate(edits):
        tracking = _edited(tracking, edit, f"entry {place} of edits")
    settings = _known(
        content.get("settings"), [f.name for f in dataclasses.fields(Settings)], "settings"
    )
    generator = content.get("generator")
    _check(generator is None or isinstance(generator, str), "generator is not a text")
    left = {track.number for track in tracking.tracks}
    keys = {number: key for number, key in keys.items() if number in left}
    return TrackFile(tracking, keys, Settings(**settings), generator)


def read(path: str | os.PathLike) -> TrackFile:
    """Reads a tracks file and applies its edits; see `parse`.

    Raises:
      UserError: it cannot be read, or is not a tracks file; one line that names the place.
    """
    try:
        return parse(read_json(path), str(path))
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(f"cannot use {path}: {error}") from error


def parse(content: Any, where: str) -> TrackFile:
    """What a tracks file's content says, its edits applied.

    Tracks without a key, such as those that an edit made, are not in `keys`.

    Args:
      content: decoded JSON.
      where: name of the file, for messages.

    Raises:
      UserError: it is not a tracks file.
    """
    try:
        return dataclasses.replace(_parse(content), identity=parse_identity(content, where))
    except _Wrong as error:
        raise UserError(f"cannot use {where}: {error}") from error
