"""Options of `dp3 anonymize` that were given and do nothing, because there is no video among the inputs."""

import argparse
from collections.abc import Sequence

# By name, with their defaults. --rate and --one-pass are refused without a video.
VIDEO_ONLY = {
    "audio": "copy",
    "subtitles": "drop",
    "deinterlace": False,
    "spans": None,
    "motion": "face",
    "container": None,
    "codec": None,
    "crf": None,
    "preset": None,
    "hardware": False,
}


def video_only(arguments: argparse.Namespace) -> list[str]:
    """The options for videos that are not as they are by default, as they are written."""
    given = (name for name, usual in VIDEO_ONLY.items() if getattr(arguments, name) != usual)
    return [f"--{name}" for name in given]


def notes(arguments: argparse.Namespace, are_videos: Sequence[bool]) -> list[str]:
    """One line that names what does nothing, if there is anything.

    Args:
      arguments: of the command.
      are_videos: which of the inputs that were found are videos.
    """
    names = [] if not are_videos or any(are_videos) else video_only(arguments)
    if not names:
        return []
    what = ", ".join(names)
    return [f"no input is a video, so {what} {'does' if len(names) == 1 else 'do'} nothing"]
