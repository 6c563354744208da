import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp3_jax.common.errors import UserError
from dp3_jax.detection import tracks
from dp3_jax.detection.tracking import Linking, Tracker, link
from tests.track_makers import (
    HEIGHT,
    WIDTH,
    exposed,
    face,
    seen,
    straight,
    swaying,
)

FRAMES = 60
MARGIN = Linking().margin


def linked(found, cuts=(), frames=FRAMES):
    return link(frames, found, cuts, WIDTH, HEIGHT)


def who(result, frame, box):
    """The number of the track that saw this box in a frame."""
    rounded = tuple(round(float(v), 2) for v in box)
    numbers = [
        t.number for t in result for s in t.observations if (s.frame, s.box) == (frame, rounded)
    ]
    assert len(numbers) == 1
    return numbers[0]


boxes = st.tuples(
    st.floats(-50, WIDTH), st.floats(-50, HEIGHT), st.floats(4, 300), st.floats(4, 300)
)
faces = st.builds(
    face, boxes, st.floats(0.3, 1), st.sampled_from(["detected", "rotated", "unsure", "user"])
)
clips = st.dictionaries(st.integers(0, FRAMES - 1), st.lists(faces, max_size=3), max_size=12)


@given(clips, st.sets(st.integers(1, FRAMES - 1), max_size=3))
def test_nothing_is_dropped_no_frame_is_missing_and_nothing_crosses_a_cut(found, cuts):
    result = linked(found, sorted(cuts))
    kept = sorted(
        (s.frame, s.box, s.confidence)
        for t in result
        for s in t.observations
        if s.source != "filled"
    )
    given_faces = [tracks.from_face(frame, f) for frame, many in found.items() for f in many]
    assert kept == sorted((s.frame, s.box, s.confidence) for s in given_faces)
    assert [track.number for track in result] == list(range(1, len(result) + 1))
    for track in result:
        assert [s.frame for s in track.observations] == list(range(track.first, track.last + 1))
        assert not any(track.first < cut <= track.last for cut in cuts)
        for s in track.observations:
            assert np.isfinite(s.box).all() and min(s.box[2:]) > 0
            assert (s.source == "filled") == (s.confidence == 0)


@given(faces, st.integers(0, FRAMES - 1), st.integers(1, FRAMES - 1))
def test_a_single_detection_is_a_track_with_a_margin_up_to_cuts_and_ends(one, frame, cut):
    (track,) = linked({frame: [one]}, [cut])
    start, stop = (0, cut) if frame < cut else (cut, FRAMES)
    margin = (
        MARGIN
        if track.observations[frame - track.first].confidence >= tracks.HIGH_CONFIDENCE
        else MARGIN // 3
    )
    assert (track.first, track.last) == (max(start, frame - margin), min(stop - 1, frame + margin))


@settings(max_examples=12)
@given(
    st.floats(-4, 4),
    st.floats(-2, 2),
    st.sampled_from([0.1, 0.3, 0.5]),
    st.integers(0, 100),
    st.booleans(),
)
def test_a_face_is_covered_with_half_of_its_detections_missing(right, down, rate, seed, sways):
    """Up to a tenth of its width a frame, or swinging by its width in a second to and fro."""
    path = straight(FRAMES, (320 - 30 * right, 180 - 30 * down), (right, down))
    if sways:
        path = swaying(FRAMES, (320, 180), (right * 10, down * 10), 60)
    missed = np.random.default_rng(seed).random(FRAMES) < rate
    missed[[5, -6]] = False
    result = linked(seen([path], lambda person, frame: missed[frame]))
    assert len(result) == 1
    assert exposed(result, [path]) == {}


@pytest.mark.parametrize("gap", [1, 5, 15, 30])
@pytest.mark.parametrize("speed", [0, 2, 4, 8])
def test_a_burst_of_misses_in_the_middle_is_covered(gap, speed):
    path = straight(FRAMES, (60, 100), (speed, 0))
    result = linked(seen([path], lambda person, frame: 15 <= frame < 15 + gap))
    assert len(result) == 1
    assert exposed(result, [path]) == {}


