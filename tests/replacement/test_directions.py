"""Directions in w: what they promise, and that fitting finds them."""

import json
import pathlib

import numpy as np
import pytest

from dp3_jax.replacement import directions, fit_directions


@pytest.fixture(scope="module")
def table():
    return directions.load_directions()


def test_a_move_changes_its_own_attribute_by_what_was_asked_and_no_other(table):
    assert set(table.names) == set(directions.APPLIED)
    for name in table.names:
        w = table.mean + 2.0 * table.moves[table.names.index(name)]
        change = {
            key: float(v - table.predict(table.mean)[key]) for key, v in table.predict(w).items()
        }
        assert change.pop(name) == pytest.approx(2.0, rel=1e-3)
        spreads = dict(zip(table.names, table.spread, strict=True))
        assert all(abs(v) < 0.02 * spreads[key] for key, v in change.items()), (name, change)


def test_a_move_touches_only_the_rows_that_it_is_applied_to(table):
    moved = table.move(table.mean, {"yaw": 10.0})
    assert moved.shape == (directions.ROWS, directions.WIDTH)
    touched = np.flatnonzero(np.any(moved != table.mean, axis=1))
    assert tuple(touched) == directions.APPLIED["yaw"]
    # Moves add up, and one back undoes one forth.
    again = table.move(table.move(moved, {"female": 2.0}), {"yaw": -10.0, "female": -2.0})
    np.testing.assert_allclose(again, np.broadcast_to(table.mean, again.shape), atol=1e-5)


def test_the_table_tells_pose_and_mouth_well(table):
    """On faces that took no part in the fit: what the README promises."""
    r2 = dict(zip(table.names, table.r2, strict=True))
    assert r2["yaw"] > 0.9 and r2["pitch"] > 0.75
    assert r2["mouth_opening"] > 0.55 and r2["mouth_width"] > 0.6


def test_fitting_finds_a_linear_attribute_and_keeps_the_other_still():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(512, 512)) / 20
    w = rng.normal(size=(3000, 512)) @ mixing + 1.0
    truth = rng.normal(size=(2, 512)) / 10
    values = {"yaw": 3.0 + (w - 1) @ truth[0], "pitch": (w - 1) @ truth[1]}
    values["yaw"][::7] = np.nan  # not measured
    table = directions.fit(w, values, np.ones(512))
    assert table.r2.min() > 0.95
    assert table.offset[0] == pytest.approx(3.0, abs=0.05)
    moved = np.ones(512) + 5.0 * table.moves[0]
    assert (moved - 1) @ truth[0] == pytest.approx(5.0, rel=0.1)
    assert abs((moved - 1) @ truth[1]) < 0.5


def test_rare_labels_weigh_as_much_as_common_ones():
    rng = np.random.default_rng(1)
    w = rng.normal(size=(2000, 512))
    has = (w[:, 0] > 1.3).astype(float)  # one in ten
    table = directions.fit(w, {"glasses": has}, np.zeros(512))
    predicted = table.predict(w)["glasses"]
    assert predicted[has > 0].mean() + predicted[has == 0].mean() == pytest.approx(1.0, abs=0.15)


def test_saved_tables_are_read_back(table, tmp_path, monkeypatch):
    path = tmp_path / "table.safetensors"
    directions.save_directions(table, path)
    monkeypatch.setattr(directions, "TABLE", path)
    again = directions.load_directions.__wrapped__()
    assert again.names == table.names
    for mine, theirs in zip(again[1:], table[1:], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_labels_are_of_different_faces():
    path = pathlib.Path(fit_directions.__file__).parent / "labels.json"
    for numbers in json.loads(path.read_text()).values():
        assert not set(numbers["with"]) & set(numbers["without"])
