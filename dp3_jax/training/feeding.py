"""From a data feed to batches on the devices, made ahead of the step that takes them."""

import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from dp3_jax.data import Feed, prefetch
from dp3_jax.training.sharding import Layout


def _gather(images: jax.Array, indices: jax.Array, flips: jax.Array) -> jax.Array:
    """Rows `indices` of u8[N, S, S, 3], mirrored left-right where `flips`."""
    chosen = images[indices]
    return jnp.where(flips[:, None, None, None], chosen[:, :, ::-1], chosen)


class DeviceBatches:
    """Endless iterator of {"image": u8[B, S, S, 3]} spread over the devices, from batch `start` on.

    With `on_device` (a packed feed) the whole set is put on every device once and a batch costs the host
    only its index numbers; otherwise a thread reads ahead and the copy to the device overlaps the step.

    Attributes:
      seconds_waiting: total time the consumer spent waiting for data.
    """

    def __init__(self, feed: Feed, layout: Layout, start: int, *, on_device: bool):
        self.seconds_waiting = 0.0
        self._layout = layout
        if on_device:
            images = layout.replicate(feed.device_arrays)
            gather = jax.jit(_gather, out_shardings=layout.split)
            self._close = lambda: None
            self._batches = (
                {"image": gather(images, layout.global_batch(i), layout.global_batch(f))}
                for i, f in feed.indices(start)
            )
        else:
            source = prefetch(feed.batches(start), depth=4)
            self._close = source.close
            self._batches = ({"image": layout.global_batch(b["image"])} for b in source)

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        return self

    def __next__(self) -> dict[str, jax.Array]:
        began = time.perf_counter()
        batch = next(self._batches)
        self.seconds_waiting += time.perf_counter() - began
        return batch

    def close(self) -> None:
        """Stops reading ahead."""
        self._close()
