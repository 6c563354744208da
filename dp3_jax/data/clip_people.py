"""Who is in training pairs from video, and who of them is held out.

Nobody who is trained on may be among those that are measured. Clips do not say who is in them, so a clip
stays whole, so do clips of one subfolder, and so do clips in which a face verifier finds one person.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from dp3_jax.data import order

# Of two means of embeddings; SFace's own limit for two photos. Strangers who are taken for one person only
# stay together, which costs nothing.
SAME_PERSON = 0.363
_MIN_PAIRS = 2  # a face seen once may be a wrong detection


def means(embeddings: np.ndarray) -> list[np.ndarray]:
    """Mean embeddings f32[D] of length 1 of the faces that are alike among f32[n, D]."""
    sums: list[np.ndarray] = []
    counts: list[int] = []
    for row in embeddings:
        cosines = [float(total @ row) / max(float(np.linalg.norm(total)), 1e-12) for total in sums]
        best = int(np.argmax(cosines)) if cosines else -1
        if best >= 0 and cosines[best] >= SAME_PERSON:
            sums[best] = sums[best] + row
            counts[best] += 1
        else:
            sums.append(row.astype(np.float64))
            counts.append(1)
    enough = [total for total, count in zip(sums, counts, strict=True) if count >= _MIN_PAIRS]
    return [total / max(float(np.linalg.norm(total)), 1e-12) for total in enough or sums]


def numbered(faces: Mapping[str, np.ndarray]) -> dict[str, int]:
    """A number for the people of each clip, the same for clips that share one.

    Args:
      faces: by clip the embeddings f32[n, D] of its faces, rows of length 1; n may be 0.
    """
    known = {name: means(rows) for name, rows in faces.items()}
    number = {name: i for i, name in enumerate(faces)}
    for a, b in itertools.combinations(faces, 2):
        alike = any(float(x @ y) >= SAME_PERSON for x in known[a] for y in known[b])
        if alike and number[a] != number[b]:
            kept, gone = sorted((number[a], number[b]))
            number = {name: kept if n == gone else n for name, n in number.items()}
    order_of = {n: i for i, n in enumerate(dict.fromkeys(number.values()))}
    return {name: order_of[n] for name, n in number.items()}


def held_out(people: Sequence[int], share: float) -> np.ndarray:
    """bool[N]: pairs of the people who are held out, about `share` of all pairs.

    Whole people in a drawn order as long as they fit; at least the one with the fewest pairs. A function of
    the arguments alone. Nobody where there are fewer than two people, or `share` is 0.

    Args:
      people: i[N], whose each pair is.
      share: of the pairs, 0 to 1.
    """
    people = np.asarray(people, np.int64)
    numbers, counts = np.unique(people, return_counts=True)
    if not share or len(numbers) < 2:
        return np.zeros(len(people), bool)
    chosen, left = [], share * len(people)
    for i in order.shuffled(0, order.SPLIT, 0, len(numbers)):
        if counts[i] <= left and len(chosen) < len(numbers) - 1:
            chosen.append(numbers[i])
            left -= counts[i]
    return np.isin(people, chosen or [numbers[counts.argmin()]])
