"""What a new face must share with its surroundings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dp3_jax.replacement import surroundings


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    st.lists(st.floats(0, 100), min_size=1, max_size=3),
)
def test_percentiles_of_levels_are_those_of_numpy(levels, shares):
    found = surroundings.level_percentiles(levels, shares)
    assert found == pytest.approx(np.percentile(levels, shares), abs=1e-4)
