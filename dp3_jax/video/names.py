"""Which file names are videos'; apart from `reading`, which takes time to import."""

import os
import pathlib

SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".3gp", ".mpg", ".mpeg", ".ts", ".mts",
    ".m2ts", ".wmv", ".flv", ".ogv",
)  # fmt: skip


def is_video_name(path: str | os.PathLike) -> bool:
    """Whether the name ends like a video's."""
    return pathlib.Path(path).suffix.lower() in SUFFIXES
