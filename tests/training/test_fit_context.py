"""Linear maps from surroundings to sex and tone, fitted to made features."""

import numpy as np

from dp3_jax.training import fit_context


def test_what_is_linear_in_the_features_is_found_and_labels_that_are_not_sure_are_left_out():
    rng = np.random.default_rng(0)
    encoded, seen = rng.normal(3, 2, (600, 5)), rng.normal(-1, 4, (600, 7))
    colour = np.concatenate([seen, encoded], 1) @ rng.normal(size=(12, 3)) + [60.0, 10.0, 15.0]
    logit = seen @ np.array([1.0, -1, 0, 0, 0, 0, 0.5])
    female = 1 / (1 + np.exp(-logit))
    unsure = np.abs(female - 0.5) < 0.3
    labels = np.column_stack([female, colour])
    found = fit_context.fit(encoded, seen, labels)
    predicted = np.concatenate([seen, encoded], 1) @ found["skin.kernel"] + found["skin.bias"]
    assert np.abs(predicted - colour).std() < 0.1 * colour.std(0).min()
    assert (found["skin.deviation"] < 0.2 * colour.std(0)[[0, 2]]).all()
    said = (seen @ found["sex.kernel"] + found["sex.bias"])[:, 0] > 0
    assert (said == (logit > 0))[~unsure].mean() > 0.97
    labels[unsure, 0] = 1 - female[unsure]  # wrong, but below the limit
    again = fit_context.fit(encoded, seen, labels)
    np.testing.assert_array_equal(found["sex.kernel"], again["sex.kernel"])
