"""Feeding image files through tf.data: parallel decoding, in order, a bounded number ahead.

TensorFlow is imported here and in tfds_source.py only.
"""

from collections.abc import Iterator
from types import ModuleType

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.data.feed import HostFeed

# Images per parallel call. Small enough to keep all cores busy within one batch, large enough to
# make what a call into Python costs (0.1 ms) vanish beside decoding (0.7 ms an image).
_ROWS_PER_CALL = 8


def import_tensorflow() -> ModuleType:
    """Imports TensorFlow, quietly, and keeps it off the accelerators, which are JAX's.

    Raises:
      UserError: it is not installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError(
            f"reading image files needs TensorFlow ({error}); install it with "
            "pip install 'dp3_jax[data]', or use data.source=packed or shapes"
        ) from error
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf


class TfFeed(HostFeed):
    """The batches of `HostFeed`, made by tf.data's threads ahead of need."""

    def batches(self, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """See `feed.Feed`. Raises UserError when too many files turn out unreadable."""
        tf = import_tensorflow()
        failures: list[Exception] = []
        calls = -(-self.local_batch // _ROWS_PER_CALL)
        shape = (self.image_size, self.image_size, 3)

        def load(call: np.ndarray) -> np.ndarray:
            batch, part = divmod(int(call), calls)
            rows = slice(part * _ROWS_PER_CALL, (part + 1) * _ROWS_PER_CALL)
            try:
                return self.part(batch, rows)
            except Exception as error:  # tf.data would hand on its text only.
                failures.append(error)
                raise

        def decode(call):
            return tf.ensure_shape(tf.numpy_function(load, [call], tf.uint8), (None, *shape))

        workers = self._split.options.workers or tf.data.AUTOTUNE
        dataset = tf.data.Dataset.range(start * calls, np.iinfo(np.int64).max)
        dataset = dataset.map(decode, num_parallel_calls=workers, deterministic=True)
        if calls > 1:
            dataset = dataset.unbatch().batch(self.local_batch)
        iterator = dataset.prefetch(2).as_numpy_iterator()
        while True:
            try:
                image = next(iterator)
            except tf.errors.OpError as error:
                raise (failures[0] if failures else error) from None
            yield {"image": image}
