"""How much memory `dp3 anonymize` needs for long videos: clips of 1, 10 and 60 minutes, one process for each.

    python benchmarks/video_memory.py [--minutes 1 10 60] [--method solid] [--detect]

The clips show the public-domain astronaut photo of scikit-image, moved to and fro, 160x96 px, 10 frames/s.
Without --detect the place of her face is given, so that only the second pass looks at the pictures.
"""

import argparse
import math
import os
import pathlib
import sys
import tempfile
import time

import av
import numpy as np
import skimage.data

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, RATE = 160, 96, 10
SWAY, PERIOD = 40, 100  # px, frames
CORNER, BOX = (
    (90, 45),
    (90, 23, 85, 112),
)  # of the part of the photo that is shown at first; of her face
SCALE = 2  # px of the photo for one of the clip


def make(path: pathlib.Path, minutes: float) -> list[str]:
    """Writes the clip; returns the lines of a CSV file with the place of her face."""
    photo = skimage.data.astronaut()
    lines = ["frame,x,y,w,h"]
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for number in range(round(minutes * 60 * RATE)):
            shift = round(SWAY * math.sin(2 * math.pi * number / PERIOD))
            x, y = CORNER[0] + shift, CORNER[1]
            view = photo[y : y + SCALE * HEIGHT : SCALE, x : x + SCALE * WIDTH : SCALE]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(view))
            frame.pts = number
            output.mux(stream.encode(frame.reformat(format="yuvj420p")))
            left = (BOX[0] - shift) / SCALE
            lines.append(f"{number},{left},{BOX[1] / SCALE},{BOX[2] / SCALE},{BOX[3] / SCALE}")
        output.mux(stream.encode(None))
    return lines


def run(arguments: list[str]) -> tuple[float, float]:
    """(s, MiB at most) of a command of this Python."""
    started = time.monotonic()
    pid = os.posix_spawn(sys.executable, [sys.executable, *arguments], os.environ)
    _, status, usage = os.wait4(pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"failed: {' '.join(arguments)}")
    return time.monotonic() - started, usage.ru_maxrss / 1024


def main() -> None:
    """Prints a row for each clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60])
    parser.add_argument("--method", default="solid", help="as of dp3 anonymize")
    parser.add_argument("--detect", action="store_true", help="her face is looked for")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(REPOSITORY)
    print(f"{'minutes':>8} {'frames':>8} {'s':>8} {'MiB':>8}   {options.method}")
    for minutes in options.minutes:
        with tempfile.TemporaryDirectory() as folder:
            clip, boxes = pathlib.Path(folder, "clip.mkv"), pathlib.Path(folder, "boxes.csv")
            lines = make(clip, minutes)
            boxes.write_text("\n".join(lines) + "\n")
            call = ["-m", "dp3_jax.cli", "anonymize", str(clip), "--method", options.method]
            given = [] if options.detect else ["--boxes", str(boxes)]
            seconds, most = run([*call, *given, "--quiet"])
            print(f"{minutes:8g} {len(lines) - 1:8} {seconds:8.1f} {most:8.0f}", flush=True)


if __name__ == "__main__":
    main()
