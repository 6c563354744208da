"""Sidecars, boxes files, keys and file names: what users write and read."""

import json
import statistics

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.common import normal
from dp3_jax.common.choices import METHODS
from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_detection import Detection
from dp3_jax.pipelines import boxes, outputs, sidecar
from dp3_jax.replacement import key_derivation
from dp3_jax.replacement.face_actions import FaceAction, FaceResult, Settings
from dp3_jax.replacement.identities import Wishes
from dp3_jax.replacement.options import IdentityOptions

SCHEMA = json.loads(sidecar.SCHEMA.read_text())
MASTER_KEY = b"s" * 32

numbers = st.floats(-1e4, 1e4)
sizes = st.floats(0.1, 1e4)
points = st.none() | st.lists(numbers, min_size=10, max_size=10).map(
    lambda values: np.array(values, np.float32).reshape(5, 2)
)
faces = st.builds(
    Detection,
    st.tuples(numbers, numbers, sizes, sizes),
    points,
    st.floats(0, 1),
    st.just("detected"),
)
actions = st.builds(
    FaceAction,
    faces,
    st.binary(min_size=32, max_size=32),
    st.booleans(),
    st.sampled_from([None, *METHODS]),
)
dones = st.sampled_from(["generated", "blurred", "pixelated", "solid", "covered", "kept"])
face_results = st.lists(
    st.builds(FaceResult, actions, dones, st.none() | st.integers(0, 9)), max_size=4
)
settings = st.builds(
    Settings, method=st.sampled_from(METHODS), cover=st.sampled_from(["face", "head"]),
    candidates=st.integers(1, 64),
)  # fmt: skip


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@given(face_results, settings, st.none() | st.just("ab" * 32))
def test_what_is_written_is_valid_and_read_back_exactly(done, used, generator):
    content = sidecar.describe((480, 640, 3), done, used, generator)
    text = json.dumps(content)
    jsonschema.validate(json.loads(text), SCHEMA)
    again, settings_again, generator_again = sidecar.parse(
        json.loads(text), (480, 640), MASTER_KEY, "x"
    )
    assert (settings_again, generator_again) == (used, generator)
    for action, face_result in zip(again, done, strict=True):
        assert action.face.box == face_result.action.face.box
        assert action.key == face_result.action.key
        assert (action.keep, action.method) == (face_result.action.keep, face_result.action.method)
        assert action.candidate == face_result.candidate
        if action.face.keypoints is None:
            assert face_result.action.face.keypoints is None
        else:
            np.testing.assert_array_equal(action.face.keypoints, face_result.action.face.keypoints)


def test_the_form_is_stable():
    """Sidecars lie in people's archives: a change here must keep reading format 1."""
    face = Detection((1.5, 2.0, 30.0, 40.0), np.arange(10, dtype=np.float32).reshape(5, 2), 0.75)
    done = [FaceResult(FaceAction(face, bytes(32)), "generated", 2)]
    content = sidecar.describe((480, 640, 3), done, Settings(candidates=3), "f" * 64)
    content["version"] = "1"
    content.pop("fingerprint")
    assert content == {
        "format": "dp3 faces 1",
        "version": "1",
        "photo": {"width": 640, "height": 480},
        "settings": {"method": "generate", "cover": "face", "candidates": 3},
        "generator": "f" * 64,
        "faces": [
            {
                "box": [1.5, 2.0, 30.0, 40.0],
                "points": [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]],
                "confidence": 0.75,
                "source": "detected",
                "keep": False,
                "method": None,
                "key": "00" * 32,
                "candidate": 2,
                "done": "generated",
                "reason": "",
            }
        ],
    }


def minimal(**changes):
    content = {
        "format": "dp3 faces 1",
        "photo": {"width": 64, "height": 48},
        "settings": {"method": "blur", "cover": "face", "candidates": 1},
        "faces": [{"box": [1, 2, 3, 4]}],
    }
    return {**content, **changes}


