"""Persons fused into photos: blind to the face, sharp at its size, reproducible, closed when they fail."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from dp3_jax.cli.main import main
from dp3_jax.common import assets
from dp3_jax.detection import face_vector
from dp3_jax.detection.detections import Detection
from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.models.mesh import Expression, Pose
from dp3_jax.pipelines import anonymize, transparency
from dp3_jax.pipelines.anonymize import Anonymizer, anonymize_frame
from dp3_jax.replacement import choice, face_actions, fusing, key_derivation, smiles, surroundings
from dp3_jax.replacement.identities import Rendering
from dp3_jax.replacement.renderers import FusedRenderer, candidate_key
from dp3_jax.vision import geometry
from dp3_jax.vision.masks import CANONICAL_POINTS, inference_mask
from tests import untrained
from tests.face_photos import (
    BOX,
    MASTER_KEY,
    POINTS,
    astronaut,
    detector_or_skip,
    everyone,
    face,
    masked,
)

VECTOR = FaceVector(4.0, -2.0, 0.1, 0.9)


class Persons:
    """Coloured ovals in the framing of the prior, of a colour and with stripes that the key gives."""

    name = "prior"
    fingerprint = "persons"

    def __init__(self, fails=()):
        self.asked, self.fails = [], fails

    def render(self, key, classes, pose, expression, size, *, mended=True):
        self.asked.append((key, classes, pose, expression, size))
        if len(self.asked) in self.fails:
            raise ValueError("no face in this pose")
        random = np.random.default_rng(int.from_bytes(key[:8], "big"))
        colour, period = random.integers(90, 220, 3), random.uniform(3, 6)
        scale = size / 110  # px for each canonical px
        points = ((CANONICAL_POINTS - 64) * scale + size / 2).astype(np.float32)
        angles = np.linspace(0, 2 * np.pi, 468, endpoint=False)
        outline = np.stack([64 + 30 * np.sin(angles), 79 - 38 * np.cos(angles)], 1)
        mesh = ((outline - 64) * scale + size / 2).astype(np.float32)
        x = np.arange(size) / scale
        stripes = 30 * np.sign(np.sin(2 * np.pi * x / period))
        image = np.broadcast_to(colour + stripes[None, :, None], (size, size, 3))
        pose = pose or Pose(0.0, 0.0, 0.0)
        shown = expression or Expression(0.0, 0.9, 0.3)
        picture = image.clip(0, 255).astype(np.uint8)
        return Rendering(picture, points, mesh, pose, shown, False, f"person {key.hex()[:8]}")


class Bright:
    """In place of `PersonMask`: bright pixels show a person, so what is under a mask would change it."""

    fingerprint = "bright"

    def of(self, picture):
        return cv2.blur(picture.max(-1), (5, 5))


@pytest.fixture(scope="module")
def network():
    return untrained.fusion()


def render(
    frame,
    faces,
    network,
    source=None,
    settings=None,
    *,
    vector=VECTOR,
    master_key=MASTER_KEY,
    heads=None,
):
    planned = [
        dataclasses.replace(action, vector=vector)
        for action in face_actions.face_actions_of(faces, master_key)
    ]
    renderer = FusedRenderer(source or Persons(), network, heads=heads)
    return anonymize_frame(frame, planned, settings or face_actions.Settings(), renderer, everyone)


def scaled(factor):
    """The astronaut enlarged, and the face in it."""
    frame = cv2.resize(astronaut(), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    box = tuple(v * factor for v in BOX)
    return frame, Detection(box, (POINTS * factor).astype(np.float32), 1.0)


@pytest.mark.parametrize("heads", [None, Bright()])
@pytest.mark.parametrize(("factor", "yaw"), [(0.4, 4.0), (1.0, 4.0), (3.0, 4.0), (1.0, 30.0)])
def test_nothing_outside_changes_and_nothing_inside_is_seen(network, factor, yaw, heads):
    frame, one = scaled(factor)
    inside = masked(one, frame.shape[:2], yaw)
    vector = VECTOR._replace(yaw=yaw)
    result, (face_result,) = render(frame, [one], network, vector=vector, heads=heads)
    assert face_result.done == "generated" and face_result.person.startswith("person")
    np.testing.assert_array_equal(result[~inside], frame[~inside])
    changed = frame.copy()
    changed[inside] = np.random.default_rng(0).integers(0, 256, (inside.sum(), 3))
    again, _ = render(changed, [one], network, vector=vector, heads=heads)
    np.testing.assert_array_equal(again, result)


@pytest.mark.parametrize(("smile", "mouth"), [(True, smiles.SMILING), (False, smiles.SERIOUS)])
def test_where_a_smile_or_none_is_wished_nothing_of_the_mouth_passes(network, smile, mouth):
    source = Persons()
    renderer = FusedRenderer(source, network, smile=smile)
    results = []
    for vector in (VECTOR, VECTOR._replace(mouth_opening=0.4), VECTOR.without_expression(), None):
        planned = [
            dataclasses.replace(action, vector=vector)
            for action in face_actions.face_actions_of([face()], MASTER_KEY)
        ]
        settings = face_actions.Settings()
        results.append(anonymize_frame(astronaut(), planned, settings, renderer, everyone)[0])
    assert [expression for _, _, _, expression, _ in source.asked] == [mouth] * 4
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_the_vector_is_all_that_passes_and_its_expression_can_be_left_out(network):
    source = Persons()
    render(astronaut(), [face()], network, source)
    render(astronaut(), [face()], network, source, vector=VECTOR.without_expression())
    asked = [(pose, expression) for _, _, pose, expression, _ in source.asked]
    assert asked == [
        (Pose(4.0, -2.0, 0.0), Expression(0.1, 0.9, 0.0)),
        (Pose(4.0, -2.0, 0.0), None),
    ]


def test_the_key_is_the_person_and_the_size_follows_the_face(network):
    sizes = {}
    for factor in (0.4, 1.0, 2.5, 5.0):
        frame, one = scaled(factor)
        source = Persons()
        render(frame, [one], network, source)
        ((key, *_, size),) = source.asked
        assert key == key_derivation.track_key(MASTER_KEY, 0)
        sizes[factor] = size
    assert sizes == {0.4: 128, 1.0: 256, 2.5: 512, 5.0: 1024}
    first, again, other = (
        render(astronaut(), [face()], network, master_key=s)[0]
        for s in (MASTER_KEY, MASTER_KEY, b"o" * 32)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_large_face_has_the_detail_of_its_rendering(network):
    """Stripes finer than a px of the network's picture are there, as sharp as in the rendering."""
    frame, one = scaled(4.0)
    result, _ = render(frame, [one], network)
    alignment = one.alignment()
    x, y = alignment.invert(np.array([[56.0, 84.0], [72.0, 84.0]])).round().astype(int).T
    row = result[y[0], x[0] : x[1], 1].astype(float)
    steps = np.abs(np.diff(row))
    assert (
        steps.max() > 15
    )  # an edge within a px or two, and not over the eight of an enlarged picture


