"""Rendering a clip: hole-blind over time, fail-closed, the same after a restart, and steady."""

import dataclasses
import functools
import itertools

import cv2
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from hypothesis import given, settings
from hypothesis import strategies as st

from dp3_jax.common.choices import OBFUSCATIONS
from dp3_jax.detection.face_detection import Detection
from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.media.video import colours
from dp3_jax.media.video.lazy_pictures import LazyPicture
from dp3_jax.pipelines.anonymize import anonymize_frame
from dp3_jax.replacement import coherence, face_actions, key_derivation
from dp3_jax.replacement.clip_rendering import Renderer
from dp3_jax.replacement.coherence import Coherence
from dp3_jax.replacement.renderers import BuiltinRenderer
from dp3_jax.vision import geometry
from tests.face_photos import Painter, everyone

SHAPE = (200, 260, 3)
SIGNAL = (255, 0, 255)
SETTINGS = face_actions.Settings()
FACE = np.array([[18, 26], [38, 26], [28, 37], [20, 46], [37, 46]], np.float32)  # in a box of 46x60
KEYS = {n: key_derivation.track_key(b"s" * 32, n) for n in range(1, 9)}


class Noisy(Painter):
    """A generator whose pictures of one face flicker from call to call."""

    def generate(self, image, mask, z):
        random = np.random.default_rng(len(self.seen))
        new = super().generate(image, mask, z).astype(np.float64)
        flicker = random.normal(0, 12, (len(image), 1, 1, 3)) + random.normal(0, 8, new.shape)
        return np.where(mask > 0, np.clip(new + flicker, 0, 255).astype(np.uint8), image)


class Failing(Painter):
    """Fails in the given way in each call, "" being none."""

    def __init__(self, ways):
        super().__init__()
        self.ways = list(ways)

    def generate(self, image, mask, z):
        made = super().generate(image, mask, z)
        way = self.ways.pop(0) if self.ways else ""
        if way == "raises":
            raise RuntimeError("out of memory")
        others = {
            "flat": np.where(mask > 0, np.uint8(9), image),
            "nan": np.full(made.shape, np.nan, np.float32),
            "shape": made[:, :64],
            "fewer": made[:0],
        }
        return others.get(way, made)


def scene(seed=0, shape=SHAPE):
    """Smooth surroundings, far from the signal's colour."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    waves = np.sin(x / 17 + seed) + np.cos(y / 23)
    return np.clip(np.dstack([100 + 9 * waves, 110 + 7 * waves, 90 + 8 * waves]), 0, 255).astype(
        np.uint8
    )


def walk(number, count, start, step, *, source=lambda i: "detected", size=1.0, **options):
    """A track from `start` by `step` px a frame, with boxes and points that shake."""
    random = np.random.default_rng(number)
    observations = []
    for i in range(count):
        corner = np.array(start) + i * np.array(step) + random.normal(0, 0.4, 2)
        points = corner + size * (FACE + random.normal(0, 0.4, (5, 2)))
        box = (*map(float, corner), 46.0 * size, 60.0 * size)
        observations.append(Observation(i, box, points.astype(np.float32), 1.0, source(i)))
    return Track(number, tuple(observations), **options)


def faces_in(tracks, frame):
    return [(t, t.observations[frame - t.first]) for t in tracks if t.first <= frame <= t.last]


def known(tracks, frame, shape=SHAPE):
    """bool[h, w]: what must never be shown in a frame, by the observations of that frame alone."""
    inside = np.zeros(shape[:2], bool)
    for track, one in faces_in(tracks, frame):
        if not track.keep:
            alignment = one.alignment()
            target = geometry.region(alignment, geometry.face_mask(alignment, one.box), shape)
            inside[target.slices] |= target.inside
    return inside


def film(tracks, count, paint=SIGNAL):
    """Frames whose known faces are of one colour."""
    frames = []
    for i in range(count):
        frame = scene()
        frame[known(tracks, i)] = paint
        frames.append(frame)
    return frames


def crowd(count=8):
    """Two who cross, one partly filled and leaving the frame, one doubtful, one small."""
    return [
        walk(1, count, (40, 60), (6, 0)),
        walk(2, count, (120, 70), (-6, 1)),
        walk(3, count, (200, 120), (9, 3), source=lambda i: "filled" if i % 3 else "detected"),
        walk(4, count, (20, 130), (0, 0), source=lambda i: "unsure"),
        walk(5, count, (140, 10), (2, 0), size=0.4),
    ]


def renderer(generator=None, use=coherence.ALL, *, own=SETTINGS, is_face=everyone, **options):
    return Renderer(own, BuiltinRenderer(generator or Painter()), KEYS, use, is_face, **options)


def play(one, frames, tracks, cuts=()):
    """All frames and outcomes."""
    done = [one.render(f, faces_in(tracks, i), cut=i in cuts) for i, f in enumerate(frames)]
    return [frame for frame, _ in done], [face_results for _, face_results in done]


def exposed(frame, original):
    """Pixels that are still of the signal's colour where the original has it."""
    return int(((frame == SIGNAL).all(-1) & (original == SIGNAL).all(-1)).sum())