@pytest.mark.parametrize("wishes", [Wishes(), Wishes(True, False, 30.0, 2, smile=False)])
def test_who_the_new_faces_are_is_written_and_read_back(wishes):
    options = IdentityOptions(source="prior", wishes=wishes)
    content = sidecar.describe((48, 64, 3), [], Settings(), None, options)
    jsonschema.validate(json.loads(json.dumps(content)), SCHEMA)
    assert sidecar.parse_identity(content, "x") == options


def test_a_face_added_by_hand_needs_only_a_box():
    jsonschema.validate(minimal(), SCHEMA)
    found, used, _ = sidecar.parse(minimal(), (48, 64), MASTER_KEY, "x")
    assert found[0].face.box == (1.0, 2.0, 3.0, 4.0)
    assert found[0].key == key_derivation.track_key(MASTER_KEY, 0)
    assert used.method == "blur"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "not a JSON object"),
        (minimal(format="dp3 faces 9"), "format"),
        (minimal(photo={"width": 65, "height": 48}), "65x48 px, this one has 64x48"),
        (minimal(photo=None), "photo is missing"),
        (minimal(settings=None), "settings is missing"),
        (minimal(settings={"method": "melt"}), "melt"),
        (minimal(settings={"candidates": "many"}), "whole number"),
        (minimal(faces=None), "faces is missing"),
        (minimal(faces=[7]), "face 0 is not an object"),
        (minimal(faces=[{}]), "a box is"),
        (minimal(faces=[{"box": [1, 2, 0, 4]}]), "positive size"),
        (minimal(faces=[{"box": [1, 2, 3, "4"]}]), "a box is"),
        (minimal(faces=[{"box": [1, 2, 3, float("nan")]}]), "a box is"),
        (minimal(faces=[{"box": [1, 2, 3, 4], "points": [[1, 2]]}]), "five pairs"),
        (minimal(faces=[{"box": [1, 2, 3, 4], "keep": "yes"}]), "true or false"),
        (minimal(faces=[{"box": [1, 2, 3, 4], "method": "melt"}]), "melt"),
        (minimal(faces=[{"box": [1, 2, 3, 4], "key": "12"}]), "64 hexadecimal"),
        (minimal(faces=[{"box": [1, 2, 3, 4], "key": 12}]), "64 hexadecimal"),
        (minimal(faces=[{"box": [1, 2, 3, 4], "candidate": -1}]), "candidate"),
        (minimal(faces=[{"box": [1, 2, 3, 4], "confidence": "high"}]), "confidence"),
    ],
)
def test_a_wrong_edit_is_answered_in_one_line(content, says):
    with pytest.raises(UserError, match=says) as raised:
        sidecar.parse(content, (48, 64), MASTER_KEY, "a.faces.json")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    for name, says in (("a.json", "not JSON"), ("b.json", "cannot read")):
        with pytest.raises(UserError, match=says):
            sidecar.read(tmp_path / name, (48, 64), MASTER_KEY)


# Boxes files.


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "[[10, 20, 30, 40]]"),
        ("a.json", '[{"box": [10, 20, 30, 40]}]'),
        ("a.json", '{"p.jpg": [[10, 20, 30, 40]]}'),
        ("a.json", '{"faces": [{"box": [10, 20, 30, 40]}]}'),
        ("a.csv", "x,y,w,h\n10,20,30,40\n"),
        ("a.csv", "file, x, y, width, height\np.jpg, 10, 20, 30, 40\n"),
        ("a.csv", "\ufefffile,x,y,w,h,note\nfolder/p.jpg,10,20,30,40,me\n"),
    ],
)
def test_boxes_come_in_many_forms(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    photo = boxes.pathlib.Path("folder/p.jpg")
    (found,) = boxes.Boxes(tmp_path / name).of(photo)
    assert (found.box, found.keypoints, found.source) == ((10.0, 20.0, 30.0, 40.0), None, "user")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", "7", "list of boxes"),
        ("a.json", '{"p.jpg": 7}', "list of boxes"),
        ("a.json", "[[1, 2, 3]]", "a box is"),
        ("a.csv", "left,top\n1,2\n", "no column x"),
        ("a.csv", "x,y,w,h\n1,2,three,4\n", "line 2"),
        ("a.csv", "x,y,w,h\n1,2,3\n", "line 2"),
        ("a.csv", "file,x,y,w,h\np.jpg,1,2,3,4\n,1,2,3,4\n", "no file"),
    ],
)
def test_a_wrong_boxes_file_is_answered_in_one_line(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=says):
        boxes.Boxes(tmp_path / name)


