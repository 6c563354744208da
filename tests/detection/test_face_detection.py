"""Merging, tiling and, where YuNet can be had, finding faces in real photos of all kinds."""

import csv
import itertools
from concurrent import futures

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dp3_jax.common.errors import UserError
from dp3_jax.detection import face_detection, pyramid
from dp3_jax.detection.face_detection import Detection, Detector
from dp3_jax.detection.pyramid import Pyramid
from dp3_jax.media.video import reading
from dp3_jax.media.video.lazy_pictures import LazyPicture
from dp3_jax.vision import geometry
from tests.face_photos import BOX, POINTS, astronaut, detector_or_skip
from tests.video_makers import Clip


def found_at(faces, box):
    """Whether a face has its centre near the box's."""
    x, y, w, h = box
    return any(
        abs(f.box[0] + f.box[2] / 2 - x - w / 2) < 0.4 * w
        and abs(f.box[1] + f.box[3] / 2 - y - h / 2) < 0.4 * h
        for f in faces
    )


def as_face(x, y, w, h, confidence):
    return Detection((x, y, w, h), None, confidence)


boxes = st.builds(
    as_face,
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(5, 60),
    st.floats(5, 60),
    st.floats(0, 1),
)


@given(st.lists(boxes, max_size=20))
def test_merging_keeps_the_best_and_is_idempotent(faces):
    merged = face_detection.merge(faces)
    assert [f.confidence for f in merged] == sorted((f.confidence for f in merged), reverse=True)
    assert set(map(id, merged)) <= set(map(id, faces))
    assert [f.box for f in face_detection.merge(merged)] == [f.box for f in merged]
    if faces:
        assert merged[0].confidence == max(f.confidence for f in faces)


def test_merging_tells_one_face_twice_from_two_faces():
    same = [as_face(0, 0, 40, 50, 0.9), as_face(3, 2, 40, 50, 0.8), as_face(5, 5, 30, 40, 0.7)]
    assert len(face_detection.merge(same)) == 1
    neighbours = [as_face(0, 0, 40, 50, 0.9), as_face(35, 0, 40, 50, 0.8)]
    assert len(face_detection.merge(neighbours)) == 2
    poster_on_a_shirt = [as_face(0, 0, 100, 120, 0.9), as_face(40, 80, 20, 25, 0.8)]
    assert len(face_detection.merge(poster_on_a_shirt)) == 2


@given(st.integers(1, 20000))
def test_tiles_cover_the_length_and_overlap(length):
    tiles = pyramid.tiles(length)
    assert tiles[0][0] == 0 and tiles[-1][1] == length
    assert all(0 < end - start <= pyramid.TILE + 1 for start, end in tiles)
    for (_, end), (start, _) in itertools.pairwise(tiles):
        assert end - start >= pyramid.OVERLAP


@pytest.mark.parametrize(("height", "width"), [(100, 100), (480, 640), (3000, 4000), (9000, 200)])
def test_scales_reach_from_the_smallest_faces_to_those_that_fill_the_frame(height, width):
    factors = pyramid.scales(height, width)
    assert factors[0] >= 1  # 16 px are looked at as 16 px or more
    assert max(height, width) * factors[-1] <= pyramid.COARSEST
    assert all(a / b <= pyramid.STEP + 1e-9 for a, b in itertools.pairwise(factors) if a <= 1)


def test_the_least_confidence_is_a_probability():
    with pytest.raises(UserError, match="least confidence"):
        Detector(min_confidence=1.5)


def test_the_face_of_the_astronaut_is_found_where_it_is():
    faces = detector_or_skip().detect(astronaut())
    best = faces[0]
    assert best.confidence > 0.8
    np.testing.assert_allclose(best.box, BOX, atol=8)
    np.testing.assert_allclose(best.keypoints, POINTS, atol=7)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_points_of_a_turned_face_are_in_the_frame_s_coordinates(quarters):
    """The viewer's left eye stays the face's right eye, wherever it then is."""
    turned = np.ascontiguousarray(np.rot90(astronaut(), quarters))
    best = detector_or_skip().detect(turned)[0]
    points = POINTS.astype(float)
    for _ in range(quarters):
        points = np.stack([points[:, 1], 511 - points[:, 0]], 1)
    np.testing.assert_allclose(best.keypoints, points, atol=8)


@pytest.mark.parametrize("angle", [-30, 20, 60, 120])
def test_tilted_faces_are_found(angle):
    matrix = cv2.getRotationMatrix2D((222, 120), angle, 1.0)
    faces = detector_or_skip().detect(cv2.warpAffine(astronaut(), matrix, (512, 512)))
    assert found_at(faces, BOX)


