"""Host buffers that JAX was given are not written again before their result is there.

On CPU a device array can share the memory of the NumPy array that it was made of, and a compiled function may
read its arguments after the call has returned: who fills such a buffer again races with the computation.
"""

import itertools

import numpy as np
import pytest

from dp3_jax.data import DataOptions, open_feed, prepare
from dp3_jax.data.clips import ClipPairs
from dp3_jax.models import embedders
from dp3_jax.replacement.fusing import Donor, FusionNetwork
from dp3_jax.replacement.generator import FaceGenerator
from dp3_jax.training import feeding, sharding
from dp3_jax.vision import masks
from tests.training import test_run

SIDE = 16


class HandedOver:
    """The buffers that went to JAX, each with what was in it then."""

    def __init__(self):
        self.buffers = []

    def take(self, *arrays):
        assert all(isinstance(array, np.ndarray) for array in arrays)
        self.buffers += [(array, array.copy()) for array in arrays]

    def check(self):
        """They are what they were, and no two of them are one memory."""
        for array, then in self.buffers:
            np.testing.assert_array_equal(array, then)
        for (a, _), (b, _) in itertools.combinations(self.buffers, 2):
            assert not np.shares_memory(a, b)


@pytest.fixture
def handed(monkeypatch):
    record = HandedOver()
    original = sharding.Layout.global_batch

    def global_batch(layout, local):
        record.take(local)
        return original(layout, local)

    monkeypatch.setattr(sharding.Layout, "global_batch", global_batch)
    return record


def fed(feed, handed, count=6, **settings):
    """Takes `count` batches, which lets the next ones be made, and compares them all at the end."""
    layout = sharding.make_layout()
    batches = feeding.DeviceBatches(feed, layout, 0, on_device=False, **settings)
    taken = [next(batches) for _ in range(count)]
    batches.close()
    handed.check()
    arrays = [array for batch in taken for array in batch.values()]
    for found, (_, then) in zip(arrays, handed.buffers[: len(arrays)], strict=True):
        np.testing.assert_array_equal(found, then)


def settings_of(kind, tmp_path):
    options = {"source": "shapes", "image_size": SIDE, "crop": None, "train_examples": 20}
    if kind == "shapes":
        return DataOptions(**options)
    options.update(source="folder", path=str(test_run.make_photos(tmp_path / "photos")))
    if kind == "packed":
        prepare(DataOptions(**options), tmp_path / "packed")
        options.update(source="packed", path=str(tmp_path / "packed"))
    else:
        pytest.importorskip("tensorflow")
    return DataOptions(**options, flip=True)


@pytest.mark.parametrize("kind", ["shapes", "packed", "folder"])
def test_batches_keep_their_memory_while_later_ones_are_made(kind, tmp_path, handed):
    feed = open_feed(
        settings_of(kind, tmp_path), "train", batch_size=4, seed=0, process_index=0, process_count=1
    )
    fed(feed, handed)


def test_what_comes_beside_the_pictures_keeps_its_memory_too(tmp_path, handed):
    rng = np.random.default_rng(0)
    views = rng.integers(0, 256, (2, 5, SIDE, SIDE, 3)).astype(np.uint8)
    np.savez(tmp_path / "clips.npz", first=views[0], second=views[1],
             flow=rng.normal(size=(5, SIDE, SIDE, 2)).astype(np.float16),
             visible=np.ones((5, SIDE, SIDE), bool), clip=np.array(["a"] * 5))  # fmt: skip
    pairs = ClipPairs(
        str(tmp_path / "clips.npz"), image_size=SIDE, batch_size=2, seed=0, flip=True,
        process_index=0, process_count=1,
    )  # fmt: skip
    feed = open_feed(
        settings_of("shapes", tmp_path), "train", batch_size=4, seed=0, process_index=0,
        process_count=1,
    )  # fmt: skip
    fed(feed, handed, companions=pairs)


def test_a_feed_that_fills_one_buffer_again_and_again_would_be_found(handed):
    class OneBuffer:
        buffer = np.zeros((4, SIDE, SIDE, 3), np.uint8)

        def batches(self, start):
            for number in itertools.count(start):
                self.buffer[:] = number
                yield {"image": self.buffer}

    with pytest.raises(AssertionError):
        fed(OneBuffer(), handed)


class Later:
    """A result that is computed when it is asked for, from what the buffers hold by then."""

    def __init__(self, record, arrays, compute):
        record.take(*arrays)
        self._own = record.buffers[-len(arrays) :]
        self._compute, self.awaited = compute, False

    def __array__(self, dtype=None, copy=None):
        for array, then in self._own:
            np.testing.assert_array_equal(array, then)
        self.awaited = True
        return self._compute(*(array for array, _ in self._own))


def test_rendering_awaits_each_result_before_it_gives_the_callers_buffers_back():
    record, results = HandedOver(), []

    def later(compute):
        def apply(variables, *arrays):
            results.append(Later(record, arrays, compute))
            return results[-1]

        return apply

    side = masks.SIZE
    generator = FaceGenerator(4, side, "", lambda: (later(lambda image, masked, z: image + 1), {}))
    given = np.ones((3, side, side, 1), np.float32)
    picture = np.zeros((3, side, side, 3), np.uint8)
    for number in range(3):  # the caller's one buffer for all
        picture[:] = number
        generator.generate(picture, given, np.zeros((3, 4), np.float32))

    parts = later(lambda image, mask, donor, shown: np.zeros((1, side, side, 10), np.float32))
    fusion = FusionNetwork("", lambda: (parts, {}))
    for number in range(3):
        picture[0] = number
        fusion.parts(picture[0], given[0], Donor(None, None, picture[0], given[0]))

    faces = np.zeros((embedders.BATCH + 1, 8, 8, 3), np.uint8)
    embed = later(lambda part: part.reshape(len(part), -1))
    for number in range(2):
        faces[:] = number
        embedders.in_batches(lambda part: embed(None, part), faces)
    assert len(results) > 8 and all(result.awaited for result in results)
