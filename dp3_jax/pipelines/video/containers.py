"""In which container a video is written whose own cannot be: MPEG transport streams, WMV, FLV, Ogg ..."""

import dataclasses
import pathlib
from collections.abc import Sequence

from dp3_jax.common.errors import UserError
from dp3_jax.media.video import encoding, probing
from dp3_jax.media.video.subtitle_text import PICTURES, TEXTS
from dp3_jax.pipelines import outputs
from dp3_jax.pipelines.outputs import Task

NAMES = ("mp4", "mov", "mkv", "webm", "avi")  # that can be asked for
_KEPT = ("mov", "matroska", "avi", "gif")  # FFmpeg's names of what is written as it is read
# Sound in MP4 that players of MP4 play; FFmpeg writes more.
_PLAYED = ("aac", "mp3", "mp2", "ac3", "eac3", "alac")


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What a call says of its outputs.

    Attributes:
      output: of -o, a file or a folder; None without it.
      container: one of `NAMES`, for all videos; None: as the source's, else MP4 or Matroska.
      audio, subtitles: whether they are taken over.
      in_place: targets are the sources.
    """

    output: str | None = None
    container: str | None = None
    audio: bool = True
    subtitles: bool = False
    in_place: bool = False


def placed(tasks: Sequence[Task], wishes: Wishes) -> list[Task]:
    """The tasks of `outputs.tasks_of` with targets that can be written, and notes on those that changed.

    Raises:
      UserError: a file name or its place does not allow the container, or two targets are one.
    """
    if wishes.output is not None and outputs.is_file_name(wishes.output):
        asked = wishes.container
        if asked and pathlib.Path(wishes.output).suffix.lower() != f".{asked}":
            raise UserError(f"-o {wishes.output} and --container {asked} do not agree")
        return list(tasks)
    taken = {task.target.resolve() for task in tasks}
    made = []
    for task in tasks:
        ending, why = _ending(task, wishes)
        if ending is None:
            made.append(task)
            continue
        if wishes.in_place:
            raise UserError(
                f"{task.source} cannot be replaced in its place: {why}; say where it goes with -o"
            )
        target = task.target.with_suffix(ending)
        if target.resolve() in taken:  # a.mts beside a.mp4
            target = task.target.with_name(task.target.name + ending)
        taken.add(target.resolve())
        made.append(dataclasses.replace(task, target=target, note=f"written as {ending}: {why}"))
    if made != list(tasks):
        outputs.check(made, wishes.in_place)
    return made


def _ending(task: Task, wishes: Wishes) -> tuple[str | None, str]:
    """The ending to write a task's video with, and why; None: its target's."""
    suffix, asked = task.target.suffix.lower(), wishes.container
    if not task.is_video or task.is_sequence or suffix != task.source.suffix.lower():
        return None, ""
    if asked is not None:
        return (None if suffix == f".{asked}" else f".{asked}"), "--container"
    if suffix in encoding.CONTAINERS:
        return None, ""
    try:
        with probing.opened(task.source) as source:
            if source.format.name.split(",", maxsplit=1)[0] in _KEPT:
                return None, ""
            ending = _holding(source, wishes.audio, wishes.subtitles)
    except UserError:
        ending = ".mp4"  # processing it will say what is wrong
    return ending, f"{suffix} files cannot be written; --container chooses another"


def _holding(source, audio: bool, subtitles: bool) -> str:
    """.mp4 where that carries what is to be taken over from an open container, else .mkv."""
    sounds = [probing.codec_name(s) for s in source.streams.audio] if audio else []
    texts = [probing.codec_name(s) for s in source.streams.subtitles] if subtitles else []
    if any(name not in _PLAYED and encoding.holds("matroska", name) for name in sounds):
        return ".mkv"
    known = [name for name in texts if name in TEXTS | PICTURES]
    in_mp4 = all(name == "mov_text" for name in known)
    return ".mp4" if in_mp4 else ".mkv"
