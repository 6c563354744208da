"""Optical flow on pictures whose motion is known, and what it says about pixels that come and go."""

import cv2
import numpy as np
import pytest

from dp3_jax.vision import flow

MARGIN = 8  # px: what enters the frame has no motion that could be known


def texture(height, width, seed=0):
    """A picture with detail of every size, u8[height, width, 3]."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cell in (2, 4, 8, 16, 32):
        noise = random.normal(size=(height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) * cell**0.5
    return np.clip(128 + 18 * total, 0, 255).astype(np.uint8)


def moved_pair(matrix, height=128, width=160):
    """Two frames of one scene, the second moved by the affine f64[2, 3] map, and the exact flow."""
    pad = 40
    scene = texture(height + 2 * pad, width + 2 * pad)
    matrix = np.asarray(matrix, np.float64)
    whole = matrix.copy()  # the same map in the coordinates of the padded scene
    whole[:, 2] += pad - matrix[:, :2] @ (pad, pad)
    second = cv2.warpAffine(scene, whole, scene.shape[1::-1], flags=cv2.INTER_CUBIC)
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    points = np.stack([columns, rows], -1)
    exact = points @ matrix[:, :2].T + matrix[:, 2] - points
    window = slice(pad, -pad), slice(pad, -pad)
    return scene[window], second[window], exact


def turn(degrees, zoom=1.0, centre=(80, 64)):
    return cv2.getRotationMatrix2D(centre, degrees, zoom)


MOTIONS = {
    "still": np.eye(2, 3),
    "right": [[1, 0, 3], [0, 1, 0]],
    "left and up": [[1, 0, -2.5], [0, 1, -4.5]],
    "turn": turn(3),
    "turn and zoom": turn(-2, 1.04),
}


def interior(values):
    return values[MARGIN:-MARGIN, MARGIN:-MARGIN]


@pytest.mark.parametrize("name", MOTIONS)
def test_known_motion_is_found_to_a_tenth_of_a_pixel(name):
    first, second, exact = moved_pair(MOTIONS[name])
    found = flow.dense_flow(first, second)
    assert found.shape == exact.shape and found.dtype == np.float32
    error = interior(np.linalg.norm(found - exact, axis=-1))
    assert np.median(error) < 0.1 and np.percentile(error, 99) < 0.5


@pytest.mark.parametrize("preset", flow.PRESETS)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_every_preset_and_scale_gives_pixels_of_the_full_frame(preset, scale):
    first, second, exact = moved_pair(MOTIONS["left and up"])
    found = flow.dense_flow(first, second, preset=preset, scale=scale)
    error = interior(np.linalg.norm(found - exact, axis=-1))
    assert np.median(error) < 0.5


def test_no_motion_is_exactly_none_in_frames_of_any_size():
    for height, width in ((128, 96), (31, 57), (16, 16), (1, 5), (9, 300)):
        frame = texture(height, width)
        for scale in (1.0, 0.3):
            assert not flow.dense_flow(frame, frame, scale=scale).any()


def test_grey_and_colour_frames_are_taken():
    first, second, _ = moved_pair(MOTIONS["right"])
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    np.testing.assert_array_equal(flow.dense_flow(*grey), flow.dense_flow(first, second))


def test_frames_that_do_not_belong_together_are_refused():
    frame = texture(40, 40)
    with pytest.raises(ValueError, match="one size"):
        flow.dense_flow(frame, frame[:30])
    with pytest.raises(ValueError, match="scale"):
        flow.dense_flow(frame, frame, scale=0.0)


def test_a_frame_warped_by_whole_pixels_is_the_frame_shifted():
    image = texture(20, 30)
    shift = np.broadcast_to(np.float32([3, -2]), (20, 30, 2))
    warped, inside = flow.warp(image, shift)
    np.testing.assert_array_equal(warped[2:, :-3], image[:-2, 3:])
    expected = np.zeros((20, 30), bool)
    expected[2:, :-3] = True
    np.testing.assert_array_equal(inside, expected)
    assert flow.warp(image[..., :1], shift)[0].shape == (20, 30, 1)


def test_the_second_frame_warped_by_the_flow_is_the_first():
    first, second, _ = moved_pair(MOTIONS["turn and zoom"])
    warped, inside = flow.warp(second, flow.dense_flow(first, second))

    def distance(a):
        return np.abs(a.astype(float) - first)[inside].mean()

    assert distance(warped) < 0.25 * distance(second)


def moving_square():
    """A square over a background, and where the first frame's background gets covered."""
    back, front = texture(128, 128, 1), texture(128, 128, 2)
    frames = []
    for left in (40, 52):
        frame = back.copy()
        frame[40:80, left : left + 40] = front[40:80, 40:80]
        frames.append(frame)
    covered = np.zeros((128, 128), bool)
    covered[40:80, 80:92] = True
    return *frames, covered


def test_occlusion_is_found_where_a_square_moves_over_a_background():
    first, second, covered = moving_square()
    forward, backward = flow.dense_flow(first, second), flow.dense_flow(second, first)
    seen = flow.visible(forward, backward)
    assert np.mean(~seen[covered]) > 0.9
    near = cv2.dilate(covered.astype(np.uint8), np.ones((25, 25))) > 0
    boundary = np.zeros_like(near)
    boundary[28:92, 28:104] = True  # the square's own outline is a motion boundary
    assert seen[~near & ~boundary].mean() > 0.95
    assert seen[48:72, 48:70].mean() > 0.95  # the square itself
    # What the first frame hides is found from the second frame's side.
    uncovered = np.zeros_like(covered)
    uncovered[40:80, 40:52] = True
    assert np.mean(~flow.visible(backward, forward)[uncovered]) > 0.9


def test_exact_flows_there_and_back_are_consistent_but_not_with_another_motion():
    there = np.broadcast_to(np.float32([4, 0]), (32, 32, 2))
    seen = flow.consistent(there, -there)
    assert seen[:, :-4].all() and not seen[:, -4:].any()
    assert not flow.consistent(there, -there + 1).any()
    # Half a pixel is allowed, and a little more the longer the way.
    assert flow.consistent(there, -there + np.float32([0.6, 0]))[:, :-4].all()


def test_an_edge_of_the_flow_is_a_boundary_and_a_smooth_slope_is_none():
    jump = np.zeros((32, 32, 2), np.float32)
    jump[:, 16:, 0] = 3
    found = flow.motion_boundaries(jump)
    assert found[:, 15:17].all() and found.sum() == 2 * 32
    slope = np.zeros((32, 32, 2), np.float32)
    slope[..., 0] = 0.03 * np.arange(32)
    assert not flow.motion_boundaries(slope).any()
