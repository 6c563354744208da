"""The order of the training images: a pure function of a seed and a position.

Every feed takes its order from here, so resuming needs no saved iterator state, only the number of
the next batch, and any number of processes reads the same sequence. Positions 0, 1, 2, ... run
through one permutation per epoch without gaps: batch k of global size B is positions
[k*B, (k+1)*B), of which process i of P takes the i-th of P equal parts.

Random numbers come from raw Philox output (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3"): NumPy promises that a bit generator's stream never changes, and does not promise that of
`Generator.permutation`.
"""

import functools

import numpy as np

from dp3_jax.common.errors import UserError

# Independent streams of one seed.
_SHUFFLE, _FLIP, SUBSET, SPLIT, SAMPLE = range(5)


def random_bits(seed: int, stream: int, number: int, count: int) -> np.ndarray:
    """Returns u64[count] random bits, a pure function of the arguments (all >= 0)."""
    entropy = np.random.SeedSequence([seed, stream, number])
    return np.random.Philox(entropy).random_raw(count)


def shuffled(seed: int, stream: int, number: int, count: int) -> np.ndarray:
    """Returns a random permutation of range(count) as i64[count]."""
    return np.argsort(random_bits(seed, stream, number, count), kind="stable")


def nested_sample(seed: int, stream: int, population: int, count: int) -> np.ndarray:
    """Returns i64[count], ascending: a random subset of range(population).

    A smaller subset of the same seed, stream and population is contained in a larger one. A `count`
    of 0, or one that exceeds the population, gives all of it.
    """
    if not 0 < count < population:
        return np.arange(population)
    return np.sort(shuffled(seed, stream, 0, population)[:count])


@functools.lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """Returns the order of one epoch: a read-only i64[count] permutation of range(count)."""
    result = shuffled(seed, _SHUFFLE, epoch, count)
    result.setflags(write=False)
    return result


@functools.lru_cache(maxsize=4)
def flips(seed: int, epoch: int, count: int) -> np.ndarray:
    """Returns read-only bool[count]: whether the image at each position of an epoch is mirrored."""
    result = random_bits(seed, _FLIP, epoch, count) >> np.uint64(63) == 1
    result.setflags(write=False)
    return result


def elements(seed: int, first: int, number: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns what lies at `number` positions from position `first` on, over epochs of `count`.

    Returns:
      i64[number] elements of range(count), and bool[number] whether each one is mirrored.
    """
    chosen, mirrored = [], []
    position, end = first, first + number
    while position < end:
        epoch, offset = divmod(position, count)
        stop = min(count, offset + end - position)
        chosen.append(permutation(seed, epoch, count)[offset:stop])
        mirrored.append(flips(seed, epoch, count)[offset:stop])
        position += stop - offset
    return np.concatenate(chosen), np.concatenate(mirrored)


def local_batch_size(batch_size: int, process_count: int) -> int:
    """Returns the rows per process of a global batch.

    Raises:
      UserError: the batch does not divide evenly.
    """
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"a batch of {batch_size} cannot be shared equally by {process_count} process(es); "
            "choose a multiple"
        )
    return batch_size // process_count


def first_position(batch: int, batch_size: int, process_index: int, process_count: int) -> int:
    """Returns the global position of the first row that a process takes of batch number `batch`."""
    return batch * batch_size + process_index * (batch_size // process_count)
