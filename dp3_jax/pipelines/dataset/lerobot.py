"""LeRobot data sets, formats v2.0, v2.1 and v3.0: Parquet, one video per camera, and meta/info.json.

Cameras' videos, and pictures in Parquet columns (features of dtype "image"), are anonymized; every other file
is copied bit for bit. A video must come out with the size, codec, pixel format and times of frames that
meta/info.json promises of it, or it is left out and reported. What the layouts are: lerobot's own
`datasets/utils.py` (0.1.0 for v2.x, 0.4 for v3.0).
"""

import io
import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from dp3_jax.common.errors import UserError
from dp3_jax.media.names import is_video_name
from dp3_jax.pipelines.dataset import folder, parquet, storage
from dp3_jax.pipelines.dataset.contents import Kind, kind_of
from dp3_jax.pipelines.dataset.format import Found, Reading, Steps
from dp3_jax.pipelines.dataset.rows import Part, Shard
from dp3_jax.pipelines.dataset.storage import Storage
from dp3_jax.pipelines.dataset.treatment import Record, Treatment

KIND = "lerobot"
INFO = "meta/info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")
_MAX_APART = Fraction(1, 10_000)  # s, the tolerance with which lerobot looks for a frame
_MAX_DIMENSIONS = 2  # of features that are surely no pictures


def read_info(source: Storage) -> dict[str, Any]:
    """What meta/info.json says.

    Raises:
      UserError: it cannot be read, or is of another version.
    """
    try:
        info = json.loads(storage.read(source, INFO))
        version = info["codebase_version"]
        _ = {name: feature["dtype"] for name, feature in info["features"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{source.address}/{INFO} is not of a LeRobot data set: {error}") from error
    if version not in VERSIONS:
        raise UserError(
            f"{source.address} is of LeRobot's format {version}; known are {', '.join(VERSIONS)}"
        )
    return info


def _columns(info: Mapping[str, Any], dtype: str) -> tuple[str, ...]:
    return tuple(name for name, one in info["features"].items() if one["dtype"] == dtype)


def _check_arrays(info: Mapping[str, Any], reading: Reading) -> None:
    """Raises UserError for features that may be pictures in a form that is not read."""
    for name, feature in info["features"].items():
        shape = feature.get("shape") or ()
        arrays = feature["dtype"] not in ("video", "image") and len(shape) > _MAX_DIMENSIONS
        if arrays and name not in reading.copied:
            raise UserError(
                f"the feature {name!r} has the shape {list(shape)} and may hold pictures as arrays, which "
                f"are not read; give --copy {name} if it holds none"
            )


class LeRobot:
    """See `format.Format`."""

    def find(
        self, source: Storage, reading: Reading, sizes: Mapping[str, int], done: Mapping[str, Part]
    ) -> Found:
        """A shard for each video, and for each Parquet file with pictures; the other files in chunks."""
        info = read_info(source)
        _check_arrays(info, reading)
        pictures = bool(_columns(info, "image"))
        alone = [n for n in sizes if is_video_name(n) or (pictures and _is_data(n))]
        missing = [
            camera
            for camera in _columns(info, "video")
            if not any(f"/{camera}/" in name for name in alone)
        ]
        if missing:
            raise UserError(f"there is no video of the camera {missing[0]!r} in {source.address}")
        rest = {name: size for name, size in sizes.items() if name not in alone}
        shards = [Shard(name, KIND, {name: sizes[name]}) for name in alone]
        return Found(shards + folder.chunked(rest, done, KIND, reading.shard_records))

    def work(
        self, shard: Shard, source: Storage, output: Storage, reading: Reading, treat: Treatment
    ) -> Steps:
        """File by file."""
        info = read_info(source)
        pictures = _columns(info, "image")
        rest = tuple(name for name in info["features"] if name not in pictures)
        for name, size in shard.inputs.items():
            if pictures and _is_data(name):
                named = Reading(columns=pictures, copied=(*reading.copied, *rest))
                with source.open(name) as opened:
                    yield from parquet.convert(opened, name, output, named, treat)
                continue
            yield size
            try:
                content = storage.read(source, name)
            except UserError as error:
                treat.failed(name, error)
                continue
            _file(name, content, output, reading, treat)


def _is_data(name: str) -> bool:
    return name.startswith("data/") and name.endswith(".parquet")


def _file(name: str, content: bytes, output: Storage, reading: Reading, treat: Treatment) -> None:
    """Anonymizes or copies one file into the output, where it has the same name."""
    kind = Kind.OTHER if reading.is_copied(name) else kind_of(name, content)
    if kind == Kind.CLIP:
        _video(name, content, output, treat)
    elif kind == Kind.PICTURE:
        folder.treat_file(name, content, output, treat)
    elif kind == Kind.UNKNOWN:
        treat.failed(name, "it may hold pictures; if it holds none, give --copy with its ending")
        output.remove(name)
    else:
        storage.write(output, name, content)
        treat.made[name] = len(content)
        treat.copied(name, name, content)


def _video(name: str, content: bytes, output: Storage, treat: Treatment) -> None:
    made, row = treat(Record(source=name, output=name, content=content, name=name))
    if made is not None and (differing := _difference(content, made)):
        made, row = None, row.without_output(f"the new video would have {differing}")
    treat.rows.append(row)
    if made is None:
        output.remove(name)
        return
    storage.write(output, name, made)
    treat.made[name] = len(made)


class _Stream(NamedTuple):
    """What a data set's readers rely on."""

    codec: str
    pixel_format: str
    size: tuple[int, int]
    times: list[Fraction]


def _stream(content: bytes) -> _Stream:
    """Of the first video stream."""
    import av

    with av.open(io.BytesIO(content), "r") as opened:
        video = opened.streams.video[0]
        context = video.codec_context
        times = [
            packet.pts * packet.time_base
            for packet in opened.demux(video)
            if packet.pts is not None and packet.size
        ]
        size = context.width, context.height
        codec = context.codec.canonical_name
        return _Stream(codec, context.pix_fmt or "", size, sorted(times))


def _difference(before: bytes, after: bytes) -> str:
    """In which a new video is not as the old one, in words; "" where it is."""
    old, new = _stream(before), _stream(after)
    for what in ("codec", "pixel_format", "size"):
        if getattr(old, what) != getattr(new, what):
            said = what.replace("_", " ")
            return f"the {said} {getattr(new, what)}, not {getattr(old, what)}"
    if len(old.times) != len(new.times):
        return f"{len(new.times)} frames, not {len(old.times)}"
    apart = max((abs(a - b) for a, b in zip(old.times, new.times, strict=True)), default=0)
    return f"frames {float(apart):.4f} s from their times" if apart > _MAX_APART else ""
