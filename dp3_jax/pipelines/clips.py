"""One short clip as bytes, or as an array of frames: a function under the command that files go through.

The two passes over a video need files; they lie in a folder of this call's own, which only this user can
read and which is gone when the call ends. What killed processes have left there goes with the next call.
"""

import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, overload

import numpy as np
from PIL import Image

from dp3_jax.common import files
from dp3_jax.common.errors import UserError
from dp3_jax.media import image_sequences
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.sidecar import read_json
from dp3_jax.pipelines.video import job

_PREFIX = "dp3-clip-"
_FRAME = "%06d.png"
# Where the name of a container is looked for in a file's first bytes, and the ending that stands for it.
_MAGIC = (
    (4, b"ftypqt", ".mov"),
    (4, b"ftyp3g", ".3gp"),
    (4, b"ftyp", ".mp4"),
    (0, b"RIFF", ".avi"),
    (0, b"GIF8", ".gif"),
    (0, b"FLV", ".flv"),
    (0, b"OggS", ".ogv"),
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ClipOptions:
    """What is done with every clip.

    Attributes:
      anonymizer: settings and models, loaded once for many clips.
      video: encoder, sound and subtitles.
      keep_metadata: write the time and the camera's name.
      mark: say in a result that holds generated faces that it does (see `marking`).
    """

    anonymizer: Anonymizer
    video: job.VideoOptions = dataclasses.field(default_factory=job.VideoOptions)
    keep_metadata: bool = False
    mark: bool = True


@overload
def anonymize_clip(
    clip: bytes, options: ClipOptions, key: bytes, *, ending: str | None = None
) -> tuple[bytes, dict[str, Any]]: ...
@overload
def anonymize_clip(
    clip: np.ndarray, options: ClipOptions, key: bytes, *, rate: Fraction = image_sequences.RATE
) -> tuple[np.ndarray, dict[str, Any]]: ...


def anonymize_clip(
    clip: Any,
    options: ClipOptions,
    key: bytes,
    *,
    ending: str | None = None,
    rate: Fraction = image_sequences.RATE,
) -> tuple[Any, dict[str, Any]]:
    """Anonymizes a clip, in the two passes that a video file gets.

    Args:
      clip: the content of a video file; or u8[frames, h, w, 3] RGB, which is never compressed with loss.
      options: for all clips.
      key: 32 bytes that the new faces are drawn from; the same key, options and clip give the same faces.
      ending: that the file's name would have, such as ".mp4"; None to tell it by the content. The result
        has the same container. Not for frames.
      rate: of frames, how many a second.

    Returns:
      The new clip, of the same kind; and its tracks (see tracks.schema.json), with "actions", what was done
      with each track, and "notes" for the user. It holds the keys of the new faces: it is not for release.

    Raises:
      UserError: the clip cannot be read or written, or a model cannot be had.
    """
    if isinstance(clip, bytes | bytearray):
        ending = ending or _ending(bytes(clip[:16]))
        with _folder() as folder:
            source, target = folder / f"in{ending}", folder / f"out{ending}"
            source.write_bytes(clip)
            report = _process(source, target, options, key, options.video)
            return target.read_bytes(), report
    frames = np.asarray(clip)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise UserError(f"frames are u8[frames, h, w, 3], not {frames.dtype}{list(frames.shape)}")
    with _folder() as folder:
        for name in ("in", "out"):
            (folder / name).mkdir()
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(folder / "in" / (_FRAME % number), compress_level=1)
        target = folder / "result" / _FRAME
        video = dataclasses.replace(options.video, rate=Fraction(rate))
        report = _process(folder / "in" / _FRAME, target, options, key, video)
        made = [
            np.asarray(Image.open(target.with_name(_FRAME % n)).convert("RGB"))
            for n in range(len(frames))
        ]
        return np.stack(made), report


def _process(
    source: pathlib.Path,
    target: pathlib.Path,
    options: ClipOptions,
    key: bytes,
    video: job.VideoOptions,
) -> dict[str, Any]:
    """Makes `target`; returns the report."""
    request = job.Request(
        source=source,
        target=target,
        master_key=key,
        sidecar=True,
        keep_metadata=options.keep_metadata,
        mark=options.mark,
        video=video,
    )
    try:
        face_results, summary = job.process(request, options.anonymizer, lambda *_: None)
    except UserError as error:  # its paths mean nothing to the caller
        said = str(error).replace(str(source), "the clip").replace(str(target), "the new clip")
        raise UserError(said) from error
    if summary.damage:
        raise UserError(f"the clip is damaged: {summary.damage.replace(str(source), 'it')}")
    report = read_json(job.sidecar_path(target))
    report["actions"] = [str(face_result.done) for face_result in face_results]
    report["notes"] = list(summary.notes)
    return report


def _ending(head: bytes) -> str:
    """The ending of a container's names, by its first bytes; Matroska reads as well as WebM."""
    for start, magic, ending in _MAGIC:
        if head[start:].startswith(magic):
            return ending
    return ".mkv" if head.startswith(b"\x1aE\xdf\xa3") else ".mp4"


@contextlib.contextmanager
def _folder() -> Iterator[pathlib.Path]:
    """A folder for this call; those of processes that are dead are removed."""
    root = pathlib.Path(tempfile.gettempdir())
    for left in root.glob(f"{_PREFIX}*"):
        process = left.name.removeprefix(_PREFIX).partition("-")[0]
        if process.isdigit() and not _is_alive(int(process)):
            files.remove(left)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        yield pathlib.Path(folder)


def _is_alive(process: int) -> bool:
    """Whether there is a process of this number; where that cannot be told, there is."""
    if os.name != "posix":
        return True  # on Windows, to ask would be to end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
