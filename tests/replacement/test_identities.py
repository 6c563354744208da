"""Persons: what chooses them, and what does not."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.common.errors import UserError
from dp3_jax.models.mesh import Expression, Pose, mean_shape
from dp3_jax.replacement import (
    attributes,
    bank,
    identities,
    light,
    person_choice,
    prior_identities,
    silhouette,
)
from dp3_jax.replacement.attributes import Attributes, ita
from dp3_jax.replacement.directions import load_directions
from dp3_jax.replacement.identities import Classes, Wishes


@given(st.floats(0, 100))
def test_an_age_lies_in_its_band(age):
    low, high = identities.age_range(identities.age_band(age))
    assert low <= age and (age < high or age >= 80)


@given(st.floats(-60, 69.9))
def test_a_tone_lies_in_its_band(angle):
    low, high = identities.tone_range(identities.tone_band(angle))
    assert low <= angle <= high


@given(st.floats(-180, 180), st.floats(-90, 90))
def test_a_pose_beyond_the_limits_becomes_the_nearest_and_is_said_to_be(yaw, pitch):
    near, clamped = identities.clamped_pose(Pose(yaw, pitch, 5.0))
    assert abs(near.yaw) <= identities.MAX_YAW
    assert identities.MIN_PITCH <= near.pitch <= identities.MAX_PITCH
    assert clamped == ((near.yaw, near.pitch) != (yaw, pitch))
    assert near.roll == 5.0
    assert identities.clamped_pose(near) == (near, False)


def predicted(**attributes):
    """Attributes of one candidate."""
    usual = {
        "glasses": 0.0,
        "hat": 0.0,
        "fringe": 9.0,
        "light": 0.0,
        "yaw": 0.0,
        "age": 40.0,
        "female": 3.0,
        "ita": 35.0,
    }
    usual["hair_lightness"] = 15.0
    return {name: np.array([value]) for name, value in (usual | attributes).items()}


def test_what_makes_a_candidate_fit():
    anybody = person_choice.target(Classes(), Wishes())
    assert person_choice.misfit(predicted(), anybody) == [0]
    for bad in ({"glasses": 1.0}, {"hat": 1.0}, {"yaw": 35.0}, {"fringe": 40.0}):
        assert person_choice.misfit(predicted(**bad), anybody) == [np.inf]
    man = person_choice.target(Classes(female=False), Wishes())
    assert person_choice.misfit(predicted(), man) > 0
    assert person_choice.misfit(predicted(female=-3.0), man) == 0
    child = person_choice.target(Classes(age="child"), Wishes())
    assert person_choice.misfit(predicted(), child) > person_choice.misfit(
        predicted(age=20.0), child
    )
    dark = person_choice.target(Classes(tone=0), Wishes())
    assert person_choice.misfit(predicted(), dark) > 0
    assert person_choice.misfit(predicted(ita=-40.0), dark) == 0
    in_the_shade = predicted(ita=-40.0, hair_lightness=60.0)
    assert person_choice.misfit(in_the_shade, dark) > 0


def test_a_wish_goes_before_what_the_surroundings_say():
    wanted = person_choice.target(
        Classes(female=True, age="child"), Wishes(glasses=True, female=False, age=60.0)
    )
    old_man = {"glasses": 1.0, "female": -3.0, "age": 60.0}
    assert person_choice.misfit(predicted(**old_man), wanted) == 0
    assert np.isinf(person_choice.misfit(predicted(**old_man | {"glasses": 0.0}), wanted))


def test_moves_go_into_the_range_and_no_further():
    wanted = person_choice.target(Classes(tone=2, age="young"), Wishes())
    moves = wanted.amounts({"ita": 60.0, "age": 20.0, "female": 0.0})
    assert set(moves) == {"ita"}
    low, high = identities.tone_range(2)
    assert low < 60.0 + moves["ita"] < high


def shown(**attributes):
    """Measured on a candidate's rendering."""
    usual = dict.fromkeys((f.name for f in dataclasses.fields(Attributes)), 0.0)
    usual |= {"age": 25.0, "female": 0.0, "ita": 35.0, "fringe": 9.0, "lightness": 65.0}
    usual |= {"redness": 15.0, "yellowness": 18.0, "confidence": 0.94}
    return Attributes(**usual | attributes)


