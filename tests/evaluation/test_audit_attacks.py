"""Attacks that an audit is asked for: who is learned from is not asked, and what cannot be tried is said."""

import dataclasses
import json

import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.evaluation.attacks import UNKNOWN, AttackResult, FaceSet
from dp3_jax.evaluation.audit import again, attacking, pairing
from tests import review_makers


@dataclasses.dataclass
class Curious:
    """An attack that notes whom it learns from and whom it is tried on."""

    trains: bool
    name: str = "curious"
    title: str = "Curious"
    needs_people: bool = False
    fails: bool = False
    learned: tuple = ()
    asked: tuple = ()
    impostors: object = None

    def fit(self, faces, seed):
        if self.fails:
            raise UserError("a network cannot be had")
        self.learned = tuple(faces.people)
        return self

    def score(self, faces):
        self.asked, self.impostors = tuple(faces.people), faces.impostors
        details = {"numbers": np.arange(2), "share": np.float32(0.5), "none": float("nan")}
        return AttackResult(
            self.name, self.title, "m", 0.5, 0.4, 0.6, 0.5, "chance", None, False, "s", 4, details
        )


def faces(people):
    views = np.zeros((len(people), 128, 128, 3), np.uint8)
    return FaceSet(views, views, np.zeros((len(people), 128, 128), bool), np.array(people))


def tried(attack, people):
    given = faces(people)
    alike = {"read": lambda pictures: np.zeros((len(pictures), 1))}
    (result,) = attacking.try_all(
        {"curious": attack}, given, lambda: given, 0, lambda _: None, **alike
    )
    return result


def test_nobody_is_learned_from_and_asked_about():
    attack = Curious(trains=True)
    tried(attack, [0, 0, 1, 1, 2, 2, 3, 3, UNKNOWN])
    assert attack.learned and attack.asked and not set(attack.learned) & set(attack.asked)
    assert UNKNOWN not in attack.learned
    # They are compared with strangers of the same classes, who are asked about too.
    assert len(attack.impostors) == len(attack.asked)


def test_what_learns_needs_people_and_what_does_not_takes_anybody():
    assert tried(Curious(trains=True), [UNKNOWN] * 3).found is None
    attack = Curious(trains=False)
    tried(attack, [UNKNOWN] * 3)
    assert len(attack.asked) == 3


def test_an_attack_that_cannot_be_tried_is_not_judged():
    result = tried(Curious(trains=False, fails=True), [0, 1])
    assert result.found is None and "cannot be had" in result.sentence


def test_results_can_be_written_as_json():
    plain = attacking.plain(tried(Curious(trains=False), [0, 1]).as_dict())
    assert json.loads(json.dumps(plain))["details"] == {
        "numbers": [0, 1],
        "share": 0.5,
        "none": None,
    }


def test_names_of_attacks():
    assert "parrot" in attacking.names() and "verify" not in attacking.names()
    assert attacking.check(["all"]) == attacking.names()
    assert attacking.check(["verify", "parrot", "parrot"]) == ["parrot"]
    with pytest.raises(UserError, match="it needs the faces that the networks were trained on"):
        attacking.check(["memorisation"])


def test_what_must_anonymize_again_does_so_as_the_sidecars_say(tmp_path):
    review_makers.photos(tmp_path, 3, method="pixelate")
    pairs = pairing.pair(tmp_path / "originals", tmp_path / "results").pairs
    way = again.usual_way(pairs)
    assert (way.method, way.cover) == ("pixelate", "face")
    chosen = attacking.choose_attacks([attacking.ALL], pairs)
    assert {"linkage", "repeat", "parrot"} <= chosen.keys()
    assert (
        not {"motion", "conditioning"} & chosen.keys()
    )  # photos do not move; pixels get no vector
    for path in (tmp_path / "results").glob("*.json"):
        path.write_text("{}")
    assert again.usual_way(pairs) is None
    assert not {"linkage", "repeat"} & attacking.choose_attacks([attacking.ALL], pairs).keys()
    given = faces([0, 1, 2])
    asked = attacking.choose_attacks(["linkage"], pairs)
    (result,) = attacking.try_all(asked, given, lambda: given, 0, lambda _: None)
    assert result.found is None and "dp3 anonymize --sidecar" in result.sentence
