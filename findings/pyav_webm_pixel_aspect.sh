#!/usr/bin/env bash
# PyAV 18.1.0: a stream's sample_aspect_ratio is written into the headers of MP4, MOV and AVI, and not into those of
# Matroska and WebM. VP9, which has no place for it in its own stream, so loses it there without a word: what was
# written with pixels half as wide as high reads back as None (Matroska) or 1 (WebM), and plays twice too wide. In MP4
# the same VP9 keeps it, and H.264 keeps it in Matroska, because H.264 has it in its stream.
# Expected: the display size that the aspect asks for in the header, as FFmpeg's own command writes it.
# Seen on Linux, Python 3.11:
#   mp4 libvpx-vp9 1/2
#   matroska libx264 1/2
#   matroska libvpx-vp9 None
#   webm libvpx-vp9 1
# Exits with 0 while that is so, with 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.2.6
cat >"$folder/show.py" <<'PYTHON'
import fractions, io, sys

import av
import numpy as np

HALF = fractions.Fraction(1, 2)
found = {}
for container, codec in (
    ("mp4", "libvpx-vp9"), ("matroska", "libx264"), ("matroska", "libvpx-vp9"), ("webm", "libvpx-vp9"),
):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=25, width=64, height=48)
        stream.pix_fmt, stream.sample_aspect_ratio = "yuv420p", HALF
        for level in range(0, 200, 40):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8))
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as opened:
        found[container, codec] = opened.streams.video[0].sample_aspect_ratio
    print(container, codec, found[container, codec])
kept = found["mp4", "libvpx-vp9"] == found["matroska", "libx264"] == HALF
lost = HALF not in (found["matroska", "libvpx-vp9"], found["webm", "libvpx-vp9"])
sys.exit(0 if kept and lost else 1)
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