def test_a_rendering_must_show_what_was_asked_for():
    """Corrections of many years made children of men."""
    wanted = person_choice.target(Classes(False, "young", 3), Wishes())
    assert person_choice.shortcoming(shown(), wanted) == 0
    assert person_choice.shortcoming(shown(age=36.0, ita=45.0), wanted) == 0  # can be corrected
    for bad in (
        {"age": 49.0},
        {"age": 6.0},
        {"female": 0.9},
        {"female": 0.4},  # neither a man nor a woman to whom sees it
        {"ita": -30.0},
        {"fringe": 35.0},
        {"confidence": 0.8},
        {"light": -35.0},
        {"unevenness": 20.0},
        {"mixed_hues": 20.0},
        {"shadow": 30.0},
    ):
        assert person_choice.shortcoming(shown(**bad), wanted) > 0
    violet = shown(redness=30.0, yellowness=-12.0)
    assert person_choice.shortcoming(violet, wanted) > 0


@pytest.mark.parametrize(("red", "yellow"), [(40.0, 45.0), (30.0, -12.0), (2.0, 3.0)])
def test_coloured_light_is_taken_out_and_lightness_stays(red, yellow):
    own = shown(redness=red, yellowness=yellow)
    pair = np.array([[(own.lightness, red, yellow)]], np.float32)
    cheek = np.rint(255 * cv2.cvtColor(pair, cv2.COLOR_Lab2RGB)).clip(0, 255).astype(np.uint8)
    after = light.balanced(cheek, light.gains(own))
    lab = cv2.cvtColor(after.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0, 0]
    assert light.cast(shown(redness=lab[1], yellowness=lab[2])) < 0.55 * light.cast(own)
    assert lab[0] == pytest.approx(own.lightness, abs=6)
    assert (light.gains(shown()) == 1).all() and light.balanced(cheek, np.ones(3)) is cheek


def test_lights_of_two_colours_are_told_from_one_and_a_hard_light_from_a_soft_one():
    shape, _ = mean_shape()
    scale = 150 / np.ptp(shape[:, 1])
    mesh = (shape[:, :2] - shape[:, :2].mean(0)) * scale + 128
    skin = np.full((256, 256, 3), (190, 150, 125), np.uint8)
    bluish = skin.copy()
    bluish[:, 128:] = 165, 155, 170
    shaded = skin.copy()
    shaded[:, 128:] //= 2
    assert max(attributes.mixed_light(skin, mesh)) < 1
    assert attributes.mixed_light(bluish, mesh)[0] > person_choice._SHOWN["mixed_hues"][1]
    assert attributes.mixed_light(shaded, mesh)[1] > person_choice._SHOWN["shadow"][1]


def test_a_nose_in_another_light_gets_the_hue_of_the_cheeks():
    shape, _ = mean_shape()
    mesh = (shape[:, :2] - shape[:, :2].mean(0)) * (150 / np.ptp(shape[:, 1])) + 128
    plain = np.full((256, 256, 3), (200, 150, 125), np.uint8)
    assert light.one_hue(plain, mesh) is plain
    lit, (*_, (ridge, _)) = plain.copy(), attributes.patches(plain, mesh)
    larger = 1.3 * (ridge - ridge.mean(0)) + ridge.mean(0)
    cv2.fillConvexPoly(lit, cv2.convexHull(np.rint(larger).astype(np.int32)), (205, 160, 70))
    even = light.one_hue(lit, mesh)
    before, after = (attributes.mixed_light(x, mesh)[0] for x in (lit, even))
    assert before > 25 and after < 0.6 * before
    lightness = [cv2.cvtColor(x, cv2.COLOR_RGB2Lab)[..., 0].astype(int) for x in (lit, even)]
    assert np.abs(lightness[0] - lightness[1]).max() <= 3
    assert (even[:20] == lit[:20]).all()  # far from the face nothing changes