@functools.cache
def rendered(causal):
    tracks = crowd()
    return tracks, film(tracks, 8), play(renderer(causal=causal), film(tracks, 8), tracks)


@pytest.mark.parametrize("causal", [False, True])
def test_each_face_is_treated_as_its_track_says(causal):
    _, _, (_, face_results) = rendered(causal)
    for frame in face_results:
        assert [o.done for o in frame][:2] == ["generated"] * 2
        assert [o.done for o in frame][3:] == ["pixelated"] * 2
        assert len({o.candidate for o in frame[:2]}) == 1
    assert face_results[0][2].done == "generated"


@pytest.mark.parametrize("causal", [False, True])
def test_the_past_and_present_of_hidden_pixels_leave_no_trace(causal):
    tracks = crowd()[:3]
    random = np.random.default_rng(0)
    first = play(renderer(causal=causal), film(tracks, 8), tracks)[0]
    frames = film(tracks, 8)
    for i, frame in enumerate(frames):
        inside = known(tracks, i)
        frame[inside] = random.integers(0, 256, (int(inside.sum()), 3))
    second = play(renderer(causal=causal), frames, tracks)[0]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("use", [coherence.ALL, coherence.NONE])
def test_pixels_outside_of_all_faces_stay_as_they_were(use):
    tracks = crowd()
    frames = film(tracks, 8)
    shown, _ = play(renderer(use=use), frames, tracks)
    for i, (frame, result) in enumerate(zip(frames, shown, strict=True)):
        far = np.ones(SHAPE[:2], bool)
        for _, one in faces_in(tracks, i):
            x, y, w, h = (round(v) for v in one.box)
            far[max(y - h // 2, 0) : y + 3 * h // 2, max(x - w // 2, 0) : x + 3 * w // 2] = False
        assert far.any()
        np.testing.assert_array_equal(result[far], frame[far])
        for _, one in faces_in(tracks[:3], i):  # of the others, pixelated, the colour is left
            x, y, w, h = (max(round(v), 0) for v in one.box)
            part = slice(y, y + h), slice(x, x + w)
            assert not exposed(result[part], frame[part])


@settings(max_examples=12)
@given(
    st.lists(st.sampled_from(["", "", "raises", "flat", "nan", "shape", "fewer"]), max_size=14),
    st.booleans(),
    st.sampled_from([coherence.ALL, coherence.NONE]),
)
def test_whatever_the_generator_does_no_known_face_is_shown(ways, causal, use):
    tracks = crowd(5)[:3]
    frames = film(tracks, 5)
    shown, face_results = play(renderer(Failing(ways), use, causal=causal), frames, tracks)
    for frame, result, done in zip(frames, shown, face_results, strict=True):
        assert not exposed(result, frame)
        assert {o.done for o in done} <= {"generated", "covered"}
        assert all(o.reason for o in done if o.fell_back)
    if not any(ways):
        assert all(o.done == "generated" for o in face_results[0][:2])


def test_a_missing_generator_and_a_face_out_of_the_frame_are_no_reason_to_stop():
    tracks = [walk(1, 3, (40, 60), (0, 0)), walk(2, 3, (900, 60), (0, 0))]
    frames = film(tracks, 3)
    shown, face_results = play(Renderer(face_actions.Settings(), None, KEYS), frames, tracks)
    assert [o.done for o in face_results[2]] == ["covered", "covered"]
    assert not exposed(shown[2], frames[2])
    _, face_results = play(renderer(), frames, tracks)
    assert [o.done for o in face_results[2]] == ["generated", "covered"]


@pytest.mark.parametrize("method", OBFUSCATIONS)
def test_classic_methods_cover_and_kept_people_stay(method):
    tracks = [
        walk(1, 3, (30, 60), (3, 0), method=method),
        walk(2, 3, (150, 60), (0, 0), keep=True, reason="asked for"),
    ]
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, SHAPE, np.uint8) for _ in range(3)]
    shown, face_results = play(renderer(), frames, tracks)
    done = {"blur": "blurred", "pixelate": "pixelated", "solid": "solid"}[method]
    assert [o.done for o in face_results[1]] == [done, "kept"]
    assert face_results[1][1].reason == "asked for"
    np.testing.assert_array_equal(shown[1][:, 140:], frames[1][:, 140:])
    inside = known(tracks, 1)
    changed = (shown[1] != frames[1]).any(-1)
    assert changed[inside].mean() > 0.95