@pytest.mark.parametrize("gap", [5, 15])
@pytest.mark.parametrize("speed", [2, 4])
@pytest.mark.parametrize("backward", [False, True])
def test_bursts_of_misses_at_the_border_are_covered_up_to_the_margin(gap, speed, backward):
    """Leaving across the border (or, the other way round, coming in) with the last detections missing."""
    path = straight(FRAMES, (WIDTH - 50 * speed, 150), (speed, 0))
    path = path[::-1] if backward else path
    lost = range(10, 10 + gap) if backward else range(50 - gap, 50)
    result = linked(seen([path], lambda person, frame: frame in lost))
    assert exposed(result, [path]) == {}


def test_a_burst_at_the_border_beyond_the_margin_leaves_what_nobody_saw():
    """The limit, stated: frames further than the margin from any detection are not covered."""
    path = straight(FRAMES, (100, 150), (2, 0))
    bare = exposed(linked(seen([path], lambda person, frame: frame >= 30)), [path])
    assert {frame for _, frame in bare} == set(range(30 + MARGIN, FRAMES))


@pytest.mark.parametrize("gap", [0, 5, 10, 20])
@pytest.mark.parametrize("speed", [2, 4, 8])
def test_two_faces_that_cross_keep_their_numbers(gap, speed):
    paths = [
        straight(FRAMES, (320 - 30 * speed, 150), (speed, 0)),
        straight(FRAMES, (320 + 30 * speed, 160), (-speed, 0)),
    ]
    lost = range(30 - gap // 2, 30 - gap // 2 + gap)
    result = linked(seen(paths, lambda person, frame: frame in lost))
    assert len(result) == 2
    for path in paths:
        assert who(result, 0, path[0]) == who(result, FRAMES - 1, path[-1])
    assert exposed(result, paths) == {}


def test_filled_boxes_grow_with_the_distance_from_a_detection():
    (track,) = linked(seen([straight(50, (300, 150), (0, 0))], lambda p, f: 20 <= f < 35))
    widths = [s.box[2] for s in track.observations]
    assert widths[19] == 40 and all(np.diff(widths[19:28]) > 0) and all(np.diff(widths[27:36]) < 0)
    assert all(np.diff(widths[49:]) > 0) and widths[-1] <= 2 * 40 + tracks.MIN_PIXELS


def test_points_are_filled_with_the_boxes():
    path = straight(30, (200, 100), (3, 1))
    (track,) = linked(seen([path], lambda p, f: 10 <= f < 20), frames=30)
    for s, box in zip(track.observations, path, strict=True):
        np.testing.assert_allclose(s.keypoints, face(box).keypoints, atol=0.5)


def test_a_face_that_goes_out_stays_at_the_border():
    path = straight(30, (WIDTH - 5, 100), (8, 0))
    (track,) = linked({0: seen([path])[0], 1: [face(path[1])], 2: [face(path[2])]}, frames=30)
    assert all(tracks.centre(s.box)[0] <= WIDTH + 11.01 for s in track.observations)


def test_someone_who_comes_back_much_later_or_much_larger_is_a_new_track():
    still = straight(1, (300, 150), (0, 0))[0]
    large = straight(1, (300, 150), (0, 0), (120.0, 150.0))[0]
    assert len(link(200, {0: [face(still)], 150: [face(still)]}, (), WIDTH, HEIGHT)) == 2
    assert len(linked({0: [face(still)], 20: [face(large)]})) == 2
    assert len(linked({0: [face(still)], 20: [face(still)]})) == 1


def test_a_weak_detection_continues_a_track():
    path = straight(FRAMES, (100, 100), (2, 0))
    found = {f: [face(box, 0.5 if f % 2 else 0.9)] for f, box in enumerate(path)}
    assert len(linked(found)) == 1


def test_live_a_lost_face_stays_covered_and_keeps_its_number_when_found():
    path = straight(FRAMES, (200, 100), (2, 0))
    tracker, numbers = Tracker(WIDTH, HEIGHT), set()
    for frame, box in enumerate(path):
        found = tracker.update(frame, [] if 20 <= frame < 35 else [face(box)])
        assert len(found) == 1
        number, observation = found[0]
        numbers.add(number)
        assert (observation.source == "filled") == (20 <= frame < 35)
        shown = tracks.Track(number, (observation,))
        assert exposed([shown], [path], [frame]) == {}
    assert numbers == {1}


def test_live_a_face_that_stays_away_is_forgotten_and_a_cut_forgets_all():
    tracker = Tracker(WIDTH, HEIGHT, Linking(max_gap=10, grace=5))
    one = face((100, 100, 40, 50))
    tracker.update(0, [one])
    assert [len(tracker.update(frame, [])) for frame in range(1, 8)] == [1] * 5 + [0] * 2
    assert [n for n, _ in tracker.update(9, [one])] == [1]
    assert [n for n, _ in tracker.update(30, [one])] == [2]
    assert [n for n, _ in tracker.update(31, [one], cut=True)] == [3]
    assert tracker.update(32, [], cut=True) == []


def test_live_memory_is_bounded():
    tracker = Tracker(WIDTH, HEIGHT, Linking(max_gap=4, grace=4))
    for frame in range(300):  # never the same place twice
        place = ((frame * 137) % 600, (frame * 89) % 300, 20, 20)
        assert len(tracker.update(frame, [face(place)])) <= 5


def test_options_are_checked():
    assert Linking.at_rate(25) == Linking(50, 12, 25)
    with pytest.raises(UserError, match="margin"):
        Linking(margin=-1)
    with pytest.raises(ValueError, match="frame 9"):
        link(9, {9: [face((1, 1, 9, 9))]}, (), WIDTH, HEIGHT)


def tracking():
    found = seen([straight(20, (100, 100), (2, 0)), straight(40, (400, 200), (1, 0))])
    return tracks.Tracking(FRAMES, WIDTH, HEIGHT, (50,), linked(found, (50,)))


def test_an_index_gives_the_faces_of_a_frame():
    made = tracking()
    at = tracks.by_frame(made)
    for frame in range(FRAMES):
        expected = [t.number for t in made.tracks if t.first <= frame <= t.last]
        assert [track.number for track, _ in at(frame)] == expected
        assert all(observation.frame == frame for _, observation in at(frame))
    assert tracks.to_face(at(0)[0][1]).box == at(0)[0][1].box


def test_what_was_split_can_be_merged_again():
    made = tracking()
    first = made.tracks[0]
    apart = tracks.split(made, 1, 12)
    assert [(t.number, t.first, t.last) for t in apart.tracks] == [
        (1, 0, 11), (2, 0, 49), (3, 12, first.last),
    ]  # fmt: skip
    whole = tracks.merge(apart, 1, 3)
    assert [s.box for s in whole.tracks[0].observations] == [s.box for s in first.observations]


def test_a_merge_fills_what_lies_between_and_keeps_only_if_both_are_kept():
    made = tracking()
    apart = tracks.split(tracks.exclude(made, 1), 1, 8)
    last = apart.tracks[-1]
    rest = tracks.Track(last.number, last.observations[6:], keep=False)
    gappy = tracks.Tracking(FRAMES, WIDTH, HEIGHT, (50,), (*apart.tracks[:-1], rest))
    whole = tracks.merge(gappy, 1, last.number).tracks[0]
    assert [s.frame for s in whole.observations] == list(range(made.tracks[0].last + 1))
    assert [s.source for s in whole.observations[8:14]] == ["filled"] * 6
    assert not whole.keep


@pytest.mark.parametrize("at", [20, 25, 34])
def test_a_part_that_nobody_saw_can_be_split_off_and_merged(at):
    made = tracking()
    apart = tracks.split(made, 1, at)
    whole = tracks.merge(apart, 3, 1).tracks[-1]
    assert [s.frame for s in whole.observations] == [s.frame for s in made.tracks[0].observations]
