"""Steady places, pictures and grain: what a smoother must keep, must even out, and must let go."""

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.replacement import averaging, coherence
from dp3_jax.replacement.temporal_memory import Memory
from dp3_jax.vision import blending, geometry, poses
from dp3_jax.vision.geometry import Alignment, Region
from dp3_jax.vision.masks import CANONICAL_POINTS, inference_mask


def observation(frame, alignment, noise=0.0, seed=0, source="detected"):
    """A face seen with errors of `noise` px in its points."""
    random = np.random.default_rng([seed, frame])
    points = alignment.invert(CANONICAL_POINTS) + random.normal(0, noise, (5, 2))
    x, y = alignment.invert(np.array([64.0, 76.0]))
    width, height = 62.0 / alignment.scale, 82.0 / alignment.scale
    box = (float(x - width / 2), float(y - height / 2), width, height)
    return Observation(frame, box, points.astype(np.float32), 1.0, source)


def moving(frame, speed=0.0, turn=0.0):
    pose = poses.Pose(complex(200 + speed * frame, 150), 0.3, turn * frame)
    return poses.to_alignment(pose)


def track(count, noise=0.0, first=0, **motion):
    return Track(1, tuple(observation(first + i, moving(i, **motion), noise) for i in range(count)))


def corners(alignment):
    return alignment.invert(np.array([(0.0, 0.0), (128.0, 0.0), (0.0, 128.0)]))


def jitter(alignments):
    """How much the canonical frame's corners shake, in px."""
    return float(np.std(np.diff([corners(a) for a in alignments], n=2, axis=0)))


@given(
    st.complex_numbers(min_magnitude=0.01, max_magnitude=50),
    st.complex_numbers(max_magnitude=5000),
)
def test_a_pose_says_all_of_an_alignment(a, b):
    again = poses.to_alignment(poses.to_pose(Alignment(a, b)))
    np.testing.assert_allclose([again.a, again.b], [a, b], rtol=1e-6, atol=1e-6)


def smooth_alignments(track, cuts=()):
    """The alignments of a whole track as its faces are rendered in a file, one for each observation."""
    raw = [poses.to_pose(one.alignment()) for one in track.observations]
    smooth = [coherence.centred(track, one, cuts) for one in track.observations]
    return [poses.to_alignment(poses.limited(*both)) for both in zip(smooth, raw, strict=True)]


def test_smoothing_leaves_less_than_half_of_the_shaking():
    shaking = track(40, noise=1.0)
    raw = [s.alignment() for s in shaking.observations]
    assert jitter(smooth_alignments(shaking)) < 0.4 * jitter(raw)


@pytest.mark.parametrize("motion", [{"speed": 9.0}, {"turn": 0.03}, {}])
def test_a_steady_motion_is_followed_exactly_from_its_first_frame_to_its_last(motion):
    stable = track(25, **motion)
    for i, alignment in enumerate(smooth_alignments(stable)):
        np.testing.assert_allclose(corners(alignment), corners(moving(i, **motion)), atol=0.05)


def test_a_face_that_turns_through_the_half_circle_does_not_spin():
    turning = track(30, turn=0.25)
    for i, alignment in enumerate(smooth_alignments(turning)):
        assert poses.moved(alignment, moving(i, turn=0.25)) < 4


def test_a_wrong_measurement_does_not_turn_the_head():
    observations = list(track(21).observations)
    tilted = moving(10)
    pose = poses.to_pose(tilted)._replace(angle=0.15)
    observations[10] = observation(10, poses.to_alignment(pose))
    found = smooth_alignments(Track(1, tuple(observations)))
    assert abs(poses.to_pose(found[10]).angle) < 0.03
    assert abs(poses.to_pose(found[9]).angle) < 0.01


def test_nothing_is_smoothed_across_a_cut():
    before = [observation(i, moving(0)) for i in range(10)]
    after = [observation(10 + i, moving(30, speed=2.0)) for i in range(10)]
    joined = Track(1, (*before, *after))
    found = smooth_alignments(joined, cuts=(10,))
    for alignment, one in zip(found, joined.observations, strict=True):
        assert poses.moved(alignment, one.alignment()) < 0.01
    mixed = smooth_alignments(joined)[9]
    assert poses.moved(mixed, geometry.align(before[9].box, before[9].keypoints)) > 1