def test_a_frame_with_nothing_to_do_is_given_back():
    frame = scene()
    one = renderer()
    assert one.render(frame, []) == (frame, [])
    assert one.render(frame, faces_in([walk(1, 1, (30, 60), (0, 0), keep=True)], 0))[0] is frame


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("at", [1, 4])
def test_a_restored_renderer_goes_on_bit_by_bit(causal, at):
    tracks, frames, (expected, face_results) = rendered(causal)
    first = renderer(causal=causal)
    play(first, frames[:at], tracks)
    second = renderer(causal=causal)
    second.restore(first.state())
    for i in range(at, 8):
        shown, done = second.render(frames[i], faces_in(tracks, i))
        np.testing.assert_array_equal(shown, expected[i])
        assert [(o.done, o.candidate) for o in done] == [
            (o.done, o.candidate) for o in face_results[i]
        ]
    assert second.state() == _final(causal)


@functools.cache
def _final(causal):
    one, tracks = renderer(causal=causal), crowd()
    play(one, film(tracks, 8), tracks)
    return one.state()


@pytest.mark.parametrize(
    "state", [b"", b"PK nonsense", Renderer(face_actions.Settings(), None, {}).state()[:-9]]
)
def test_a_damaged_state_is_refused_and_changes_nothing(state):
    tracks = crowd()
    one = renderer()
    play(one, film(tracks, 2), tracks)
    before = one.state()
    with pytest.raises(ValueError, match="no state of a renderer"):
        one.restore(state)
    assert one.state() == before


def test_of_people_who_have_left_next_to_nothing_is_kept():
    one, sizes = renderer(), []
    for number in range(1, 9):
        for i in range(5):
            observation = dataclasses.replace(still().observations[0], frame=9 * number + i)
            one.render(scene(), [(Track(number, (observation,)), observation)])
        sizes.append(len(one.state()))
    assert sizes[-1] < 1.02 * sizes[0]


def still(count=10):
    one = Observation(0, (100.0, 60.0, 46.0, 60.0), FACE + np.float32([100, 60]), 1.0, "detected")
    return Track(1, tuple(dataclasses.replace(one, frame=i) for i in range(count)))


def flicker(use, cuts=(), frames=None):
    """Mean difference of adjacent frames under the mask of a face at rest, f[count - 1]."""
    tracks = [still()]
    shown, _ = play(renderer(Noisy(), use), frames or [scene()] * 10, tracks, cuts)
    inside = known(tracks, 0)
    return np.array([np.abs(np.diff(np.stack([a, b])[:, inside].astype(int), axis=0)).mean()
                     for a, b in itertools.pairwise(shown)])  # fmt: skip


def test_a_face_at_rest_flickers_less_with_coherence():
    stable, alone = flicker(coherence.ALL), flicker(coherence.NONE)
    assert stable.mean() < 0.4 * alone.mean()
    without = dataclasses.replace(coherence.ALL, blend_previous=False)
    assert stable.mean() < 0.6 * flicker(without).mean()


def test_the_past_ends_at_a_cut_and_where_the_surroundings_are_others():
    calm = flicker(coherence.ALL)
    assert flicker(coherence.ALL, cuts=(5,))[4] > 1.5 * calm[4]
    frames = [scene()] * 5 + [255 - scene()] * 5
    one, fresh = renderer(), renderer()
    shown, _ = play(one, frames, [still()])
    fresh.restore(renderer().state())
    alone, _ = fresh.render(frames[5], faces_in([still()], 5))
    np.testing.assert_array_equal(shown[5], alone)


def test_without_coherence_a_frame_is_treated_as_a_photo():
    """But for the resampling, which is quicker for clips."""
    tracks = [walk(1, 2, (100, 60), (3, 0))]
    shown, _ = play(renderer(use=coherence.NONE), [scene()] * 2, tracks)
    for i, result in enumerate(shown):
        one = tracks[0].observations[i]
        planned = [
            face_actions.FaceAction(Detection(one.box, one.keypoints, 1.0), KEYS[1], candidate=0)
        ]
        renderings = BuiltinRenderer(Painter())
        photo, _ = anonymize_frame(scene(), planned, face_actions.Settings(), renderings, everyone)
        assert np.abs(result.astype(int) - photo).mean() < 0.5


