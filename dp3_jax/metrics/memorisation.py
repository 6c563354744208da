"""Has the generator learnt training pictures by heart?

A generator that invents faces comes as close to the training pictures as unseen real faces do; one
that copies comes closer. So the distance to the nearest training picture is compared between
generated and held-out real pictures (the data-copying test of Meehan et al., 2020, arXiv:2004.05675,
with their statistic, the probability that a generated picture is the nearer one).

In pixels a picture without fine detail is nearer to every other, so a blurred generator looks like a
copying one. The distance is therefore also divided by the mean distance to the next NEIGHBOURS
training pictures: a copy is far nearer to its original than to those, a blurred picture is not (Carlini
et al., 2023, arXiv:2301.13188, use the same normalization).
"""

import numpy as np

from dp3_jax.metrics import image_similarity
from dp3_jax.metrics.verification import Verifier

NEIGHBOURS = 50

Comparison = dict[str, float | int | list[float]]


def compare(generated: np.ndarray, heldout: np.ndarray) -> Comparison:
    """Compares nearest-training-picture distances f32[n] of generated and f32[m] of held-out pictures.

    Returns:
      generated_nearer_probability: that a random generated picture is nearer to the training set
        than a random held-out one, ties half; 0.5 when neither is nearer.
      generated_nearer_than_nearest_5_percent_of_heldout: share of generated pictures; 0.05 is chance.
      quantiles_5_50_95 of both distances, and their numbers.
    """
    below = np.searchsorted(np.sort(heldout), generated, side="left")
    upto = np.searchsorted(np.sort(heldout), generated, side="right")
    nearer = 1.0 - (below + upto) / (2.0 * len(heldout))
    return {
        "generated_nearer_probability": float(nearer.mean()),
        "generated_nearer_than_nearest_5_percent_of_heldout": float(
            (generated < np.quantile(heldout, 0.05)).mean()
        ),
        "generated_quantiles_5_50_95": np.quantile(generated, [0.05, 0.5, 0.95]).tolist(),
        "heldout_quantiles_5_50_95": np.quantile(heldout, [0.05, 0.5, 0.95]).tolist(),
        "generated_n": len(generated),
        "heldout_n": len(heldout),
    }


def relative(distances: np.ndarray) -> np.ndarray:
    """f[n]: the nearest of rising distances f[n, k], divided by the mean of the others."""
    # Where a training picture is there twice both may be 0.
    return distances[:, 0] / np.maximum(distances[:, 1:].mean(1), 1e-6)


def pixel_distances(
    generated: np.ndarray, heldout: np.ndarray, train: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """f32[n, k] and f32[m, k], rising: root mean square differences to the nearest training pictures.

    All are u8[N, S, S, 3]; k is NEIGHBOURS + 1, or the number of training pictures if that is less.
    """
    count = min(NEIGHBOURS + 1, len(train))
    first, second = (
        image_similarity.nearest_by_l2(x, train, count)[0] for x in (generated, heldout)
    )
    return first, second


def pixel_space(
    generated: np.ndarray, heldout: np.ndarray, train: np.ndarray
) -> tuple[Comparison, Comparison]:
    """`compare` on pictures u8[N, S, S, 3] by root mean square difference in grey levels (0..255).

    Returns:
      (of the distance to the nearest training picture, of that distance divided by the mean distance
      to the next NEIGHBOURS).
    """
    distances = pixel_distances(generated, heldout, train)
    nearest = (distance[:, 0] for distance in distances)
    return compare(*nearest), compare(*(relative(distance) for distance in distances))


def face_space(
    verifier: Verifier,
    generated: tuple[np.ndarray, np.ndarray],
    heldout: tuple[np.ndarray, np.ndarray],
    train: tuple[np.ndarray, np.ndarray],
) -> Comparison | dict[str, str]:
    """`compare` on 1 - cosine of face embeddings, each set as `Verifier.embed` returns it.

    Pictures without a found face are left out (the counts say how many took part). Adds how often the
    verifier takes some training face for the same person: with thousands of training faces that
    is often so for strangers, and only the excess over the held-out share speaks of copying.
    """
    known = train[0][train[1]]
    faces = {"generated": generated[0][generated[1]], "heldout": heldout[0][heldout[1]]}
    if len(known) == 0 or any(len(rows) == 0 for rows in faces.values()):
        return {"not_measured": f"{verifier.name} found no face in one of the sets"}
    nearest = {name: 1.0 - (rows @ known.T).max(1) for name, rows in faces.items()}
    shares = {
        f"{name}_share_with_a_same_person_train_face": float(
            (distance <= 1.0 - verifier.threshold).mean()
        )
        for name, distance in nearest.items()
    }
    return {**compare(nearest["generated"], nearest["heldout"]), **shares}
