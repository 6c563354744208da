"""Known by how one moves: what is sure to be known again is, and what is alike is not."""

import json

import numpy as np
import pytest

from dp3_jax.cli.main import main
from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.evaluation.attacks import motion
from dp3_jax.evaluation.attacks.motion import Person, attack, format_report, resampled

USUAL = (0.0, 0.0, 0.1, 0.9, 1.0, 1.0, 0.0, 0.0)


def person(seed, *, tempo=8.0, nod=4.0, seconds=20):
    """Somebody who sways and nods: tempo in samples, nod in degrees; all else is noise of one kind."""
    rng = np.random.default_rng(seed)
    count = int(seconds * motion.RATE)
    values = np.array(USUAL) + rng.normal(0, 0.02, (count, 8))
    phase = np.cumsum(1 / tempo + 0.02 * rng.standard_normal(count)) + rng.uniform(0, 6)
    values[:, 0] += 3 * np.sin(phase)
    values[:, 1] += nod * np.sin(0.7 * phase)
    return Person(f"person {seed}", values)


def test_two_who_move_unlike_are_told_apart_by_the_numbers_in_which_they_do():
    people = [person(0), person(1, tempo=2.0, nod=9.0)]
    found = attack(people)
    assert found["chance"] == 0.5
    for kind in ("all", "dynamics"):
        assert found["groups"]["pose"][kind]["rank1"] > 0.95
    silent = [Person(one.name, one.vectors * np.array([0, 0, *[1] * 6])) for one in people]
    rank1 = motion.recognise(silent, FaceVector._fields, dynamics=False).rank1
    assert 0.25 < rank1 < 0.75  # one second is as good as another


def test_people_who_move_alike_are_known_no_more_often_than_by_chance():
    found = attack([person(seed) for seed in range(8)])
    for kinds in found["groups"].values():
        for row in kinds.values():
            assert row["interval"][0] < 2 * found["chance"]
            assert row["rank1"] < 0.4
            assert row["interval"][0] <= row["rank1"] <= row["interval"][1]


def test_what_somebody_usually_shows_is_no_dynamics():
    still = [person(seed) for seed in range(2)]
    still[1] = Person("turned", still[1].vectors + np.array([20.0, *[0] * 7]))
    assert motion.recognise(still, ("yaw",), dynamics=False).rank1 > 0.95
    assert motion.recognise(still, ("yaw",), dynamics=True).rank1 < 0.8


@pytest.mark.parametrize("rate", [12.5, 30.0, 60.0])
def test_a_clip_is_not_known_by_its_frame_rate(rate):
    def at(rate):
        times = np.arange(0, 4, 1 / rate)
        return resampled([FaceVector(float(np.sin(t)), *USUAL[1:]) for t in times], rate)

    one, other = at(25.0), at(rate)
    assert abs(len(one) - len(other)) <= 2
    both = min(len(one), len(other))
    np.testing.assert_allclose(one[:both], other[:both], atol=2e-3)


def test_the_report_is_json_and_names_chance(tmp_path):
    found = attack([person(seed, seconds=4) for seed in range(3)])
    assert json.loads(json.dumps(found))["chance"] == pytest.approx(1 / 3)
    assert "chance 0.333" in format_report(found)
    with pytest.raises(UserError, match="give more clips"):
        attack([person(0)])


def test_only_recordings_are_attacked(capsys):
    assert main(["evaluate-video", "a.mp4", "b.mp4", "--motion-attack", "c.mp4"]) == 2
    assert "--motion-attack goes without ANONYMIZED" in capsys.readouterr().err
