"""The motion of heads, and points that follow it: closer to the truth, stopped by cuts and gaps, bounded."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.detection import motion
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.motion import Step
from dp3_jax.detection.tracks import Observation, Track, Tracking
from dp3_jax.pipelines.video import detection_pass, track_file
from dp3_jax.vision import geometry, poses
from dp3_jax.vision.masks import CANONICAL_POINTS, SIZE, inference_mask

SHAPE = (220, 260)
COUNT = 24


def texture(seed, shape, sigma=2.0):
    """Smooth noise, f32, 40 to 210."""
    noise = np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigma)
    return 125 + 85 * np.clip(noise / noise.std() / 2, -1, 1)


def head_at(frame):
    """The true alignment of a head that walks, turns and comes nearer."""
    shift = complex(100 + 2.1 * frame, 105 + 6 * np.sin(frame / 5))
    pose = poses.Pose(shift, np.log(0.9 + 0.004 * frame), 0.06 * np.sin(frame / 4))
    return poses.to_alignment(pose)


def picture(frame, alignment=head_at):
    """u8[h, w]: a head with a texture of its own before another one that stands still."""
    head, mask = texture(1, (SIZE, SIZE)), inference_mask()[..., 0]
    options = {"dsize": SHAPE[::-1], "flags": cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR}
    matrix = alignment(frame).matrix
    inside = cv2.warpAffine(mask, matrix, **options)
    shown = inside * cv2.warpAffine(head, matrix, **options) + (1 - inside) * texture(2, SHAPE)
    return np.round(shown).astype(np.uint8)


def observation(frame, alignment, points=CANONICAL_POINTS, source="detected"):
    corner = alignment.invert(np.array(geometry.CANONICAL_BOX[:2]))
    size = np.array(geometry.CANONICAL_BOX[2:]) / alignment.scale
    box = tuple(float(v) for v in np.round([*corner, *size], 2))
    return Observation(frame, box, alignment.invert(points).astype(np.float32), 0.9, source)


def noisy(frame, random, alignment=head_at, by=1.5):
    points = CANONICAL_POINTS + random.normal(0, by, CANONICAL_POINTS.shape)
    return observation(frame, alignment(frame), points)


def seen_steps(observations, alignment=head_at):
    """What is seen of the motion to each observation."""
    pictures = {s.frame: picture(s.frame, alignment) for s in observations}
    found = {}
    for one in observations[1:]:
        step = motion.step(pictures[one.frame - 1], pictures[one.frame], one.box, one.keypoints)
        if step is not None:
            found[one.frame, one.box] = step
    return found


def aligned(one):
    return one.alignment()


def errors(track, alignment=head_at):
    """How far each mask is from where the head is, canonical px."""
    return np.array([poses.moved(aligned(s), alignment(s.frame)) for s in track.observations])


def jittering(track, alignment=head_at):
    """Mean change of that error from frame to frame, canonical px: what slides over the head."""
    corners = np.array([(30, 30), (98, 30), (64, 120)])
    off = [alignment(s.frame).apply(aligned(s).invert(corners)) for s in track.observations]
    return float(np.linalg.norm(np.diff(off, axis=0), axis=-1).mean())


def test_the_motion_of_a_head_is_seen_in_spite_of_its_background():
    one = noisy(10, np.random.default_rng(0))
    found = motion.step(picture(9), picture(10), one.box, one.keypoints)
    before, after = head_at(9), head_at(10)
    assert abs(found.a - before.a / after.a) < 0.003
    middle = complex(*before.invert(np.array([64.0, 74.0])))
    assert abs(found.a * middle + found.b - complex(*after.invert(np.array([64.0, 74.0])))) < 0.1


def test_steadied_points_are_closer_to_the_truth_and_move_with_the_head():
    random = np.random.default_rng(1)
    track = Track(1, tuple(noisy(i, random) for i in range(COUNT)))
    stable = motion.stabilised(track, seen_steps(track.observations))
    assert errors(stable).mean() < 0.5 * errors(track).mean()
    assert jittering(stable) < 0.1 * jittering(track)
    assert [s.box for s in stable.observations] == [s.box for s in track.observations]


def test_an_opening_mouth_does_not_move_the_face():
    def still(frame):
        return head_at(0)

    observations = []
    for i in range(COUNT):
        points = CANONICAL_POINTS + np.array([[0, 0]] * 3 + [[0, 6 * (i % 8 > 3)]] * 2)
        observations.append(observation(i, still(i), points))
    track = Track(1, tuple(observations))
    stable = motion.stabilised(track, seen_steps(track.observations, still))
    assert jittering(track, still) > 0.5
    assert jittering(stable, still) < 0.05


def test_a_cut_or_a_flat_picture_has_no_motion():
    one = noisy(5, np.random.default_rng(2))
    other = texture(9, SHAPE).astype(np.uint8)
    assert motion.step(other, picture(5), one.box, one.keypoints) is None
    flat = np.full(SHAPE, 90, np.uint8)
    assert motion.step(flat, flat, one.box, one.keypoints) is None
    assert motion.step(other, other, (900.0, 900.0, 40.0, 50.0), CANONICAL_POINTS + 850) is None


def test_what_nobody_saw_stays_as_it_is_and_no_motion_leads_over_it():
    random = np.random.default_rng(3)
    observations = [noisy(i, random) for i in range(COUNT)]
    x, y, w, h = observations[11].box
    hidden = Observation(11, (x - 9, y - 9, w + 18, h + 18), None, 0.0, "filled")
    observations[11] = hidden
    track = Track(1, tuple(observations))
    steps = seen_steps(observations)
    stable = motion.stabilised(track, steps)
    assert stable.observations[11] is hidden
    wild = steps | {(f, observations[f].box): Step(1j, 40 + 0j) for f in (11, 12)}
    known = {key: step for key, step in steps.items() if key[0] not in (11, 12)}
    assert points_of(motion.stabilised(track, wild)) == points_of(motion.stabilised(track, known))
    assert np.delete(errors(stable), 11).mean() < 0.7 * np.delete(errors(track), 11).mean()


def points_of(track):
    return [None if s.keypoints is None else s.keypoints.tolist() for s in track.observations]


def test_a_motion_that_the_detections_contradict_is_not_used():
    random = np.random.default_rng(4)
    track = Track(1, tuple(noisy(i, random) for i in range(COUNT)))
    steps = seen_steps(track.observations)
    hand = track.observations[12]
    steps[12, hand.box] = Step(1 + 0j, 30 + 0j)
    assert errors(motion.stabilised(track, steps)).mean() < 0.7 * errors(track).mean()


def test_without_any_motion_a_track_is_what_it_was():
    track = Track(1, tuple(noisy(i, np.random.default_rng(i)) for i in range(4)))
    assert motion.stabilised(track, {}) is track
    assert (
        motion.stabilised(Track(1, track.observations[:1]), {}).observations
        == track.observations[:1]
    )


numbers = st.floats(-1, 1)


@given(
    st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=5, max_size=5), st.integers(0)
)
def test_no_face_is_moved_far_from_where_it_was_detected(drawn, seed):
    """Whatever the motions are."""
    random = np.random.default_rng(seed % 1000)
    track = Track(1, tuple(noisy(i, random, by=4.0) for i in range(6)))
    steps = {
        (s.frame, s.box): Step(1 + 0.2 * complex(a, b), 5 * complex(c, d))
        for s, (a, b, c, d) in zip(track.observations[1:], drawn, strict=True)
    }
    stable = motion.stabilised(track, steps)
    for old, new in zip(track.observations, stable.observations, strict=True):
        before = old.alignment()
        after = geometry.align_points(new.keypoints)
        assert poses.moved(after, before) < 9.2


def test_steady_tracks_come_back_from_their_file(tmp_path):
    random = np.random.default_rng(6)
    track = Track(1, tuple(noisy(i, random) for i in range(COUNT)))
    stable = motion.stabilised(track, seen_steps(track.observations))
    tracking = Tracking(COUNT, SHAPE[1], SHAPE[0], (), (stable,))
    path = tmp_path / "clip.tracks.json"
    track_file.write(path, tracking, detection_pass.Settings(), {}, None)
    (again,) = track_file.read(path).tracking.tracks
    assert points_of(again) == points_of(stable)


@pytest.mark.parametrize("steps", [(), (None,), (Step(0.1 + 0.7j, 1 / 3 - 2j),)])
def test_the_journal_keeps_motions_exactly(steps):
    face = Detection((1.5, 2.5, 30.0, 40.0), None, 0.9, "detected")
    found = detection_pass.FrameDetections(3, 40, False, (face,), None, steps)
    again = detection_pass.from_json(json.loads(json.dumps(detection_pass.to_json(found))))
    assert again.steps == steps


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_chains_of_poses_are_solved_as_a_full_system_is(size, seed):
    random = np.random.default_rng(seed)
    above = random.normal(size=(size - 1, 2)) @ (1, 1j)
    matrix = np.diag(above, 1) + np.diag(np.conj(above), -1)
    # Definite, as a sum of squares is: the diagonal outweighs the rest of its row.
    matrix += np.diag(np.abs(matrix).sum(1) + random.uniform(0.1, 10, size))
    right = random.normal(size=(size, 2)) @ (1, 1j)
    found = motion.solved(np.diag(matrix), above, right)
    np.testing.assert_allclose(matrix @ found, right, atol=1e-9)
