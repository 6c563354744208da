"""Names of results: links, circles, names as long as can be, and what must not be overwritten."""

import os

import numpy as np
import pytest
from PIL import Image

from dp3_jax.cli.main import main
from dp3_jax.common import files
from dp3_jax.data.folder import open_folder
from dp3_jax.data.options import DataOptions
from dp3_jax.detection.detections import Detection
from dp3_jax.detection.kinds import KINDS
from dp3_jax.pipelines import outputs, reports
from dp3_jax.replacement.face_actions import Done, FaceAction, FaceResult
from tests.face_photos import astronaut


def run(*arguments):
    return main(["anonymize", *map(str, arguments), "--method", "solid"])


@pytest.fixture
def photo(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(astronaut()).resize((64, 64)).save(tmp_path / "in" / "a.png")
    (tmp_path / "boxes.json").write_text("[[10, 10, 30, 40]]")
    return tmp_path / "in" / "a.png"


def made(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def linked(tmp_path):
    """A tree with a link to a file, one to a folder elsewhere, one that leads back, and one to nothing."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("in/a.png", "elsewhere/c.png"):
        Image.fromarray(astronaut()).resize((64, 64)).save(tmp_path / name)
    (tmp_path / "in" / "b.png").symlink_to("a.png")
    (tmp_path / "in" / "sub" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "sub" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to("nothing.png")
    return tmp_path


NAMES = ["a.png", "b.png", "sub/more/c.png"]


def test_links_are_followed_and_each_name_has_a_result(linked, capsys):
    (linked / "boxes.json").write_text(
        '{"a.png": [[9, 9, 30, 40]], "b.png": [[9, 9, 30, 40]], "c.png": [], "gone.png": []}'
    )
    assert run(linked / "in", "-o", linked / "out", "--boxes", linked / "boxes.json") == 1
    assert made(linked / "out") == NAMES
    printed = capsys.readouterr().err
    assert "back leads back to a folder that it lies in" in printed
    assert "gone.png is a link to nothing" in printed


def test_in_place_a_file_with_two_names_is_anonymized_once(linked):
    (linked / "in" / "gone.png").unlink()
    tasks, _ = outputs.tasks_of([str(linked / "in")], in_place=True)
    targets = [task.target for task in tasks]
    assert targets == [(linked / "in/a.png").resolve(), (linked / "elsewhere/c.png").resolve()]


def test_a_data_set_of_links_has_one_example_for_each_name(linked):
    catalog = open_folder(DataOptions(source="folder", path=str(linked / "in")))
    assert list(catalog.names) == NAMES
    assert "leads back" in catalog.partition_note and "gone.png" in catalog.partition_note


@pytest.mark.parametrize("stem", ["n" * 246, "ä" * 123, "n" * 251])
def test_names_as_long_as_can_be_get_a_result_a_sidecar_and_a_preview(photo, tmp_path, stem):
    long = photo.rename(photo.with_name(f"{stem}.png"))
    options = ["--boxes", tmp_path / "boxes.json", "--sidecar", "--preview"]
    assert run(long, "-o", tmp_path / "out", *options) == 0
    found = made(tmp_path / "out")
    assert long.name in found and len(found) == 3
    assert sum(name.endswith(".faces.json") for name in found) == 1
    assert run(long, *options) == 0
    assert run(tmp_path / "in", *options) == 0  # results and previews are not read again
    assert len(made(tmp_path / "in")) == 4


def test_shortened_names_fit_and_differ():
    names = ["x" * 300 + end for end in "ab"] + ["ä" * 200, "x"]
    cut = [files.fitting(name, ".faces.json") for name in names]
    assert all(len(os.fsencode(name)) <= 255 and name.endswith(".faces.json") for name in cut)
    assert len(set(cut)) == 4 and cut[-1] == "x.faces.json"


def test_a_name_that_no_file_can_have_is_answered_in_one_line(photo, tmp_path, capsys):
    for arguments in (["n" * 300 + ".png"], [photo, "-o", tmp_path / ("n" * 300 + ".png")]):
        assert run(*arguments, "--boxes", tmp_path / "boxes.json") in (1, 2)
        line = capsys.readouterr().err.strip()
        assert "\n" not in line and "report this" not in line


def test_photos_of_one_stem_have_a_preview_each(photo, tmp_path):
    Image.open(photo).save(photo.with_suffix(".jpg"))
    (tmp_path / "boxes.json").write_text('{"a.png": [[9, 9, 30, 40]], "a.jpg": []}')
    options = ["--boxes", tmp_path / "boxes.json", "--preview"]
    assert run(tmp_path / "in", "-o", tmp_path / "out", *options) == 0
    expected = ["a.jpg", "a.jpg.preview.png", "a.png", "a.png.preview.png"]
    assert made(tmp_path / "out") == expected


@pytest.mark.parametrize("option", ["--preview", "--sidecar"])
def test_a_user_s_file_by_the_name_of_an_extra_is_not_overwritten(photo, tmp_path, option, capsys):
    name = {"--preview": "a.png.preview.png", "--sidecar": "a.png.faces.json"}[option]
    Image.new("RGB", (8, 8)).save(photo.with_name("mine.png"))
    mine = photo.with_name("mine.png").rename(photo.with_name(name))
    before = mine.read_bytes(), photo.read_bytes()
    arguments = [photo, "--in-place", option, "--boxes", tmp_path / "boxes.json"]
    assert run(*arguments) == 2
    assert "would overwrite" in capsys.readouterr().err
    assert (mine.read_bytes(), photo.read_bytes()) == before
    mine.unlink()
    assert run(*arguments) == 0 and mine.exists()
    assert run(*arguments) == 0  # our own is replaced


def test_a_preview_of_another_input_is_not_overwritten(photo, tmp_path):
    other = photo.with_name("a.png.preview.png")
    Image.open(photo).save(other)
    (tmp_path / "boxes.json").write_text('{"a.png": [], "a.png.preview.png": []}')
    tasks, _ = outputs.tasks_of([str(tmp_path / "in")], in_place=True)
    assert [task.source.name for task in tasks] == ["a.png", "a.png.preview.png"]
    options = ["--in-place", "--preview", "--boxes", tmp_path / "boxes.json"]
    assert run(tmp_path / "in", *options) == 2


def test_other_files_in_a_folder_are_counted_by_their_endings(photo, tmp_path):
    for name in ("x.heic", "y.heic", "notes.txt"):
        (tmp_path / "in" / name).write_bytes(b"")
    _, rest = outputs.tasks_of([str(tmp_path / "in")])
    summary = reports.summarize([], 1.0)
    assert "3 other files in the folders left alone (.heic, .txt)" in reports.summary_line(
        summary, rest
    )


def test_a_pipe_is_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "boxes.json").write_text("[]")
    assert run(tmp_path / "a.png", "--boxes", tmp_path / "boxes.json") == 1
    assert "it is no file" in capsys.readouterr().err


def test_the_preview_shows_the_photo_three_times(photo, tmp_path):
    assert run(photo, "--preview", "--boxes", tmp_path / "boxes.json") == 0
    preview = photo.with_name("a_anonymized.png.preview.png")
    assert np.asarray(Image.open(preview)).shape == (64, 3 * 64, 3)


def test_the_summary_names_what_was_found_by_its_kind(tmp_path):
    def found(kind, done):
        face = Detection(np.array([1.0, 2, 30, 40]), None, 0.9, kind=KINDS[kind])
        return FaceResult(FaceAction(face, bytes(32)), Done(done))

    task = outputs.Task(tmp_path / "a.png", tmp_path / "b.png")
    results = found("face", "generated"), found("body", "solid"), found("body", "solid")
    said = reports.summarize([reports.Report(task, 1.0, results)], 1.0)
    line = reports.summary_line(said, outputs.Rest())
    assert "2 bodies, 1 face (1 generated, 2 solid)" in line
    faces = reports.as_json(reports.Report(task, 1.0, results), sidecar=False, preview=False)
    assert [face.get("kind") for face in faces["faces"]] == [None, "body", "body"]
