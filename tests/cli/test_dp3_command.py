"""The command `dp3 anonymize` as people use it, and which faces it leaves."""

import io
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from dp3_jax.cli.main import build_parser, main
from dp3_jax.cli.unused_options import VIDEO_ONLY
from dp3_jax.common import assets
from dp3_jax.common.errors import UserError
from dp3_jax.detection.face_detection import Detection
from dp3_jax.media import photos
from dp3_jax.pipelines import allowlist
from dp3_jax.pipelines.anonymize import Anonymizer
from tests.face_photos import (
    BOX,
    MASTER_KEY,
    POINTS,
    Broken,
    Painter,
    astronaut,
    detector_or_skip,
    face,
    masked,
    stand_in_generator,
)

# Keeping.


def test_keep_by_region_needs_the_face_well_inside():
    allowed = allowlist.Allowlist(["170,60,110,130"])
    inside, outside = Detection(BOX, None, 1.0), Detection((240.0, 68.0, 85.0, 112.0), None, 1.0)
    assert [bool(r) for r in allowed.decide(astronaut(), [inside, outside])] == [True, False]
    with pytest.raises(UserError, match="positive size"):
        allowlist.Allowlist(["1,2,0,4"])


def test_keep_by_reference_keeps_that_person_only(tmp_path):
    detector = detector_or_skip()
    frame = astronaut()
    Image.fromarray(frame[:256, 100:356]).save(tmp_path / "her.jpg")
    try:
        allowed = allowlist.Allowlist([str(tmp_path / "her.jpg")], detector)
    except UserError as error:
        if "fetch" not in str(error):
            raise
        pytest.skip(str(error))
    mirrored = np.concatenate([frame, frame[:, ::-1]], 1)  # twice the same person: unclear
    for picture, kept in ((frame, 1), (mirrored, 0)):
        faces = [f for f in detector.detect(picture) if f.confidence > 0.8]
        assert sum(bool(r) for r in allowed.decide(picture, faces)) == kept
    unclear = Detection(BOX, None, 1.0, "user")  # no points, so it cannot be compared
    assert allowed.decide(frame, [unclear]) == [""]


def test_a_reference_that_shows_nobody_or_several_is_refused(tmp_path):
    detector = detector_or_skip()
    Image.new("RGB", (200, 200)).save(tmp_path / "nobody.png")
    Image.fromarray(np.tile(astronaut(), (1, 2, 1))).save(tmp_path / "two.png")
    for name, says in (("nobody.png", "no clear face"), ("two.png", "2 faces")):
        with pytest.raises(UserError, match=says):
            allowlist.Allowlist([str(tmp_path / name)], detector)


# The command.


@pytest.fixture
def weights(monkeypatch):
    stand_in_generator(monkeypatch)


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(astronaut()).save(tmp_path / "a.png")
    (tmp_path / "boxes.json").write_text(json.dumps([{"box": BOX, "points": POINTS.tolist()}]))
    return tmp_path / "a.png"


def run(*arguments):
    return main(["anonymize", *map(str, arguments)])


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def test_two_faces_under_one_mask_give_the_same_file(photo, weights, tmp_path):
    other = astronaut()
    other[masked(face())] = np.random.default_rng(0).integers(0, 256, (masked(face()).sum(), 3))
    Image.fromarray(other).save(tmp_path / "b.png")
    for name in ("a", "b"):
        source, target = tmp_path / f"{name}.png", tmp_path / "out" / f"{name}.png"
        assert run(source, "-o", target, "--boxes", tmp_path / "boxes.json", "--seed", 1) == 0
    a, b = ((tmp_path / "out" / name).read_bytes() for name in ("a.png", "b.png"))
    assert a == b


