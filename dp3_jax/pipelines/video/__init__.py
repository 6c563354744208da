"""Anonymizing video: in two passes for files, in one pass for pipes. See docs/cli/video.md."""