def test_a_photo_that_is_not_listed_is_not_taken_for_one_without_faces(tmp_path):
    (tmp_path / "a.json").write_text('{"p.jpg": [], "q.jpg": [[1, 2, 3, 4]]}')
    listed = boxes.Boxes(tmp_path / "a.json")
    assert listed.of(boxes.pathlib.Path("p.jpg")) == []
    with pytest.raises(UserError, match="lists no faces for r"):
        listed.of(boxes.pathlib.Path("r.jpg"))


# Keys and latents.


def test_keys_and_latents_are_what_they_were():
    """A changed derivation would draw other faces from the same secret and the same sidecar."""
    key = key_derivation.track_key(key_derivation.master_key_from_seed(7), 0)
    assert key.hex() == "4700a224c1c3b871614e2920b250b04b06ac8548f83ed9e930801d673b0b4bd6"
    np.testing.assert_allclose(
        key_derivation.latent(key, 0, 3), [-0.5978, -0.56434, 0.64941], atol=1e-5
    )


def test_quantiles_are_those_of_the_standard_library_bit_by_bit():
    p = (np.random.default_rng(0).integers(0, 2**32, 5000) + 0.5) / 2**32
    p = np.concatenate([p, [0.5 / 2**32, 1 - 0.5 / 2**32, 0.5, 0.075, 0.925, 0.0749999]])
    expected = [statistics.NormalDist().inv_cdf(one) for one in p]
    np.testing.assert_array_equal(normal.quantiles(p), expected)


def test_latents_are_standard_normal_and_differ():
    key = key_derivation.track_key(MASTER_KEY, 0)
    drawn = np.concatenate([key_derivation.latent(key, i, 64) for i in range(200)])
    assert abs(drawn.mean()) < 0.03 and abs(drawn.std() - 1) < 0.03
    assert len(np.unique(drawn)) > 12_000
    assert key_derivation.track_key(MASTER_KEY, 1) != key != key_derivation.track_key(b"t" * 32, 0)
    np.testing.assert_array_equal(
        key_derivation.latent(key, 3, 64)[:8], key_derivation.latent(key, 3, 8)
    )


def test_fresh_secrets_differ_and_short_secret_files_are_refused(tmp_path):
    assert key_derivation.new_master_key() != key_derivation.new_master_key()
    (tmp_path / "short").write_bytes(b"abc")
    for name, says in (("short", "3 bytes"), ("none", "cannot read")):
        with pytest.raises(UserError, match=says):
            key_derivation.read_master_key(tmp_path / name)
    (tmp_path / "long").write_bytes(MASTER_KEY)
    assert key_derivation.read_master_key(tmp_path / "long") == MASTER_KEY


# Names of results.


