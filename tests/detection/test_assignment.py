import itertools

import numpy as np
import pytest

from dp3_jax.detection.assignment import assigned


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2), (6, 6)])
def test_no_other_pairs_cost_less(shape):
    cost = np.random.default_rng(sum(shape)).normal(size=shape)
    wide = cost if shape[0] <= shape[1] else cost.T
    orders = itertools.permutations(range(wide.shape[1]), wide.shape[0])
    least = min(sum(wide[i, j] for i, j in enumerate(order)) for order in orders)
    pairs = assigned(cost)
    assert sum(cost[pair] for pair in pairs) == pytest.approx(least)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs) == min(shape)
    assert [i for i, _ in pairs] == sorted(i for i, _ in pairs)


def test_many_equal_costs():
    cost = np.where(np.random.default_rng(0).random((40, 60)) < 0.1, 1.0, 9.0)
    scipy = pytest.importorskip("scipy.optimize")
    rows, columns = scipy.linear_sum_assignment(cost)
    assert sum(cost[pair] for pair in assigned(cost)) == cost[rows, columns].sum()


def test_nothing_to_pair():
    assert assigned(np.zeros((0, 4))) == assigned(np.zeros((3, 0))) == []
