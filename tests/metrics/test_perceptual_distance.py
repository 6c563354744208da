import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.common import assets
from dp3_jax.metrics import perceptual_distance
from tests.face_photos import astronaut


@given(st.integers(0, 1000))
def test_the_distance_of_features_is_that_of_their_directions(seed):
    rng = np.random.default_rng(seed)
    a, b = ([jnp.asarray(rng.normal(size=(2, s, s, 5)), jnp.float32) for s in (4, 2)] for _ in "ab")
    found = np.asarray(perceptual_distance.between(a, b))
    assert ((found > 0) & (found <= 4)).all()
    longer = [x * 7 for x in b]
    np.testing.assert_allclose(perceptual_distance.between(a, longer), found, rtol=1e-4)
    np.testing.assert_allclose(perceptual_distance.between(b, a), found, rtol=1e-5)
    np.testing.assert_array_equal(perceptual_distance.between(a, a), np.zeros(2))
    opposite = [-x for x in a]
    np.testing.assert_allclose(perceptual_distance.between(a, opposite), [4, 4], rtol=1e-5)


def test_orthogonal_features_in_one_of_two_layers_are_one_apart():
    x, y = (
        jnp.ones((1, 3, 3, 1)) * jnp.array([1.0, 0]),
        jnp.ones((1, 3, 3, 1)) * jnp.array([0, 2.0]),
    )
    assert float(perceptual_distance.between([x, x], [y, x])[0]) == pytest.approx(1.0)


def test_more_change_is_more_distance_and_nothing_is_none():
    if not (assets.cache_folder() / assets.ASSETS["mobilenet_v2"].filename).is_file():
        pytest.skip("needs the cached asset mobilenet_v2")
    face = astronaut()[60:188, 158:286]
    covered = face.copy()
    covered[40:100, 40:100] = 128
    noisy = np.clip(face + np.random.default_rng(0).normal(0, 4, face.shape), 0, 255).astype(
        np.uint8
    )
    distance = perceptual_distance.load_distance(batch_size=2)
    same, little, much = distance(np.stack([face] * 3), np.stack([face, noisy, covered]))
    assert same == 0 and 0 < little < much < 4
    assert distance(face[None][:0], face[None][:0]).shape == (0,)
    with pytest.raises(ValueError, match="expected pairs"):
        distance(face[None], covered[None, :64])
