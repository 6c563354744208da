import sys

import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.common import assets
from dp3_jax.common.errors import UserError
from dp3_jax.metrics import verification
from tests.verifiers import Colours


def squares(*colours):
    return np.array([np.full((4, 4, 3), colour) for colour in colours], np.uint8)


def test_pairs_without_a_face_are_neither_same_nor_different():
    verifier = Colours()
    red, green, black = (255, 0, 0), (0, 255, 0), (0, 0, 0)
    a = verifier.embed(squares(red, red, black, green, black))
    b = verifier.embed(squares(red, green, black, black, red))
    verdict = verification.verify(verifier, a, b)
    assert verdict == {
        "pairs": 5, "face_not_found": 3, "same_person": 1, "same_person_share": 0.5,
        "mean_cosine": pytest.approx(0.5),
    }  # fmt: skip


def test_no_face_at_all_is_no_verdict():
    verifier = Colours()
    black = verifier.embed(squares((0, 0, 0), (0, 0, 0)))
    verdict = verification.verify(verifier, black, black)
    assert verdict["face_not_found"] == 2
    assert verdict["same_person_share"] is None


@given(st.lists(st.integers(-1, 4), max_size=30), st.integers(0, 40), st.integers(0, 5))
def test_pairs_of_known_people_are_what_they_are_said_to_be(people, limit, seed):
    people = np.array(people, np.int32)
    same, different = verification.identity_pairs(people, limit, seed)
    again = verification.identity_pairs(people, limit, seed)
    assert all(np.array_equal(x, y) for x, y in zip((same, different), again, strict=True))
    assert len(different) <= len(same) <= limit
    for pairs, equal in ((same, True), (different, False)):
        assert len({tuple(pair) for pair in pairs.tolist()}) == len(pairs)
        for i, j in pairs:
            assert i < j
            assert people[i] >= 0 and people[j] >= 0
            assert (people[i] == people[j]) == equal


@pytest.fixture(scope="module")
def sface():
    """The real verifier; tests do not download its networks."""
    pytest.importorskip("cv2")
    for name in ("yunet", "sface"):
        path = assets.cache_folder() / assets.ASSETS[name].filename
        if not path.exists():
            pytest.skip(f"needs {path.name} in the asset cache; an evaluation fetches it")
    return verification.open_verifier("sface")


def test_the_same_face_is_recognized_at_any_size_and_no_face_is_not_found(sface):
    face = skimage.data.astronaut()[20:212, 130:322]
    rows, found = sface.embed(np.stack([face, face[:, ::-1]]))
    small, small_found = sface.embed(face[None, ::3, ::3])
    assert found.all() and small_found.all()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-5)
    assert rows[0] @ rows[1] > sface.threshold  # its mirror image
    assert rows[0] @ small[0] > sface.threshold
    empty, none = sface.embed(np.zeros((2, 128, 128, 3), np.uint8))
    assert not none.any() and not empty.any()


def test_real_faces_are_found_and_told_apart(sface, shared_data):
    from dp3_jax.data import DataOptions, load_arrays

    options = DataOptions(source="celeba", path=str(shared_data / "celeba"))
    heldout = load_arrays(options, "validation", limit=120)
    rows, found = sface.embed(heldout.images)
    assert found.mean() >= 0.98
    same, different = verification.identity_pairs(heldout.identities, 100, seed=0)
    shares = []
    for pairs in (same, different):
        left, right = ((rows[pairs[:, side]], found[pairs[:, side]]) for side in (0, 1))
        shares.append(verification.verify(sface, left, right)["same_person_share"])
    assert shares[0] > 0.8 and shares[1] < 0.05


DEEPFACE = """
from deepface.modules.exceptions import FaceNotDetected
class DeepFace:
    @staticmethod
    def represent(img_path, model_name, detector_backend, enforce_detection):
        print("a library talks", flush=True)
        if img_path.max() == 255:
            raise ValueError("could not download yunet.onnx")
        if enforce_detection and img_path.max() == 0:
            raise FaceNotDetected("Face could not be detected")
        small = {"embedding": [0.0, 1.0], "facial_area": {"w": 1, "h": 1}}
        large = {"embedding": img_path[0, 0, ::-1].tolist(), "facial_area": {"w": 9, "h": 9}}
        return [small, large]
"""


@pytest.fixture
def deepface(tmp_path, monkeypatch):
    """An environment whose DeepFace does as told; the real one fetches 580 MB before it does anything."""
    for name, text in {
        "__init__": DEEPFACE,
        "modules/__init__": "",
        "modules/exceptions": "class FaceNotDetected(ValueError): pass",
        "modules/verification": "def find_threshold(model, metric): return {'VGG-Face': 0.68}[model]",
    }.items():
        path = tmp_path / "deepface" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("DP3_DEEPFACE_PYTHON", sys.executable)
    return tmp_path / "deepface"


def test_deepface_is_talked_to_in_an_environment_of_its_own(deepface):
    verifier = verification.open_verifier("deepface")
    assert verifier.threshold == pytest.approx(0.32)
    pictures = np.zeros((3, 8, 9, 3), np.uint8)
    pictures[1:] = [[[3, 4, 0]]], [[[0, 0, 7]]]  # RGB, handed on as BGR
    embeddings, found = verifier.embed(pictures)
    assert found.tolist() == [False, True, True]
    np.testing.assert_allclose(embeddings[1:], [[0.6, 0.8, 0], [0, 0, 1]], atol=1e-6)


def test_only_deepfaces_own_word_for_it_means_that_no_face_was_found(deepface):
    verifier = verification.open_verifier("deepface")
    with pytest.raises(UserError, match=r"VGG-Face: ValueError: could not download yunet\.onnx"):
        verifier.embed(np.full((1, 8, 8, 3), 255, np.uint8))


def test_a_deepface_that_cannot_run_is_one_clear_line(deepface, monkeypatch):
    (deepface / "__init__.py").write_text("import werkzeug_is_missing")
    with pytest.raises(UserError, match=r"No module named .*pip install deepface tf-keras"):
        verification.open_verifier("deepface")
    (deepface / "__init__.py").write_text("import os; os._exit(3)")
    with pytest.raises(UserError, match="it ended with 3"):
        verification.open_verifier("deepface")
    monkeypatch.setenv("DP3_DEEPFACE_PYTHON", str(deepface / "no python"))
    with pytest.raises(UserError, match="No such file or directory; set it up"):
        verification.open_verifier("deepface")
    monkeypatch.delenv("DP3_DEEPFACE_PYTHON")
    with pytest.raises(UserError, match=r"python3 -m venv .* export DP3_DEEPFACE_PYTHON="):
        verification.open_verifier("deepface")


@pytest.mark.parametrize(("module", "verifier"), [("dlib", "dlib"), ("cv2", "sface")])
def test_a_missing_package_is_named_with_what_to_do(monkeypatch, module, verifier):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not there
    with pytest.raises(UserError, match=rf"{module}.*: pip install [^,;]*$") as caught:
        verification.open_verifier(verifier)
    assert "\n" not in str(caught.value)


def test_judges_that_cannot_be_had_are_left_out_with_the_reason():
    def broken():
        raise UserError("no network")

    makers = {"broken": broken, "colours": Colours}
    opened, missing = verification.open_verifiers(
        ["colours", "broken"], makers, "the list", "do without"
    )
    assert list(opened) == ["colours"] and isinstance(opened["colours"], Colours)
    assert missing == {"broken": "no network; or do without"}
    with pytest.raises(UserError, match="the list names 'sfaec'; there are: broken, colours"):
        verification.open_verifiers(["sfaec"], makers, "the list", "do without")
