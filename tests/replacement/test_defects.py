"""Which persons are left out before anything is rendered."""

import numpy as np

from dp3_jax.replacement import defects
from dp3_jax.replacement.directions import load_directions


def test_the_mean_person_is_shown_and_those_that_the_table_knows_are_not():
    mean = load_directions().mean
    regression, offset = defects.load_defects()
    assert not defects.flawed(mean, mean)
    for one, at_mean in zip(regression, offset, strict=True):
        towards = one * (1 - at_mean) / (one @ one)
        assert defects.flawed(mean + towards, mean)
        assert not defects.flawed(mean - towards, mean)


def test_each_of_many_is_judged_for_itself():
    mean = load_directions().mean
    w = mean + np.random.default_rng(0).normal(0, 0.5, (40, 512)).astype(np.float32)
    together = defects.flawed(w, mean)
    assert together.shape == (40,)
    assert together.tolist() == [bool(defects.flawed(one, mean)) for one in w]
    assert not together.all()
