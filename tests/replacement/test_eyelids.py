"""Lids that close, and irises that move."""

import itertools

import numpy as np
import pytest

from dp3_jax.models.mesh import Expression, Pose
from dp3_jax.replacement import eyelids
from tests.painted_identities import draw, person_mesh

SIZE = 512
OPEN, NOTHING = (1.0, 1.0), (0.0, 0.0)


@pytest.fixture(scope="module", params=[0.0, 25.0, -25.0])
def face(request):
    """(picture, mesh) of a person who looks ahead or aside, with eyes wide open."""
    pose = Pose(request.param, 5.0, 8.0)
    mesh = person_mesh(bytes(32), pose, Expression(0.05, 0.86, 0.13), SIZE).astype(np.float32)
    return draw(mesh, SIZE, (180, 140, 120)), mesh


def whites(image):
    """bool[S, S]: of the eyes, what is neither skin nor iris nor background."""
    return (image > 215).all(-1)


def irises(image):
    return (image[..., 0] < 60) & (image[..., 2] < 80) & (image[..., 1] < 50)


def test_open_eyes_that_look_ahead_stay_as_they_are(face):
    image, mesh = face
    same = eyelids.moved(image, mesh, (1.2, 1.0))
    np.testing.assert_array_equal(same[0], image)
    np.testing.assert_array_equal(same[1], mesh)


def test_lids_close_steadily_and_wholly(face):
    image, mesh = face
    seen = [
        whites(eyelids.moved(image, mesh, (share, share))[0]).sum()
        for share in np.linspace(1, 0, 21)
    ]
    assert (np.diff(seen) <= 0).all() and seen[10] < 0.7 * seen[0]
    assert seen[-1] < 0.04 * seen[0]  # the corners


def test_what_is_seen_of_a_closing_eye_stands_still(face):
    image, mesh = face
    half, _ = eyelids.moved(image, mesh, (0.5, 0.5))
    assert not (irises(half) & ~irises(image)).any()
    assert irises(half).sum() > 0.3 * irises(image).sum()


def test_nothing_changes_away_from_the_eye_that_closes(face):
    image, mesh = face
    winking, moved = eyelids.moved(image, mesh, (0.0, 1.0))
    changed = np.argwhere((winking != image).any(-1))[:, ::-1]
    left, right = mesh[33, :2], mesh[133, :2]
    away = np.linalg.norm(changed - (left + right) / 2, axis=1)
    assert away.max() < 0.9 * np.linalg.norm(right - left)
    assert (whites(winking) & ~whites(image)).sum() < 0.02 * whites(image).sum()
    np.testing.assert_array_equal(
        moved[list(eyelids.EYES[1].upper)], mesh[list(eyelids.EYES[1].upper)]
    )


def test_the_mesh_tells_how_far_the_lids_are_open(face):
    image, mesh = face

    along = mesh[133, :2] - mesh[33, :2]
    down = np.array([-along[1], along[0]]) / np.linalg.norm(along)

    def opening(points):
        return (points[145, :2] - points[159, :2]) @ down

    openings = [opening(eyelids.moved(image, mesh, (s, s))[1]) for s in (1, 0.75, 0.5, 0.25, 0)]
    assert (np.diff(openings) < 0).all()
    np.testing.assert_allclose(openings, openings[0] * np.linspace(1, 0, 5), atol=0.01)


def test_closing_is_continuous(face):
    image, mesh = face
    steps = [eyelids.moved(image, mesh, (s, s))[0].astype(int) for s in np.linspace(1, 0.98, 5)]
    assert max(np.abs(b - a).mean() for a, b in itertools.pairwise(steps)) < 0.05


def test_irises_move_where_they_are_to_look_but_not_far(face):
    image, mesh = face

    def place(gaze):
        seen = irises(eyelids.moved(image, mesh, OPEN, gaze)[0])
        return np.argwhere(seen).mean(0)[::-1]

    ahead, right, left = (place((g, 0.0)) for g in (0.0, 0.06, -0.06))
    along = (mesh[263, :2] - mesh[33, :2]) / np.linalg.norm(mesh[263, :2] - mesh[33, :2])
    width = np.linalg.norm(mesh[133, :2] - mesh[33, :2])
    assert (right - ahead) @ along > 0.01 * width
    assert (left - ahead) @ along < -0.01 * width
    far, limit = (eyelids.moved(image, mesh, OPEN, (g, 0.0))[0] for g in (5.0, 0.10))
    np.testing.assert_array_equal(far, limit)
