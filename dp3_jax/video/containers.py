"""In which container a video is written whose own cannot be: MPEG transport streams, WMV, FLV, Ogg ..."""

import dataclasses
from collections.abc import Sequence

from dp3_jax.anonymization.outputs import Task
from dp3_jax.errors import UserError
from dp3_jax.video import encoding, probing
from dp3_jax.video.subtitle_text import PICTURES, TEXTS

NAMES = ("mp4", "mov", "mkv", "webm", "avi")  # that can be asked for
_KEPT = ("mov", "matroska", "avi", "gif")  # FFmpeg's names of what is written as it is read
# Sound in MP4 that players of MP4 play; FFmpeg writes more.
_PLAYED = ("aac", "mp3", "mp2", "ac3", "eac3", "alac")


def placed(
    tasks: Sequence[Task], asked: str | None, *, audio: bool, subtitles: bool, in_place: bool
) -> list[Task]:
    """The tasks with targets that can be written.

    A target of a name that the user gave stays; so does one of which the source's container can be written.

    Args:
      tasks: from `outputs.plan`.
      asked: one of `NAMES`, for all videos; None: as the source's, else MP4 or Matroska.
      audio, subtitles: whether they are taken over.
      in_place: targets are the sources.

    Raises:
      UserError: `in_place` where the container has to change.
    """
    taken = {task.target.resolve() for task in tasks}
    made = []
    for task in tasks:
        ending, why = _ending(task, asked, audio, subtitles)
        if ending is None:
            made.append(task)
            continue
        if in_place:
            raise UserError(
                f"{task.source} cannot be replaced in its place: {why}; say where it goes with -o"
            )
        target = task.target.with_suffix(ending)
        if target.resolve() in taken:  # a.mts beside a.mp4
            target = task.target.with_name(task.target.name + ending)
        taken.add(target.resolve())
        made.append(dataclasses.replace(task, target=target, note=f"written as {ending}: {why}"))
    return made


def _ending(task: Task, asked: str | None, audio: bool, subtitles: bool) -> tuple[str | None, str]:
    """The ending to write a task's video with, and why; None: its target's."""
    suffix = task.target.suffix.lower()
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
            ending = _holding(source, audio, subtitles)
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
