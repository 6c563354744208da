import dm_pix
import numpy as np
import pytest
import skimage.data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from dp3_jax.common import images
from dp3_jax.metrics import image_similarity, kid, memorisation

# SSIM subtracts squares of float32 means from means of squares; black areas leave few digits of that.
ROUNDING = 1e-4


def photo_pieces(side=64):
    """Pieces of a real photo, and the same ones made worse in several ways."""
    photo = skimage.data.astronaut()
    pieces = [photo[i : i + side, j : j + side] for i in (0, 100, 300) for j in (50, 200)]
    clean = np.stack(pieces)
    rng = np.random.default_rng(0)
    noisy = np.clip(clean + rng.normal(0, 20, clean.shape), 0, 255).astype(np.uint8)
    noisy[1] = 255 - clean[1]
    noisy[2] = 128
    noisy[3] = clean[3]
    return clean, noisy


def test_ssim_is_that_of_dm_pix_and_of_scikit_image():
    clean, noisy = photo_pieces()
    ours = image_similarity.ssim_pairs(clean, noisy)
    a, b = clean.astype(np.float32) / 255, noisy.astype(np.float32) / 255
    np.testing.assert_allclose(ours, dm_pix.ssim(a, b), atol=ROUNDING)
    settings = {
        "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False,
        "data_range": 1.0, "channel_axis": -1,
    }  # fmt: skip
    reference = [structural_similarity(x, y, **settings) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ours, reference, atol=ROUNDING)
    assert ours[3] == pytest.approx(1.0, abs=1e-6)
    assert ours[1] < 0 < ours[0] < 0.9


def test_ssim_is_that_of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    clean, noisy = photo_pieces()
    a, b = clean.astype(np.float32) / 255, noisy.astype(np.float32) / 255
    reference = tf.image.ssim(a, b, max_val=1.0).numpy()
    np.testing.assert_allclose(image_similarity.ssim(a, b), reference, atol=ROUNDING)


def test_any_number_of_pairs_gives_the_same_values():
    clean, noisy = photo_pieces()
    many = image_similarity.ssim_pairs(np.tile(clean, (7, 1, 1, 1)), np.tile(noisy, (7, 1, 1, 1)))
    np.testing.assert_allclose(
        many, np.tile(image_similarity.ssim_pairs(clean, noisy), 7), atol=1e-6
    )
    assert image_similarity.ssim_pairs(clean[:0], noisy[:0]).shape == (0,)


def test_psnr_is_that_of_scikit_image_and_infinite_for_equal_pictures():
    clean, noisy = photo_pieces()
    ours = image_similarity.psnr_pairs(clean, noisy)
    different = [0, 1, 2, 4, 5]
    reference = [peak_signal_noise_ratio(clean[i], noisy[i]) for i in different]
    np.testing.assert_allclose(ours[different], reference, rtol=1e-5)
    assert ours[3] == np.inf


@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (1, 16, 16), (1, 16, 16, 1)])
def test_pictures_that_ssim_is_not_defined_for_are_refused(shape):
    with pytest.raises(ValueError, match=r"11x11|expected pictures"):
        image_similarity.ssim_pairs(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))