def test_candidates_are_other_persons_and_a_settled_one_comes_back(network):
    settings = face_actions.Settings(candidates=3)
    source = Persons()
    first, (face_result,) = render(astronaut(), [face()], network, source, settings)
    keys = [key for key, *_ in source.asked]
    assert (
        keys == [candidate_key(face_result.action.key, n) for n in range(3)] and len(set(keys)) == 3
    )
    settled = dataclasses.replace(face_result.action, candidate=face_result.candidate)
    source = Persons()
    renderer = FusedRenderer(source, network)
    again, _ = anonymize_frame(astronaut(), [settled], settings, renderer, everyone)
    np.testing.assert_array_equal(again, first)
    assert len(source.asked) == 1


@pytest.mark.parametrize(("fails", "candidate"), [((1,), 1), ((1, 2), 2), (range(9), None)])
def test_a_person_that_cannot_be_rendered_gives_way_to_the_next(network, fails, candidate):
    result, (face_result,) = render(astronaut(), [face()], network, Persons(fails))
    assert face_result.candidate == candidate
    assert face_result.done == ("covered" if candidate is None else "generated")
    if candidate is None:  # and no face is shown
        blank = astronaut()
        blank[masked(face())] = 0
        np.testing.assert_array_equal(render(blank, [face()], network, Persons(fails))[0], result)


