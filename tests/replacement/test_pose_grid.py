"""Persons that turn, speak and blink between renderings."""

import itertools
import time
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.models.mesh import Pose, expression, yaw_pitch_roll
from dp3_jax.replacement import face_shape, identities, mesh_warp, pose_grid, smiles
from dp3_jax.replacement.identities import Classes
from dp3_jax.replacement.pose_grid import PoseGrid
from dp3_jax.replacement.pose_lattice import COARSE, FINE, LIVE, Appearance
from tests.painted_identities import NOSE, NOSE_COLOUR, PaintedIdentities

KEY, OTHER = bytes(range(32)), bytes([200] * 32)
looks = st.builds(
    Appearance, st.floats(-35, 35), st.floats(-7, 8), st.floats(0, 0.4), st.floats(0.7, 1.15)
)
vectors = st.tuples(
    st.floats(-35, 35), st.floats(-7, 8), st.floats(0.02, 0.38), st.floats(0.75, 1.1)
).map(lambda numbers: FaceVector(*numbers))


@pytest.fixture(scope="module")
def grid():
    return PoseGrid(PaintedIdentities())


def shown(grid, *numbers, size=256, key=KEY, **options):
    return grid.rendering(key, Classes(), FaceVector(*numbers), size, **options)


# The grid.


@pytest.mark.parametrize("lattice", [FINE, LIVE, COARSE])
@pytest.mark.parametrize("smile", [True, False])
def test_where_a_smile_or_none_is_wished_all_nodes_have_it_and_mouths_still_open(lattice, smile):
    asked = lattice.smiling(smile)
    mouths = {(look.opening, round(look.width, 6)) for look in map(asked.appearance, asked.nodes())}
    wished = smiles.mouth_of(smile)
    assert {width for _, width in mouths} == {wished.mouth_width}
    assert min(opening for opening, _ in mouths) == wished.mouth_opening
    assert len(mouths) > 1


@given(looks)
def test_weights_of_a_look_are_a_mean_of_few_nodes(appearance):
    for lattice in (FINE, LIVE, COARSE):
        corners = lattice.corners(appearance)
        assert len(corners) <= 5
        assert sum(weight for _, weight in corners) == pytest.approx(1)
        assert all(weight > 0 for _, weight in corners)


@given(looks, st.tuples(*[st.floats(-1, 1)] * 4))
def test_weights_of_a_look_are_continuous(appearance, way):
    step = [1e-6 * a * b for a, b in zip(way, (10, 10, 0.1, 0.1), strict=True)]
    near = Appearance(*(a + b for a, b in zip(appearance, step, strict=True)))
    before, after = dict(FINE.corners(appearance)), dict(FINE.corners(near))
    assert all(abs(before.get(n, 0) - after.get(n, 0)) < 1e-4 for n in before.keys() | after.keys())


@pytest.mark.parametrize("lattice", [FINE, LIVE, COARSE])
def test_the_look_of_a_node_is_that_node_alone(lattice):
    for node in lattice.nodes():
        assert lattice.corners(lattice.appearance(node)) == [(node, 1)]


def test_a_head_that_hardly_turns_and_does_not_speak_needs_one_node():
    asked = {
        node
        for yaw in (-2, 0, 2)
        for pitch in (-2, 0, 2)
        for node, _ in FINE.corners(Appearance(yaw, pitch, 0.02, 0.88))
    }
    assert asked == {FINE.centre}


# Meshes and warping.


@given(st.floats(-50, 50), st.floats(-30, 30), st.floats(-40, 40), st.floats(20, 200))
def test_a_mesh_is_put_together_as_it_was_taken_apart(yaw, pitch, roll, scale):
    shape = face_shape.upright(face_shape.face_mesh.mean_shape()[0])
    mesh = face_shape.Placed(shape, Pose(yaw, pitch, roll), scale, np.array([9.0, 7, 5])).mesh()
    placed = face_shape.take_apart(mesh)
    np.testing.assert_allclose(placed.pose, (yaw, pitch, roll), atol=1e-6)
    np.testing.assert_allclose(placed.mesh(), mesh, atol=1e-6)


def test_a_field_carries_a_mesh_onto_another():
    rng = np.random.default_rng(0)
    shape = face_shape.face_mesh.mean_shape()[0]
    target = shape[:, :2] * 60 + 128
    affine = target @ np.array([[0.9, 0.1], [-0.05, 1.1]]) + [5, -3]
    bent = target + 4 * np.sin(target[:, ::-1] / 30) + rng.normal(0, 0.05, target.shape)
    field = mesh_warp.displacement(target, np.stack([affine, bent]), 256)
    index, weights = mesh_warp.bilinear(target, len(field), 256)
    found = mesh_warp.gathered(index, weights, field)
    np.testing.assert_allclose(found[:, :2], affine - target, atol=1e-2)
    assert np.abs(found[:, 2:] - (bent - target)).mean() < 0.25


