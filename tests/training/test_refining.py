"""Ratings of a fusion network with a known flaw: they find it, refining mends it, noise is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dp3_jax.common import images
from dp3_jax.common.errors import UserError
from dp3_jax.data.rated import RatedFaces
from dp3_jax.models.fusion import FusionGenerator
from dp3_jax.training import preference, refining
from dp3_jax.training.refining import RefineOptions

SIZE = 32


def maps(image):
    """A stand-in for a network's features: the picture at a quarter of its size, and its edges."""
    small = image.reshape(len(image), SIZE // 4, 4, SIZE // 4, 4, 3).mean((2, 4))
    return [small, jnp.abs(jnp.diff(small, axis=1))]


@pytest.fixture(scope="module")
def network():
    network = FusionGenerator(widths=(4, 8, 8, 16), style_dim=8)
    one, mask = np.zeros((1, SIZE, SIZE, 3), np.float32), np.ones((1, SIZE, SIZE, 1), np.float32)
    quick = {"xla_backend_optimization_level": 1}  # as `assembly.build` has it
    make = jax.jit(network.init, compiler_options=quick)
    return network, jax.tree.map(np.array, make(jax.random.key(0), one, mask, one, mask)["params"])


def faces(count=96, seed=0):
    rng = np.random.default_rng(seed)
    level = rng.integers(40, 220, (count, 1, 1, 1))
    noise = rng.integers(-20, 20, (2, count, SIZE, SIZE, 3))
    mask = np.zeros((count, SIZE, SIZE, 1), bool)
    mask[:, 6:26, 6:26] = True
    image = np.where(mask, 0, (level + noise[0]).clip(0, 255)).astype(np.uint8)
    donor = np.where(mask, (level + noise[1]).clip(0, 255), 0).astype(np.uint8)
    none = np.zeros(count, np.float32)
    return RatedFaces(image, mask, donor, mask, none, np.arange(count) // 2)


def spoiled(params):
    """Parameters with a flaw: too much gain in blue, so that bright donors turn blue and dark ones yellow."""
    changed = jax.tree.map(np.array, params)
    changed["tone"]["bias"][2] = 0.6
    return changed


def drawn(network, params, rated):
    batch = {name: getattr(rated, name) for name in ("image", "mask", "donor", "donor_mask")}
    batch = {
        name: images.to_float(value) if value.dtype == np.uint8 else value.astype(np.float32)
        for name, value in batch.items()
    }
    return np.asarray(jax.jit(network.apply)({"params": params}, *batch.values()))


def tint(pictures):
    """f[n]: how much bluer than grey the middle of each picture is; below 0 yellower."""
    inner = pictures[:, 12:20, 12:20]
    return inner[..., 2].mean((1, 2)) - inner[..., :2].mean((1, 2, 3))


def test_ratings_find_a_known_flaw_and_refining_mends_it(network):
    net, params = network
    bad, rated = spoiled(params), faces()
    shown = tint(drawn(net, bad, rated))
    wrong = (shown > np.median(shown)).astype(np.float32)
    rated = RatedFaces(rated.image, rated.mask, rated.donor, rated.donor_mask, wrong, rated.context)
    options = RefineOptions(updates=60, batch_size=16, learning_rate=3e-3, stay=0.2)
    result = refining.refine(net, bad, rated, maps, options)
    assert result.improved and not result.report["refused"]
    assert result.report["agreement"]["low"] > 0.6
    judged = rated.of(~refining.halves(rated.context, 0))
    before, after = (
        np.maximum(tint(drawn(net, p, judged)), 0).mean() for p in (bad, result.params)
    )
    assert after < 0.8 * before


def test_ratings_at_random_are_refused(network):
    net, params = network
    rated = faces()
    wrong = np.random.default_rng(2).integers(0, 2, len(rated)).astype(np.float32)
    rated = RatedFaces(rated.image, rated.mask, rated.donor, rated.donor_mask, wrong, rated.context)
    result = refining.refine(net, params, rated, maps, RefineOptions(updates=2, batch_size=4))
    assert not result.improved
    assert "does not foretell" in result.report["refused"]


def test_faces_of_one_place_stay_in_one_half():
    context = np.repeat(np.arange(9), 3)
    teaches = refining.halves(context, 3)
    assert {len(set(teaches[context == place])) for place in range(9)} == {1}
    assert 0 < teaches.sum() < len(context)


def test_the_scorer_prefers_what_raters_prefer_in_each_place():
    rng = np.random.default_rng(0)
    found = rng.normal(size=(200, 6)).astype(np.float32)
    wrong = (found[:, 2] + 0.3 * rng.normal(size=200) < 0).astype(np.float32)
    context = np.arange(200) // 4
    scorer = preference.fit(found[:120], wrong[:120], context[:120])
    scores = np.asarray(scorer(found[120:]))
    assert preference.agreement(scores, wrong[120:]) > 0.9
    assert np.argmax(np.abs(scorer.weights)) == 2
    better, worse = preference.pairs(wrong[120:], context[120:]).T
    assert (scores[better] > scores[worse]).mean() > 0.85


def test_one_opinion_teaches_nothing():
    with pytest.raises(ValueError, match="all ratings say the same"):
        preference.fit(np.zeros((4, 2)), np.ones(4), np.arange(4))
    assert np.isnan(preference.agreement(np.zeros(3), np.zeros(3)))
    assert preference.agreement(np.zeros(2), np.array([0, 1])) == 0.5


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"updates": 0}, "refine.updates is above 0, not 0"),
        ({"batch_size": -1}, "refine.batch_size is above 0"),
        ({"learning_rate": float("nan")}, "refine.learning_rate is above 0, not nan"),
        ({"stay": -1.0}, "refine.stay is 0 or more"),
        ({"seed": -1}, "seed is 0 or more"),
    ],
)
def test_values_out_of_range_are_named_as_the_config_has_them(wrong, says):
    with pytest.raises(UserError, match=says):
        RefineOptions(**wrong)
