"""Who live faces become: blurred until a person is made, then that one until another is asked for."""

import threading

import numpy as np
import pytest

from dp3_jax.anonymization import plans
from dp3_jax.anonymization.generation import AWAITED
from dp3_jax.replacement import fusing
from dp3_jax.replacement.renderers import FusedRenderer
from dp3_jax.video.rendering import Renderer
from dp3_jax.video.tracks import Sighting, Track
from tests.drawn_identities import DrawnIdentities
from tests.face_photos import everyone

SHAPE = (200, 420, 3)
KEYS = {number: bytes([40 * number]) * 32 for number in range(1, 6)}
FACE = np.array([[18, 26], [38, 26], [28, 37], [20, 46], [37, 46]], np.float32)  # in a box of 56x72


class Slow(DrawnIdentities):
    """Persons that are made when they may be; `broken` ones never."""

    def __init__(self):
        super().__init__()
        self.may, self.broken = threading.Event(), False

    def render(self, *arguments):
        assert self.may.wait(60)
        if self.broken:
            raise RuntimeError("no paint")
        return super().render(*arguments)


@pytest.fixture(scope="module")
def network():
    return fusing.random_fusion()


@pytest.fixture
def source():
    source = Slow()
    yield source
    source.may.set()  # or the background would wait for ever


def face(number, left):
    """A track with one sighting."""
    box, points = (float(left), 40.0, 112.0, 144.0), (2 * FACE + [left, 40]).astype(np.float32)
    return number, box, points


def picture(faces):
    """Grey, with original faces that are chequered finely."""
    image = np.full(SHAPE, 110, np.uint8)
    chequered = 255 * (np.indices(SHAPE[:2]).sum(0) % 2).astype(np.uint8)
    for _, (x, y, w, h), _ in faces:
        part = slice(int(y), int(y + h)), slice(int(x), int(x + w))
        image[part] = chequered[part][..., None]
    return image


def shows_a_face(image, left):
    """Whether any detail of the original face is left inside its place."""
    inside = image[60:160, left + 20 : left + 92].astype(int)
    return np.abs(np.diff(inside, axis=1)).max() > 100


class Film:
    """Frames one after the other."""

    def __init__(self, source, network):
        self.drawing = FusedRenderer(source, network)
        self._renderer = Renderer(
            plans.Settings(), self.drawing, KEYS, is_face=everyone, causal=True, wait=False
        )
        self._count = 0

    def finish(self):
        """Waits for the background."""
        self.drawing._grid.finish()

    def show(self, *faces):
        """(frame, what was done with each face) of the next frame."""
        self._count += 1
        seen = [
            (Track(n, (one,)), one)
            for n, box, points in faces
            for one in [Sighting(self._count, box, points, 1.0)]
        ]
        return self._renderer.render(picture(faces), seen)


def test_who_enters_is_blurred_until_there_is_a_person_and_others_go_on(source, network):
    film, first, second = Film(source, network), face(1, 40), face(2, 240)
    assert shows_a_face(picture([first]), 40)
    image, (outcome,) = film.show(first)
    for _ in range(20):  # frames go on
        assert (outcome.done, outcome.reason) == ("blurred", AWAITED)
        assert not shows_a_face(image, 40)
        image, (outcome,) = film.show(first)
    source.may.set()
    film.finish()
    _, (outcome,) = film.show(first)
    assert outcome.done == "generated"
    source.may.clear()
    image, outcomes = film.show(first, second)
    assert [o.done for o in outcomes] == ["generated", "blurred"]
    assert not shows_a_face(image, 240)
    source.may.set()
    film.finish()
    _, outcomes = film.show(first, second)
    assert [o.done for o in outcomes] == ["generated", "generated"]
    assert outcomes[0].person != outcomes[1].person


def test_where_no_person_can_be_made_the_face_stays_covered(source, network):
    film = Film(source, network)
    source.broken = True
    film.show(face(1, 40))
    source.may.set()
    film.finish()
    image, (outcome,) = film.show(face(1, 40))
    assert (outcome.done, outcome.reason) == ("covered", "generation failed: no paint")
    assert not shows_a_face(image, 40)
