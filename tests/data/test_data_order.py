"""The order of training images: complete, repeatable, the same for any number of processes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.common.errors import UserError
from dp3_jax.data import order
from dp3_jax.data.catalog import made_partition

seeds = st.integers(0, 2**31)


@given(seeds, st.integers(1, 50), st.integers(0, 4))
def test_every_epoch_is_a_permutation(seed, count, epoch):
    chosen, _ = order.elements(seed, epoch * count, count, count)
    assert sorted(chosen) == list(range(count))


@given(seeds, st.integers(1, 40), st.integers(0, 200), st.integers(1, 100), st.integers(1, 99))
def test_a_stretch_is_the_same_however_it_is_cut(seed, count, first, number, cut):
    cut = min(cut, number)
    whole = order.elements(seed, first, number, count)
    head, tail = (
        order.elements(seed, first, cut, count),
        order.elements(seed, first + cut, number - cut, count) if cut < number else ([], []),
    )
    for index in range(2):
        assert np.array_equal(whole[index], [*head[index], *tail[index]])


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_together_read_what_one_reads(processes):
    size, count = 12, 17
    for batch in range(5):
        parts = [
            order.elements(
                3, order.first_position(batch, size, index, processes), size // processes, count
            )[0]
            for index in range(processes)
        ]
        assert np.array_equal(
            np.concatenate(parts), order.elements(3, batch * size, size, count)[0]
        )


def test_epochs_and_seeds_differ_and_flips_are_fair():
    assert not np.array_equal(order.permutation(0, 0, 100), order.permutation(0, 1, 100))
    assert not np.array_equal(order.permutation(0, 0, 100), order.permutation(1, 0, 100))
    assert abs(order.flips(0, 0, 10_000).mean() - 0.5) < 0.02  # Four standard deviations.


def test_the_order_is_the_one_of_earlier_releases():
    """A run saved earlier must resume in the same order: these numbers must never change."""
    assert order.permutation(0, 0, 8).tolist() == GOLDEN_PERMUTATION
    assert order.flips(0, 0, 8).astype(int).tolist() == GOLDEN_FLIPS


GOLDEN_PERMUTATION = [0, 3, 7, 5, 1, 2, 6, 4]
GOLDEN_FLIPS = [1, 1, 0, 0, 0, 1, 1, 0]


@given(seeds, st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_a_smaller_subset_is_part_of_a_larger(seed, population, small, large):
    small, large = sorted((small, large))
    inner = order.nested_sample(seed, order.SUBSET, population, small)
    outer = order.nested_sample(seed, order.SUBSET, population, large)
    assert len(outer) == min(large, population)
    assert set(inner) <= set(outer)
    assert np.all(np.diff(outer) > 0)


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(UserError, match="10 cannot be shared equally by 4"):
        order.local_batch_size(10, 4)


@given(st.lists(st.integers(-1, 12), min_size=3, max_size=80))
def test_a_made_split_never_separates_a_person(identities):
    identities = np.array(identities, np.int32)
    partitions, note = made_partition(len(identities), identities)
    assert note == "split made by person"
    for person in set(identities) - {-1}:
        assert len(set(partitions[identities == person])) == 1
    assert 0 in partitions
    groups = len(set(identities) - {-1}) + int((identities == -1).sum())
    assert set(partitions) == ({0, 1, 2} if groups >= 3 else {0})


def test_a_made_split_holds_out_a_tenth_twice():
    partitions, _ = made_partition(1000, None)
    assert np.bincount(partitions).tolist() == [800, 100, 100]
    persons = np.repeat(np.arange(250, dtype=np.int32), 4)
    sizes = np.bincount(made_partition(1000, persons)[0])
    assert np.all(np.abs(sizes - [800, 100, 100]) <= 4)