def test_who_melts_in_a_pose_is_turned_less_and_that_is_said():
    """The real source with a table of scores in place of the prior's networks."""
    source, tried = object.__new__(prior_identities.PriorIdentities), []
    own = shown()
    source.fingerprint, source._wishes = "made", Wishes()
    source.person = lambda key, classes: prior_identities.Person(
        0, np.zeros((8, 512), np.float32), own, np.ones(3, np.float32)
    )
    shape, _ = mean_shape()

    def posed(person, wanted, size, mended):
        tried.append(wanted["yaw"])
        score = 1.0 if abs(wanted["yaw"]) < 20 else 0.9
        scaled = (shape - shape.mean(0)) * 100 + size / 2
        return np.full((size, size, 3), 150, np.uint8), scaled.astype(np.float32), score

    source._posed = posed
    sharply = source.render(b"k", Classes(), Pose(30.0, 0.0, 0.0), None, 128)
    assert sharply.clamped and len(tried) == 2 and tried[1] == tried[0] / 2
    slightly = source.render(b"k", Classes(), Pose(10.0, 0.0, 0.0), None, 128)
    assert not slightly.clamped and len(tried) == 3


def test_a_flame_on_a_face_is_told_from_skin_in_any_light():
    shape, _ = mean_shape()
    mesh = (shape[:, :2] - shape[:, :2].mean(0)) * (150 / np.ptp(shape[:, 1])) + 128
    for levels in ((70, 45, 35), (200, 150, 125), (240, 205, 190)):
        skin = np.full((256, 256, 3), levels, np.uint8)
        across = np.linspace(0.6, 1, 256)[None, :, None]
        for usual in (skin, np.rint(skin * across).astype(np.uint8)):
            assert light.glare(usual, mesh) == 0
        assert (
            light.glare(cv2.circle(skin.copy(), (128, 170), 12, (250, 250, 250), -1), mesh) < 0.01
        )
        flame = cv2.circle(skin.copy(), (128, 120), 16, (255, 240, 90), -1)
        assert light.glare(flame, mesh) > prior_identities._MAX_GLARE
    assert light.glare(skin, mesh + 1000) == 0


def test_an_object_at_the_mouth_is_told_from_light_from_the_side_and_from_a_beard():
    shape, _ = mean_shape()
    scale = 150 / np.ptp(shape[:, 1])
    mesh = (shape[:, :2] - shape[:, :2].mean(0)) * scale + 128
    skin = np.full((256, 256, 3), (190, 150, 125), np.uint8)
    across = np.linspace(0.6, 1, 256)[None, :, None]
    lit = np.rint(skin * across).astype(np.uint8)
    chin = mesh[[43, 273, 152]].mean(0)
    bearded = cv2.circle(skin.copy(), np.round(chin).astype(int).tolist(), 40, (70, 55, 50), -1)
    corner = np.round(mesh[43]).astype(int).tolist()
    lipstick = cv2.circle(skin.copy(), corner, 14, (220, 60, 110), -1)
    for usual in (skin, lit, bearded):
        assert attributes.unevenness(usual, mesh) < 6
    assert attributes.unevenness(lipstick, mesh) > person_choice._SHOWN["unevenness"][1]


@pytest.mark.parametrize("tone", [(-20.0, 0.0), (30.0, 38.0), (44.0, 52.0)])
@pytest.mark.parametrize("levels", [(120, 85, 65), (190, 150, 125), (225, 190, 170)])
def test_skin_is_exposed_into_the_range_of_tone_that_is_asked_for(levels, tone):
    skin = np.full((1, 1, 3), levels, np.uint8)

    def angle(image):
        lightness, _, b = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0, 0]
        return ita(lightness, b)

    colour = cv2.cvtColor(skin.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0, 0]
    gain = light.exposure_gain(colour, tone)
    after = angle(light.balanced(skin, np.full(3, gain, np.float32)))
    if gain in light.EXPOSED:  # as far as it may
        assert abs(after - np.mean(tone)) < abs(angle(skin) - np.mean(tone))
    else:
        assert tone[0] - 3 <= after <= tone[1] + 3
    assert light.exposure_gain(colour, (angle(skin) - 1, angle(skin) + 1)) == 1


