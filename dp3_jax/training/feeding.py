"""From a data feed to batches on the devices, made ahead of the step that takes them."""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from dp3_jax.common.prefetch import prefetch
from dp3_jax.data import Feed
from dp3_jax.data.feed import Companions
from dp3_jax.training.sharding import Layout


def _gather(images: jax.Array, indices: jax.Array, flips: jax.Array) -> jax.Array:
    """Rows `indices` of u8[N, S, S, 3], mirrored left-right where `flips`."""
    chosen = images[indices]
    return jnp.where(flips[:, None, None, None], chosen[:, :, ::-1], chosen)


class DeviceBatches:
    """Endless iterator of {"image": u8[B, S, S, 3]} spread over the devices, from batch `start` on.

    Every batch also holds the arrays that its `companions` give for it.

    A thread reads ahead and copies to the devices while the step before computes. With `on_device` (a
    packed feed) the whole set is put on every device once, and a batch costs the host only its index
    numbers.
    """

    def __init__(
        self,
        feed: Feed,
        layout: Layout,
        start: int,
        *,
        on_device: bool,
        companions: Companions | None = None,
    ):
        """Starts reading batch `start`."""
        if on_device:
            images = layout.replicate(feed.device_arrays)
            gather = jax.jit(_gather, out_shardings=layout.split)
            batches = (
                gather(images, layout.global_batch(indices), layout.global_batch(flips))
                for indices, flips in feed.indices(start)
            )
        else:
            batches = (layout.global_batch(batch["image"]) for batch in feed.batches(start))

        def others(number: int) -> dict[str, jax.Array]:
            rows = companions.batch(number, *feed.rows(number)) if companions else {}
            return {name: layout.global_batch(value) for name, value in rows.items()}

        numbered = zip(itertools.count(start), batches, strict=False)
        self._batches = prefetch(
            ({"image": image, **others(number)} for number, image in numbered), depth=2
        )

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        return self

    def __next__(self) -> dict[str, jax.Array]:
        return next(self._batches)

    @property
    def seconds_waiting(self) -> float:
        """Total time the consumer spent waiting for a batch."""
        return self._batches.seconds_waiting

    def close(self) -> None:
        """Stops reading ahead."""
        self._batches.close()