def tree(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def targets(tmp_path, inputs, output=None, in_place=False):
    tasks, rest = outputs.tasks_of([str(tmp_path / i) for i in inputs], output, in_place)
    return {
        str(task.source.relative_to(tmp_path)): str(task.target.relative_to(tmp_path))
        for task in tasks
    }, rest.endings.total()


def test_a_result_lies_beside_its_source(tmp_path):
    tree(tmp_path, "a.jpg", "sub/b.PNG", "sub/c.txt", "a_anonymized.jpg", ".hidden.jpg")
    assert targets(tmp_path, ["a.jpg"]) == ({"a.jpg": "a_anonymized.jpg"}, 0)
    # The results of an earlier run are no inputs of the next one.
    expected = {"a.jpg": "a_anonymized.jpg", "sub/b.PNG": "sub/b_anonymized.PNG"}
    assert targets(tmp_path, ["."]) == (expected, 1)


def test_a_folder_keeps_its_structure(tmp_path):
    tree(tmp_path, "in/a.jpg", "in/x/b.jpg", "in/x/y/c.webp", "d.jpg")
    found, _ = targets(tmp_path, ["in", "d.jpg"], str(tmp_path / "out"))
    assert found == {
        "in/a.jpg": "out/a.jpg", "in/x/b.jpg": "out/x/b.jpg", "in/x/y/c.webp": "out/x/y/c.webp",
        "d.jpg": "out/d.jpg",
    }  # fmt: skip


def test_an_output_folder_inside_the_input_is_not_read(tmp_path):
    tree(tmp_path, "in/a.jpg", "in/out/a.jpg")
    assert targets(tmp_path, ["in"], str(tmp_path / "in/out")) == ({"in/a.jpg": "in/out/a.jpg"}, 0)


def test_one_photo_can_be_given_a_name(tmp_path):
    tree(tmp_path, "a.jpg", "b.jpg")
    assert targets(tmp_path, ["a.jpg"], str(tmp_path / "new.png"))[0] == {"a.jpg": "new.png"}
    with pytest.raises(UserError, match="names one file for 2"):
        targets(tmp_path, ["a.jpg", "b.jpg"], str(tmp_path / "new.png"))


def test_globs_and_repetitions(tmp_path):
    tree(tmp_path, "a.jpg", "b.jpg", "c.png", "sub/d.jpg")
    assert set(targets(tmp_path, ["*.jpg", "a.jpg"])[0]) == {"a.jpg", "b.jpg"}
    assert set(targets(tmp_path, ["**/*.jpg"])[0]) == {"a.jpg", "b.jpg", "sub/d.jpg"}
    with pytest.raises(UserError, match="no photo or video matches"):
        targets(tmp_path, ["*.bmp"])


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to", None])
def test_an_input_is_never_overwritten_unasked(tmp_path, link):
    tree(tmp_path, "in/a.jpg", "in/a_anonymized.jpg")
    inputs = ["in/a.jpg", "in/a_anonymized.jpg"]
    if link:
        (tmp_path / "out").mkdir()
        getattr(tmp_path / "out" / "a.jpg", link)(tmp_path / "in/a.jpg")
        inputs = ["in/a.jpg"]
    with pytest.raises(UserError, match="would be overwritten"):
        targets(tmp_path, inputs, str(tmp_path / "out") if link else None)
    with pytest.raises(UserError, match="would be overwritten"):
        targets(tmp_path, ["in/a.jpg"], str(tmp_path / "in"))
    assert targets(tmp_path, ["in/a.jpg"], in_place=True)[0] == {"in/a.jpg": "in/a.jpg"}


def test_two_results_with_one_name_and_other_mistakes(tmp_path):
    tree(tmp_path, "x/a.jpg", "y/a.jpg", "z/notes.txt")
    for inputs, output, in_place, says in (
        (["x/a.jpg", "y/a.jpg"], str(tmp_path / "out"), False, "would both be written"),
        (["nothing.jpg"], None, False, "no file or folder"),
        (["z"], None, False, "no photo or video in"),
        (["x"], str(tmp_path / "out"), True, "leave out -o"),
    ):
        with pytest.raises(UserError, match=says):
            targets(tmp_path, inputs, output, in_place)
    for inputs, output in (([""], None), (["x"], "")):  # of a shell variable that is not set
        with pytest.raises(UserError, match="a name is empty"):
            outputs.tasks_of(inputs, output, in_place=output is None)
