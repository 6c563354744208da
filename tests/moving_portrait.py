"""A clip of a real face whose place is known: the portrait, seen through a window that moves."""

import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.detection.tracks import Observation, Track, Tracking
from dp3_jax.metrics import verification
from tests.face_photos import BOX, POINTS, astronaut, detector_or_skip

FRAMES = 10
SIDE = 256
STEP = 2  # px per frame to the left


def frame(number):
    """The portrait seen through a window that moves: the face moves evenly to the left."""
    left = 90 + STEP * number
    return astronaut()[20 : 20 + SIDE, left : left + SIDE]


def observation(number):
    shift = np.array([90 + STEP * number, 20])
    box = (BOX[0] - shift[0], BOX[1] - shift[1], *BOX[2:])
    return Observation(number, box, (POINTS - shift).astype(np.float32), 1.0)


def tracking(keep=False, frames=FRAMES):
    track = Track(1, tuple(observation(n) for n in range(frames)), keep=keep)
    return Tracking(frames, SIDE, SIDE, (), (track,))


def write(path, frames, crf=18):
    """The frames as an H.264 file."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf)})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def written(folder):
    """Path of the clip in `folder`; skips where the detector or a verifier is missing."""
    detector_or_skip()
    try:
        verification.open_verifier("sface_forced")
    except UserError as error:
        pytest.skip(f"no face verifier: {error}")
    return write(folder / "clip.mp4", [frame(n) for n in range(FRAMES)])