def test_the_silhouette_is_drawn_in_on_all_sides():
    outline = np.array([[10.0, 20.0], [90.0, 30.0], [70.0, 120.0]])
    inner = silhouette.rendered_in(outline)
    assert (inner.min(0) > outline.min(0)).all() and (inner.max(0) < outline.max(0)).all()
    np.testing.assert_allclose(inner.min(0) + inner.max(0), outline.min(0) + outline.max(0))


def test_distinctness_knows_nothing_of_the_attributes():
    table = load_directions()
    rng = np.random.default_rng(0)
    w = table.mean + rng.normal(size=(5, 512)).astype(np.float32) / 2
    away = table.distinctness(w)
    assert (away < np.linalg.norm(w - table.mean, axis=1)).all()
    np.testing.assert_allclose(table.distinctness(w + 3 * table.regression[2]), away, rtol=1e-3)
    assert (table.distinctness(table.mean + 2 * (w - table.mean)) > 1.9 * away).all()
    low, high = np.sort(away)[[1, 3]]
    between = table.with_distinctness(w, low, high)
    np.testing.assert_allclose(table.distinctness(between), away.clip(low, high), rtol=1e-4)
    before, after = table.predict(w), table.predict(between)
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, atol=0.05)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 40))
def test_a_key_is_a_permutation_of_a_bank(key, count):
    order = list(bank.permutation(key, count))
    assert sorted(order) == list(range(count))
    assert order == list(bank.permutation(key, count))


def test_keys_prefer_no_one_in_a_bank():
    first = [next(bank.permutation(i.to_bytes(32, "big"), 8)) for i in range(800)]
    counts = np.bincount(first, minlength=8)
    assert counts.min() > 60 and counts.max() < 140  # 100 each, standard deviation 9


@pytest.fixture(scope="module")
def source():
    try:
        return prior_identities.PriorIdentities()
    except UserError as error:
        pytest.skip(str(error))


KEY = bytes(range(32))


def test_the_same_key_is_the_same_person_whatever_the_pose(source):
    classes = Classes(female=True, age="young")
    one = source.render(KEY, classes, Pose(15.0, 0.0, 0.0), None, 128)
    other = source.render(KEY, classes, Pose(-15.0, 5.0, 0.0), Expression(0.2, 0.9, 0.1), 128)
    again = source.render(KEY, classes, Pose(15.0, 0.0, 0.0), None, 128)
    assert one.person == other.person
    np.testing.assert_array_equal(one.image, again.image)
    assert one.image.shape == (128, 128, 3) and one.image.dtype == np.uint8
    assert not one.clamped
    assert abs(one.pose.yaw - 15) < 6 and abs(other.pose.yaw + 15) < 6
    assert other.expression.mouth_opening > 0.1


def test_another_key_or_class_is_another_person(source):
    own = source.person(KEY, Classes())
    assert not np.array_equal(own.rows, source.person(bytes(32), Classes()).rows)
    woman, man = (source.person(KEY, Classes(female=sex)) for sex in (True, False))
    assert woman.own.female > 0.5 > man.own.female


def test_truncation_has_limits():
    with pytest.raises(UserError, match="truncation"):
        prior_identities.PriorIdentities(psi=1.5)


@pytest.fixture(scope="module")
def small_bank(source, tmp_path_factory):
    """(a bank of three persons of the prior, one of them with two views; what was left out)."""
    root = tmp_path_factory.mktemp("bank")
    pictures = root / "pictures"
    for i in range(3):
        views = (0.0, 20.0) if i == 0 else (0.0,)
        for yaw in views:
            shown = source.render(bytes([i]) * 32, Classes(), Pose(yaw, 0.0, 0.0), None, 256)
            name = f"anna/{yaw:.0f}.png" if i == 0 else f"{i}.png"
            (pictures / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(pictures / name), shown.image[..., ::-1])
    cv2.imwrite(str(pictures / "grey.png"), np.full((200, 200, 3), 128, np.uint8))
    (pictures / "broken.jpg").write_bytes(b"no picture")
    count, skipped = bank.build_bank(pictures, root / "bank")
    assert count == 3
    return root / "bank", skipped


