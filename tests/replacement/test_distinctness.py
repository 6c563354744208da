"""What tells the prior's persons apart, and that it is enlarged without anything else."""

import numpy as np
import pytest

from dp3_jax.replacement import distinctness
from dp3_jax.replacement.directions import load_directions


@pytest.fixture
def w():
    table = load_directions()
    return table.mean + np.random.default_rng(0).normal(0, 0.5, (20, 512)).astype(np.float32)


def test_the_table_holds_orthonormal_dimensions_that_no_regression_sees():
    basis = distinctness.load_distinctness()
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=0.01)
    regression = load_directions().regression
    unit = regression / np.linalg.norm(regression, axis=1, keepdims=True)
    assert np.abs(unit @ basis.T).max() < 0.01


def test_persons_lie_further_apart_and_keep_their_attributes(w):
    table = load_directions()
    apart = distinctness.set_apart(w, table.mean, 0.5)
    basis = distinctness.load_distinctness()
    before, after = ((x - table.mean) @ basis.T for x in (w, apart))
    np.testing.assert_allclose(after, 1.5 * before, atol=0.02)
    for name, values in table.predict(apart).items():
        spread = table.spread[table.names.index(name)]
        assert np.abs(values - table.predict(w)[name]).max() < 0.05 * spread, name
    assert np.array_equal(distinctness.set_apart(w, table.mean, 0.0), w)


def test_the_fit_finds_what_an_embedding_depends_on():
    random = np.random.default_rng(1)
    wanted, _ = np.linalg.qr(random.normal(size=(512, 60)))
    x = random.normal(size=(3000, 512))
    groups = np.arange(3000) % 4
    # Groups differ by far more than persons do.
    embeddings = x @ wanted + 50 * random.normal(size=(4, 60))[groups]
    kept = random.normal(size=(3, 512))
    basis = distinctness.fit(x, embeddings, groups, kept, np.zeros(512))
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-9)
    assert np.abs(basis @ kept.T).max() < 1e-9
    assert (np.linalg.norm(basis @ wanted, axis=1) > 0.9).all()
