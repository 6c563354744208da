"""Which names are videos' or numbered pictures'; apart from `reading`, which takes time to import."""

import os
import pathlib
import re

from dp3_jax.media.photos import is_photo_name

SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".3gp", ".mpg", ".mpeg", ".ts", ".mts",
    ".m2ts", ".wmv", ".flv", ".ogv",
)  # fmt: skip
NUMBER = re.compile(r"%(?:0(\d{1,2}))?d")  # in a pattern: %d, or %05d for five digits


def is_video_name(path: str | os.PathLike) -> bool:
    """Whether the name ends like a video's."""
    return pathlib.Path(path).suffix.lower() in SUFFIXES


def is_pattern(path: str | os.PathLike) -> bool:
    """Whether the name stands for numbered pictures, such as frames/%05d.png, and is not itself a file's."""
    path = pathlib.Path(path)
    numbers = NUMBER.findall(path.name)
    once = len(numbers) == 1 == path.name.count("%")
    return once and is_photo_name(path) and not path.is_file()


def is_there(path: pathlib.Path) -> bool:
    """Whether a file is there, or the folder of numbered pictures."""
    return as_one(path).is_dir() if is_pattern(path) else path.is_file()


def as_one(target: pathlib.Path) -> pathlib.Path:
    """What gets its name at once when a video is done: the file, or the folder of numbered pictures."""
    return target.parent.resolve() if is_pattern(target) else target
