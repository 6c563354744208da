"""What a candidate's rendering will show, told without rendering it; and who is chosen by that."""

import itertools

import numpy as np
import pytest

from dp3_jax.replacement import distinctness, fit_forecasts, forecasts, person_choice
from dp3_jax.replacement.directions import load_directions
from dp3_jax.replacement.identities import Classes, Wishes

TABLE = load_directions()
OLD_MAN = person_choice.target(Classes(False, "old", 3), Wishes())


def candidates(first, count):
    """Made w, about as far from the mean as the prior's."""
    away = np.random.default_rng(first).normal(0, 0.45, (count, 512))
    return TABLE.mean + away.astype(np.float32)


def test_a_chance_is_a_probability_and_the_less_the_more_is_asked():
    table, w = forecasts.load_forecasts(), candidates(0, 30) - TABLE.mean
    ranges = person_choice.limits(OLD_MAN)
    for away in w:
        all_of_it = table.chance(away, {}, ranges)
        assert 0 <= all_of_it <= table.chance(away, {}, {"age": ranges["age"]}) <= 1
    assert table.chance(w[0], {}, {}) == 1
    wide = dict.fromkeys(forecasts.MEASURES, (-np.inf, np.inf))
    assert table.chance(w[0], {}, wide) == pytest.approx(1)


def test_who_is_moved_to_an_age_is_likelier_to_have_it():
    table, away = forecasts.load_forecasts(), np.zeros(512, np.float32)
    old = {"age": (60.0, 90.0)}
    assert table.chance(away, {"age": 20.0}, old) > 2 * table.chance(away, {}, old)


def test_bettering_reaches_what_is_good_and_changes_nothing_else():
    table, mean = forecasts.load_forecasts(), TABLE.mean
    rows = [forecasts.MEASURES.index(name) for name in forecasts.BETTERED]
    way = np.array(list(forecasts.BETTERED.values()))
    basis = distinctness.load_distinctness()
    for w in candidates(0, 10):
        after = table.bettered(w, mean)
        told = [table.regression[rows, :512] @ (x - mean) for x in (w, after)]
        spread = np.abs(table.good - table.regression[rows, :512].mean()) + 0.1
        assert (way * (told[1] - told[0]) >= -0.05 * spread).all()
        assert (way * (told[1] - table.good) >= -0.05 * spread).all()
        np.testing.assert_allclose(table.bettered(after, mean), after, atol=0.02)
        np.testing.assert_allclose((after - w) @ basis.T, 0, atol=0.01)
        for name, value in TABLE.predict(w).items():
            change = abs(TABLE.predict(after)[name] - value)
            assert change < 0.05 * TABLE.spread[TABLE.names.index(name)], name


def test_aims_bring_forecasts_nearer_to_what_is_asked():
    table = forecasts.load_forecasts()
    dark_child = person_choice.target(Classes(True, "child", 0), Wishes())
    for w in candidates(1, 10):
        misses = []
        for moves in (person_choice.moves, person_choice.aimed):
            expected = table.expected(w - TABLE.mean, moves(TABLE, w, dark_child))
            ranges = dark_child.inside().ranges
            misses.append(
                sum(
                    max(low - expected[k], expected[k] - high, 0)
                    for k, (low, high) in ranges.items()
                )
            )
        assert misses[1] <= misses[0] + 1e-3


def test_those_that_fit_come_in_their_order_and_the_likely_ones_first():
    anybody = person_choice.target(Classes(), Wishes())

    def chosen(likely, count):
        found = person_choice.fitting(candidates, TABLE, 1.0, anybody, likely)
        return list(itertools.islice(found, count))

    def chance(w):
        return person_choice.chance(TABLE, person_choice.shown(TABLE, w), anybody)

    whoever = [number for number, _ in chosen(0.0, 12)]
    assert whoever == sorted(whoever)
    chances = [chance(w) for _, w in chosen(0.0, 12)]
    likely = np.median(chances)
    numbers = [number for number, one in zip(whoever, chances, strict=True) if one >= likely]
    first = chosen(likely, len(numbers))
    assert [number for number, _ in first] == numbers
    nobody_is_sure = [chance(w) for _, w in chosen(1.1, 4)]
    assert nobody_is_sure[0] > max(chances) * 0.8  # the likeliest of many


@pytest.fixture(scope="module")
def made():
    """Columns as a survey has them, of measures that are linear in w and in moves but for noise."""
    random = np.random.default_rng(3)
    n, k = 600, len(forecasts.MEASURES)
    away = random.normal(0, 0.45, (n, 512))
    amounts = random.normal(0, 5, (n, len(forecasts.MOVES)))
    of_w = random.normal(0, 0.3, (512, k)) * (random.random((512, 1)) < 0.05)
    measures = away @ of_w + amounts @ random.normal(0, 0.1, (len(forecasts.MOVES), k))
    measures += random.normal(0, 0.3, (n, k)) + 2
    columns = {"key": np.arange(n) // 5, "away": away, "amounts": amounts, "measures": measures}
    return {
        name: v.astype(np.int64 if name == "key" else np.float32) for name, v in columns.items()
    }


def test_a_fit_tells_held_out_candidates_and_how_much_it_errs(made):
    arrays = (made[name].astype(np.float64) for name in ("away", "amounts", "measures"))
    table, held_out = forecasts.fit(*arrays, made["key"], TABLE.regression)
    errors = made["measures"] - held_out
    assert (errors.var(0) < 0.5 * made["measures"].var(0)).all()
    np.testing.assert_allclose(table.spread, np.sqrt((errors**2).mean(0)), rtol=1e-3)
    asked = {"age": (2.0, np.inf), "ita": (-np.inf, 2.5), "light": (1.0, 3.0)}
    moves = [dict(zip(forecasts.MOVES, row, strict=True)) for row in made["amounts"].tolist()]
    told = [table.chance(a, m, asked) for a, m in zip(made["away"], moves, strict=True)]
    age, tone, side = (
        made["measures"][:, forecasts.MEASURES.index(name)] for name in ("age", "ita", "light")
    )
    does = (age >= 2) & (tone <= 2.5) & (side >= 1) & (side <= 3)
    assert np.mean(told) == pytest.approx(does.mean(), abs=0.06)
    assert np.mean(np.array(told)[does]) > 1.5 * np.mean(np.array(told)[~does])


def test_the_command_fits_what_was_surveyed(made, tmp_path, capsys, monkeypatch):
    np.savez(tmp_path / "seen.npz", **made)
    out = tmp_path / "table.safetensors"
    fit_forecasts.main([str(tmp_path / "seen.npz"), "--keys", "120", "--out", str(out)])
    assert "600 candidates of 120 keys" in capsys.readouterr().out
    monkeypatch.setattr(forecasts, "TABLE", out)
    forecasts.load_forecasts.cache_clear()
    loaded = forecasts.load_forecasts()
    forecasts.load_forecasts.cache_clear()
    assert loaded.regression.shape == (len(forecasts.MEASURES), 512 + len(forecasts.MOVES))
    (tmp_path / "other.npz").write_bytes(b"no survey")
    with pytest.raises(SystemExit, match="no survey of candidates"):
        fit_forecasts.main([str(tmp_path / "other.npz")])