def test_a_picture_is_warped_as_far_as_its_field_says():
    image = np.zeros((128, 128, 3), np.uint8)
    image[60, 70] = 255
    field = np.full((mesh_warp.places(128),) * 2 + (2,), (10, -20), np.float32)
    at = np.argwhere(mesh_warp.warped(image, field)[..., 0] > 128)
    np.testing.assert_array_equal(at, [[80, 60]])


# Renderings.


@settings(max_examples=15)
@given(vectors)
def test_what_is_shown_is_exactly_what_is_asked_for(grid, vector):
    rendering = grid.rendering(KEY, Classes(), vector, 256)
    mesh = np.column_stack([rendering.mesh, rendering.depth])
    assert yaw_pitch_roll(mesh)[:2] == pytest.approx((vector.yaw, vector.pitch), abs=0.3)
    assert expression(mesh)[:2] == pytest.approx(vector[2:4], abs=0.02)
    assert rendering.image.shape == (256, 256, 3) and rendering.image.dtype == np.uint8
    assert not rendering.clamped


@pytest.mark.parametrize("size", [128, 256])
def test_the_picture_is_where_the_mesh_is(grid, size):
    places = []
    for yaw in np.linspace(-33, 33, 12):
        rendering = shown(grid, yaw, 3, 0.05, 0.86, size=size)
        away = np.abs(rendering.image.astype(int) - NOSE_COLOUR).sum(-1)
        weight = np.maximum(150 - away, 0)
        nose = [(weight * axis).sum() / weight.sum() for axis in np.mgrid[:size, :size][::-1]]
        np.testing.assert_allclose(nose, rendering.mesh[NOSE], atol=size / 100)
        places.append(rendering.mesh[NOSE, 0] - rendering.mesh[[33, 263], 0].mean())
    assert (np.diff(places) < 0).all()  # positive yaw looks to the viewer's left


@pytest.mark.parametrize(
    "way", [(70, 0, 0, 0), (0, 14, 0, 0), (0, 0, 0.36, 0), (0, 0, 0, 0.4), (50, -10, 0.3, 0.3)]
)
def test_turning_and_speaking_is_continuous(grid, way):
    """400 steps on the way; no step may change much more than others do."""
    start = np.array([0, 0, 0.19, 0.92]) - np.array(way) / 2
    steps = np.linspace(0, 1, 401)[180:221]  # over nodes or between them: a tenth of the way
    pictures = [shown(grid, *(start + t * np.array(way))).image.astype(int) for t in steps]
    changes = [np.abs(b - a).mean() for a, b in itertools.pairwise(pictures)]
    assert max(changes) < 0.5


def test_the_same_bits_whatever_was_asked_before_and_however_little_is_kept():
    asked = [(20, 3, 0.1, 0.9), (-10, -5, 0.2, 1.0), (20, 3, 0.1, 0.9)]
    generous, mean = PoseGrid(PaintedIdentities()), PoseGrid(PaintedIdentities(), max_bytes=1)
    for appearance in [*asked, *reversed(asked)]:
        fresh = shown(PoseGrid(PaintedIdentities()), *appearance)
        for grid in (generous, mean):
            again = shown(grid, *appearance)
            np.testing.assert_array_equal(again.image, fresh.image)
            np.testing.assert_array_equal(again.mesh, fresh.mesh)


def test_what_is_kept_stays_within_its_limit_and_is_not_rendered_twice():
    source = PaintedIdentities()
    grid = PoseGrid(source, max_bytes=3 << 20)
    shown(grid, 20, 3, 0.1, 0.9)
    calls = source.calls
    shown(grid, 20, 3, 0.1, 0.9)
    assert source.calls == calls
    for i in range(8):
        shown(grid, 10 * i - 35, 0, 0.1, 0.9, key=bytes([i]) * 32)
        assert 0 < grid.nbytes <= 3 << 20


def test_persons_and_classes_are_kept_apart(grid):
    one, other = shown(grid, 5, 0), shown(grid, 5, 0, key=OTHER)
    assert one.person != other.person
    assert np.abs(one.image.astype(int) - other.image).mean() > 1


def test_a_pose_beyond_what_can_be_drawn_is_the_nearest_and_said_to_be(grid):
    far, near = shown(grid, 60, 0), shown(grid, identities.MAX_YAW, 0)
    assert far.clamped and not near.clamped
    np.testing.assert_array_equal(far.image, near.image)


def test_who_cannot_be_drawn_in_a_pose_is_shown_in_it_by_the_nearest_one():
    grid = PoseGrid(PaintedIdentities(refuses=lambda pose: pose.yaw > 5))
    rendering = shown(grid, 30, 0, 0.05, 0.86)
    assert rendering.pose.yaw == pytest.approx(30, abs=0.3)
    again = shown(PoseGrid(PaintedIdentities(refuses=lambda pose: pose.yaw > 5)), 30, 0, 0.05, 0.86)
    np.testing.assert_array_equal(rendering.image, again.image)


