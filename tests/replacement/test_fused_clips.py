"""Persons fused into clips: blind to the faces over time, the same after a restart, moved as all moves."""

import itertools

import numpy as np
import pytest

from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.replacement import carried_parts, face_actions, key_derivation
from dp3_jax.replacement.clip_rendering import Renderer
from dp3_jax.replacement.fusing import Parts
from dp3_jax.replacement.renderers import FusedRenderer
from dp3_jax.vision import geometry
from dp3_jax.vision.masks import SIZE, inference_mask
from tests import untrained
from tests.face_photos import everyone
from tests.painted_identities import PaintedIdentities

SHAPE = (260, 300, 3)
FRAMES = 12
FACE = np.array([[18, 26], [38, 26], [28, 37], [20, 46], [37, 46]], np.float32)  # in a box of 56x72
KEYS = {1: key_derivation.track_key(b"s" * 32, 1)}


@pytest.fixture(scope="module")
def network():
    return untrained.fusion()


def track(scale=2.4, vector=lambda i: FaceVector(2.0 * i, 1.0, 0.02 * i, 0.9, 0.2, 0.2, 0.0, 0.0)):
    observations = []
    for i in range(FRAMES):
        corner = np.array([80.0 + i, 50.0])
        box = (*map(float, corner), 56.0 * scale, 72.0 * scale)
        points = (corner + scale * FACE).astype(np.float32)
        observations.append(Observation(i, box, points, 1.0, "detected", vector(i)))
    return Track(1, tuple(observations))


def masked(one, number):
    """bool[h, w]: what must not matter in a frame."""
    seen = one.observations[number]
    alignment = seen.alignment()
    target = geometry.region(alignment, geometry.face_mask(alignment, seen.box), SHAPE)
    inside = np.zeros(SHAPE[:2], bool)
    inside[target.slices] |= target.inside
    return inside


