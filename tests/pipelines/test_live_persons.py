"""Who live faces become: blurred until a person is made, then that one until another is asked for."""

import argparse
import dataclasses
import http.client
import io
import os
import queue
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.media.live import preview_page
from dp3_jax.media.live.preview_page import PreviewPage
from dp3_jax.pipelines.live import keyboard
from dp3_jax.pipelines.live.persons import Persons
from dp3_jax.pipelines.live.rendering import LiveRendering
from dp3_jax.pipelines.live.status import Status
from dp3_jax.replacement import face_actions
from dp3_jax.replacement.clip_rendering import Renderer
from dp3_jax.replacement.identities import Classes
from dp3_jax.replacement.pose_grid import PoseGrid
from dp3_jax.replacement.renderers import FusedRenderer
from tests import untrained
from tests.face_photos import everyone
from tests.painted_identities import PaintedIdentities

SHAPE = (200, 420, 3)
KEYS = {number: bytes([40 * number]) * 32 for number in range(1, 6)}
FACE = np.array([[18, 26], [38, 26], [28, 37], [20, 46], [37, 46]], np.float32)  # in a box of 56x72


class Slow(PaintedIdentities):
    """Persons that are made when they may be; `broken` ones never."""

    def __init__(self):
        super().__init__()
        self.may, self.broken, self.sizes, self.keys = threading.Event(), False, [], []

    def render(self, *arguments, **more):
        assert self.may.wait(60)
        if self.broken:
            raise RuntimeError("no paint")
        self.sizes.append(arguments[-1])
        self.keys.append(arguments[0])
        return super().render(*arguments, **more)


@pytest.fixture(scope="module")
def network():
    return untrained.fusion()


@pytest.fixture
def source():
    source = Slow()
    yield source
    source.may.set()  # or the background would wait for ever


def face(number, left, scale=2.0):
    """A track with one observation."""
    points = (scale * FACE + [left, 40]).astype(np.float32)
    return number, (float(left), 40.0, 56 * scale, 72 * scale), points


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
        self.live_rendering = FusedRenderer(source, network)
        self._renderer = Renderer(
            face_actions.Settings(),
            self.live_rendering,
            KEYS,
            is_face=everyone,
            causal=True,
            wait=False,
        )
        self._count = 0

    def finish(self):
        """Waits for the background."""
        self.live_rendering._grid.finish()

    def show(self, *faces):
        """(frame, what was done with each face) of the next frame."""
        self._count += 1
        seen = [
            (Track(n, (one,)), one)
            for n, box, points in faces
            for one in [Observation(self._count, box, points, 1.0)]
        ]
        return self._renderer.render(picture(faces), seen)


def test_who_enters_is_blurred_until_there_is_a_person_and_others_go_on(source, network):
    film, first, second = Film(source, network), face(1, 40), face(2, 240)
    assert shows_a_face(picture([first]), 40)
    image, (face_result,) = film.show(first)
    for _ in range(20):  # frames go on
        assert (face_result.done, face_result.awaited) == ("blurred", True)
        assert not shows_a_face(image, 40)
        image, (face_result,) = film.show(first)
    source.may.set()
    film.finish()
    _, (face_result,) = film.show(first)
    assert face_result.done == "generated"
    source.may.clear()
    image, face_results = film.show(first, second)
    assert [o.done for o in face_results] == ["generated", "blurred"]
    assert not shows_a_face(image, 240)
    source.may.set()
    film.finish()
    _, face_results = film.show(first, second)
    assert [o.done for o in face_results] == ["generated", "generated"]
    assert face_results[0].person != face_results[1].person


def test_who_comes_far_nearer_is_rendered_larger(source, network):
    film, sizes = Film(source, network), []
    source.may.set()
    for scale in (0.9, 1.5, 2.4, 1.0):
        film.show(face(1, 40, scale))
        film.finish()
        film.show(face(1, 40, scale))
        sizes.append(source.sizes[-1])
    assert sizes == [128, 128, 192, 192]


