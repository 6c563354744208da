"""The picture of a new face moves as the hidden face does, and nothing else of that passes."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.replacement import coherence, face_actions, key_derivation, motion_transfer
from dp3_jax.replacement.clip_rendering import Renderer
from dp3_jax.replacement.coherence import Coherence
from dp3_jax.replacement.renderers import BuiltinRenderer
from dp3_jax.vision import masks
from dp3_jax.vision.geometry import Alignment
from tests.face_photos import Painter, everyone
from tests.video_scenes import images, rows, run, scene, stand_in

CANONICAL = Alignment(1.0, 0.0)
INSIDE = slice(3, -3), slice(3, -3)  # cells that a shift does not bring in from outside
FACE_SIZE = 2.0  # px per canonical px in the clips below
CORNER = 30.0
# A little less than the mask, which is placed to a fraction of a pixel.
MASKED = cv2.erode(masks.inference_mask(256)[..., 0], np.ones((7, 7))) > 0


def texture(seed=0, shape=(300, 320), sigma=3.0):
    """u8[h, w]: smooth blobs with detail everywhere."""
    noise = np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma)
    return np.clip(128 + 45 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def shifted(picture, x, y):
    matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
    return cv2.warpAffine(picture, matrix, picture.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


@pytest.mark.parametrize("scale", [0.7, 0.3, 0.12])
@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_a_view_shows_the_canonical_frame_from_its_first_cell_on(scale, angle):
    alignment = Alignment(scale * np.exp(1j * angle), complex(20, 10))
    y, x = np.mgrid[0:1400, 0:1400].astype(np.float64)
    canonical = alignment.apply(np.stack([x, y], -1))
    frame = np.clip(canonical[..., 0] + canonical[..., 1], 0, 255).astype(np.uint8)
    view = motion_transfer.detail(frame, alignment).astype(float)
    rows, columns = motion_transfer.GRID
    fine = view.shape[0] // (rows * motion_transfer.CELL)
    assert view.shape == (rows * motion_transfer.CELL * fine, columns * motion_transfer.CELL * fine)
    y, x = np.mgrid[0 : view.shape[0], 0 : view.shape[1]]
    at = (x + y + 1) / fine - 1 + 2 * 16  # the part begins at (16, 16)
    inside = (at > 45) & (at < 200) & (x + y > 60)
    seen = (np.abs(view - at)[inside] < 2).mean()
    assert seen > 0.6  # the rest lies outside of the frame, whose rim repeats


@settings(deadline=None, max_examples=20)
@given(st.floats(-2.5, 2.5), st.floats(-2.5, 2.5), st.integers(0, 5))
def test_a_shift_is_found_in_direction_and_length(x, y, seed):
    first = texture(seed)
    views = [
        motion_transfer.detail(one, CANONICAL.shifted(-50, -60))
        for one in (first, shifted(first, x, y))
    ]
    moved = motion_transfer.step(*views)
    assert moved.shape == (*motion_transfer.GRID, 2)
    np.testing.assert_allclose(np.median(moved[INSIDE], (0, 1)), (-x, -y), atol=0.12)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.floats(0.5, 9))
def test_what_does_not_move_says_nothing_whatever_it_is(seed, sigma):
    view = texture(seed, (224, 192), sigma)
    assert not motion_transfer.step(view, view.copy()).any()


def test_what_is_not_found_again_does_not_move():
    one, other = texture(1, (224, 192)), texture(2, (224, 192))
    assert (motion_transfer.step(one, other) == 0).all(
        -1
    ).mean() > 0.7  # some smooth cells look alike
    flat = np.full((224, 192), 90, np.uint8)
    assert not motion_transfer.step(flat, flat + np.uint8(40)).any()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.floats(-4, 4), st.floats(-4, 4)), max_size=30))
def test_displacements_add_up_fade_and_stay_near(steps):
    offset, expected = None, np.zeros(2)
    for one in steps:
        offset = motion_transfer.advance(
            offset, np.full((*motion_transfer.GRID, 2), one, np.float32)
        )
        expected = 0.985 * (expected + one)
        expected *= min(1, 8 / max(np.hypot(*expected), 1e-6))
        np.testing.assert_allclose(offset, np.broadcast_to(expected, offset.shape), atol=1e-3)
    rested = offset
    for _ in range(46):
        rested = motion_transfer.advance(rested, None)
    if offset is not None:
        np.testing.assert_allclose(rested, offset / 2, atol=0.03)


def test_a_picture_moves_inside_its_mask_and_keeps_its_rim():
    picture = np.dstack([texture(3, (128, 128))] * 3)
    offset = np.zeros((*motion_transfer.GRID, 2), np.float32)
    np.testing.assert_array_equal(motion_transfer.moved(picture, offset), picture)
    offset[:] = (2, -1)
    moved = motion_transfer.moved(picture, offset)
    masked = masks.inference_mask()[..., 0] > 0
    np.testing.assert_array_equal(moved[~masked], picture[~masked])
    np.testing.assert_array_equal(moved[50:100, 40:90], picture[49:99, 42:92])
    assert motion_transfer.moved(picture.astype(np.float32), offset).dtype == np.float32


def clip(faces):
    """Frames 320x320 with u8[256, 256] faces on them, and the track of their place."""
    frames, observations = [], []
    points = CORNER + FACE_SIZE * masks.CANONICAL_POINTS
    # Where YuNet's box lies round these points, roughly.
    box = (CORNER + 2 * 32.0, CORNER + 2 * 38.0, 2 * 64.0, 2 * 76.0)
    y, x = np.mgrid[0:320, 0:320]
    for number, face in enumerate(faces):
        frame = np.dstack([100 + x // 8, 90 + y // 8, 110 + (x + y) // 16]).astype(np.uint8)
        frame[30:286, 30:286][MASKED] = face[MASKED][:, None]
        frames.append(frame)
        observations.append(Observation(number, box, points.astype(np.float32), 1.0, "detected"))
    return frames, Track(1, tuple(observations))


GRID = Coherence(transfer_motion=True)


def play(faces, use=GRID, restart=None):
    frames, track = clip(faces)
    keys = {1: key_derivation.track_key(b"s" * 32, 1)}

    def renderer():
        return Renderer(face_actions.Settings(), BuiltinRenderer(Painter()), keys, use, everyone)

    one, shown = renderer(), []
    for number, frame in enumerate(frames):
        if restart and number % restart == 0:
            one.forget_originals()
        if restart == number:
            state, one = one.state(), renderer()
            one.restore(state)
        shown.append(one.render(frame, [(track, track.observations[number])])[0])
    return np.array(shown)


def speaking(seed, count=6):
    """A face whose inside moves by 3 px a frame."""
    return [shifted(texture(seed, (256, 256), 5.0), 0, 3 * i) for i in range(count)]


def test_motion_is_followed_and_can_be_left_alone():
    followed, still = play(speaking(1)), play([speaking(1)[0]] * 6)
    stiff = play(speaking(1), coherence.ALL)
    np.testing.assert_array_equal(stiff, still)
    change = np.abs(followed.astype(int) - still).max((1, 2, 3))
    assert change[0] == 0 and change[1:].min() > 1
    outside = cv2.dilate(masks.inference_mask(256)[..., 0], np.ones((7, 7))) == 0
    np.testing.assert_array_equal(followed[:, :30], still[:, :30])
    np.testing.assert_array_equal(
        followed[:, 30:286, 30:286][:, outside], still[:, 30:286, 30:286][:, outside]
    )


def test_how_a_hidden_face_looks_leaves_no_trace():
    np.testing.assert_array_equal(
        play([texture(1, (256, 256))] * 4), play([texture(2, (256, 256))] * 4)
    )


def test_nothing_passes_but_the_displacements(monkeypatch):
    some = np.random.default_rng(0).uniform(-1, 1, (*motion_transfer.GRID, 2)).astype(np.float32)
    monkeypatch.setattr(motion_transfer, "step", lambda before, now: some)
    one, other = play(speaking(1)), play(speaking(2))
    np.testing.assert_array_equal(one, other)
    assert (one[0] != one[3]).any()


def test_a_restart_makes_no_difference():
    np.testing.assert_array_equal(play(speaking(4), restart=3), play_in_segments(speaking(4), 3))


def play_in_segments(faces, length):
    """As a run that is not interrupted: originals are forgotten between segments, all else is kept."""
    frames, track = clip(faces)
    one = Renderer(
        face_actions.Settings(),
        BuiltinRenderer(Painter()),
        {1: key_derivation.track_key(b"s" * 32, 1)},
        GRID,
        everyone,
    )
    shown = []
    for number, frame in enumerate(frames):
        if number % length == 0:
            one.forget_originals()
        shown.append(one.render(frame, [(track, track.observations[number])])[0])
    return np.array(shown)


def test_nothing_of_the_originals_is_written_down():
    states = []
    for seed in (1, 2):
        frames, track = clip([texture(seed, (256, 256))] * 3)
        one = Renderer(
            face_actions.Settings(),
            BuiltinRenderer(Painter()),
            {1: key_derivation.track_key(b"s" * 32, 1)},
            GRID,
            everyone,
        )
        for number, frame in enumerate(frames):
            one.render(frame, [(track, track.observations[number])])
        states.append(one.state())
    assert states[0] == states[1]


def test_small_faces_and_cuts_are_not_followed(monkeypatch):
    calls = []
    monkeypatch.setattr(motion_transfer, "step", lambda before, now: calls.append(1))
    frames, track = clip(speaking(1))
    one = Renderer(
        face_actions.Settings(),
        BuiltinRenderer(Painter()),
        {1: key_derivation.track_key(b"s" * 32, 1)},
        GRID,
        everyone,
    )
    for number, frame in enumerate(frames):
        one.render(frame, [(track, track.observations[number])], cut=True)
    assert not calls
    assert motion_transfer.is_small(Alignment(0.76, 0)) and not motion_transfer.is_small(
        Alignment(0.74, 0)
    )


def test_the_command_follows_lips_and_lids_or_the_head_alone(monkeypatch, tmp_path):
    """`dp3 anonymize --motion`, on a face that stays in its place and moves in itself, and on one at rest."""
    stand_in(monkeypatch)
    box = (86.0, 96.0, 144.0, 172.0)  # hides all that the frames have of the face
    (tmp_path / "boxes.csv").write_text(rows([[box]] * 4))
    sources = {"speaks": speaking(1, 4), "rests": [texture(2, (256, 256))] * 4}
    shown = {}
    for name, faces in sources.items():
        frames, _ = clip(faces)
        size = {
            "width": 320,
            "height": 320,
            "image": lambda number, *_, pictures=frames: pictures[number],
        }
        source = scene(tmp_path / f"{name}.mkv", [[]] * 4, **size)
        for motion in ("grid", "head"):
            target = tmp_path / f"{name}_{motion}.mkv"
            given = ["--boxes", tmp_path / "boxes.csv", "--seed", 1]
            assert run(source, "-o", target, "--motion", motion, *given) == 0
            shown[name, motion] = images(target)
    still = shown["rests", "head"]
    np.testing.assert_array_equal(shown["rests", "grid"], still)
    np.testing.assert_array_equal(shown["speaks", "head"], still)
    assert (shown["speaks", "grid"] != still).any()