@given(st.integers(0, 9), st.floats(0, 60), st.integers(1, 30))
def test_smoothing_never_moves_a_face_far(seed, noise, count):
    wild = Track(1, tuple(observation(i, moving(i, 3.0), noise, seed) for i in range(count)))
    found = smooth_alignments(wild)
    assert len(found) == count
    for alignment, one in zip(found, wild.observations, strict=True):
        raw = one.alignment()
        assert poses.moved(alignment, raw) <= 12


def follow(poses):
    motion, found = None, []
    for pose in poses:
        motion = coherence.follow(motion, pose)
        found.append(motion.pose)
    return found


def test_the_causal_filter_rests_with_the_face_and_keeps_up_with_it():
    shaking = [poses.to_pose(s.alignment()) for s in track(60, 1.0).observations]
    smooth = [poses.to_alignment(p) for p in follow(shaking)][20:]
    assert jitter(smooth) < 0.6 * jitter([poses.to_alignment(p) for p in shaking][20:])
    fast = [poses.to_pose(moving(i, speed=12.0)) for i in range(60)]
    behind = abs(follow(fast)[-1].centre - fast[-1].centre)
    assert behind < 12.0  # less than one frame's way


def test_the_causal_filter_knows_nothing_of_the_future():
    stable = [poses.to_pose(moving(i, 2.0, 0.01)) for i in range(20)]
    changed = [*stable[:10], *(p._replace(centre=p.centre + 50) for p in stable[10:])]
    assert follow(stable)[:10] == follow(changed)[:10]


VIEW = np.full((128, 128, 3), 90, np.uint8)


def test_surroundings_are_compared_without_what_is_under_the_mask():
    mask = inference_mask()
    masked = VIEW.copy()
    masked[mask[..., 0] > 0] = 255
    before, same = averaging.surroundings(VIEW, mask), averaging.surroundings(masked, mask)
    np.testing.assert_array_equal(before, same)
    assert averaging.measured_change(before, same) == 0
    assert averaging.measured_change(None, same) == 1
    assert averaging.measured_change(before, averaging.surroundings(VIEW + 100, mask)) == 1
    assert 0 < averaging.measured_change(before, averaging.surroundings(VIEW + 20, mask)) < 1
    nothing = averaging.surroundings(VIEW, np.ones((128, 128, 1), np.float32))
    assert averaging.measured_change(before, nothing) == 1


def test_an_average_evens_out_noise_and_comes_back_from_what_was_wrong():
    random = np.random.default_rng(0)
    view = np.full((128, 128, 3), 100, np.float32)
    for _ in range(20):
        new = np.clip(100 + random.normal(0, 15, view.shape), 0, 255).astype(np.uint8)
        view = averaging.average(view, new, 0.0)
    assert np.std(view) < 6
    wrong = view + 30
    for _ in range(90):  # three seconds
        wrong = averaging.average(wrong, np.full_like(VIEW, 100), 0.0)
    assert np.abs(wrong - 100).max() < 1
    other = np.where(np.arange(128)[:, None, None] < 64, VIEW, np.uint8(250))
    moved = np.full((128, 128, 3), 90, np.float32)
    for _ in range(averaging.EVERY):  # what is wholly different comes soon, but without a jump
        before, moved = moved, averaging.average(moved, other, 0.0)
        assert (moved - before)[110:].min() > 5 and (moved - before).max() < 25
    assert moved[110:].min() > 170
    np.testing.assert_array_equal(moved[:40], 90)
    at_once = averaging.average(
        np.full((128, 128, 3), 90, np.float32), other, 0.0, most=1.0, every=1
    )
    assert at_once[110:].min() > 240
    np.testing.assert_allclose(averaging.average(view, VIEW, 1.0), VIEW, atol=1e-3)


def test_grain_has_its_strength_stays_in_its_region_and_differs_between_frames():
    inside = np.zeros((300, 400), bool)
    inside[20:280, 30:390] = True
    target = Region(50, 60, inside)
    frames = []
    for number in (7, 7, 8):
        frame = np.full((400, 500, 3), 128, np.uint8)
        coherence.add_grain(frame, target, 5.0, b"k" * 32, number)
        frames.append(frame)
    np.testing.assert_array_equal(frames[0], frames[1])
    grain = frames[0][target.slices][inside].astype(float) - 128
    other = frames[2][target.slices][inside].astype(float) - 128
    assert 4.7 < grain.std() < 5.3 and abs(grain.mean()) < 0.1
    assert abs(np.corrcoef(grain[:, 0], other[:, 0])[0, 1]) < 0.05
    changed = (frames[0] != 128).any(-1)
    assert not changed[:70].any() and not changed[:, :90].any()
    quiet = np.full((400, 500, 3), 128, np.uint8)
    coherence.add_grain(quiet, target, 0.3, b"k" * 32, 7)
    assert (quiet == 128).all()


