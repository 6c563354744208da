"""Which result belongs to which original, and who is who."""

import json

import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.evaluation.audit.pairing import pair
from dp3_jax.evaluation.audit.people import read_people
from dp3_jax.pipelines.manifest import FORMAT
from dp3_jax.pipelines.outputs import PREVIEW_MARK


@pytest.fixture
def tree(tmp_path):
    """Makes empty files; what pairs them are their names."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return make


def names(found, root):
    return {p.name: p.anonymized.relative_to(root).as_posix() for p in found.pairs}


def test_results_keep_their_names_and_folders(tree):
    root = tree("in/a.jpg", "in/deep/b.png", "in/c.txt", "out/a.jpg", "out/deep/b.png", "out/x.jpg")
    found = pair(root / "in", root / "out")
    assert names(found, root) == {"a.jpg": "out/a.jpg", "deep/b.png": "out/deep/b.png"}
    assert found.without_original == ("x.jpg",)


def test_results_lie_beside_their_originals_with_the_usual_ending(tree):
    root = tree(
        "in/a.jpg", "in/a_anonymized.jpg", "in/b.mp4", "in/b_anonymized.mkv", "in/lonely.jpg"
    )
    found = pair(root / "in", root / "in")
    assert names(found, root) == {"a.jpg": "in/a_anonymized.jpg", "b.mp4": "in/b_anonymized.mkv"}
    assert found.without_result == ("lonely.jpg",)


def test_a_result_may_have_another_container_but_not_another_kind(tree):
    root = tree("in/a.avi", "in/b.jpg", "out/a.mp4", "out/b.mp4")
    found = pair(root / "in", root / "out")
    assert names(found, root) == {"a.avi": "out/a.mp4"}
    assert found.without_result == ("b.jpg",)


def test_the_manifest_of_the_run_goes_before_names(tree):
    root = tree("in/a.jpg", "in/b.jpg", "out/b.jpg", "out/a.jpg")
    lines = [{"format": FORMAT, "source": "in/a.jpg", "target": "out/b.jpg"}]
    text = "\n".join([*map(json.dumps, lines), '{"cut off'])
    (root / "out.manifest.jsonl").write_text(text)
    assert names(pair(root / "in", root / "out"), root)["a.jpg"] == "out/b.jpg"


def test_results_in_a_folder_below_are_no_originals_and_previews_are_neither(tree):
    root = tree("a.jpg", "out/a.jpg")
    (root / "out" / "a.jpg.preview.png").write_text(PREVIEW_MARK)
    found = pair(root, root / "out")
    assert names(found, root) == {"a.jpg": "out/a.jpg"}
    assert not found.without_result and not found.without_original


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("in", "nowhere", "there is no file or folder"),
        ("in", "out/a.jpg", "two files or two folders"),
        ("in/a.jpg", "in/a.jpg", "both the original and the result"),
        ("in/a.jpg", "out/v.mp4", "not both photos or both videos"),
        ("in/note.txt", "out/a.jpg", "neither a photo nor a video"),
        ("in", "empty", "has the name of one in"),
    ],
)
def test_what_cannot_be_paired_is_said_in_one_line(tree, one, other, said):
    root = tree("in/a.jpg", "in/note.txt", "out/a.jpg", "out/v.mp4", "empty/z.jpg")
    with pytest.raises(UserError, match=said) as caught:
        pair(root / one, root / other)
    assert "\n" not in str(caught.value)


def test_people_are_named_by_folders_or_by_a_file(tmp_path):
    listed = ["ann/1.jpg", "ann/2.jpg", "bob/1.jpg", "top.jpg"]
    found = read_people("folders", listed)
    assert found["ann/1.jpg"] == found["ann/2.jpg"] != found["bob/1.jpg"] and "top.jpg" not in found
    file = tmp_path / "who.csv"
    file.write_text("file,person\nann/1.jpg,A\ntop.jpg,A\n")
    found = read_people(file, listed)
    assert set(found) == {"ann/1.jpg", "top.jpg"} and len(set(found.values())) == 1
    assert read_people(None, listed) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "columns"),
        ("file,person\nx.jpg,A\n", "names none"),
        ("file,person\n,A\n", "line 2"),
    ],
)
def test_a_wrong_list_of_people_is_said_in_one_line(tmp_path, text, said):
    file = tmp_path / "who.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=said):
        read_people(file, ["a.jpg"])
    with pytest.raises(UserError, match="a folder for each person"):
        read_people("folders", ["a.jpg"])