def test_a_sidecar_renders_the_same_file_again_and_can_be_edited(photo, weights, tmp_path):
    first, again = tmp_path / "1.png", tmp_path / "2.png"
    options = ["--boxes", tmp_path / "boxes.json", "--candidates", 3]
    assert run(photo, "-o", first, *options, "--sidecar", "--preview") == 0
    record = tmp_path / "1.png.faces.json"
    assert run(photo, "-o", again, "--faces", record) == 0
    assert first.read_bytes() == again.read_bytes()
    assert pixels(tmp_path / "1.png.preview.png").shape == (512, 3 * 512, 3)
    content = json.loads(record.read_text())
    assert content["faces"][0]["done"] == "generated"
    content["faces"][0]["keep"] = True
    record.write_text(json.dumps(content))
    assert run(photo, "-o", again, "--faces", record) == 0
    np.testing.assert_array_equal(pixels(again), astronaut())


def test_given_boxes_need_no_network(photo, monkeypatch, tmp_path):
    monkeypatch.setattr(Anonymizer, "generator", Painter())

    def fetch(name):
        raise AssertionError(f"{name} is asked for")

    monkeypatch.setattr(assets, "fetch", fetch)
    monkeypatch.setenv("DP3_ASSETS", str(tmp_path / "empty"))
    assert run(photo, "--boxes", tmp_path / "boxes.json") == 0


def test_every_run_without_a_secret_draws_other_faces(photo, weights, tmp_path):
    options = ["--boxes", tmp_path / "boxes.json"]
    for name in ("1.png", "2.png"):
        assert run(photo, "-o", tmp_path / name, *options) == 0
    assert (pixels(tmp_path / "1.png") != pixels(tmp_path / "2.png")).any()
    (tmp_path / "secret").write_bytes(MASTER_KEY)
    for name in ("3.png", "4.png"):
        assert (
            run(photo, "-o", tmp_path / name, *options, "--secret-file", tmp_path / "secret") == 0
        )
    assert (tmp_path / "3.png").read_bytes() == (tmp_path / "4.png").read_bytes()


def test_a_broken_file_among_others_is_named_and_skipped(tmp_path, capsys):
    folder = tmp_path / "in"
    (folder / "x").mkdir(parents=True)
    for name in ("a.jpg", "x/c.webp"):
        Image.fromarray(astronaut()).save(folder / name)
    (folder / "b.jpg").write_bytes((folder / "a.jpg").read_bytes()[:3000])
    (folder / "notes.txt").write_text("no photo")
    listed = {name: [BOX] for name in ("a.jpg", "b.jpg", "c.webp")}
    (tmp_path / "boxes.json").write_text(json.dumps(listed))
    options = ["--boxes", tmp_path / "boxes.json", "--method", "pixelate"]
    assert run(folder, "-o", tmp_path / "out", *options, "--json") == 1
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["summary"]["photos"] == 2 and report["summary"]["skipped"] == 1
    assert "skipped: cannot read" in printed.err and "b.jpg" in printed.err
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert found == ["a.jpg", "x/c.webp"]
    files = folder / "a.jpg", folder / "x/c.webp"
    assert run(*files, "-o", tmp_path / "out", *options, "--redo") == 0
    assert "2 photos, 2 faces (2 pixelated)" in capsys.readouterr().out


