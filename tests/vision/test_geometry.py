"""Faces into the canonical frame and back, against scikit-image and known pictures."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.transform import SimilarityTransform

from dp3_jax.vision import geometry
from dp3_jax.vision.geometry import Alignment
from dp3_jax.vision.masks import CANONICAL_POINTS, inference_mask, turned_mask

MASK = np.asarray(inference_mask())[..., 0]

scales = st.floats(0.05, 8.0)
angles = st.floats(-np.pi, np.pi)
shifts = st.floats(-500.0, 500.0)


@st.composite
def alignments(draw):
    scale, angle = draw(scales), draw(angles)
    return Alignment(scale * np.exp(1j * angle), complex(draw(shifts), draw(shifts)))


@given(alignments())
def test_points_moved_by_a_similarity_are_aligned_by_it(alignment):
    found = geometry.align_points(alignment.invert(CANONICAL_POINTS))
    assert found.a == pytest.approx(alignment.a, rel=1e-6)
    assert found.b == pytest.approx(alignment.b, abs=1e-3)


@given(alignments(), st.integers(0, 1000))
def test_noisy_points_are_aligned_as_umeyama_does_it(alignment, seed):
    noise = np.random.default_rng(seed).normal(0, 2, (5, 2))
    points = alignment.invert(CANONICAL_POINTS + noise)
    expected = SimilarityTransform.from_estimate(points, CANONICAL_POINTS.astype(float))
    np.testing.assert_allclose(
        geometry.align_points(points).matrix, expected.params[:2], rtol=1e-5, atol=1e-3
    )


@given(alignments(), st.lists(st.tuples(shifts, shifts), min_size=1, max_size=5))
def test_apply_and_invert_are_inverse(alignment, points):
    there = alignment.apply(alignment.invert(np.array(points)))
    np.testing.assert_allclose(there, points, atol=1e-6)


@given(scales, shifts, shifts)
def test_a_box_without_points_is_aligned_by_position_and_scale(scale, x, y):
    left, top, width, height = geometry.CANONICAL_BOX
    alignment = geometry.align_box(
        (x + left / scale, y + top / scale, width / scale, height / scale)
    )
    assert alignment.a == pytest.approx(scale)
    assert alignment.apply(np.array([x, y])) == pytest.approx([0, 0], abs=1e-6)


def test_points_of_a_profile_do_not_make_the_face_smaller_than_its_box():
    box = (100.0, 100.0, 150.0, 200.0)
    centre = np.array([175.0, 205.0])
    frontal = (CANONICAL_POINTS - CANONICAL_POINTS.mean(0)) * 200 / 82.4 + centre
    profile = (frontal - centre) * [0.3, 0.8] + centre
    assert geometry.align(box, frontal).scale == geometry.align_points(frontal).scale
    assert geometry.align(box, profile).scale < geometry.align_points(profile).scale
    smallest = geometry.align_box(box).scale / 0.9
    assert geometry.align(box, profile).scale == pytest.approx(smallest)


def test_points_of_another_face_are_not_used():
    box = (0.0, 0.0, 50.0, 60.0)
    assert geometry.align(box, CANONICAL_POINTS + 200) == geometry.align_box(box)


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), np.nan), np.zeros((4, 2))])
def test_points_without_a_shape_are_refused(points):
    with pytest.raises(ValueError, match="five"):
        geometry.align_points(points)


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (0, 0, 5, -1), (0, 0, np.inf, 5), (np.nan, 0, 5, 5)])
def test_boxes_without_a_size_are_refused(box):
    with pytest.raises(ValueError, match="positive size"):
        geometry.align_box(box)


def smooth_picture(height, width, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def test_the_identity_extracts_the_picture_itself():
    picture = smooth_picture(128, 128)
    np.testing.assert_array_equal(geometry.extract(picture, Alignment(1 + 0j, 0j)), picture)


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_a_large_face_is_shrunk_as_pillow_does_it(factor):
    """The finest stripes there are must become grey, not other stripes."""
    size = 128 * factor
    picture = smooth_picture(size, size)
    picture[:, ::2] //= 2
    alignment = Alignment(1 / factor + 0j, complex(0.5 / factor - 0.5, 0.5 / factor - 0.5))
    expected = Image.fromarray(picture).resize((128, 128), Image.Resampling.LANCZOS)
    ours = geometry.extract(picture, alignment).astype(int)
    inner = slice(4, -4)
    assert np.abs(ours - np.asarray(expected).astype(int))[inner, inner].max() <= 4


def paste(frame, crops, alignments, masks):
    """A copy of u8[h, w, 3] with canonical views put in, later ones over earlier ones."""
    result = frame.copy()
    for crop, alignment, mask in zip(crops, alignments, masks, strict=True):
        target = geometry.region(alignment, mask, frame.shape)
        if target.inside.any():
            geometry.place(result, target, geometry.project(crop, alignment, target))
    return result


@given(scales.filter(lambda s: 0.2 < s < 1.5), angles, st.integers(0, 100))
def test_a_smooth_picture_survives_the_way_there_and_back(scale, angle, seed):
    """Colour ramps are band-limited: extracting and pasting back must reproduce them to rounding."""
    y, x = np.mgrid[0:400, 0:400]
    frame = np.stack([x / 2 + 20, y / 2 + 20, (x + y) / 4 + 20], -1).astype(np.uint8)
    a = scale * np.exp(1j * angle)
    alignment = Alignment(a, 64 + 76j - a * (200 + 200j))
    crop = geometry.extract(frame, alignment)
    pasted = paste(frame, [crop], [alignment], [MASK])
    inside = geometry.region(alignment, MASK, frame.shape)
    within = inside.inside & ~edge_of(frame.shape, inside)
    difference = np.abs(pasted.astype(int) - frame)[inside.slices][within]
    assert difference.max(initial=0) <= 3


def edge_of(shape, region, margin=8):
    """Pixels near the frame's edge, where the canonical view repeats the rim."""
    edge = np.ones(shape[:2], bool)
    edge[margin:-margin, margin:-margin] = False
    return edge[region.slices]