def test_a_bank_leaves_out_what_shows_no_face_and_says_so(small_bank):
    folder, skipped = small_bank
    assert sorted(s.split(":")[0] for s in skipped) == ["broken/broken.jpg", "grey/grey.png"]
    persons = bank.load_bank(folder)
    assert [p.name for p in persons] == ["1", "2", "anna"]
    assert len(persons[2].views) == 2


def test_a_bank_gives_the_key_its_person_and_the_view_that_is_nearest(small_bank):
    folder, _ = small_bank
    faces = bank.BankIdentities(folder)
    keys = [bytes([i]) * 32 for i in range(20)]
    names = [faces.person(key, Classes()).name for key in keys]
    assert set(names) == {"1", "2", "anna"}
    key = keys[names.index("anna")]
    left = faces.render(key, Classes(), Pose(18.0, 0.0, 0.0), None, 128)
    right = faces.render(key, Classes(), Pose(-18.0, 0.0, 0.0), None, 128)  # mirrored
    assert left.pose.yaw > 10 and right.pose.yaw < -10
    assert left.person == right.person
    assert not left.clamped
    assert faces.render(key, Classes(), Pose(60.0, 0.0, 0.0), None, 128).clamped
    np.testing.assert_array_equal(
        left.image, faces.render(key, Classes(), Pose(18.0, 0.0, 0.0), None, 128).image
    )


def test_mistakes_with_banks_are_one_line(small_bank, tmp_path):
    folder, _ = small_bank
    with pytest.raises(UserError, match="no bank"):
        bank.BankIdentities(tmp_path)
    with pytest.raises(UserError, match="is there already"):
        bank.build_bank(tmp_path, folder)
    with pytest.raises(UserError, match="no folder"):
        bank.build_bank(tmp_path / "nothing", tmp_path / "bank")
    with pytest.raises(UserError, match="no usable picture"):
        bank.build_bank(tmp_path, tmp_path / "bank")
    assert not (tmp_path / "bank").exists()
    with pytest.raises(UserError, match="glasses"):
        bank.BankIdentities(folder, Wishes(glasses=True))
    index = json.loads((folder / bank.INDEX).read_text())
    view = folder / bank.PICTURES / index["persons"][0]["views"][0]["file"]
    content = view.read_bytes()
    try:
        view.write_bytes(content + b" ")
        faces = bank.BankIdentities(folder)
        keys = (bytes([i]) * 32 for i in range(20))
        key = next(k for k in keys if faces.person(k, Classes()).name == "1")
        with pytest.raises(UserError, match="was changed"):
            faces.render(key, Classes(), None, None, 128)
    finally:
        view.write_bytes(content)


class Melting(prior_identities.PriorIdentities):
    """The prior with the scores that its next poses have, None for no face; nothing is drawn."""

    def __init__(self, scores):
        self.fingerprint, self._wishes, self._scores = "prior:test", Wishes(), iter(scores)

    def person(self, key, classes):
        return prior_identities.Person(0, np.zeros((8, 512)), None, np.ones(3, np.float32))

    def _posed(self, person, wanted, size, mended):
        score = next(self._scores)
        if score is None:
            return None
        mesh = mean_shape()[0] * 30 + 64
        return np.full((size, size, 3), round(100 * score), np.uint8), mesh, score

    def level(self, pose):
        shown = self.render(bytes(32), Classes(), pose, None, 128)
        return shown.image[0, 0, 0], shown.clamped


@pytest.mark.parametrize(
    "scores, level, clamped",
    [
        ([0.99], 99, False),
        ([0.5, 0.99], 99, True),
        ([0.5, None, 0.9], 90, True),
        ([0.9, 0.5, 0.6], 90, False),
        ([0.9, None, None], 90, False),
    ],
)
def test_of_poses_in_which_a_person_melts_the_best_is_taken(scores, level, clamped):
    assert Melting(scores).level(Pose(30.0, 5.0, 0.0)) == (level, clamped)


@pytest.mark.parametrize("pose, scores", [(None, [None]), (Pose(30.0, 5.0, 0.0), [None] * 3)])
def test_a_person_without_a_face_is_said_to_have_none(pose, scores):
    with pytest.raises(ValueError, match="no face"):
        Melting(scores).level(pose)