@pytest.mark.parametrize("width", [16, 24, 85, 300])
def test_small_and_large_faces_are_found(width):
    factor = width / BOX[2]
    side = round(512 * factor)
    frame = np.asarray(Image.fromarray(astronaut()).resize((side, side), Image.Resampling.LANCZOS))
    assert found_at(detector_or_skip().detect(frame), [v * factor for v in BOX])


def test_a_small_face_in_a_large_picture_is_found_in_its_tile():
    frame = np.full((2500, 4300, 3), 90, np.uint8)
    small = np.asarray(Image.fromarray(astronaut()).resize((120, 120), Image.Resampling.LANCZOS))
    frame[1990:2110, 2110:2230] = small  # across the border between tiles
    place = [v * 120 / 512 for v in BOX]
    assert found_at(
        detector_or_skip().detect(frame), (place[0] + 2110, place[1] + 1990, *place[2:])
    )


def test_a_face_that_fills_the_frame_and_one_cut_off_are_found():
    detector = detector_or_skip()
    filling = np.ascontiguousarray(astronaut()[65:185, 175:270])
    assert found_at(detector.detect(filling), (5, 3, 85, 112))
    cut = np.ascontiguousarray(astronaut()[:, 222:])  # half of the face
    assert any(f.box[0] < 20 and 60 < f.box[1] < 100 for f in detector.detect(cut))


def test_there_is_no_face_in_noise_or_in_a_tiny_picture():
    detector = detector_or_skip()
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    assert detector.detect(noise) == []
    assert detector.detect(np.zeros((5, 5, 3), np.uint8)) == []


def test_a_face_in_its_canonical_view_is_told_from_a_patch():
    view = geometry.extract(astronaut(), geometry.align(BOX, POINTS))
    views = np.stack([view, np.full_like(view, 128), np.roll(view, 64, 1)])
    assert detector_or_skip().are_faces(views).tolist() == [True, False, False]


def test_the_number_of_threads_changes_nothing():
    detector_or_skip()
    frame = np.asarray(Image.fromarray(astronaut()).resize((1150, 1150), Image.Resampling.LANCZOS))
    one = Detector(min_confidence=0.2, threads=1).detect(frame)
    for _ in range(2):
        several = Detector(min_confidence=0.2, threads=5).detect(frame)
        assert [(f.box, f.confidence, f.source) for f in several] == [
            (f.box, f.confidence, f.source) for f in one
        ]
        for a, b in zip(one, several, strict=True):
            np.testing.assert_array_equal(a.keypoints, b.keypoints)


def test_one_detector_serves_several_threads_at_once():
    detector = detector_or_skip()
    frames = [np.ascontiguousarray(astronaut()[: 300 + 20 * i]) for i in range(6)]
    expected = [[f.box for f in detector.detect(frame)] for frame in frames]
    with futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(detector.detect, frames))
    assert [[f.box for f in faces] for faces in found] == expected


def test_things_that_are_taken_for_faces_at_first_are_looked_at_again(shared_data):
    """Group photos with shirts, hands, bricks: every report of at least 24 px but one is a face."""
    frame = np.asarray(Image.open(shared_data / "photos" / "uf_15.jpg").convert("RGB"))
    found = detector_or_skip().detect(frame)
    assert len([f for f in found if f.source == "detected"]) == 16
    assert {f.source for f in found} <= {"detected", "unsure"}


def test_every_annotated_face_of_the_real_photos_is_found(shared_data):
    detector = detector_or_skip()
    photos = {}
    with open(shared_data / "photos" / "boxes.csv", newline="") as opened:
        for row in csv.DictReader(opened):
            photos.setdefault(row["file"], []).append([float(row[k]) for k in ("x", "y", "w", "h")])
    missed = []
    for name, boxes in photos.items():
        frame = np.asarray(Image.open(shared_data / "photos" / name).convert("RGB"))
        faces = detector.detect(frame)
        missed += [(name, box) for box in boxes if not found_at(faces, box)]
    assert missed == []


def test_a_clip_of_few_pixels_is_searched_though_its_frames_are_converted_lazily(tmp_path):
    path = Clip(tmp_path / "a.mp4", frames=1, width=96, height=64).write()
    with reading.read_frames(path, lazy=True) as frames:
        image = next(iter(frames)).image
        assert isinstance(image, LazyPicture)
        detector_or_skip().coarse_detection(image, np.asarray(image))
        assert Pyramid(image).resized(2).shape == (128, 192, 3)
        assert pyramid.turned(image, 90)[0].shape == (96, 64, 3)
