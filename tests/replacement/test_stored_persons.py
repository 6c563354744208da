"""Persons for small faces: few, the same for all, read from the disk as they were written."""

import numpy as np
import pytest

from dp3_jax.models.mesh import Expression, Pose
from dp3_jax.replacement import stored_persons
from dp3_jax.replacement.identities import Classes
from dp3_jax.replacement.stored_persons import PERSONS, StoredPersons, shared_key
from tests.painted_identities import PaintedIdentities

ASKED = (Classes(True, "young", 3), Pose(10.0, -3.0, 0.0), Expression(0.1, 0.9, 0.0), 128)


def keys(count):
    return [number.to_bytes(32, "big") for number in range(count)]


def same(one, other):
    arrays = ((one.image, other.image), (one.mesh, other.mesh), (one.points, other.points))
    for a, b in (*arrays, (one.depth, other.depth)):
        np.testing.assert_array_equal(a, b)
    assert (one.pose, one.expression, one.clamped, one.person) == (
        other.pose,
        other.expression,
        other.clamped,
        other.person,
    )


def test_keys_share_few_persons_evenly():
    persons = [shared_key(key) for key in keys(2400)]
    counts = [persons.count(person) for person in set(persons)]
    assert len(counts) == PERSONS and min(counts) > 60 and max(counts) < 150


def test_a_stored_rendering_is_the_one_that_was_made(tmp_path):
    source = PaintedIdentities()
    made = StoredPersons(source, tmp_path).render(keys(1)[0], *ASKED)
    calls = source.calls
    same(StoredPersons(source, tmp_path).render(keys(1)[0], *ASKED), made)
    assert source.calls == calls
    StoredPersons(source, tmp_path).render(keys(1)[0], Classes(False), *ASKED[1:])
    assert source.calls == calls + 1
    # Larger ones are nobody else's, and are not kept.
    for _ in range(2):
        StoredPersons(source, tmp_path).render(keys(1)[0], *ASKED[:3], 256)
    assert source.calls == calls + 3 and len(list(tmp_path.rglob("*.person"))) == 2


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-40], lambda b: b[:99] + b"?" + b[100:], lambda b: b""]
)
def test_a_damaged_file_is_made_anew(tmp_path, damage):
    source = PaintedIdentities()
    made = StoredPersons(source, tmp_path).render(keys(1)[0], *ASKED)
    (path,) = tmp_path.rglob("*.person")
    path.write_bytes(damage(path.read_bytes()))
    same(StoredPersons(source, tmp_path).render(keys(1)[0], *ASKED), made)


def test_without_a_place_to_store_it_renders_all_the_same(tmp_path):
    (tmp_path / "taken").write_bytes(b"a file where the folder should be")
    made = StoredPersons(PaintedIdentities(), tmp_path / "taken").render(keys(1)[0], *ASKED)
    assert made.image.shape == (128, 128, 3)


def test_what_is_stored_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_persons, "MAX_FILES", 20)
    store = StoredPersons(PaintedIdentities(), tmp_path)
    for yaw in range(40):
        store.render(keys(1)[0], ASKED[0], Pose(float(yaw - 20), 0.0, 0.0), *ASKED[2:])
    assert 10 <= len(list(tmp_path.rglob("*.person"))) <= 20