def film(one, seed=0):
    """Moving surroundings with noise where the face is."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    frames = []
    for i in range(FRAMES):
        frame = np.dstack(
            [120 + 40 * np.sin((x - i) / s) + 30 * np.cos(y / 19) for s in (13, 17, 23)]
        )
        frame = frame.clip(0, 255).astype(np.uint8)
        inside = masked(one, i)
        frame[inside] = np.random.default_rng((seed, i)).integers(0, 256, (inside.sum(), 3))
        frames.append(frame)
    return frames


def renderer(network, source=None, *, smile=None, **options):
    drawing = FusedRenderer(source or PaintedIdentities(), network, smile=smile)
    return Renderer(face_actions.Settings(), drawing, KEYS, is_face=everyone, **options)


def play(renderer, one, frames):
    done = [renderer.render(f, [(one, s)]) for f, s in zip(frames, one.observations, strict=False)]
    return np.array([frame for frame, _ in done]), [face_result for _, (face_result,) in done]


@pytest.mark.parametrize("smile", [True, False])
def test_where_a_smile_or_none_is_wished_only_how_far_a_mouth_is_open_passes(network, smile):
    def shown(width, opening):
        one = track(vector=lambda i: FaceVector(2.0 * i, 1.0, opening * i, width, 1.0, 1.0, 0, 0))
        return play(renderer(network, smile=smile), one, film(one))[0]

    narrow = shown(0.75, 0.1)
    np.testing.assert_array_equal(narrow, shown(1.05, 0.1))
    assert (narrow != shown(0.75, 0.0)).any()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scale", [1.0, 2.4])
def test_nothing_but_the_vectors_passes_and_nothing_outside_changes(network, causal, scale):
    one = track(scale)
    shown, face_results = play(renderer(network, causal=causal), one, film(one))
    assert [o.done for o in face_results] == ["generated"] * FRAMES
    np.testing.assert_array_equal(
        play(renderer(network, causal=causal), one, film(one, 1))[0], shown
    )
    for number, (frame, original) in enumerate(zip(shown, film(one), strict=True)):
        changed = (frame != original).any(-1)
        # Smoothed places may reach a little further than those of the frame.
        assert (changed & ~masked(one, number)).sum() < 0.05 * masked(one, number).sum()
        assert (frame == original).all(-1)[masked(one, number)].mean() < 0.05


def test_faces_turn_and_speak_only_as_far_as_they_are_asked_to(network):
    speaking, still = track(), track(vector=lambda i: FaceVector(0.0, 0.0, 0.0, 0.9))
    shown = {
        (name, motion): play(renderer(network, motion=motion), one, film(one))[0]
        for name, one in (("speaking", speaking), ("still", still))
        for motion in ("face", "head", "none")
    }
    assert (shown["speaking", "face"] != shown["speaking", "head"]).any()
    assert (shown["speaking", "head"] != shown["still", "head"]).any()
    np.testing.assert_array_equal(shown["speaking", "none"], shown["still", "none"])


@pytest.mark.parametrize("at", [1, 5, 9])
def test_a_restored_renderer_goes_on_bit_by_bit(network, at):
    one = track()
    frames = film(one)
    whole, _ = play(renderer(network), one, frames)
    first, second = renderer(network), renderer(network)
    for i in range(at):
        first.render(frames[i], [(one, one.observations[i])])
    second.restore(first.state())
    for i in range(at, FRAMES):
        shown, _ = second.render(frames[i], [(one, one.observations[i])])
        np.testing.assert_array_equal(shown, whole[i])


class Failing(PaintedIdentities):
    """Raises from its second rendering on."""

    def __init__(self, error):
        super().__init__()
        self.error, self.count = error, 0

    def render(self, *given, **more):
        self.count += 1
        if self.count > 1:
            raise self.error
        return super().render(*given, **more)


@pytest.mark.parametrize("error", [ValueError("no face"), RuntimeError("out of memory")])
def test_what_cannot_be_rendered_is_never_the_old_face(network, error):
    one = track()
    frames = film(one)
    shown, face_results = play(renderer(network, Failing(error)), one, frames)
    assert {o.done for o in face_results} <= {"generated", "covered"}
    if isinstance(error, RuntimeError):
        assert face_results[-1].done == "covered" and "out of memory" in face_results[-1].reason
    for number, (frame, original) in enumerate(zip(shown, frames, strict=True)):
        assert (frame == original).all(-1)[masked(one, number)].mean() < 0.05


# What is carried from frame to frame.

NOWHERE = np.zeros((SIZE, SIZE, 1), np.float32)


def parts_of(seed=0):
    random = np.random.default_rng(seed)
    smooth = random.uniform(-0.2, 0.2, 3).astype(np.float32) + np.zeros((SIZE, SIZE, 3), np.float32)
    fill = random.uniform(-1, 1, (SIZE, SIZE, 3)).astype(np.float32)
    oval = oval_mask(0)
    return Parts(fill, 0.9 * carried_parts.softened(oval), smooth, 0.5 * smooth), oval


def oval_mask(shift):
    y, x = np.mgrid[:SIZE, :SIZE]
    inside = ((x - 64 - shift) / 28) ** 2 + ((y - 74) / 36) ** 2 <= 1
    return inside[..., None].astype(np.float32)


def surroundings(shift=0):
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    waves = [128 + 60 * np.sin((x - shift) / 5 + c) * np.cos(y / 6) for c in range(3)]
    return np.dstack(waves).astype(np.uint8)


def test_what_was_just_said_is_what_is_shown():
    parts, oval = parts_of()
    shown = carried_parts.placed(carried_parts.said(parts, NOWHERE, oval, surroundings()), oval)
    np.testing.assert_array_equal(shown.fill, parts.fill)
    for name in ("alpha", "gain", "bias"):
        np.testing.assert_allclose(getattr(shown, name), getattr(parts, name), atol=0.01)


def test_alpha_moves_with_the_donor():
    parts, oval = parts_of()
    moved = oval_mask(5)
    shown = carried_parts.placed(carried_parts.said(parts, NOWHERE, oval, surroundings()), moved)
    np.testing.assert_allclose(shown.alpha, 0.9 * carried_parts.softened(moved), atol=0.02)
    assert (shown.alpha[moved == 0] == 0).all()


def test_the_fill_moves_at_the_boundary_with_what_moves_there_and_not_in_the_middle():
    parts, oval = parts_of()
    mask = inference_mask()
    carried = carried_parts.said(parts, NOWHERE, oval, surroundings())
    for shift in (1, 2, 3, 4):
        carried = carried_parts.moved(carried, surroundings(shift), mask)
    depth = 1  # px inside the mask, on its left and right
    row = np.flatnonzero(mask[74, :, 0])
    for column in (row[0] + depth, row[-1] - depth):
        x, y = carried.offset[74 // 4, column // 4]
        assert x == pytest.approx(-4, abs=1.2) and y == pytest.approx(0, abs=0.8)
    assert np.abs(carried.offset[74 // 4, 16]).max() < 0.1
    assert not carried_parts.is_stale(carried, surroundings(4), mask)


def test_a_fill_is_out_of_date_when_something_else_is_beside_the_mask():
    parts, oval = parts_of()
    carried = carried_parts.said(parts, NOWHERE, oval, surroundings())
    other = surroundings()
    other[:, :24] = 255 - other[:, :24]
    assert not carried_parts.is_stale(carried, surroundings(), inference_mask())
    assert carried_parts.is_stale(carried, other, inference_mask())


def test_where_the_background_shows_it_is_that_of_each_frame():
    parts, oval = parts_of()
    share = NOWHERE.copy()
    share[:, :40] = 1
    carried = carried_parts.said(parts, share, oval, surroundings())
    darker = (surroundings() * 0.9).astype(np.uint8)
    carried = carried_parts.moved(carried, darker, inference_mask())
    shown = carried_parts.placed(carried, oval).fill
    np.testing.assert_allclose(shown[60:80, 24:36], (darker / 127.5 - 1)[60:80, 24:36], atol=1e-5)
    np.testing.assert_allclose(shown[60:80, 50:80], parts.fill[60:80, 50:80], atol=1e-5)


def test_a_new_fill_comes_in_over_some_frames():
    old, oval = parts_of(0)
    new, _ = parts_of(1)
    view, mask = surroundings(), inference_mask()
    carried = carried_parts.said(old, NOWHERE, oval, view)
    carried = carried_parts.said(new, NOWHERE, oval, view, carried_parts.moved(carried, view, mask))
    away = []
    for _ in range(12):
        shown = carried_parts.placed(carried, oval).fill
        away.append(float(np.abs(shown - new.fill).mean()))
        carried = carried_parts.moved(carried, view, mask)
    assert away[0] > 0.5 * np.abs(old.fill - new.fill).mean() and away[-1] < 1e-3
    assert all(b <= a for a, b in itertools.pairwise(away))
