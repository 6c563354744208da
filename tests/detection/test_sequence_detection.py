"""Finding faces in made clips: a portrait that is moved, shrunk, turned, hidden and cut away."""

import dataclasses
import functools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.detection import region_detection
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.live_detection import Budget, LiveDetector
from dp3_jax.detection.sequence_detection import VideoDetector
from tests.face_photos import BOX, astronaut, detector_or_skip

CHUNK = 6


@dataclasses.dataclass
class Frame:
    number: int
    image: np.ndarray


@functools.cache
def _detector(kind, **options):
    return kind(**options)


def video_detector(threads=2):
    detector_or_skip()
    return _detector(VideoDetector, chunk=CHUNK, threads=threads)


def shown(x, y, width, angle=0.0, *, size=(640, 360), brightness=1.0):
    """u8: the portrait with the middle of its face at (x, y), `width` px wide, turned, before gray."""
    scale = width / BOX[2]
    turn = cv2.getRotationMatrix2D((BOX[0] + BOX[2] / 2, BOX[1] + BOX[3] / 2), angle, scale)
    turn[:, 2] += np.array([x, y]) - (BOX[0] + BOX[2] / 2, BOX[1] + BOX[3] / 2)
    portrait = cv2.GaussianBlur(astronaut(), (0, 0), max(0.1, 0.4 / scale))
    frame = np.full((size[1], size[0], 3), 128, np.uint8)
    cv2.warpAffine(
        portrait, turn, size, dst=frame, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT
    )
    return (frame * brightness).astype(np.uint8)


def box_at(x, y, width):
    height = width * BOX[3] / BOX[2]
    return (x - width / 2, y - height / 2, width, height)


def is_at(face, x, y, width):
    middle = np.array(face.box[:2]) + np.array(face.box[2:]) / 2
    return bool(np.abs(middle - (x, y)).max() < 0.4 * width)


def find(images, cuts=(), threads=2, **options):
    """The whole result for a clip of these images."""
    numbers = iter(range(len(images)))
    frames = (Frame(i, image) for i, image in enumerate(images))
    return list(
        video_detector(threads).find(frames, lambda image: next(numbers) in cuts, **options)
    )


def as_numbers(result):
    return [
        (number, [(f.box, f.keypoints.tolist(), f.confidence, f.source) for f in faces], cut, steps)
        for number, faces, cut, steps in result
    ]


def coarse_faces(image):
    factor = region_detection.coarse_factor(image.shape, 640 * 360)
    detector = video_detector()
    return detector.confirmed(*detector.coarse_detection(image, factor))


def test_a_face_that_moves_is_found_in_every_frame_in_order():
    places = [(150 + 25 * i, 180, 60) for i in range(8)]
    result = find([shown(*place) for place in places])
    assert [one.number for one in result] == list(range(8))
    assert not any(one.cut for one in result)
    for place, (_, faces, *_) in zip(places, result, strict=True):
        assert [is_at(face, *place) for face in faces] == [True]


def test_a_face_too_small_for_the_coarse_pass_is_followed_both_ways():
    places = [(500 + 5 * i, 300, 17) for i in range(2 * CHUNK)]
    images = [shown(*place, size=(1920, 1080)) for place in places]
    images[0] = np.full_like(images[0], 128)  # so it is first seen by the passes at the chunk's end
    assert not any(is_at(f, *places[2]) for f in coarse_faces(images[2]))
    result = find(images)
    assert result[0][1] == []
    for place, (_, faces, *_) in list(zip(places, result, strict=True))[1:]:
        assert any(is_at(face, *place) for face in faces)


def test_a_face_upside_down_is_followed_and_keeps_its_points():
    places = [(250 + 12 * i, 180, 70, 180 + 2 * i) for i in range(CHUNK)]
    images = [shown(*place) for place in places]
    wrong = coarse_faces(images[2])  # the wrong way up, if at all
    assert all(face.keypoints[:2, 1].mean() < face.keypoints[3:, 1].mean() for face in wrong)
    for place, (_, faces, *_) in zip(places, find(images), strict=True):
        assert [is_at(face, *place[:3]) for face in faces] == [True]
        eyes, mouth = faces[0].keypoints[:2].mean(0), faces[0].keypoints[3:].mean(0)
        assert eyes[1] > mouth[1]


def test_a_face_that_grows_dim_is_followed():
    light = [1.0, 0.5, 0.25, 0.12, 0.08, 0.08, 0.12, 0.25]
    for number, faces, *_ in find([shown(300, 180, 30, brightness=b) for b in light]):
        assert any(is_at(face, 300, 180, 30) for face in faces), number


