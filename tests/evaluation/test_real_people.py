"""Real people as the source of the baseline; needs networks and photos that are not in the repository."""

import numpy as np
import pytest

from dp3_jax.common import assets
from dp3_jax.common.errors import UserError
from dp3_jax.data import DataOptions, load_arrays
from dp3_jax.evaluation.real_people import NEAREST, RealPeople
from dp3_jax.replacement.identities import Classes

KEYS = [bytes([number]) * 32 for number in range(12)]


@pytest.fixture(scope="module")
def photos(shared_data):
    for name in ("face_mesh", "age", "sex"):
        if not assets.is_cached(name):
            pytest.skip(f"needs the asset {name}; an evaluation fetches it")
    options = DataOptions(source="celeba", path=str(shared_data / "celeba"))
    return load_arrays(options, "validation", limit=150).images


def test_a_key_chooses_a_person_among_those_who_look_the_same_way(photos):
    people = RealPeople(photos)
    everyone = [people.render(key, Classes(), None, None, 128) for key in KEYS]
    assert len({r.person for r in everyone}) > 6
    turned = max(people._renderings, key=lambda r: abs(r.pose.yaw))
    for key in KEYS:
        one = people.render(key, Classes(), turned.pose, None, 256)
        again = people.render(key, Classes(), turned.pose, turned.expression, 128)
        assert one.person == again.person
        nearer = [r for r in people._renderings if abs(r.pose.yaw - turned.pose.yaw) < 3]
        assert abs(one.pose.yaw - turned.pose.yaw) < 25 or len(nearer) < NEAREST
    women = {people.render(key, Classes(female=True), None, None, 128).person for key in KEYS}
    men = {people.render(key, Classes(female=False), None, None, 128).person for key in KEYS}
    assert not women & men


def test_too_few_faces_are_said_to_be_too_few(photos):
    with pytest.raises(UserError, match="too few for a comparison"):
        RealPeople(np.zeros_like(photos[:60]))