def test_a_face_without_points_and_one_at_the_border_are_handled(network):
    frame = astronaut()
    faces = [
        Detection((-30.0, 300.0, 90.0, 120.0), None, 1.0),
        Detection((400.0, 420.0, 200.0, 260.0), None, 1.0),
    ]
    result, face_results = render(frame, faces, network)
    assert [o.done for o in face_results] == ["generated"] * 2
    inside = masked(faces[0]) | masked(faces[1])
    np.testing.assert_array_equal(result[~inside], frame[~inside])


def grey_astronaut():
    return np.repeat(cv2.cvtColor(astronaut(), cv2.COLOR_RGB2GRAY)[..., None], 3, -1)


def test_grey_and_sepia_photos_get_faces_in_their_colours(network):
    grey = grey_astronaut()
    sepia = np.clip(grey * np.array([1.07, 0.95, 0.75]) + [8, 4, 0], 0, 255).astype(np.uint8)
    result, _ = render(grey, [face()], network)
    assert (np.ptp(result, axis=-1) == 0).all()
    result, _ = render(sepia, [face()], network)
    expected = np.array([1.07, 0.95, 0.75]) / (1.07 * 0.299 + 0.95 * 0.587 + 0.75 * 0.114)
    inside = geometry.region(geometry.align(BOX, POINTS), inference_mask(), sepia.shape)
    new = result[inside.slices][inside.inside].astype(float)
    bright = new[new.mean(1) > 60]
    ratio = bright / (bright @ [0.299, 0.587, 0.114])[:, None]
    assert np.abs(ratio - expected).mean() < 0.06
    assert surroundings.colour_curve(astronaut()) is None


def test_a_dark_or_hazy_photo_is_shown_to_the_network_as_an_ordinary_one(network):
    """A of a darkened or hazy photo is the darkened or hazy A of the photo, up to rounding."""
    plain, _ = render(astronaut(), [face()], network)
    inside = masked(face())
    for scale, shift in ((0.3, 0), (0.4, 130), (0.3, 20)):
        changed = np.rint(astronaut() * scale + shift).astype(np.uint8)
        result, _ = render(changed, [face()], network)
        expected = plain * scale + shift
        lies = np.abs(result[inside] - expected[inside])
        assert np.median(lies) < 12 and abs((result - expected)[inside].mean()) < 8
    assert surroundings.exposure(astronaut()).is_usual
    # Something is black and something light: a face in the dark may be lit by a flash.
    assert surroundings.exposure(np.rint(astronaut() * 0.45).astype(np.uint8)).is_usual
    seen = surroundings.exposure(changed)
    assert np.abs(seen.restored(seen.normalised(changed)).astype(int) - changed).mean() < 1


def test_a_correction_is_smooth_within_the_donor_and_the_networks_at_its_edge():
    rng = np.random.default_rng(0)
    blotches = cv2.GaussianBlur(rng.normal(0, 1, (128, 128, 3)).astype(np.float32), (0, 0), 4)
    alpha, fill = np.ones((128, 128, 1), np.float32), np.zeros((128, 128, 3), np.float32)
    mask = np.zeros((128, 128, 1), np.float32)
    mask[20:108, 24:104] = 1
    parts = fusing.Parts(fill, alpha, 0.3 + blotches, -0.1 + blotches)
    even = fusing.evened(parts, mask)
    inside, deep = mask[..., 0] > 0, np.s_[36:92, 40:88]
    for before, after, mean in ((parts.gain, even.gain, 0.3), (parts.bias, even.bias, -0.1)):
        assert (after[~inside] == before[~inside]).all()  # fill and ring stay as they were
        assert np.abs(after[20] - before[20])[24:104].max() < 0.15 * np.ptp(before)
        assert after[deep].std() < 0.4 * before[deep].std()
        assert after[deep].mean() == pytest.approx(mean, abs=0.03)
    level = dataclasses.replace(parts, gain=fill + 0.2, bias=fill - 0.4)
    assert np.abs(fusing.evened(level, mask).gain - 0.2).max() < 1e-5
    assert fusing.evened(parts, 0 * mask) is parts


