"""Donors of a training batch: whose they are, where they lie, and what a batch depends on."""

import cv2
import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.data import DataOptions, donors
from dp3_jax.data.catalog import Catalog
from dp3_jax.data.packed import open_packed
from dp3_jax.data.packing import write_packed
from dp3_jax.vision.masks import CANONICAL_POINTS, SIZE

BATCH = 8


def measured(rng, count, tones):
    """Made-up faces: points off the mean by some px, an ellipse for an oval."""
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    ellipse = np.stack([63.5 + 30 * np.cos(angle), 80 + 38 * np.sin(angle)], 1)
    shift = rng.normal(0, 2, (count, 1, 2))
    return donors.Measured(
        (CANONICAL_POINTS + shift + rng.normal(0, 2, (count, 5, 2))).astype(np.float32),
        (ellipse + shift).astype(np.float32),
        np.array([[tone, 10, 10] for tone in tones], np.float32),
        np.ones(count, np.float32),
    )


def packed(folder, rng, count, side=SIZE):
    """A packed set of pictures of noise."""
    files = [rng.integers(0, 255, (side, side, 3), np.uint8) for _ in range(count)]
    catalog = Catalog(
        title="noise",
        names=tuple(map(str, range(count))),
        partitions=np.zeros(count, np.int8),
        identities=None,
        load=lambda example, options: files[example],
        partition_note="",
    )
    options = DataOptions(
        source="folder", path="none", crop=None, train_examples=0, image_size=side
    )
    write_packed(catalog, options, folder)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """(folder, packed set of 6 photos); each donor's picture has five dots at its points."""
    folder, rng = tmp_path_factory.mktemp("donors"), np.random.default_rng(0)
    photos = packed(tmp_path_factory.mktemp("packed"), rng, 6)
    donors.save(folder / donors.FACES, measured(rng, 6, [50] * 6))
    people = measured(rng, 30, [50] * 30)
    pictures = np.zeros((30, SIZE, SIZE, 3), np.uint8)
    for picture, points in zip(pictures, people.points, strict=True):
        for x, y in points:
            cv2.circle(picture, (round(x * 16), round(y * 16)), 24, (255,) * 3, -1, shift=4)
    donors.save(folder / donors.MEASURED, people)
    np.save(folder / donors.PICTURES, pictures)
    return folder, photos


def opened(prepared, seed=0):
    return donors.DonorPairs(*prepared, batch_size=BATCH, seed=seed)


ROWS = np.array([0, 1, 2, 3, 4, 5, 0, 1])
FLIPS = np.array([False, False, True, True] * 2)


def test_even_rows_get_their_own_face_mirrored_as_the_image_is(prepared):
    pairs, photos = opened(prepared), open_packed(prepared[1]).images
    batch = pairs.batch(3, ROWS, FLIPS)
    for row in range(0, BATCH, 2):
        own = photos[ROWS[row]]
        np.testing.assert_array_equal(batch["donor"][row], own[:, ::-1] if FLIPS[row] else own)
    # The oval of the mirrored image is the mirrored oval: the same y, and x from the other side.
    plain = pairs.batch(3, ROWS, np.zeros(BATCH, bool))["donor_oval"]
    np.testing.assert_allclose(batch["donor_oval"][2, :, 0], SIZE - 1 - plain[2, :, 0], rtol=1e-6)
    np.testing.assert_array_equal(batch["donor_oval"][2, :, 1], plain[2, :, 1])


def test_odd_rows_get_another_face_whose_points_lie_on_the_images(prepared):
    pairs = opened(prepared)
    batch = pairs.batch(0, ROWS, np.zeros(BATCH, bool))
    for row in range(1, BATCH, 2):
        bright = (batch["donor"][row].max(-1) > 60).astype(np.uint8)
        count, _, _, centres = cv2.connectedComponentsWithStats(bright)
        assert count == 6  # the background and five dots
        wanted = donors.load(prepared[0] / donors.FACES).points[ROWS[row]]
        np.testing.assert_allclose(centres[1:].mean(0), wanted.mean(0), atol=0.5)


def test_a_batch_depends_on_seed_and_number_alone(prepared):
    first = opened(prepared).batch(7, ROWS, FLIPS)
    again = opened(prepared).batch(7, ROWS, FLIPS)
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
        shape, dtype = opened(prepared).shapes[name]
        assert array.shape == shape and array.dtype == dtype
    other = opened(prepared, seed=1).batch(7, ROWS, FLIPS)["donor"]
    later = opened(prepared).batch(8, ROWS, FLIPS)["donor"]
    assert (first["donor"][1::2] != other[1::2]).any()
    assert (first["donor"][1::2] != later[1::2]).any()


