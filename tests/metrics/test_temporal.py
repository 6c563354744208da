import math

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.common.choices import OBFUSCATIONS
from dp3_jax.metrics import temporal, video_privacy
from dp3_jax.metrics.video_privacy import Embedded
from dp3_jax.replacement import obfuscation
from dp3_jax.vision import geometry, masks
from tests.face_photos import BOX, POINTS, astronaut


def texture(shift=0):
    """u8[96, 96, 3] of a picture with detail everywhere, moved left by `shift` px."""
    grey = skimage.data.brick()[100:196, 100 + shift : 196 + shift]
    return np.repeat(grey[..., None], 3, 2)


MIDDLE = np.zeros((96, 96), bool)
MIDDLE[24:72, 24:72] = True


def test_a_picture_that_stands_still_has_no_warping_error():
    picture = texture()
    moved = temporal.motion(picture, picture, MIDDLE)
    assert moved.used.sum() == MIDDLE.sum()
    assert temporal.warping_error(picture, picture, moved) == 0


def test_what_moves_with_the_source_has_next_to_no_warping_error():
    first, second = texture(), texture(3)
    moved = temporal.motion(first, second, MIDDLE)
    assert moved.used.mean() > 0.8 * MIDDLE.mean()
    still = np.square((second.astype(float) - first) / 255)[MIDDLE].mean()
    assert temporal.warping_error(first, second, moved) < 0.02 * still
    # Standing still while the source moves is an error as large as the texture's own difference.
    assert temporal.warping_error(first, first, moved) > 0.5 * still


def test_exact_flow_leaves_no_error():
    flow = np.zeros((96, 96, 2), np.float32)
    flow[..., 0] = -3
    moved = temporal.PartMotion(flow, MIDDLE)
    assert temporal.warping_error(texture(), texture(3), moved) < 1e-9


def square_at(x, inner=0):
    """u8[96, 96, 3]: a square of another texture on a textured ground, at (x, 24)."""
    picture = texture().copy()
    grain = skimage.data.grass()[: 48 + 8, : 48 + 8]
    picture[24:72, x : x + 48] = grain[:48, inner : inner + 48, None]
    return picture


def test_another_square_that_moves_with_the_sources_has_no_error_by_either_flow():
    def other(x):
        return 255 - square_at(x, inner=5)

    by_source = temporal.motion(square_at(20), square_at(23), MIDDLE)
    by_own = temporal.motion(other(20), other(23), MIDDLE)
    left_behind = temporal.warping_error(other(20), other(20), by_source)
    for moved in (by_source, by_own):
        assert moved.used[MIDDLE].mean() > 0.7
        assert temporal.warping_error(other(20), other(23), moved) < 0.05 * left_behind


def test_a_square_that_lives_by_itself_is_an_error_by_the_sources_flow_alone():
    """The source stands still, the result's square moves by 3 px: its own motion explains all of it."""
    still, first, second = square_at(24), square_at(24), square_at(27)
    by_source = temporal.motion(still, still, MIDDLE)
    by_own = temporal.motion(first, second, MIDDLE)
    foreign = temporal.warping_error(first, second, by_source)
    own = temporal.warping_error(first, second, by_own)
    expected = np.square((second.astype(float) - first)[MIDDLE] / 255).mean()
    assert foreign == pytest.approx(expected, rel=1e-5)
    assert own < 0.03 * foreign
    assert by_own.used[MIDDLE].mean() > 0.7


def test_flicker_is_an_error_by_both_flows():
    """Light that changes by 20 levels and comes back: no motion explains it."""
    first = np.clip(square_at(24), 0, 230)
    second = first + np.uint8(20)
    for moved in (
        temporal.motion(first, first, MIDDLE),
        temporal.motion(first, second, MIDDLE),
    ):
        error = temporal.warping_error(first, second, moved)
        assert error == pytest.approx((20 / 255) ** 2, rel=0.15)


