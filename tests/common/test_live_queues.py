"""Queues between the stages of live video: bounded, in order, and what is dropped is the oldest."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.common.queues import LatestQueue

steps = st.lists(st.sampled_from(["put", "put", "get"]), max_size=60)


@given(st.integers(1, 5), steps)
def test_a_new_item_pushes_the_oldest_one_out(depth, steps):
    dropped, taken, expected = [], [], []
    queue = LatestQueue(depth, on_drop=dropped.append)
    reader = iter(queue)
    for number, step in enumerate(steps):
        if step == "put":
            queue.put(number)
            expected = [*expected, number][-depth:]
        elif expected:
            taken.append(next(reader))
            assert taken[-1] == expected.pop(0)
        assert len(queue) == len(expected) <= depth
    queue.close()
    taken += reader
    assert taken == sorted(taken)
    assert dropped == sorted(dropped)
    assert sorted(taken + dropped) == [n for n, step in enumerate(steps) if step == "put"]


@given(st.integers(1, 4), st.integers(0, 40))
def test_a_queue_that_waits_keeps_everything(depth, count):
    queue = LatestQueue(depth, wait=True)

    def write():
        for number in range(count):
            queue.put(number)
        queue.close()

    writer = threading.Thread(target=write)
    writer.start()
    assert list(queue) == list(range(count))
    writer.join()


def test_closing_frees_a_writer_that_waits_and_drops_its_item():
    dropped = []
    queue = LatestQueue(1, wait=True, on_drop=dropped.append)
    queue.put("first")
    writer = threading.Thread(target=queue.put, args=("second",))
    writer.start()
    queue.close()
    writer.join()
    assert list(queue) == ["first"]
    assert dropped == ["second"]


@pytest.mark.parametrize("how", ["taken", "closed"])
def test_a_writer_can_wait_until_nothing_would_be_dropped(how):
    queue, reader = LatestQueue(1), None
    queue.wait_for_room()  # there is some
    queue.put("first")
    waiting = threading.Thread(target=queue.wait_for_room)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    if how == "closed":
        queue.close()
    else:
        reader = iter(queue)
        assert next(reader) == "first"
    waiting.join()


def test_an_empty_queue_is_no_queue():
    with pytest.raises(ValueError, match="at least 1"):
        LatestQueue(0)