def test_a_face_that_could_not_be_made_is_in_status_and_summary(
    photo, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(Anonymizer, "generator", Broken("raises"))
    monkeypatch.setattr(Anonymizer, "is_face", None)
    assert run(photo, "--boxes", tmp_path / "boxes.json") == 1
    printed = capsys.readouterr()
    assert "1 covered" in printed.out and "generation failed: out of memory" in printed.err
    assert (pixels(tmp_path / "a_anonymized.png") != astronaut()).any()


def test_in_place_replaces_the_input(photo, tmp_path):
    assert run(photo, "--in-place", "--boxes", tmp_path / "boxes.json", "--method", "solid") == 0
    assert (pixels(photo)[130, 220] == 128).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "boxes.json"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing.jpg"], "no file or folder"),
        (["a.png", "--method", "melt"], "invalid choice"),
        (["a.png", "--seed", "1", "--secret-file", "x"], "not allowed with"),
        (["a.png", "--faces", "boxes.json"], "cannot use"),
        (["a.png", "--boxes", "none.json"], "cannot read"),
        (["a.png", "--candidates", "0"], "1 to 64"),
        (["a.png", "--keep", "1,2,3,0", "--boxes", "boxes.json"], "positive size"),
        (["a.png", "--faces", "x", "--keep", "1,2,3,4"], "does not go with"),
        (["a.png", "b.png", "--faces", "x"], "belongs to one input"),
        (["a.png", "b.png", "--boxes", "boxes.json", "--method", "blur"], "does not say which"),
        (["a.png", "--weights", "none.safetensors", "--boxes", "boxes.json"], "weights"),
        (["a.png", "-o", "a.png"], "would be overwritten"),
        (["a.png", "--age", "300"], "3 to 80 years, not 300"),
        (["a.png", "--person", "woman with blond hair"], "'blond' is not known"),
        (["a.png", "--person", "man", "--age", "30"], "leave out --age"),
        (["a.png", "--age", "nan"], "3 to 80 years"),
        ([], "required"),
    ],
)
def test_a_mistake_is_answered_in_one_line(photo, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(photo.parent)
    Image.fromarray(astronaut()).save("b.png")
    status = run(*arguments)
    printed = capsys.readouterr()
    line = printed.err.strip()
    assert says in line and "\n" not in line
    assert status == (1 if line.startswith("skipped") else 2)
    assert sorted(p.name for p in photo.parent.iterdir()) == ["a.png", "b.png", "boxes.json"]


def test_options_for_videos_are_said_to_do_nothing_where_there_is_none(photo, tmp_path, capsys):
    options = [photo, "-o", tmp_path / "new.png", "--method", "blur"]
    options += ["--boxes", tmp_path / "boxes.json"]
    assert run(*options, "--container", "webm", "--motion", "none") == 0
    note = "note: no input is a video, so --motion, --container do nothing"
    assert capsys.readouterr().err.strip().splitlines() == [note]
    assert run(*options, "--deinterlace") == 0
    assert "so --deinterlace does nothing" in capsys.readouterr().err
    assert run(*options) == 0
    assert "note" not in capsys.readouterr().err
    ours = build_parser().parse_args(["anonymize", "a.png"])
    assert {name: getattr(ours, name) for name in VIDEO_ONLY} == VIDEO_ONLY  # the defaults agree


def test_metadata_is_dropped_unless_asked_for(photo, tmp_path):
    exif = Image.Exif()
    exif[271] = "Camera maker"
    Image.fromarray(astronaut()).save(tmp_path / "a.jpg", exif=exif)
    options = ["--boxes", tmp_path / "boxes.json", "--method", "blur", "-o", tmp_path / "b.jpg"]
    for more, kept in (([], b""), (["--keep-metadata"], b"Exif")):
        assert run(tmp_path / "a.jpg", *options, *more) == 0
        assert bool(photos.read_photo(tmp_path / "b.jpg").exif) == bool(kept)


def test_a_reader_that_has_left_is_told_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DP3_ASSETS", str(tmp_path))
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["assets"]) == 2
    assert capsys.readouterr().err.startswith("error: nobody reads what is printed any more")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_behind_what_is_printed_is_told_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DP3_ASSETS", str(tmp_path))
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(full, write_through=True))
        assert main(["assets"]) == 2
    assert capsys.readouterr().err.startswith("error: there is no space left for what is printed")


def test_assets_are_listed_with_their_state(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DP3_ASSETS", str(tmp_path))
    (tmp_path / "face_detection_yunet_2023mar.onnx").write_bytes(b"half of it")
    assert main(["assets"]) == 0
    printed = capsys.readouterr().out
    lines = {line.split()[0]: line for line in printed.splitlines()[1:]}
    assert "damaged" in lines["yunet"] and "missing" in lines["sface"] and "MIT" in lines["yunet"]
    assert str(tmp_path) in printed
    assert main(["assets", "nothing"]) == 2
    assert "no asset" in capsys.readouterr().err
