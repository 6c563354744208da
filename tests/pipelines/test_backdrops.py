"""A still camera shows what is behind those who walk past."""

import av
import numpy as np
import pytest

from dp3_jax.detection.kinds import BODY
from dp3_jax.detection.tracks import Observation, Track, Tracking
from dp3_jax.media.video import probing
from dp3_jax.pipelines.video.backdrops import Backdrops

WIDTH, HEIGHT, FRAMES = 96, 64, 20
BODY_SIZE = (12, 30)
SCENE = np.repeat(np.repeat(np.random.default_rng(0).integers(40, 200, (8, 12, 3)), 8, 0), 8, 1)


def _box(n):
    return (4.0 + 4 * n, 20.0, *map(float, BODY_SIZE))


def _frames(moving):
    for n in range(FRAMES):
        frame = np.roll(SCENE, 3 * n if moving else 0, 1).astype(np.uint8).copy()
        x, y, width, height = map(int, _box(n))
        frame[y : y + height, x : x + width] = (255, 0, 0)
        yield frame


def _backdrops(path, moving, method="background"):
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = 8_000_000
        for frame in _frames(moving):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode(None))
    seen = tuple(Observation(n, _box(n), None, 0.9, kind=BODY) for n in range(FRAMES))
    tracking = Tracking(FRAMES, WIDTH, HEIGHT, (), (Track(1, seen, method=method),))
    return Backdrops(probing.open_video(path), tracking)


def test_what_is_behind_a_walker_is_the_scene_and_not_the_walker(tmp_path):
    image, known = _backdrops(tmp_path / "walk.mp4", moving=False)(7)
    assert known.mean() > 0.9
    assert np.abs(image.astype(int) - SCENE)[known].mean() < 8


@pytest.mark.parametrize("moving, method", [(True, "background"), (False, "silhouette")])
def test_a_moving_camera_has_no_scene_and_nobody_else_asks_for_one(tmp_path, moving, method):
    assert _backdrops(tmp_path / "walk.mp4", moving, method)(7) is None