def test_nothing_is_found_where_a_face_is_hidden_and_it_is_found_after():
    hidden = range(3, 6)
    images = [shown(300 + 4 * i, 180, 60) for i in range(9)]
    for i in hidden:
        images[i][100:260, 200:420] = 128
    for number, faces, *_ in find(images):
        found = any(is_at(face, 300 + 4 * number, 180, 60) for face in faces)
        assert found == (number not in hidden)


def test_a_face_is_not_followed_across_a_cut():
    # The first scene's face is too dim to start with and would be followed from the second's.
    first = [np.full((360, 640, 3), 128, np.uint8)] * 4
    second = [shown(300, 180, 60)] * 4
    result = find([*first, *second, *first], cuts={4, 8})
    assert [one.cut for one in result] == [i in (4, 8) for i in range(12)]
    assert [len(one.faces) for one in result] == [0] * 4 + [1] * 4 + [0] * 4


def test_a_small_face_is_found_in_a_scene_that_ends_within_a_chunk():
    empty = np.full((720, 1280, 3), 128, np.uint8)
    small = [shown(500 + 5 * i, 300, 17, size=(1280, 720)) for i in range(4)]
    result = find([empty, *small, empty], cuts={5})
    assert [len(one.faces) for one in result] == [0, 1, 1, 1, 1, 0]


def test_the_result_depends_neither_on_the_threads_nor_on_where_a_job_goes_on():
    images = [
        shown(200 + 30 * i, 150 + 10 * np.sin(i), 34 + i, angle=20 * i)
        for i in range(2 * CHUNK + 3)
    ]
    whole = find(images)
    assert as_numbers(find(images, threads=1)) == as_numbers(whole)
    done = whole[:CHUNK]
    rest = find(images[CHUNK:], before=[one.faces for one in done], last=images[CHUNK - 1])
    expected = [one._replace(number=one.number - CHUNK) for one in whole[CHUNK:]]
    assert as_numbers(rest) == as_numbers(expected)