def test_a_latent_is_settled_once_and_by_a_face():
    verdicts = iter([False] * 7 + [False, True, False, False])

    def is_face(views):
        return np.array([next(verdicts) for _ in views])

    own = face_actions.Settings(candidates=4)
    one = renderer(own=own, is_face=is_face)
    # Four candidates and three more are no faces in the first frame; of the next one's, the second is.
    _, face_results = play(one, [scene()] * 6, [still()])
    assert [o.done for (o,) in face_results] == ["covered"] + ["generated"] * 5
    assert {o.candidate for (o,) in face_results[1:]} == {1}
    assert next(verdicts, None) is None


def test_a_face_near_the_smallest_size_keeps_its_method():
    sizes = [26, 23, 25, 22, 24, 23, 26, 22]
    boxes = [(100.0, 60.0, float(size), 32.0) for size in sizes]
    observations = [Observation(i, box, None, 1.0, "detected") for i, box in enumerate(boxes)]
    track = Track(1, tuple(observations))
    for use, methods_used in ((coherence.ALL, 1), (coherence.NONE, 2)):
        _, face_results = play(renderer(use=use), [scene()] * 8, [track])
        assert len({o.done for (o,) in face_results}) == methods_used


def test_one_sure_sighting_decides_for_the_doubtful_ones():
    track = walk(1, 4, (100, 60), (1, 0), source=lambda i: "detected" if i == 2 else "unsure")
    _, face_results = play(renderer(), [scene()] * 4, [track])
    assert {o.done for (o,) in face_results} == {"generated"}


def test_filled_sightings_are_covered_more_widely():
    for own in (face_actions.Settings(), face_actions.Settings(method="solid")):
        areas = []
        for source in ("detected", "filled"):
            one = dataclasses.replace(still().observations[0], source=source)
            sure = dataclasses.replace(one, frame=1, source="detected")
            frame = scene()
            shown, _ = renderer(own=own).render(frame, [(Track(1, (one, sure)), one)])
            areas.append((shown != frame).any(-1).sum())
        assert areas[1] > 1.1 * areas[0]


def test_each_part_can_be_turned_off_alone():
    tracks = [walk(1, 4, (100, 60), (3, 0))]
    random = np.random.default_rng(0)
    frames = [
        np.clip(scene() + random.normal(0, 4, SHAPE), 0, 255).astype(np.uint8) for _ in range(4)
    ]
    whole, _ = play(renderer(Noisy()), frames, tracks)
    # A face must be near the smallest size for stabilise_method, and move in itself for transfer_motion.
    others = {"stabilise_method", "transfer_motion"}
    for name in {one.name for one in dataclasses.fields(Coherence)} - others:
        part, _ = play(renderer(Noisy(), Coherence(**{name: False})), frames, tracks)
        assert any((a != b).any() for a, b in zip(whole, part, strict=True)), name


def test_of_pictures_converted_in_parts_nothing_but_faces_changes():
    random = np.random.default_rng(5)
    matrix = colours.yuv_to_rgb(Colorspace.ITU709, colours.LIMITED, 8)
    height, width = SHAPE[:2]
    size = (height, width), (height // 2, width // 2), (height // 2, width // 2)
    levels = (60, 180), (100, 120), (130, 150)
    planes = [
        cv2.GaussianBlur(random.integers(*span, shape).astype(np.uint8), (0, 0), 2)
        for span, shape in zip(levels, size, strict=True)
    ]
    picture = LazyPicture(tuple(planes), matrix)
    tracks = crowd()
    lazily, at_once = renderer(), renderer()
    for frame in range(4):
        faces = faces_in(tracks, frame)
        whole, _ = at_once.render(np.asarray(picture), faces)
        shown, face_results = lazily.render(picture, faces)
        assert isinstance(shown, LazyPicture)
        assert len(face_results) == len(faces)
        changed = (np.asarray(picture) != whole).any(-1)
        # Levels of Y, U and V are whole numbers, so a colour comes back within some levels.
        away = np.abs(np.asarray(shown).astype(int) - whole)[changed]
        assert away.mean() < 2
        near = cv2.dilate(changed.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        np.testing.assert_array_equal(shown.planes[0][~near], planes[0][~near])