def test_sharpness_is_measured_and_matched():
    sharp = cv2.cvtColor(astronaut(), cv2.COLOR_RGB2GRAY).astype(np.float32)
    everywhere = np.ones(sharp.shape, bool)
    found = [
        surroundings.edge_blur(cv2.GaussianBlur(sharp, (0, 0), s), everywhere) for s in (1, 2, 4)
    ]
    np.testing.assert_allclose(found, (1, 2, 4), rtol=0.3)
    assert surroundings.missing_blur(found[1], found[0]) == pytest.approx(3**0.5, rel=0.4)
    assert surroundings.missing_blur(found[0], found[1]) == 0
    assert surroundings.edge_blur(np.full((90, 90), 7, np.float32), np.ones((90, 90), bool)) is None


# What is measured on the original.


def test_five_points_tell_the_pose():
    turned = CANONICAL_POINTS.copy()
    turned[2, 0] -= 8
    straight, away = (face_vector.pose_of_points(p) for p in (CANONICAL_POINTS, turned))
    assert abs(straight.yaw) < 3 and abs(straight.pitch) < 4 and away.yaw > 15
    lean = geometry.Alignment(np.exp(0.3j), 0j).apply(turned)
    assert face_vector.pose_of_points(lean).yaw == pytest.approx(away.yaw)


def test_the_vector_is_coarse_and_bounded():
    vector = face_vector.face_vector(Pose(33.3, -80.0, 7.0), Expression(0.123, 9.0, 0.3))
    assert vector == FaceVector(34.0, -60.0, 0.12, 1.4)
    assert vector.without_expression() == FaceVector(34.0, -60.0)


def test_a_turned_face_that_lies_in_the_transparency_is_replaced_whole(monkeypatch, network):
    """The mask follows what is measured, which must not differ between colours and transparency."""
    anonymizer = Anonymizer(method="generate")
    monkeypatch.setattr(
        Anonymizer, "opened", property(lambda self: (FusedRenderer(Persons(), network), ""))
    )
    monkeypatch.setattr(Anonymizer, "is_face", None)
    monkeypatch.setattr(anonymize, "mesh_at_hand", lambda: None)
    turned = POINTS.copy()
    turned[2, 0] -= 14  # the nose
    one = Detection(BOX, turned.astype(np.float32), 1.0)
    planned = face_actions.face_actions_of([one], MASTER_KEY)
    alpha = cv2.cvtColor(astronaut(), cv2.COLOR_RGB2GRAY)
    black = np.zeros_like(astronaut())
    result, new = transparency.render(anonymizer, black, alpha, planned, face_actions.Settings())
    (face_result,) = result.face_results
    assert abs(face_result.action.yaw) > 15
    inside = masked(one, alpha.shape, face_result.action.yaw)
    assert (new[inside] == 255).all()  # opaque, and drawn in the colours
    np.testing.assert_array_equal(new[~inside], alpha[~inside])
    assert not result.frame[~inside].any()


# The command.


@pytest.fixture
def photo(monkeypatch, tmp_path, network):
    monkeypatch.setattr(
        choice,
        "open_fused",
        lambda options, wanted: FusedRenderer(Persons(), network, smile=options.wishes.smile),
    )
    monkeypatch.setattr(Anonymizer, "is_face", None)
    monkeypatch.setattr(anonymize, "mesh_at_hand", lambda: None)
    Image.fromarray(astronaut()).save(tmp_path / "a.png")
    (tmp_path / "boxes.json").write_text(json.dumps([{"box": BOX, "points": POINTS.tolist()}]))
    return tmp_path / "a.png"


def run(photo, target, *more):
    return main(["anonymize", *map(str, [photo, "-o", target, *more])])


