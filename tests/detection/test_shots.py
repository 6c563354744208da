import functools

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp3_jax.detection.shots import CutDetector

HEIGHT, WIDTH = 180, 320


@functools.cache
def scene(seed, height=3 * HEIGHT, width=3 * WIDTH):
    """A large made-up picture: soft colours with boxes and discs of all sizes on them."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 10, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(60):
        x, y, radius = rng.integers(0, width), rng.integers(0, height), rng.integers(8, 70)
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        if rng.random() < 0.5:
            cv2.circle(image, (int(x), int(y)), int(radius), colour, -1)
        else:
            cv2.rectangle(image, (int(x), int(y)), (int(x + radius), int(y + radius)), colour, -1)
    return image


def view(image, x, y, zoom=1.0):
    """The part of the picture that a camera at (x, y) sees, with a little noise."""
    w, h = round(WIDTH / zoom), round(HEIGHT / zoom)
    part = cv2.resize(image[int(y) : int(y) + h, int(x) : int(x) + w], (WIDTH, HEIGHT))
    noise = np.random.default_rng(int(x * 7 + y * 13 + zoom * 1000)).normal(0, 3, part.shape)
    return np.clip(part + noise, 0, 255).astype(np.uint8)


def cuts(frames):
    detector = CutDetector()
    return [i for i, frame in enumerate(frames) if detector.update(frame)]


@settings(max_examples=8)
@given(st.integers(0, 20), st.integers(21, 40), st.integers(-20, 20), st.integers(-8, 8))
def test_a_cut_is_found_also_between_moving_pictures(first, second, right, down):
    scenes = scene(first), scene(second)
    frames = [
        view(scenes[i >= 8], WIDTH + (i - 8) * right, HEIGHT + (i - 8) * down) for i in range(16)
    ]
    assert cuts(frames) == [8]


@settings(max_examples=8)
@given(st.integers(0, 20), st.integers(-20, 20), st.integers(-12, 12))
def test_a_pan_is_no_cut_up_to_a_sixteenth_of_the_picture_a_frame(seed, right, down):
    one = scene(seed)
    frames = [view(one, WIDTH + (i - 6) * right, HEIGHT + (i - 6) * down) for i in range(12)]
    assert cuts(frames) == []


@settings(max_examples=8)
@given(st.integers(0, 20), st.floats(0.94, 1.06))
def test_a_zoom_is_no_cut(seed, step):
    one = scene(seed)
    zooms = 1.4 * step ** np.arange(-5, 6)
    frames = [
        view(one, 1.5 * WIDTH - WIDTH / z / 2, 1.5 * HEIGHT - HEIGHT / z / 2, z) for z in zooms
    ]
    assert cuts(frames) == []


@settings(max_examples=8)
@given(st.integers(0, 20), st.floats(0.0, 1.0), st.integers(1, 3))
def test_a_flash_is_no_cut_not_even_one_that_whites_the_picture_out(seed, strength, length):
    one = scene(seed)
    frames = [view(one, WIDTH + i, HEIGHT).astype(np.float32) for i in range(12)]
    for i in range(5, 5 + length):
        frames[i] = frames[i] * (1 - strength) + 255 * strength
    assert cuts([frame.astype(np.uint8) for frame in frames]) == []


@settings(max_examples=8)
@given(st.integers(0, 20))
def test_lights_that_go_out_and_on_are_no_cut(seed):
    one = scene(seed)
    light = [1, 1, 1, 0.6, 0.6, 0.0, 0.0, 0.0, 0.5, 1, 1]
    assert cuts([(view(one, WIDTH, HEIGHT) * v).astype(np.uint8) for v in light]) == []


def test_another_scene_after_black_begins_where_it_can_be_seen():
    before, black = view(scene(1), WIDTH, HEIGHT), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    after = view(scene(2), WIDTH, HEIGHT)
    assert cuts([before] * 4 + [black] * 5 + [after] * 4) == [9]


@settings(max_examples=8)
@given(st.integers(0, 20), st.integers(5, 60))
def test_a_large_thing_that_flies_through_the_picture_is_no_cut(seed, speed):
    background, frames = view(scene(seed), WIDTH, HEIGHT), []
    for i in range(14):
        frame = background.copy()
        cv2.circle(frame, (-40 + speed * i, 90), 40, (200, 40, 40), -1)
        frames.append(frame)
    assert cuts(frames) == []


@pytest.mark.parametrize("shape", [(16, 16), (1, 400), (400, 1), (2160, 3840)])
def test_any_size_of_frame_will_do(shape):
    assert cuts([np.zeros((*shape, 3), np.uint8)] * 2) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("short_hamilton_clip.mp4", [20, 82, 211]),  # looked at: all real, and there are no others
        ("openpose_street.avi", []),  # a hand-held camera that moves
        ("st_WDA_KatieHill_000.mp4", []),
        ("negative_car-detection.mp4", []),
    ],
)
def test_the_cuts_of_real_clips_are_found(shared_data, name, expected):
    with av.open(str(shared_data / "video" / name)) as clip:
        decoded = (frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0))
        assert cuts(decoded) == expected