def test_among_like_poses_the_nearest_tone_comes_first(tmp_path):
    rng = np.random.default_rng(1)
    face = measured(rng, 1, [20])
    tones = [80, 60, 40, 25, 20]
    people = donors.Measured(
        face.points.repeat(5, 0), face.oval.repeat(5, 0),
        np.array([[t, 10, 10] for t in tones], np.float32), np.ones(5, np.float32),
    )  # fmt: skip
    donors.save(tmp_path / donors.FACES, face)
    donors.save(tmp_path / donors.MEASURED, people)
    np.save(tmp_path / donors.PICTURES, np.zeros((5, SIZE, SIZE, 3), np.uint8))
    photo = packed(tmp_path / "packed", rng, 1)
    pairs = donors.DonorPairs(tmp_path, photo, batch_size=2, seed=0)
    order = [n for n in pairs.neighbours(0) if n < 5]
    assert order == [4, 3, 2, 1, 0]


def test_mirroring_twice_is_no_change_and_keeps_left_left():
    one = measured(np.random.default_rng(2), 3, [50] * 3)
    np.testing.assert_allclose(one.mirrored().mirrored().points, one.points, atol=1e-4)
    assert (one.mirrored().points[:, 0, 0] < one.mirrored().points[:, 1, 0]).all()


def test_a_tone_is_the_lab_colour_inside_the_oval():
    image = np.full((SIZE, SIZE, 3), (0, 0, 255), np.uint8)
    oval = measured(np.random.default_rng(0), 1, [0]).oval[0]
    cv2.fillConvexPoly(image, oval.astype(np.int32), (119, 119, 119))
    # sRGB 119 is L 50 to within .1 by CIE's formula, and grey has a = b = 0.
    np.testing.assert_allclose(donors.tone(image, oval), [50.0, 0, 0], atol=0.5)


def test_mistakes_are_told_in_one_line(prepared, tmp_path):
    folder, photos = prepared
    with pytest.raises(
        UserError, match=r"cannot read donors from .*faces.npz.*dp3_jax.data.donors"
    ):
        donors.DonorPairs(tmp_path, photos, batch_size=2, seed=0)
    other = packed(tmp_path / "packed", np.random.default_rng(0), 7)
    with pytest.raises(UserError, match="prepared for another set"):
        donors.DonorPairs(folder, other, batch_size=2, seed=0)
    with pytest.raises(UserError, match="--count is 1 or more"):
        donors.main(["packed", "out", "--count=0"])


def test_processes_share_a_batch_and_change_nothing(prepared):
    whole = opened(prepared).batch(2, ROWS, FLIPS)
    for index in range(2):
        own = slice(4 * index, 4 * index + 4)
        pairs = donors.DonorPairs(
            *prepared, batch_size=BATCH, seed=0, process_index=index, process_count=2
        )
        part = pairs.batch(2, ROWS[own], FLIPS[own])
        for name, array in whole.items():
            np.testing.assert_array_equal(part[name], array[own])


def test_pictures_of_twice_the_side_get_the_same_donors_at_their_size(prepared, tmp_path):
    for name in (donors.FACES, donors.MEASURED):
        donors.save(tmp_path / name, donors.load(prepared[0] / name))
    small = np.load(prepared[0] / donors.PICTURES)
    np.save(tmp_path / donors.PICTURES, small.repeat(2, 1).repeat(2, 2))
    large = packed(tmp_path / "packed", np.random.default_rng(0), 6, 2 * SIZE)
    pairs = donors.DonorPairs(tmp_path, large, batch_size=BATCH, seed=0)
    batch, wanted = pairs.batch(3, ROWS, FLIPS), opened(prepared).batch(3, ROWS, FLIPS)
    assert batch["donor"].shape == (*pairs.shapes["donor"][0],) == (BATCH, 2 * SIZE, 2 * SIZE, 3)
    # The centre of pixel x of 128 is the middle between pixels 2 x and 2 x + 1.
    np.testing.assert_allclose(batch["donor_oval"], 2 * wanted["donor_oval"] + 0.5, atol=1e-3)
    for row in range(1, BATCH, 2):
        reduced = cv2.resize(batch["donor"][row], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        assert np.abs(reduced.astype(int) - wanted["donor"][row]).mean() < 1
    with pytest.raises(UserError, match="prepared for another set"):
        donors.DonorPairs(prepared[0], large, batch_size=BATCH, seed=0)
