"""Hair and ears that come along with a face: a person's own, inside the mask, of a fitting colour."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.models.mesh import outline
from dp3_jax.replacement import hair, silhouette
from dp3_jax.replacement.identities import HAIR_BANDS, Classes, Rendering, hair_band
from dp3_jax.replacement.pose_grid import FaceVector, PoseGrid
from dp3_jax.vision.masks import SIZE, inference_mask
from tests.painted_identities import PaintedIdentities

MASK = inference_mask()
Y, X = np.mgrid[:SIZE, :SIZE]
OVAL = ((((X - 64) / 28) ** 2 + ((Y - 80) / 37) ** 2) <= 1).astype(np.float32)
EVERYWHERE = np.full((SIZE, SIZE), 255, np.uint8)
SKIN, BLACK, RED = (205, 160, 140), (25, 20, 18), (110, 60, 35)


def deep_inside(margin):
    return cv2.distanceTransform((MASK[..., 0] > 0).astype(np.uint8), cv2.DIST_L2, 5) > margin


def test_the_whole_face_is_shown_and_nobodys_background():
    nobody = np.zeros((SIZE, SIZE), np.uint8)
    np.testing.assert_array_equal(silhouette.with_head(OVAL, nobody, MASK), OVAL)
    shown = silhouette.with_head(OVAL, EVERYWHERE, MASK)
    assert (shown[OVAL > 0] == 1).all() and set(np.unique(shown)) == {0, 1}


def test_hair_comes_along_above_ears_beside_and_little_below():
    more = (silhouette.with_head(OVAL, EVERYWHERE, MASK) > 0) & (OVAL == 0)
    rows, columns = np.nonzero(OVAL)
    top, bottom, left = rows.min(), rows.max(), columns.min()
    assert more[: top - 8, 64].any()
    assert more[top + 25, : left - 5].any()
    assert not more[bottom + 4 :].any()
    assert not (more & ~deep_inside(7.5)).any()  # the network joins it to the photo


@given(st.integers(0, 2**32 - 1))
def test_what_is_shown_beyond_a_face_is_near_a_person(seed):
    random = np.random.default_rng(seed)
    head = cv2.resize(random.integers(0, 256, (9, 9), np.uint8), (SIZE, SIZE))
    shown = silhouette.with_head(OVAL, head, MASK)
    near = cv2.dilate((head > 150).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert not ((shown > 0) & (OVAL == 0) & ~near).any()


def test_the_outline_of_a_head_is_that_of_what_is_shown():
    angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    oval = np.stack([64 + 28 * np.sin(angles), 80 - 37 * np.cos(angles)], 1)
    nobody = np.zeros((SIZE, SIZE), np.uint8)
    np.testing.assert_allclose(silhouette.outline_with_head(oval, nobody, MASK), oval, atol=1.0)
    wide = silhouette.outline_with_head(oval, EVERYWHERE, MASK)
    drawn = cv2.fillPoly(nobody.copy(), [np.round(wide).astype(np.int32)], 1)
    shown = silhouette.with_head(OVAL, EVERYWHERE, MASK)
    assert (drawn != shown).sum() < 0.05 * shown.sum()


def photo(colour):
    """A head of hair of a colour before a wall, with something under the mask that must not matter."""
    view = np.full((SIZE, SIZE, 3), (150, 170, 190), np.uint8)
    head = ((X - 64) / 52) ** 2 + ((Y - 70) / 66) ** 2 <= 1
    view[head] = colour
    view[MASK[..., 0] > 0] = np.random.default_rng(0).integers(0, 256, 3)
    return view, np.where(head, 255, 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("colour", "band"), [(BLACK, "dark"), (RED, "medium"), ((200, 180, 140), "light")]
)
def test_hair_is_measured_beside_the_mask_alone(colour, band):
    view, head = photo(colour)
    seen = []

    def heads(picture):
        seen.append(picture)
        return head

    found = hair.seen_round(view, MASK, heads)
    lab = cv2.cvtColor(np.float32([[colour]]) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    np.testing.assert_allclose(found, lab, atol=1.0)
    assert hair_band(float(found[0])) == band
    view[MASK[..., 0] > 0] = 7
    np.testing.assert_array_equal(hair.seen_round(view, MASK, heads), found)
    np.testing.assert_array_equal(seen[0], seen[1])  # nor does the network see more


@pytest.mark.parametrize("colour", [(250, 250, 250), (40, 160, 60), (30, 60, 200)])
def test_white_walls_and_coloured_hats_are_no_hair(colour):
    view, head = photo(colour)
    assert hair.seen_round(view, MASK, lambda _: head) is None
    assert hair.seen_round(photo(BLACK)[0], MASK, lambda _: head * 0) is None


def rendering(hair_colour):
    """A face with hair above and beside it."""
    shown = PaintedIdentities().render(bytes(32), Classes(), None, None, 256)
    y, x = np.mgrid[:256, :256]
    middle = shown.mesh.mean(0)
    head = ((x - middle[0]) / 95) ** 2 + ((y - middle[1]) / 110) ** 2 <= 1
    image = np.full((256, 256, 3), 90, np.uint8)
    image[head] = hair_colour
    inside = np.zeros((256, 256), np.uint8)
    cv2.fillPoly(inside, [np.round(outline(shown.mesh)).astype(np.int32)], 1)
    image[inside > 0] = SKIN
    numbers = shown.points, shown.mesh, shown.pose, shown.expression, False, "somebody"
    return Rendering(image, *numbers, depth=shown.depth, head=head.astype(np.uint8) * 255), inside


def test_hair_moves_towards_the_photos_and_faces_stay():
    one, inside = rendering(BLACK)
    wanted = cv2.cvtColor(np.float32([[RED]]) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    other = hair.matched(one, wanted)
    far = cv2.erode(inside, np.ones((25, 25))) > 0
    np.testing.assert_array_equal(other.image[far], one.image[far])
    place = (int(np.flatnonzero(one.head[:, 128])[0]) + 6, 128)
    assert not inside[place]

    def away(image):
        lab = cv2.cvtColor(image[place][None, None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        return float(np.linalg.norm(lab[0, 0] - wanted))

    assert away(other.image) < 0.6 * away(one.image)
    moved = cv2.cvtColor(other.image, cv2.COLOR_RGB2LAB)[..., 0].astype(int)
    assert np.abs(moved - cv2.cvtColor(one.image, cv2.COLOR_RGB2LAB)[..., 0]).max() <= 50


def test_hair_that_cannot_be_told_from_skin_stays():
    one, _ = rendering((195, 155, 130))
    assert hair.matched(one, np.float32([10, 0, 0])) is one


def test_bands_of_hair_begin_where_they_say():
    for name, start in HAIR_BANDS.items():
        assert hair_band(start) == name
    assert hair_band(100.0) == "light"


def test_a_clips_head_moves_with_its_picture():
    bright = PoseGrid(PaintedIdentities(), heads=lambda image: image.max(-1))
    for yaw in (0.0, 9.0, -20.0):
        vector = FaceVector(yaw, 3.0, 0.1, 0.9)
        shown = bright.rendering(bytes(32), Classes(), vector, 256)
        plain = PoseGrid(PaintedIdentities()).rendering(bytes(32), Classes(), vector, 256)
        np.testing.assert_array_equal(shown.image, plain.image)
        assert plain.head is None and shown.head.shape == (256, 256)
        # Means of levels are not levels of means, but nearly.
        assert np.abs(shown.head.astype(int) - shown.image.max(-1)).mean() < 3


def test_a_colour_is_passed_on_in_steps_and_no_source_hears_of_it():
    seen = np.float32([23.9, 10.2, 12.6])
    known = hair.known_from(Classes(True, "young", 3), seen)
    assert known == Classes(True, "young", 3, "medium", (24, 12, 12))
    assert known.of_person == Classes(True, "young", 3, "medium")
    assert hair.known_from(Classes(), None) == Classes()
    one, _ = rendering(BLACK)
    assert hair.worn(one, known, None) is one
    plain = hair.worn(one, known.of_person, lambda _: one.head)
    np.testing.assert_array_equal(plain.image, one.image)
    moved = hair.worn(one, known, lambda _: one.head).image
    np.testing.assert_array_equal(moved, hair.matched(one, np.float32([24, 12, 12])).image)
