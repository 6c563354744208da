import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.evaluation import context_attack, people


def group(rng, first, count, hair, probes_each=2):
    """Pictures u8[N, 8, 8, 3] whose middle is a face of its own and whose rim is the person's hair."""
    faces, hairs = rng.integers(0, 256, (2, count, 3))

    def picture(person):
        drawn = np.empty((8, 8, 3))
        drawn[:] = hairs[person] if hair else rng.integers(0, 256, 3)
        drawn[2:6, 2:6] = faces[person]
        return np.clip(drawn + rng.normal(0, 6, drawn.shape), 0, 255).astype(np.uint8)

    numbers = np.arange(count)
    everyone = np.repeat(numbers, probes_each)
    return people.People(
        "some",
        np.stack([picture(i) for i in numbers]),
        numbers + first,
        np.stack([picture(i) for i in everyone]),
        everyone + first,
    )


def embed(pictures):
    """A recognizer that looks at everything: the middle's and the rim's colour."""
    middle, rim = pictures[:, 3:5, 3:5].mean((1, 2)), pictures[:, 0].mean(1)
    colours = np.concatenate([middle, rim], 1) - 128
    return colours / np.maximum(np.linalg.norm(colours, axis=1, keepdims=True), 1e-6)


def blank(pictures):
    result = pictures.copy()
    result[:, 2:6, 2:6] = 128
    return result


HIDINGS = {"original": lambda pictures: pictures, "context": blank}


@pytest.mark.parametrize("hair", [True, False])
def test_an_attacker_finds_what_the_context_tells_and_nothing_where_it_tells_nothing(hair):
    rng = np.random.default_rng(1)
    known, held_out = group(rng, 0, 80, hair), group(rng, 500, 50, hair)
    result = context_attack.attack(HIDINGS, known, held_out, embed, embed)
    assert result["people"] == 80 and result["pictures"] == 160 and result["gallery"] == 50
    assert result["rank_1_by_chance"] == pytest.approx(1 / 50)
    assert set(result["rows"]) == {"original", "context"}
    original, context = (result["rows"][kind]["trained"] for kind in ("original", "context"))
    assert original["area_under_curve"] > 0.85
    if hair:
        assert context["area_under_curve"] > 0.9
        assert context["rank_1"]["value"] > 0.1
        assert context["true_accept_rate"]["value"] > 0.1
    else:
        assert abs(context["area_under_curve"] - 0.5) < 0.12
        assert context["rank_1"]["value"] < 0.08


def test_training_finds_what_the_untrained_recognizer_cannot_read():
    """The hidden picture tells who it is in a code that only training breaks."""
    rng = np.random.default_rng(2)
    known, held_out = group(rng, 0, 80, True), group(rng, 500, 50, True)
    mixed = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    rows = context_attack.attack(
        {"original": HIDINGS["original"]}, known, held_out, embed, lambda p: embed(p) @ mixed
    )["rows"]["original"]
    assert rows["untrained"]["area_under_curve"] < 0.6
    assert rows["trained"]["area_under_curve"] > 0.95


def test_nobody_is_trained_on_and_tried():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="must not train on people"):
        context_attack.attack(HIDINGS, group(rng, 0, 9, True), group(rng, 8, 9, True), embed, embed)


@given(st.integers(0, 100), st.sampled_from([(30, 4), (4, 30)]))
def test_without_a_penalty_the_regression_is_least_squares(seed, shape):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=shape), rng.normal(size=(shape[0], 3))
    ridge = context_attack.fit(x, y, [1e-9])[0]
    expected = np.linalg.lstsq(x - x.mean(0), y - y.mean(0), rcond=None)[0]
    np.testing.assert_allclose(ridge.weights, expected, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(ridge.predict(x), axis=1), 1)
    strong = context_attack.fit(x, y, [1e3])[0].weights
    assert np.linalg.norm(strong) < 0.01 * np.linalg.norm(expected)