@pytest.mark.parametrize("deviation", [2.0, 8.0])
def test_noise_gives_twice_its_variance(deviation):
    rng = np.random.default_rng(0)
    source = texture()
    moved = temporal.motion(source, source, MIDDLE)
    first, second = (
        np.clip(128 + rng.normal(0, deviation, source.shape), 0, 255).round().astype(np.uint8)
        for _ in range(2)
    )
    expected = 2 * (deviation**2 + 1 / 12) / 255**2  # rounding adds 1/12
    error = temporal.warping_error(first, second, moved)
    assert error == pytest.approx(expected, rel=0.05)


def test_nothing_visible_is_no_error_but_unknown():
    moved = temporal.motion(texture(), texture(), np.zeros((96, 96), bool))
    assert temporal.warping_error(texture(), texture(), moved) is None


def units(rng, count, size=16):
    rows = rng.normal(size=(count, size))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(0, 12), st.integers(0, 9))
def test_identity_stability_is_the_mean_cosine(count, seed):
    rows = units(np.random.default_rng(seed), count)
    stability = temporal.IdentityStability()
    for row in rows:
        stability.add(row)
    if count < 2:
        assert stability.all_pairs is None and stability.adjacent.value is None
        return
    cosines = rows @ rows.T
    upper = cosines[np.triu_indices(count, 1)]
    assert stability.pairs == len(upper)
    assert stability.all_pairs == pytest.approx(upper.mean(), abs=1e-5)
    assert stability.adjacent.value == pytest.approx(np.diag(cosines, 1).mean(), abs=1e-5)


def test_equal_faces_are_perfectly_stable_and_gaps_part_neighbours():
    row = units(np.random.default_rng(0), 1)[0]
    stability = temporal.IdentityStability()
    for embedding in (row, row, None, row):
        stability.add(embedding)
    assert stability.all_pairs == pytest.approx(1)
    assert stability.adjacent.value == pytest.approx(1)
    assert stability.adjacent.weight == 1


def test_even_motion_has_no_jitter_and_independent_errors_have_a_known_one():
    even, jittering = temporal.Jitter(), temporal.Jitter()
    rng = np.random.default_rng(0)
    for t in range(2000):
        points = POINTS + t * np.array([2.0, -1.0])
        even.add(points, 100)
        jittering.add(points + rng.normal(0, 0.5, points.shape), 100)
    assert even.mean.value == pytest.approx(0, abs=1e-9)
    expected = 0.5 * math.sqrt(3 * math.pi) / 100
    assert jittering.mean.value == pytest.approx(expected, rel=0.03)


def test_a_frame_without_landmarks_starts_jitter_anew():
    jitter = temporal.Jitter()
    for points in (POINTS, POINTS, None, POINTS + 50, POINTS + 50):
        jitter.add(points)
    assert jitter.mean.value is None
    jitter.add(POINTS + 50)
    assert jitter.mean.value == 0


def canonical():
    """The astronaut's canonical view and its mask."""
    alignment = geometry.align(BOX, POINTS)
    mask = geometry.face_mask(alignment, BOX)
    return geometry.extract(astronaut(), alignment), mask