def test_no_more_than_a_chunk_and_a_quarter_is_read_ahead():
    read = []

    def frames():
        for i in range(3 * CHUNK):
            read.append(i)
            yield Frame(i, np.full((64, 64, 3), 99, np.uint8))

    for number, faces, *_ in video_detector().find(frames(), lambda image: False):
        assert faces == [] and len(read) <= (number // CHUNK + 1) * CHUNK + CHUNK // 4
    assert len(read) == 3 * CHUNK
    assert video_detector().chunk_of(np.broadcast_to(np.uint8(0), (4320, 7680, 3))) == 2


def test_a_clip_without_frames_or_with_tiny_ones_has_no_faces():
    assert find([]) == []
    assert find([np.zeros((5, 7, 3), np.uint8)] * 2) == [(0, [], False, {}), (1, [], False, {})]


def still(count, **options):
    return [shown(300, 180, 60, **options)] * count


def test_between_keyframes_a_face_is_carried_to_where_it_is():
    """Also one that speeds up, turns and grows; nobody looks at these frames by themselves."""
    places = [(200 + 2 * i * i, 180 - 6 * i, 50 + 2 * i, 4 * i) for i in range(CHUNK)]
    images = [shown(*place) for place in places]
    detector = video_detector()
    looked = [detector.confirmed(*detector.coarse_detection(image, 1.0))[0] for image in images]
    for one, alone in zip(find(images), looked, strict=True):
        assert len(one.faces) == 1
        points = np.linalg.norm(one.faces[0].keypoints - alone.keypoints, axis=1)
        assert points.max() < 0.12 * alone.box[2], one.number
        assert np.abs(np.subtract(one.faces[0].box, alone.box)).max() < 0.15 * alone.box[2]


def test_the_motion_of_carried_heads_is_told():
    result = find([shown(200 + 4 * i, 180, 60) for i in range(CHUNK)])
    told = [one.steps[0] for one in result if one.steps]
    assert len(told) >= CHUNK - 2
    for step in told:
        assert abs(step.a - 1) < 0.02
        x, y = 210.0, 180.0
        assert abs(step.a * complex(x, y) + step.b - complex(x + 4, y)) < 1.0


def test_a_face_that_is_swapped_for_another_thing_between_keyframes_is_not_carried_through_it():
    images = still(9)
    for i in (4, 5):  # keyframes are 3 and, as the last of a chunk, 5; frame 4 shows none either
        images[i] = np.full_like(images[i], 128)
    assert [len(one.faces) for one in find(images)] == [1, 1, 1, 1, 0, 0, 1, 1, 1]


def test_a_frame_that_looks_different_is_a_keyframe():
    detector = video_detector()
    coarse_detections = []
    original = detector.coarse_detection
    detector.coarse_detection = lambda image, factor: (
        coarse_detections.append(1) or original(image, factor)
    )
    try:
        quiet = [np.full((360, 640, 3), 90, np.uint8)] * CHUNK
        find(quiet)
        few, coarse_detections[:] = len(coarse_detections), []
        find([np.full((360, 640, 3), 40 * (i % 2) + 90, np.uint8) for i in range(CHUNK)])
    finally:
        del detector.coarse_detection
    assert few < len(coarse_detections) == CHUNK


def live_detector():
    detector_or_skip()
    return LiveDetector(threads=2)


def test_live_a_face_is_found_at_once_and_then_by_looks_alone():
    detector = live_detector()
    faces = detector.detect(shown(200, 180, 60), [])
    assert [is_at(face, 200, 180, 60) for face in faces] == [True]
    for i in range(1, 6):
        place = 200 + 15 * i, 180, 60
        faces = detector.detect(shown(*place), faces, Budget(side=None, scan=False))
        assert [is_at(face, *place) for face in faces] == [True]
    nothing = Budget(side=None, scan=False)
    assert detector.detect(shown(200, 180, 60), [], nothing) == []
    only_a_box = Detection(box_at(190, 175, 60), None, 0.0, "user")
    assert len(detector.detect(shown(200, 180, 60), [only_a_box], nothing)) == 1
    elsewhere = Detection(box_at(900, 900, 60), None, 0.0)
    assert detector.detect(shown(200, 180, 60), [elsewhere], nothing) == []


def test_live_a_face_is_carried_in_two_frames_at_most_and_never_past_what_hides_it():
    detector = live_detector()
    nothing = Budget(side=None, scan=False)
    faces = detector.detect(shown(200, 180, 60), [])
    looks = []
    look = detector.detect_known
    detector.detect_known = lambda *given: looks.append(1) or look(*given)
    counts = []
    for i in range(1, 8):
        faces = detector.detect(shown(200 + i, 180, 60), faces, nothing)
        assert [is_at(face, 200 + i, 180, 60) for face in faces] == [True]
        counts.append(len(looks))
    assert np.diff([0, *counts]).tolist() == [0, 0, 1, 0, 0, 1, 0]
    assert detector.detect(np.full((360, 640, 3), 128, np.uint8), faces, nothing) == []


@pytest.mark.parametrize(("width", "angle"), [(17, 0), (70, 180)])
def test_live_small_and_turned_faces_are_found_within_a_round_and_kept(width, angle):
    detector = live_detector()
    image = shown(900, 200, width, angle, size=(1280, 720))
    faces, seen = [], []
    for _ in range(24):
        faces = detector.detect(image, faces, Budget(side=320))
        seen.append(any(is_at(face, 900, 200, width) for face in faces))
    assert any(seen)
    assert all(seen[seen.index(True) :])


boxes = st.builds(
    lambda x, y, w, h, c: Detection((x, y, w, h), None, c),
    st.floats(0, 300),
    st.floats(0, 300),
    st.floats(8, 80),
    st.floats(8, 80),
    st.floats(0.1, 1),
)


@given(st.lists(boxes, max_size=8), st.lists(boxes, max_size=8))
def test_every_face_seen_is_known_once_and_those_not_seen_for_a_while(first, second):
    known = region_detection.advanced(region_detection.advanced([], first), second)
    assert sorted(map(id, second)) == sorted(id(k.face) for k in known if not k.missed)
    assert len(known) <= len(first) + len(second)
    for _ in range(10):
        known = region_detection.advanced(known, [])
    assert known == []


def test_a_known_face_is_expected_where_its_motion_takes_it():
    known = []
    for x in (10.0, 16.0):
        points = np.full((5, 2), x, np.float32)
        known = region_detection.advanced(known, [Detection((x, 5.0, 30.0, 40.0), points, 0.9)])
    # A speed seen once is believed nearly, not wholly.
    np.testing.assert_allclose(known[0].expected().box, (22.0, 5.0, 30.0, 40.0), atol=0.5)
    np.testing.assert_allclose(known[0].expected().keypoints[:, 0], 22.0, atol=0.5)


@given(st.lists(boxes, max_size=8), st.lists(boxes, max_size=8))
def test_joining_keeps_the_highest_confidence_and_is_idempotent(stable, others):
    result = region_detection.joined(stable, others)
    if stable or others:
        assert max(f.confidence for f in result) == max(f.confidence for f in (*stable, *others))
    assert [f.box for f in region_detection.joined(result, result)] == [f.box for f in result]


@given(st.integers(16, 5000), st.integers(16, 5000), st.sampled_from([320 * 180, 640 * 360]))
def test_the_coarse_pass_costs_the_same_for_all_shapes(height, width, area):
    factor = region_detection.coarse_factor((height, width, 3), area)
    assert 0 < factor <= 2.0
    assert height * width * factor**2 <= 1.13 * area