def test_in_a_crowd_who_enters_is_neither_forgotten_nor_last():
    source = Slow()
    grid = PoseGrid(source)
    source.may.set()
    keys = [bytes([n, 1]) * 16 for n in range(30)]
    for key in keys[:20]:
        grid.rendering(key, Classes(), FaceVector(0.0, 0.0), 192)
    source.may.clear()
    for key in keys[:20]:  # heads turn, which asks for more than is kept in mind
        look = FaceVector(20.0, 8.0, 0.2, 0.9)
        grid.rendering(key, Classes(), look, 192, wait=False)
    assert not any(grid.begin(key, Classes(), 192) for key in keys[20:])
    assert all(grid.awaits(key, Classes(), 192) for key in keys[20:])
    for key in keys[:20]:
        grid.rendering(key, Classes(), FaceVector(-20.0, -5.0, 0.2, 0.9), 192, wait=False)
    assert all(grid.awaits(key, Classes(), 192) for key in keys[20:])
    source.keys.clear()
    source.may.set()
    grid.finish()
    assert set(source.keys[1:11]) == set(keys[20:])  # after the one that was begun before
    assert all(grid.begin(key, Classes(), 192) for key in keys[20:])


def test_where_no_person_can_be_made_the_face_stays_covered(source, network):
    film = Film(source, network)
    source.broken = True
    film.show(face(1, 40))
    source.may.set()
    film.finish()
    image, (face_result,) = film.show(face(1, 40))
    assert (face_result.done, face_result.reason) == ("covered", "generation failed: no paint")
    assert not shows_a_face(image, 40)


# --- the same person, until another is asked for ----------------------------------------------------


def observation(x, y=50.0, source="detected"):
    return Observation(0, (float(x), y, 40.0, 50.0), None, 0.9, source)


def assigned(persons, **tracks):
    """Persons of tracks, given as n1=observation, ..."""
    seen = [(Track(int(name[1:]), (one,)), one) for name, one in tracks.items()]
    return persons.assign(seen)


def test_who_is_lost_and_found_again_stays_who_they_were_and_others_are_others():
    persons = Persons()
    assert assigned(persons, n1=observation(50)) == [1]
    assert assigned(persons) == []
    assert assigned(persons, n2=observation(300)) == [1]  # one face at a time is one person
    assert assigned(persons, n2=observation(310), n3=observation(40)) == [1, 2]
    assert assigned(persons) == []
    # Both come back, as other tracks: by where they were.
    assert assigned(persons, n4=observation(50), n5=observation(300), n6=observation(180)) == [
        2,
        1,
        3,
    ]


def test_who_moved_too_fast_for_the_tracker_keeps_the_person():
    persons = Persons()
    assert assigned(persons, n1=observation(50)) == [1]
    lost = observation(50, source="filled")
    assert assigned(persons, n1=lost, n2=observation(80)) == [2, 1]
    assert assigned(persons, n2=observation(90)) == [1]
    # Far away it is somebody else, and who is hidden for a moment comes back as the same.
    lost = observation(90, source="filled")
    assert assigned(persons, n2=lost, n3=observation(400)) == [1, 2]
    assert assigned(persons, n2=observation(92), n3=observation(400)) == [1, 2]


def test_no_person_comes_back_once_others_were_asked_for():
    persons = Persons()
    assert assigned(persons, n1=observation(50), n2=observation(300)) == [1, 2]
    persons.renew()
    assert assigned(persons, n1=observation(50), n2=observation(300)) == [3, 4]
    assert assigned(persons) == []
    persons.renew()
    assert assigned(persons, n7=observation(50)) == [5]
    assert persons.renewed == 2


def test_each_who_enters_is_another_one_if_that_is_asked_for():
    persons = Persons(each_entering=True)
    assert assigned(persons, n1=observation(50)) == [1]
    assert assigned(persons) == []
    assert assigned(persons, n2=observation(50)) == [2]
    assert assigned(persons, n1=observation(60), n2=observation(50)) == [1, 2]
    persons.renew()
    assert assigned(persons, n1=observation(60)) == [3]


def test_what_is_not_surely_a_face_takes_nobodys_place():
    persons, low_confidence = Persons(), observation(200)
    assert assigned(persons, n1=observation(50)) == [1]
    assert assigned(persons) == []
    assert persons.assign([(Track(2, (low_confidence,), method="blur"), low_confidence)]) == [-2]
    assert assigned(persons, n2=low_confidence) == [1]


