#!/usr/bin/env bash
# PyAV 18.1.0: demux() ends with an empty packet for each stream, which flushes its decoder. Their `stream` is right,
# but their `stream_index` is 0 for all of them. Code that sorts packets by `stream_index`, as it may for every other
# packet, takes the end of the sound for the end of the pictures, and flushes one decoder twice and the other never.
# Expected: packet.stream_index == packet.stream.index.
# Seen on Linux, Python 3.11, for a file of one video and one sound stream:
#   flush: stream 0 (video), stream_index 0
#   flush: stream 1 (audio), stream_index 0
# Exits with 0 while they differ, with 1 when they agree.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.2.6
cat >"$folder/show.py" <<'PYTHON'
import io, sys

import av
import numpy as np

buffer = io.BytesIO()
with av.open(buffer, "w", format="mp4") as out:
    video = out.add_stream("libx264", rate=25, width=64, height=48)
    video.pix_fmt = "yuv420p"
    sound = out.add_stream("aac", rate=48000)
    for level in range(0, 200, 40):
        out.mux(video.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8))))
    out.mux(video.encode())
    silence = av.AudioFrame(format="fltp", layout=sound.codec_context.layout.name, samples=1024)
    silence.sample_rate = 48000
    for plane in silence.planes:
        plane.update(bytes(plane.buffer_size))
    for number in range(10):
        silence.pts = 1024 * number
        out.mux(sound.encode(silence))
    out.mux(sound.encode())
buffer.seek(0)
wrong = 0
with av.open(buffer) as opened:
    for packet in opened.demux():
        if packet.dts is None:
            print(f"flush: stream {packet.stream.index} ({packet.stream.type}), stream_index {packet.stream_index}")
            wrong += packet.stream.index != packet.stream_index
        else:
            assert packet.stream.index == packet.stream_index
sys.exit(0 if wrong else 1)
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