def test_a_sidecar_names_person_and_pose_and_gives_the_same_file(photo, tmp_path, capsys):
    boxes = ["--boxes", tmp_path / "boxes.json"]
    assert run(photo, tmp_path / "1.png", *boxes, "--candidates", 2, "--sidecar") == 0
    assert "persons of the face prior" in capsys.readouterr().out
    record = tmp_path / "1.png.faces.json"
    content = json.loads(record.read_text())
    assert content["identity"]["source"] == "prior"
    (entry,) = content["faces"]
    assert entry["person"].startswith("person") and set(entry["vector"]) == set(FaceVector._fields)
    assert run(photo, tmp_path / "2.png", "--faces", record) == 0
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    # Another face under the same mask, with the vector held equal: the same file.
    other = astronaut()
    other[masked(face())] = np.roll(astronaut(), 50, 0)[masked(face())]
    Image.fromarray(other).save(tmp_path / "other.png")
    assert run(tmp_path / "other.png", tmp_path / "3.png", "--faces", record) == 0
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "3.png").read_bytes()
    # Another key, another person; asked for by name, the built-in generator.
    entry["key"] = "ab" * 32
    record.write_text(json.dumps(content))
    assert run(photo, tmp_path / "4.png", "--faces", record) == 0
    assert (tmp_path / "1.png").read_bytes() != (tmp_path / "4.png").read_bytes()


def test_a_smile_that_is_wished_for_stands_in_the_sidecar_and_comes_again(photo, tmp_path):
    boxes = ["--boxes", tmp_path / "boxes.json", "--sidecar"]
    assert run(photo, tmp_path / "1.png", *boxes, "--person", "smiling woman") == 0
    record = tmp_path / "1.png.faces.json"
    content = json.loads(record.read_text())
    assert content["identity"]["wishes"]["smile"] is True
    (entry,) = content["faces"]
    mouth = entry["vector"]["mouth_opening"], entry["vector"]["mouth_width"]
    assert mouth == smiles.SMILING[:2]
    assert run(photo, tmp_path / "2.png", "--faces", record) == 0
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


def test_auto_takes_what_there_is_and_a_named_source_does_not(photo, monkeypatch, tmp_path, capsys):
    from dp3_jax.common.errors import UserError
    from tests.face_photos import Painter

    def missing(options, wanted):
        raise UserError("the prior cannot be fetched")

    monkeypatch.setattr(choice, "open_fused", missing)
    monkeypatch.setattr(Anonymizer, "generator", Painter())
    boxes = ["--boxes", tmp_path / "boxes.json", "--sidecar"]
    assert run(photo, tmp_path / "1.png", *boxes) == 0
    assert "built-in generator" in capsys.readouterr().out
    identity = json.loads((tmp_path / "1.png.faces.json").read_text())["identity"]
    assert identity["source"] == "builtin"
    assert run(photo, tmp_path / "2.png", *boxes, "--identity", "prior") == 2
    assert "the prior cannot be fetched" in capsys.readouterr().err
    assert not (tmp_path / "2.png").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--identity", "bank"], "--bank FOLDER"),
        (["--identity", "builtin", "--bank", "x"], "does not go with"),
        (["--identity", "builtin", "--sex", "female"], "takes no wishes"),
    ],
)
def test_what_does_not_go_together_is_answered_in_one_line(
    photo, tmp_path, capsys, arguments, says
):
    assert run(photo, tmp_path / "1.png", *arguments) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


@pytest.mark.identities
def test_the_prior_gives_the_astronaut_another_face_blind_to_her_own():
    """With the real prior and the shipped fusion network; the person is the key's, the face is one."""
    missing = [n for n in ("prior", "face_mesh", "iris", "age", "sex") if not assets.is_cached(n)]
    if missing or not fusing.WEIGHTS.is_file():
        pytest.skip(f"not fetched: {', '.join(missing) or 'the fusion weights'}")
    detector = detector_or_skip()
    anonymizer = Anonymizer(identity="prior")
    found = anonymizer(astronaut(), master_key=MASTER_KEY)
    (face_result,) = found.face_results
    assert face_result.done == "generated" and face_result.action.vector is not None
    (shown,) = [f for f in detector.detect(found.frame) if f.confidence > 0.8]
    np.testing.assert_allclose(shown.box, BOX, atol=25)
    other = astronaut()
    inside = masked(face_result.action.face)
    other[inside] = np.roll(astronaut(), 50, 0)[inside]
    again = anonymizer.render(other, [face_result.action])
    np.testing.assert_array_equal(again.frame, found.frame)
    assert again.face_results[0].person == face_result.person