@given(
    st.lists(st.one_of(st.none(), st.sets(st.integers(1, 6), max_size=4)), max_size=20),
    st.booleans(),
)
def test_nobody_is_two_people_at_once(frames, each_entering):
    persons = Persons(each_entering=each_entering)
    before = set()
    for tracks in frames:
        if tracks is None:
            persons.renew()
            gone = set(before)
            continue
        sources = {True: "filled", False: "detected"}
        seen = {
            f"n{n}": observation(60 * n, source=sources[(n + len(before)) % 3 == 0])
            for n in sorted(tracks)
        }
        numbers = assigned(persons, **seen)
        assert len(set(numbers)) == len(numbers) and all(n > 0 for n in numbers)
        if persons.renewed:
            assert not set(numbers) & gone
        before |= set(numbers)


def test_the_old_person_is_gone_with_the_next_frame(source, network):
    film, one = Film(source, network), face(1, 40)
    persons = Persons()
    source.may.set()

    def shown():
        (number,) = assigned(persons, n7=observation(40))
        frame, (face_result,) = film.show((number, *one[1:]))
        film.finish()
        return frame, face_result

    shown()
    _, before = shown()
    persons.renew()
    image, waiting = shown()
    assert waiting.awaited and not shows_a_face(image, 40)
    _, after = shown()
    assert before.done == after.done == "generated"
    assert before.person != after.person


def test_it_is_said_once_whose_faces_are_shown(capsys):
    live_rendering = LiveRendering(None, "none", "builtin", "no network", lambda: None)
    source = argparse.Namespace(name="clip", width=4, height=4, rate=25.0)
    parts = source, argparse.Namespace(name="nowhere"), None, None, None
    told = {"has_keys": True, "quiet": False, "began": 0.0}
    Status(*parts, live_rendering=live_rendering, **told)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == [
        "new faces: faces of the built-in generator; not the prior's: no network; n makes other ones"
    ]
    covered = dataclasses.replace(live_rendering, identity="", instead="")
    Status(*parts, live_rendering=covered, **told)
    assert len(capsys.readouterr().err.splitlines()) == 1


# --- how another person is asked for ----------------------------------------------------------------


def test_keys_are_read_from_the_terminal_without_appearing_there():
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    keyboard_end, terminal = pty.openpty()
    got, keys = queue.Queue(), "xn"
    with open(terminal, "rb", buffering=0) as stream:
        before = termios.tcgetattr(terminal)
        with keyboard.pressed(got.put, stream) as there:
            assert there
            os.write(keyboard_end, keys.encode())
            assert [got.get() for _ in keys] == list(keys)
            assert not termios.tcgetattr(terminal)[3] & (termios.ECHO | termios.ICANON)
            assert termios.tcgetattr(terminal)[3] & termios.ISIG  # Ctrl-C ends it as ever
        assert termios.tcgetattr(terminal) == before
    os.close(keyboard_end)


def test_where_there_is_no_terminal_no_keys_are_read(tmp_path):
    (tmp_path / "input").write_bytes(b"n")
    with open(tmp_path / "input", "rb") as stream, keyboard.pressed(pytest.fail, stream) as there:
        assert not there
        assert stream.read() == b"n"
    with keyboard.pressed(pytest.fail, io.StringIO("n")) as there:
        assert not there


def test_the_page_asks_for_another_person_and_pages_from_elsewhere_do_not():
    asked = []
    page = PreviewPage(port=0, on_new_person=lambda: asked.append(1))
    plain = PreviewPage(port=0)

    def post(page, **headers):
        connection = http.client.HTTPConnection(page.host, page.port)
        connection.request("POST", "/new-person", headers=headers)
        return connection.getresponse().status

    def content(page):
        connection = http.client.HTTPConnection(page.host, page.port)
        connection.request("GET", "/")
        return connection.getresponse().read()

    try:
        own = {preview_page.OWN_HEADER: "1"}
        assert post(page, **own) == 204 and asked == [1]
        assert post(page) == 403
        assert post(page, **own, Host="evil.example") == 403
        assert asked == [1]
        assert b"<button" in content(page)
        assert post(plain, **own) == 404
        assert b"<button" not in content(plain)
    finally:
        page.close()
        plain.close()