def test_every_switch_can_be_turned_off():
    assert not any(dataclasses.astuple(coherence.NONE))
    on = dataclasses.asdict(coherence.ALL)
    assert not on.pop("transfer_motion") and all(on.values())  # the dense grid is asked for by name


def test_where_nothing_changes_the_network_rests_and_faces_are_drawn_together():
    view, mask = np.full((128, 128, 3), 90, np.uint8), np.asarray(inference_mask())
    rendered = []
    for start in (0, 2):  # the second face comes later
        memory, own = Memory(start), []
        for memory.now in range(start, 30):
            memory.observe(view, mask)
            if not memory.skips_inference():
                new = np.full_like(view, memory.now)
                memory.drew()
                own.append(memory.now)
            memory.compose(view, new, mask)
        rendered.append(own)
    assert rendered[0] == list(range(0, 30, averaging.EVERY)) and rendered[1][1:] == rendered[0][1:]
    memory.observe(
        np.full_like(view, 200), mask
    )  # elsewhere: nothing is shown of what was drawn here
    assert not memory.skips_inference() and memory.view is None


def test_a_drawing_is_averaged_in_over_all_the_frames_that_it_is_shown_in():
    view, mask = np.full((128, 128, 3), 90, np.uint8), np.asarray(inference_mask())
    memory = Memory(0)
    shown = []
    for frame in range(12):
        memory.observe(view, mask)
        new = memory.latest if frame % 4 else np.full_like(view, 90 + frame)
        memory.compose(view, new, mask)
        shown.append(float(memory.view.mean()))
    steps = np.diff(shown)
    assert shown[3] == 90 and (steps[3:] > 0).all() and steps.max() < 0.5  # of 4 and of 8 levels


def boundaries(fills, use):
    """What is shown of frames whose erased part is of these levels, round a face that never changes."""
    mask, memory = np.asarray(inference_mask()), Memory(0, use)
    shown = []
    for level in fills:
        view = np.where(mask > 0, np.uint8(level), VIEW)
        memory.observe(view, mask)
        shown.append(memory.compose(view, np.full_like(VIEW, 120), mask).astype(int))
    depth = cv2.distanceTransform((mask[..., 0] > 0).astype(np.uint8), cv2.DIST_L2, 5)
    return np.array(shown), depth


@pytest.mark.parametrize("colour", [False, True])
def test_a_flickering_fill_shows_less_but_for_the_very_edge(colour):
    fills = 90 + np.random.default_rng(2).normal(0, 5, 40)
    use = coherence.Coherence(stabilise_colour=colour)
    stable, depth = boundaries(fills, use)
    alone, _ = boundaries(fills, dataclasses.replace(use, stabilise_fill=False))
    boundary = (depth > 2.5) & (depth < 4)
    assert (
        np.diff(stable[:, boundary], axis=0).std() < 0.6 * np.diff(alone[:, boundary], axis=0).std()
    )
    np.testing.assert_array_equal(stable[:, depth == 0], 90)


def test_a_fill_that_is_wholly_different_is_shown_at_once():
    fills = [40] * 10 + [200] * 3
    (stable, depth), (alone, _) = (
        boundaries(fills, coherence.ALL),
        boundaries(fills, coherence.Coherence(stabilise_fill=False)),
    )
    boundary = (depth > 0) & (depth < 2)
    assert np.abs(stable[10] - alone[10])[boundary].max() <= 12


def test_a_coarse_correction_gives_nearly_the_same_picture():
    random, mask = np.random.default_rng(1), np.asarray(inference_mask())
    coarse = random.integers(40, 200, (2, 6, 6, 3)).astype(np.float32)
    view, new = (cv2.resize(one, (128, 128)).astype(np.uint8) for one in coarse)
    full = blending.blend(view, new, mask, blending.correction(view, new, mask))
    quick = blending.blend(view, new, mask, blending.correction(view, new, mask, quick=True))
    assert np.abs(full.astype(int) - quick).max() <= 4
    assert np.abs(full.astype(int) - new)[mask[..., 0] > 0].max() > 20
    np.testing.assert_array_equal(quick[mask[..., 0] == 0], view[mask[..., 0] == 0])