def test_who_cannot_be_drawn_at_all_is_an_error():
    grid = PoseGrid(PaintedIdentities(refuses=lambda pose: True))
    with pytest.raises(ValueError, match="no face"):
        shown(grid, 0, 0)
    with pytest.raises(ValueError, match="no face"):
        shown(grid, 0, 0, wait=False)


# Without waiting.


def test_without_waiting_the_pose_is_right_at_once_and_the_rest_comes():
    grid = PoseGrid(PaintedIdentities())
    appearance, size = (30, 5, 0.2, 0.9), 192  # at which as many renderings do live
    first = shown(grid, *appearance, size=size, wait=False)
    assert first.pose.yaw == pytest.approx(30, abs=0.3)
    grid.finish()
    for _ in range(10):
        last = shown(grid, *appearance, size=size, wait=False)
        grid.finish()
    exact = shown(PoseGrid(PaintedIdentities()), *appearance, size=size)
    assert np.abs(last.image.astype(int) - exact.image).max() <= 2
    np.testing.assert_allclose(last.mesh, exact.mesh, atol=1e-3)


def test_without_waiting_large_faces_need_fewer_renderings():
    grid = PoseGrid(PaintedIdentities())
    shown(grid, 10, 5, 0.2, 1.0)
    waited = grid.nbytes
    grid = PoseGrid(PaintedIdentities())
    shown(grid, 10, 5, 0.2, 1.0, wait=False)
    grid.finish()
    rendering = shown(grid, 10, 5, 0.2, 1.0, wait=False)
    assert grid.nbytes < 0.8 * waited
    assert rendering.pose.yaw == pytest.approx(10, abs=0.3)
    assert rendering.expression.mouth_opening == pytest.approx(0.2, abs=0.02)


def test_who_enters_does_not_wait_for_how_others_look(monkeypatch):
    monkeypatch.setattr(pose_grid, "_PAUSE", 1e6)
    grid = PoseGrid(PaintedIdentities())
    shown(grid, 30, 5, 0.2, 0.9, wait=False)  # asks for nodes, after each of which the grid pauses
    while not grid.begin(OTHER, Classes(), 256):
        time.sleep(0.01)
    grid.close()  # nor does the end


def test_what_fails_in_the_background_is_said_by_the_next_call():
    class Failing(PaintedIdentities):
        def render(self, key, classes, pose, *rest, **more):
            if pose.yaw > 5:
                raise UserError("a view's file is missing")
            return super().render(key, classes, pose, *rest, **more)

    grid = PoseGrid(Failing())
    shown(grid, 30, 0, wait=False)
    grid.finish()
    with pytest.raises(UserError, match="missing"):
        shown(grid, 30, 0, wait=False)
    grid.close()


# The prior.


@pytest.fixture(scope="module")
def prior():
    from dp3_jax.replacement.prior_identities import PriorIdentities

    try:
        return PriorIdentities()
    except UserError as error:
        pytest.skip(str(error))


def test_a_person_of_the_prior_is_measured_as_it_is_asked_for(prior):
    from dp3_jax.replacement.attributes import AttributeReader

    grid, reader = PoseGrid(prior), AttributeReader()
    for vector in (FaceVector(12, 4, 0.1, 0.9), FaceVector(-24, 0, 0.02, 0.86)):
        # A key whose person turns willingly: of six, one stops 8 degrees short of -24.
        rendering = grid.rendering(sha256(b"g1").digest(), Classes(), vector, 256)
        mesh = reader.locate(rendering.image)[0]
        pose, mouth = yaw_pitch_roll(mesh), expression(mesh)
        assert abs(pose.yaw - vector.yaw) < 4 and abs(pose.pitch - vector.pitch) < 4
        assert abs(mouth.mouth_opening - vector.mouth_opening) < 0.06
        assert np.linalg.norm(mesh[:, :2] - rendering.mesh, axis=1).mean() < 3


def test_a_person_of_the_prior_stays_that_person(prior):
    from dp3_jax.models import embedders

    try:
        verifier = embedders.SFace()
    except UserError as error:
        pytest.skip(str(error))
    grid = PoseGrid(prior)
    looks = [(0, 0, 0.02, 0.86), (-30, 0, 0.02, 0.86), (20, 8, 0.2, 0.86), (5, -8, 0.05, 1.04)]
    views = [shown(grid, *appearance) for appearance in looks]
    faces = [view.image for view in views], [view.points for view in views]
    first, *others = embedders.unit(embedders.embed(verifier, *faces))
    assert min(other @ first for other in others) > verifier.threshold
