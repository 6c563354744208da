"""Anonymizing video as it comes: from a camera, a stream, a file or a pipe. See docs/cli/live.md."""
