"""Heads of the prior for small pictures: what they see, how they are trained, what the shipped ones give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dp3_jax.common import assets
from dp3_jax.models import prior, prior_heads
from dp3_jax.training import prior_heads as training

CHANNELS = 6


def random_head(seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(4, 1, training.CROP, training.CROP, CHANNELS))
    pictures = rng.integers(0, 256, (4, 1, 2 * training.CROP, 2 * training.CROP, 3))
    params = training.initial(128, training.Crops(features, pictures, None), seed)
    return {name: value + rng.normal(0, 0.05, value.shape) for name, value in params.items()}


def test_a_crop_gives_what_the_whole_picture_has_there():
    rng = np.random.default_rng(0)
    params = {name: np.float32(value) for name, value in random_head(1).items()}
    side = 64
    x = rng.normal(size=(1, side, side, CHANNELS)).astype(np.float32)
    w = rng.normal(size=(1, prior.LATENT_DIM)).astype(np.float32)
    head = jax.jit(prior_heads.head, static_argnums=1)
    whole = head(params, 128, x, w)
    assert whole.shape == (1, 128, 128, 3)
    for r, c in ((0, 0), (0, 17), (30, side - training.CROP), (21, 9)):
        crop = head(params, 128, x[:, r : r + training.CROP, c : c + training.CROP], w)
        seen = training.inside(jnp.array([[r, c]]), 128)
        there = whole[:, 2 * r : 2 * (r + training.CROP), 2 * c : 2 * (c + training.CROP)]
        np.testing.assert_allclose(crop * seen, there * seen, atol=1e-4)
        cut = 2 * (r > 0) + 2 * (r + training.CROP < side)
        cut_across = 2 * (c > 0) + 2 * (c + training.CROP < side)
        assert seen.sum() == 4 * (training.CROP - cut) * (training.CROP - cut_across)


def test_reducing_is_the_mean_of_each_area():
    image = np.random.default_rng(2).normal(size=(2, 12, 12, 3)).astype(np.float32)
    expected = image.reshape(2, 4, 3, 4, 3, 3).mean((2, 4))
    np.testing.assert_allclose(prior_heads.reduce(image, 4), expected, atol=1e-6)
    np.testing.assert_allclose(prior_heads.reduce(image, 12), image)


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="no picture of 200 px"):
        prior_heads.render({}, np.zeros((1, prior.LATENT_DIM)), 200)


def test_half_precision_heads_take_w_itself():
    rng = np.random.default_rng(3)
    mean = rng.normal(0, 0.1, prior.LATENT_DIM).astype(np.float32)
    params = {name: np.float32(value) for name, value in random_head(4).items()}
    folded = training.fold_mean(params, mean)
    assert {value.dtype for value in folded.values()} == {np.dtype(np.float16)}
    folded = {name: np.float32(value) for name, value in folded.items()}
    x = rng.normal(size=(1, 8, 8, CHANNELS)).astype(np.float32)
    w = mean + rng.normal(0, 0.3, (1, prior.LATENT_DIM)).astype(np.float32)
    head = jax.jit(prior_heads.head, static_argnums=1)
    relative, itself = head(params, 128, x, w - mean), head(folded, 128, x, w)
    np.testing.assert_allclose(itself, relative, atol=0.02 * float(np.abs(relative).max()))


@pytest.fixture
def crops(tmp_path):
    """Crops whose pictures a head can learn: grey ones that follow the first channel."""
    faces = training.HELD_OUT + 8
    crops = training.open_crops(tmp_path, 128, faces, CHANNELS)
    rng = np.random.default_rng(5)
    crops.features[:] = rng.normal(size=crops.features.shape)
    grey = 127 + 60 * np.tanh(np.float32(crops.features[..., :1]))
    crops.pictures[:] = np.repeat(np.repeat(grey, 2, 2), 2, 3)
    crops.places[:] = 20
    return crops


def test_a_head_learns_and_its_state_is_kept(crops, tmp_path):
    w = np.random.default_rng(6).normal(size=(len(crops.places), prior.LATENT_DIM)) * 0.1
    w, course = w.astype(np.float32), training.Course(40, 8)
    begin = training.initial(128, training.Crops(*(a[: training.REGRESSED] for a in crops)), 128)
    trained = training.train(tmp_path, 128, crops, w, course)
    before, after = (training.decibels(p, 128, crops, w) for p in (begin, trained))
    assert before > 12  # linear regression
    assert after > before + 1
    again = training.train(tmp_path, 128, crops, w, course)  # has nothing left to do
    for name, value in trained.items():
        np.testing.assert_array_equal(again[name], value)


@pytest.fixture(scope="module")
def params():
    if not (assets.cache_folder() / assets.ASSETS["prior"].filename).is_file():
        pytest.skip('the asset "prior" is not in the cache (dp3 assets --fetch prior)')
    return prior_heads.load_renderer()


def test_small_pictures_are_the_large_one_reduced(params):
    z = np.random.default_rng(7).normal(size=(64, prior.LATENT_DIM)).astype(np.float32)
    w = jax.jit(prior.mapping)(params, z)
    w = w.mean(0) + 0.7 * (w[:1] - w.mean(0))
    full = jnp.clip(jax.jit(prior.synthesis)(params, w), -1, 1)
    render = jax.jit(prior_heads.render, static_argnums=2)
    for size in (128, 256):
        ours, expected = render(params, w, size), prior_heads.reduce(full, size)
        assert ours.shape == (1, size, size, 3)
        assert 10 * np.log10(4 / np.mean((ours - expected) ** 2)) > 26  # dB


def test_without_a_head_a_picture_is_the_next_larger_one_reduced(monkeypatch):
    def features(params, w, level):
        assert level == 4
        return jnp.ones((1, 128, 128, CHANNELS))

    monkeypatch.setattr(prior, "features", features)
    params = {name.replace("128", "256"): np.float32(v) for name, v in random_head(8).items()}
    w = np.zeros((1, prior.LATENT_DIM), np.float32)
    render = jax.jit(lambda size: prior_heads.render(params, w, size), static_argnums=0)
    large, small = render(256), render(128)
    np.testing.assert_allclose(small, prior_heads.reduce(large, 128), atol=1e-6)