@pytest.mark.parametrize("match", [image_similarity.match_by_ssim, image_similarity.match_by_l2])
def test_a_noisy_picture_is_matched_with_its_original(match):
    clean, _ = photo_pieces()
    noise = np.random.default_rng(1).normal(0, 8, clean.shape)
    order = np.array([4, 0, 5, 1, 3, 2])
    queries = np.clip(clean[order] + noise, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(match(queries, clean)[1], order)


@pytest.mark.parametrize("match", [image_similarity.match_by_ssim, image_similarity.match_by_l2])
def test_a_picture_is_never_matched_with_the_one_to_skip(match):
    clean, _ = photo_pieces()
    own = np.arange(len(clean))
    value, index = match(clean, clean, skip=own)
    assert (index != own).all()
    assert (match(clean, clean)[1] == own).all()
    assert value.shape == index.shape == (len(clean),)


def test_enough_candidates_make_the_search_exhaustive():
    rng = np.random.default_rng(0)
    photo = skimage.data.astronaut()
    corners = rng.integers(0, 448, (46, 2))
    pieces = np.stack([photo[i : i + 64, j : j + 64] for i, j in corners])
    queries, reference = pieces[:6], pieces[6:]
    every = np.stack(
        [
            image_similarity.ssim_pairs(np.broadcast_to(q, reference.shape), reference)
            for q in queries
        ]
    )
    value, index = image_similarity.match_by_ssim(queries, reference, candidates=100)
    np.testing.assert_array_equal(index, every.argmax(1))
    np.testing.assert_allclose(value, every.max(1), atol=1e-6)
    few = image_similarity.match_by_ssim(queries, reference, candidates=8)[0]
    assert (few <= value + 1e-6).all()
    assert (few > np.median(every, axis=1)).all()


def test_nearest_by_l2_agrees_with_all_distances(monkeypatch):
    monkeypatch.setattr(
        image_similarity, "REFERENCES_AT_ONCE", 7
    )  # several chunks and a last short one
    rng = np.random.default_rng(0)
    queries = rng.integers(0, 256, (5, 16, 16, 3), np.uint8)
    reference = rng.integers(0, 256, (23, 16, 16, 3), np.uint8)
    difference = queries[:, None].astype(np.float64) - reference[None]
    every = np.sqrt((difference**2).mean((2, 3, 4)))
    distance, index = image_similarity.nearest_by_l2(queries, reference, 4)
    np.testing.assert_array_equal(index, every.argsort(1)[:, :4])
    np.testing.assert_allclose(distance, np.sort(every, 1)[:, :4], rtol=1e-4)


def test_generated_pictures_come_as_floats():
    clean, _ = photo_pieces()
    value, index = image_similarity.ssim_to_match(images.to_float(clean[::-1]), clean)
    np.testing.assert_allclose(value, 1.0, atol=1e-6)
    assert index.tolist() == [5, 4, 3, 2, 1, 0]


def test_mmd_of_two_by_two_numbers_worked_by_hand():
    # d = 1, kernel (xy + 1)^3. x: {0, 1}: k(0, 1) = 1. y: {1, 2}: k(1, 2) = 27.
    # Across: k(0, 1) = k(0, 2) = 1, k(1, 1) = 8, k(1, 2) = 27, mean 9.25. 1 + 27 - 2 * 9.25 = 9.5.
    assert kid.squared_mmd(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])) == pytest.approx(9.5)


def test_kid_is_unbiased_where_both_sets_are_alike_and_grows_with_the_shift():
    rng = np.random.default_rng(0)

    def sets(shift):
        return rng.normal(size=(60, 16)), rng.normal(size=(60, 16)) + shift

    alike = [kid.squared_mmd(*sets(0.0)) for _ in range(50)]
    assert abs(np.mean(alike)) < 3 * np.std(alike) / np.sqrt(len(alike))
    assert min(alike) < 0  # a biased estimate never is
    near, far = kid.kid(*sets(0.3)), kid.kid(*sets(1.0))
    assert 0 < near[0] < far[0]
    assert 0 < near[1] < far[0]


def test_random_features_are_of_each_picture_alone_and_see_noise():
    clean, noisy = photo_pieces()
    extract = kid.random_conv_features(batch_size=4)  # 6 pictures: the last batch is not full
    features = extract(clean)
    assert features.shape == (6, 256)
    np.testing.assert_allclose(features[::-1], extract(clean[::-1]), rtol=1e-5, atol=1e-5)
    assert not np.allclose(features[0], extract(noisy)[0], atol=1e-2)


def test_copies_are_seen_and_new_pictures_are_not():
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (80, 16, 16, 3), np.uint8)
    heldout = rng.integers(0, 256, (40, 16, 16, 3), np.uint8)
    new = rng.integers(0, 256, (40, 16, 16, 3), np.uint8)
    copies = np.clip(train[:40] + rng.normal(0, 10, train[:40].shape), 0, 255).astype(np.uint8)
    for copied in memorisation.pixel_space(copies, heldout, train):
        assert copied["generated_nearer_probability"] == 1.0
        assert copied["generated_nearer_than_nearest_5_percent_of_heldout"] == 1.0
    for fresh in memorisation.pixel_space(new, heldout, train):
        assert 0.3 < fresh["generated_nearer_probability"] < 0.7


def test_a_blurred_generator_is_not_taken_for_a_copying_one():
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (80, 16, 16, 3), np.uint8)
    heldout = rng.integers(0, 256, (40, 16, 16, 3), np.uint8)
    grey = rng.integers(120, 136, (40, 16, 16, 3)).astype(np.uint8)
    distance, relative = memorisation.pixel_space(grey, heldout, train)
    assert distance["generated_nearer_probability"] == 1.0  # the naive measure is fooled
    assert relative["generated_nearer_probability"] < 0.9


def test_ties_count_half():
    same = memorisation.compare(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    assert same["generated_nearer_probability"] == 0.5