@given(alignments(), st.integers(0, 100))
def test_pasting_changes_all_of_the_region_and_nothing_else(alignment, seed):
    frame = np.random.default_rng(seed).integers(0, 200, (90, 120, 3), np.uint8)
    crop = np.full((128, 128, 3), 255, np.uint8)
    before = frame.copy()
    pasted = paste(frame, [crop], [alignment], [MASK])
    np.testing.assert_array_equal(frame, before)  # the argument is left alone
    inside = np.zeros(frame.shape[:2], bool)
    found = geometry.region(alignment, MASK, frame.shape)
    inside[found.slices] = found.inside
    np.testing.assert_array_equal(pasted[~inside], frame[~inside])
    assert (pasted[inside] == 255).all()


@given(scales, angles)
def test_the_region_has_the_area_of_the_mask(scale, angle):
    a = scale * np.exp(1j * angle)
    alignment = Alignment(a, 64 + 76j - a * (2000 + 2000j))
    area = geometry.region(alignment, MASK, (4000, 4000)).inside.sum()
    perimeter = 2 * np.pi * 50 / scale
    assert abs(area - MASK.sum() / scale**2) <= 2 + 0.5 * perimeter


def test_of_overlapping_faces_the_later_one_is_in_front():
    frame = np.zeros((128, 160, 3), np.uint8)
    crops = [np.full((128, 128, 3), value, np.uint8) for value in (100, 200)]
    places = [Alignment(1 + 0j, 0j), Alignment(1 + 0j, -20 + 0j)]
    pasted = paste(frame, crops, places, [MASK, MASK])
    assert pasted[76, 64].tolist() == [200] * 3  # in both masks
    assert pasted[76, 34].tolist() == [100] * 3  # only in the first


def test_a_face_outside_the_frame_changes_nothing():
    frame = np.zeros((50, 50, 3), np.uint8)
    away = Alignment(1 + 0j, 1000 + 0j)
    pasted = paste(frame, [np.full((128, 128, 3), 9, np.uint8)], [away], [MASK])
    assert not pasted.any()
    with pytest.raises(ValueError, match="outside"):
        geometry.extract(frame, away)


def test_feathering_rises_inside_the_mask_only():
    alpha = geometry.feather(MASK, 4)
    assert not alpha[MASK == 0].any()
    assert (alpha[MASK == 1] > 0).all()
    assert alpha[76, 64] == 1
    row = alpha[76, :64]
    assert (np.diff(row) >= 0).all()
    assert ((row > 0) & (row < 1)).sum() in (4, 5)


def test_the_mask_of_a_profile_grows_until_it_covers_the_box():
    box = geometry.CANONICAL_BOX
    usual = Alignment(1 + 0j, 0j)
    np.testing.assert_array_equal(geometry.face_mask(usual, box), inference_mask())
    bent = Alignment(1 + 0j, 0 - 25j)  # the points lie 25 px lower in the box than usual
    np.testing.assert_array_equal(geometry.face_mask(usual, box, yaw=30.0), turned_mask(30.0))
    mask = geometry.face_mask(bent, box)
    x, y, width, height = box
    down, across = np.mgrid[0:128, 0:128]
    ellipse = ((across - x - width / 2) / width) ** 2 + ((down + 25 - y - height / 2) / height) ** 2
    assert mask[ellipse < 0.24].all()
    assert mask[np.asarray(inference_mask()) > 0].all()
    assert mask.sum() < 1.5 * np.sum(inference_mask())