def lossy(view, quality):
    """The view after JPEG."""
    data = cv2.imencode(".jpg", view[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def test_flicker_is_the_amplitude_inside_the_mask():
    view, mask = canonical()
    view = np.clip(view, 20, 235)
    flicker = temporal.Flicker()
    for t in range(6):
        shown = view.astype(int) + (5 if t % 2 else -5)
        shown = np.where(mask > 0, shown, 40 * t)  # what is outside must not matter
        flicker.add(temporal.coarse_colours(shown.astype(np.uint8), mask))
    assert flicker.mean.weight == 5
    assert flicker.mean.value == pytest.approx(10 / 255, abs=1e-6)


def test_the_original_itself_is_shown_and_covers_are_not():
    view, mask = canonical()
    own = temporal.exposure(view, view, mask)
    assert own.share == 1 and own.shown
    for method in OBFUSCATIONS:
        target = geometry.Region(0, 0, mask[..., 0] > 0)
        covered = np.where(mask > 0, obfuscation.apply(method, view, target, 1.0), view)
        seen = temporal.exposure(view, covered, mask)
        assert not seen.shown, method
        assert seen.share < 0.03


def test_noise_and_brightness_do_not_hide_a_face_and_half_of_it_is_seen():
    view, mask = canonical()
    noise = np.random.default_rng(0).normal(0, 6, view.shape)
    noisy = np.clip(0.9 * view + 20 + noise, 0, 255).astype(np.uint8)
    assert temporal.exposure(view, noisy, mask).share > 0.9
    half = view.copy()
    half[:74] = 128
    seen = temporal.exposure(view, half, mask)
    assert seen.shown
    assert 0.2 < seen.share < 0.6


@pytest.mark.parametrize("rows", [slice(0, 58), slice(58, 80), slice(80, 128)])
@pytest.mark.parametrize("quality", [90, 50])
def test_a_part_of_the_face_is_seen_through_lossy_encoding(rows, quality):
    view, mask = canonical()
    covered = obfuscation.apply("pixelate", view, geometry.Region(0, 0, mask[..., 0] > 0), 1.0)
    assert not temporal.exposure(view, lossy(covered, quality), mask).shown
    covered[rows] = view[rows]
    seen = temporal.exposure(view, lossy(covered, quality), mask)
    assert seen.shown and seen.share < 0.7
    assert temporal.exposure(view, lossy(view, quality), mask).share > 0.9


def test_other_peoples_faces_in_the_same_place_do_not_count_as_shown(shared_data):
    """Of random pairs about one in 2,000 is too much alike; here it is one of 120."""
    files = sorted((shared_data / "celeba" / "img_align_celeba").glob("*.jpg"))[:120]
    views = [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)[20:198] for file in files]
    views = [cv2.resize(view, (128, 128), interpolation=cv2.INTER_AREA) for view in views]
    mask = masks.inference_mask()
    assert all(temporal.exposure(own, lossy(own, 60), mask).shown for own in views)
    pairs = zip(views, [*views[1:], views[0]], strict=True)
    others = [temporal.exposure(*pair, mask) for pair in pairs]
    assert sum(other.shown for other in others) <= 1
    assert np.mean([other.share for other in others]) < 0.003


def test_a_face_without_detail_cannot_be_judged():
    flat = np.full((128, 128, 3), 120, np.uint8)
    seen = temporal.exposure(flat, flat, canonical()[1])
    assert seen.judged == 0 and seen.share is None and not seen.shown
    corner = flat.copy()  # as where what surrounds a small face runs into its rim
    corner[96:112, 36:52] = canonical()[0][40:56, 50:66]
    assert temporal.exposure(corner, corner, canonical()[1]).judged == 0


def embedded(rows):
    return Embedded(np.asarray(rows, np.float32), np.arange(len(rows)))


def test_the_best_frame_counts_against_others_with_as_many_frames():
    """Frames of noise: own pictures score no higher than other people's, though both far above 0."""
    rng = np.random.default_rng(0)
    found = [
        video_privacy.recognize(embedded(units(rng, 40)), embedded(units(rng, 40)), units(rng, 50))
        for _ in range(40)
    ]
    result = video_privacy.summary(found, threshold=0.5)
    assert result["tracks"] == 40
    assert result["own"]["accepted"]["n"] == 40 * video_privacy.PICTURES
    assert result["own"]["best_cosine"] > 0.4
    assert result["own"]["best_cosine"] == pytest.approx(result["others"]["best_cosine"], abs=0.02)
    assert result["area_under_curve"] == pytest.approx(0.5, abs=0.05)


def test_one_leaking_frame_is_found():
    rng = np.random.default_rng(1)
    person = units(rng, 1, 64)
    own = person + 0.02 * units(rng, 40, 64)
    anonymized = units(rng, 40, 64)
    safe = video_privacy.recognize(embedded(anonymized), embedded(own), units(rng, 60, 64))
    anonymized[20] = own[20]
    leaking = video_privacy.recognize(embedded(anonymized), embedded(own), units(rng, 60, 64))
    rows = [video_privacy.summary([r], threshold=0.8) for r in (safe, leaking)]
    assert [row["own"]["accepted"]["value"] for row in rows] == [0, pytest.approx(0.75, abs=0.25)]
    assert rows[1]["others"]["accepted"]["value"] == 0


def test_tracks_without_faces_or_too_short_say_nothing():
    nothing = Embedded(np.zeros((0, 1), np.float32), np.zeros(0, int), missed=7)
    rows = units(np.random.default_rng(0), 1)
    found = [
        video_privacy.recognize(nothing, embedded(rows), rows),
        video_privacy.recognize(embedded(rows), nothing, rows),
        video_privacy.recognize(embedded(rows), embedded(rows), rows),
    ]
    result = video_privacy.summary(found, 0.5)
    assert result["tracks"] == 0 and result["face_not_found"] == 7
    assert result["own"]["accepted"]["value"] is None and result["area_under_curve"] is None


def test_two_keys_of_a_track_are_linked_where_they_look_alike():
    rng = np.random.default_rng(0)

    def keys(shared, count=4):
        """Tracks of `count` keys, 9 frames each: a share of all embeddings is the scene's."""
        scene, persons = units(rng, 1, 64), units(rng, count, 64)
        mixed = [shared * scene + (1 - shared) * person for person in persons]
        return [row / np.linalg.norm(row) + 0 * units(rng, 9, 64) for row in mixed]

    alike = video_privacy.linked([keys(0.9), keys(0.9)], 0.5)
    apart = video_privacy.linked([keys(0.0), keys(0.0)], 0.5)
    assert alike["pairs"] == apart["pairs"] == 2 * 6
    for way in ("best_pair", "mean"):
        assert alike[way]["linked"]["value"] == 1
        assert apart[way]["linked"]["value"] == 0
        assert abs(apart[way]["cosine"]) < 0.2
    # Keys in which no face was found are no pair.
    none = video_privacy.linked([[np.zeros((0, 1)), *keys(0.9, 2)], [np.zeros((0, 1))]], 0.5)
    assert none["pairs"] == 1
    nothing = video_privacy.linked([], 0.5)
    assert nothing["pairs"] == 0 and nothing["mean"]["linked"]["value"] is None


def test_one_frame_of_many_links_two_keys():
    rng = np.random.default_rng(2)
    first, second = units(rng, 30, 64), units(rng, 30, 64)
    second[7] = first[21]
    found = video_privacy.linked([[first, second]], 0.8)
    assert found["best_pair"]["linked"]["value"] == 1 and found["mean"]["linked"]["value"] == 0


def test_a_key_is_known_again_when_one_picture_of_any_track_is_accepted():
    def track(*own):
        return video_privacy.Recognition(np.array(own), np.zeros(0), 9, 0)

    keys = [[track(0.1, 0.2), track(0.3)], [track(0.1), track(0.5, 0.1)], [track()]]
    assert video_privacy.known(keys, 0.5) == 1
    assert video_privacy.known(keys, 0.3) == 2
    assert video_privacy.known([], 0.3) == 0


@given(st.integers(0, 500), st.integers(2, 50))
def test_evenly_spaced_frames_reach_from_the_first_to_the_last(count, most):
    chosen = video_privacy.evenly(count, most)
    assert len(chosen) == min(count, most)
    if count:
        assert chosen[0] == 0 and chosen[-1] == count - 1
        assert np.ptp(np.diff(chosen)) <= 1 if len(chosen) > 1 else True
