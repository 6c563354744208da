"""`dp3 anonymize` for videos as people use it: what comes out, and which faces are left."""

import json

import av
import numpy as np
import pytest
from PIL import Image

from dp3_jax.detection.face_detection import Detection
from dp3_jax.media.video import reading
from dp3_jax.pipelines.video import job
from tests import video_makers
from tests.face_photos import Painter, astronaut, detector_or_skip
from tests.video_scenes import (
    SIZE,
    background,
    draw,
    images,
    paths,
    rows,
    run,
    scene,
    signal,
    stand_in,
)

ONE = paths(20, ((20, 20), (3, 0)))
TWO = paths(20, ((10, 25), (1, 0)), ((110, 30), (-1, 0)))


@pytest.fixture
def finder(monkeypatch):
    return stand_in(monkeypatch)


@pytest.fixture
def given(tmp_path, finder):
    """A function that makes a clip and the file of its boxes: (clip, ["--boxes", file])."""

    def make(boxes, name="a.mkv", listed=None):
        (tmp_path / "boxes.csv").write_text(rows(boxes if listed is None else listed))
        return scene(tmp_path / name, boxes), ["--boxes", tmp_path / "boxes.csv"]

    return make


def times(path):
    """When all frames are shown, and for how long, in s."""
    with reading.read_frames(path) as frames:
        tick = frames.info.time_base
        found = [(float(f.pts * tick), float((f.duration or 0) * tick)) for f in frames]
    return tuple(zip(*found, strict=True))


def sound(path):
    with av.open(str(path)) as opened:
        streams = opened.streams.audio
        return [bytes(p) for p in opened.demux(streams) if p.size] if streams else []


def away(boxes, person=0, shape=(96, 160)):
    """bool[frames, h, w]: pixels that are further than a face from that of a person."""
    masks = np.ones((len(boxes), *shape), bool)
    for mask, many in zip(masks, boxes, strict=True):
        x, y, w, h = map(round, many[person])
        mask[max(0, y - h // 2) : y + h * 3 // 2, max(0, x - w // 2) : x + w * 3 // 2] = False
    return masks


def left(path, boxes, person):
    """Of each frame: the share of a person's drawn face that is as it was."""
    shares = []
    for picture, many in zip(images(path), boxes, strict=True):
        drawn = np.zeros_like(picture)
        draw(drawn, many[person])
        shares.append(float(signal(picture)[signal(drawn)].mean()))
    return shares


FORMATS = {
    **video_makers.FORMATS,
    "a.avi": {"codec": "mpeg4", "options": {"qmin": "1", "qmax": "2"}},
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_video_keeps_its_times_its_sound_and_all_of_the_picture_but_the_face(
    finder, tmp_path, name
):
    source, target = scene(tmp_path / name, ONE, **FORMATS[name]), tmp_path / f"b{name[1:]}"
    assert run(source, "-o", target, "--method", "solid") == 0
    before, after = images(source), images(target)
    assert before.shape == after.shape
    (shown, lasting), (shown_before, lasting_before) = times(target), times(source)
    np.testing.assert_allclose(shown, shown_before, atol=1e-3)
    if name != "a.mkv":  # whose frames all claim to last as long
        np.testing.assert_allclose(lasting, lasting_before, atol=1e-3)
    assert sound(source) == sound(target)
    assert bool(sound(target)) == ("audio" in FORMATS[name])
    assert signal(before).any((1, 2)).all() and not signal(after).any()
    turned = "rotation" in FORMATS[name]
    masks = np.rot90(away(ONE), -1, (1, 2)) if turned else away(ONE)
    error = np.abs(before.astype(int) - after)[masks]
    assert error.mean() < (0.1 if name == "a.mkv" else 2.5)
    info = reading.open_video(target)
    assert info.codec == reading.open_video(source).codec
    assert sorted(p.name for p in tmp_path.iterdir()) == [name, target.name]


def test_a_gif_stays_one(finder, tmp_path):
    boxes = paths(6, ((20, 20), (3, 0)))
    pictures = [background(f) for f in range(6)]
    for picture, many in zip(pictures, boxes, strict=True):
        draw(picture, many[0])
    first, *rest = map(Image.fromarray, pictures)
    durations = [100, 40, 250, 100, 70, 100]
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest, duration=durations, loop=0)
    assert run(tmp_path / "a.gif", "--method", "solid") == 0
    target = tmp_path / "a_anonymized.gif"
    assert not signal(images(target)).any()
    with Image.open(target) as made:
        assert made.info["loop"] == 0
        shown = []
        for number in range(made.n_frames):
            made.seek(number)
            shown.append(made.info["duration"])
    assert shown == durations


def test_sound_can_be_dropped_and_other_containers_chosen(finder, tmp_path):
    source = video_makers.two_audio(tmp_path / "a.mp4").write()
    assert run(source, "--audio", "drop", "-o", tmp_path / "b.mkv") == 0
    assert len(sound(source)) > 0 and sound(tmp_path / "b.mkv") == []
    assert reading.open_video(tmp_path / "b.mkv").container.startswith("matroska")


# Which faces, how, and when.


@pytest.mark.parametrize(
    ("method", "done"),
    [("generate", "generated"), ("blur", "blurred"), ("pixelate", "pixelated"), ("solid", "solid")],
)
def test_methods(given, tmp_path, capsys, method, done):
    source, boxes = given(ONE)
    assert run(source, *boxes, "--method", method, "--json") == 0
    entry = json.loads(capsys.readouterr().out)
    assert entry["summary"]["done"] == {done: 1}
    made = images(tmp_path / "a_anonymized.mkv")
    changed = (made != images(source)).any(-1)
    assert changed.any((1, 2)).all() and not changed[away(ONE)].any()
    if method in ("generate", "solid"):
        assert not signal(made).any()


def test_spans_say_when_faces_are_hidden(given, tmp_path):
    source, boxes = given(ONE)
    spans = ["--spans", "0:00.2-0.4,0.6-"]  # at 25 frames/s: 5 to 9, and from 15 on
    assert run(source, *boxes, "--method", "solid", *spans) == 0
    hidden = [share == 0 for share in left(tmp_path / "a_anonymized.mkv", ONE, 0)]
    assert hidden == [5 <= f < 10 or f >= 15 for f in range(20)]
    shown = images(tmp_path / "a_anonymized.mkv")[:5]
    np.testing.assert_array_equal(shown, images(source)[:5])


@pytest.mark.parametrize("boxes_given", [True, False])
def test_faces_in_a_region_are_kept_and_the_others_hidden(given, finder, tmp_path, boxes_given):
    source, boxes = given(TWO)
    finder.told = TWO
    more = boxes if boxes_given else []
    assert run(source, *more, "--method", "solid", "--keep", "0,0,80,96") == 0
    target = tmp_path / "a_anonymized.mkv"
    assert left(target, TWO, 0) == [1.0] * 20 and left(target, TWO, 1) == [0.0] * 20


def test_who_leaves_the_region_is_not_kept(given, tmp_path):
    source, boxes = given(ONE)  # 3 px a frame to the right
    assert run(source, *boxes, "--method", "solid", "--keep", "0,0,80,96") == 0
    assert left(tmp_path / "a_anonymized.mkv", ONE, 0) == [0.0] * 20


def test_what_is_hardly_a_face_is_covered_as_asked(finder, monkeypatch, tmp_path):
    """Where new faces are made it is blurred; a stronger cover must not become a blur."""
    source = scene(tmp_path / "a.mkv", ONE)
    monkeypatch.setattr(
        type(finder),
        "_faces",
        lambda self, f: [Detection(ONE[f.number][0], None, 0.55, "detected")],
    )
    record = tmp_path / "solid.mkv.tracks.json"
    for method in ("solid", "generate"):
        target = tmp_path / f"{method}.mkv"
        assert run(source, "-o", target, "--method", method, "--sidecar") == 0
    assert left(tmp_path / "solid.mkv", ONE, 0) == [0.0] * 20
    made = images(tmp_path / "generate.mkv")
    assert (made != images(tmp_path / "solid.mkv")).any()
    # So in the sidecar too, whichever method it is rendered with.
    for before, method in (("generate", "solid"), ("solid", "generate")):
        record = tmp_path / f"{before}.mkv.tracks.json"
        assert run(source, "-o", tmp_path / "c.mkv", "--faces", record, "--method", method) == 0
        np.testing.assert_array_equal(
            images(tmp_path / "c.mkv"), images(tmp_path / f"{method}.mkv")
        )


# Seeds and sidecars.


def test_the_same_seed_gives_the_same_faces_and_no_secret_others(given, tmp_path):
    source, boxes = given(ONE)
    made = {}
    for name, more in (("1", ["--seed", 7]), ("2", ["--seed", 7]), ("3", []), ("4", [])):
        assert run(source, "-o", tmp_path / f"{name}.mkv", *boxes, *more) == 0
        made[name] = (tmp_path / f"{name}.mkv").read_bytes()
    assert made["1"] == made["2"]
    assert len(set(made.values())) == 3


def test_a_sidecar_renders_the_same_video_again(given, tmp_path):
    source, boxes = given(TWO)
    assert run(source, "-o", tmp_path / "1.mkv", *boxes, "--sidecar") == 0
    record = tmp_path / "1.mkv.tracks.json"
    assert run(source, "-o", tmp_path / "2.mkv", "--faces", record) == 0
    assert (tmp_path / "1.mkv").read_bytes() == (tmp_path / "2.mkv").read_bytes()
    assert str(source.name) not in record.read_text()


THREE = paths(80, ((10, 25), (0, 0)), ((60, 30), (0, 0)), ((110, 30), (0, 0)))


def edited(given, tmp_path, listed, *edits):
    """The result of a clip of THREE with these boxes listed, and these edits in its tracks file."""
    source, boxes = given(THREE, listed=listed)
    assert run(source, "-o", tmp_path / "1.mkv", *boxes, "--method", "solid", "--sidecar") == 0
    record = tmp_path / "1.mkv.tracks.json"
    content = json.loads(record.read_text())
    content["edits"] = list(edits)
    record.write_text(json.dumps(content))
    assert run(source, "-o", tmp_path / "2.mkv", "--faces", record) == 0
    return [left(tmp_path / "2.mkv", THREE, person) for person in range(3)]


def test_a_track_can_be_kept_and_a_box_be_added(given, tmp_path):
    box = [*THREE[0][2]]
    shares = edited(
        given,
        tmp_path,
        [many[:2] for many in THREE],
        {"do": "keep", "track": 1},
        {"do": "box", "box": box, "first": 10, "last": 19},
    )
    assert shares[0] == [1.0] * 80 and shares[1] == [0.0] * 80
    assert shares[2] == [0.0 if 10 <= f < 20 else 1.0 for f in range(80)]


def test_a_track_can_be_split_and_two_be_merged(given, tmp_path):
    seen_late = [[many[0], *([many[2]] if not 5 < f < 75 else [])] for f, many in enumerate(THREE)]
    shares = edited(
        given,
        tmp_path,
        seen_late,
        {"do": "split", "track": 1, "frame": 30},
        {"do": "keep", "track": 1},
        {"do": "merge", "tracks": [2, 3]},
    )
    assert shares[0] == [1.0] * 30 + [0.0] * 50
    assert shares[2] == [0.0] * 80  # also between the two, where nobody saw it


def test_tracks_of_another_video_are_refused(given, tmp_path, capsys):
    source, boxes = given(ONE)
    assert run(source, *boxes, "--method", "solid", "--sidecar") == 0
    record = tmp_path / "a_anonymized.mkv.tracks.json"
    capsys.readouterr()
    for name, frames, more, says in (
        ("longer.mkv", 25, {}, "frame 20 is not the one"),
        ("shorter.mkv", 15, {}, "15 frames, but its tracks are of 20"),
        ("larger.mkv", 20, {"width": 192}, "192x96"),
    ):
        other = scene(tmp_path / name, paths(frames, ((20, 20), (3, 0))), **more)
        assert run(other, "-o", tmp_path / "b.mkv", "--faces", record) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line and not (tmp_path / "b.mkv").exists()


# Where results go and what is said.


def test_in_place_replaces_the_input_and_leaves_nothing_else(given, tmp_path):
    source, boxes = given(ONE)
    assert run(source, *boxes, "--method", "solid", "--in-place") == 0
    assert not signal(images(source)).any()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "boxes.csv"]


def test_photos_and_videos_in_one_call(finder, monkeypatch, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    scene(folder / "deep" / "a.mkv", ONE)
    scene(folder / "b.mp4", paths(10, ((200, 20), (0, 0))))  # nobody in it
    Image.fromarray(background()).save(folder / "c.png")

    class Nobody:
        detect = staticmethod(lambda frame: [])

    monkeypatch.setattr(job.Anonymizer, "detector", Nobody())
    assert run(folder, "-o", out, "--method", "solid", "--sidecar", "--json") == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    summary = report["summary"]
    assert (summary["photos"], summary["videos"], summary["frames"]) == (1, 2, 30)
    assert (summary["without_faces"], summary["faces"], summary["fallbacks"]) == (2, 1, 0)
    by_name = {entry["input"].rsplit("/", 1)[-1]: entry for entry in report["files"]}
    video = by_name["a.mkv"]
    assert (video["frames"], video["damage"], video["notes"]) == (20, "", [])
    assert video["output"] == str(out / "deep" / "a.mkv")
    assert video["sidecar"] == str(out / "deep" / "a.mkv.tracks.json")
    (face,) = video["faces"]
    assert face["done"] == "solid" and face["box"][2:] == pytest.approx(SIZE, abs=2)
    assert by_name["b.mp4"]["faces"] == [] and "frames" not in by_name["c.png"]
    made = {str(p.relative_to(out)) for p in out.rglob("*.*")}
    assert made == {
        "deep/a.mkv", "deep/a.mkv.tracks.json", "b.mp4", "b.mp4.tracks.json", "c.png",
        "c.png.faces.json",
    }  # fmt: skip
    assert run(folder, "-o", out, "--method", "solid") == 0
    assert "1 photo, 2 videos (30 frames), 1 face (1 solid)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.mkv", "--spans", "9-5"], "ends before it starts"),
        (["a.mkv", "b.mkv", "--boxes", "boxes.csv"], "takes one input"),
        (["a.mkv", "--faces", "none.json"], "cannot read"),
        (["a.mkv", "-o", "b.jpg"], "does not end like a video"),
        (["a.mkv", "--audio", "loud"], "invalid choice"),
        (["a.mkv", "--codec", "divx"], "unknown --codec"),
        (["a.mkv", "-o", "b.wmv"], "cannot write a video named"),
        (["a.mkv", "--codec", "h264", "--crf", "999"], "out of range"),
    ],
)
def test_a_mistake_is_answered_in_one_line(given, monkeypatch, capsys, arguments, says):
    source, _ = given(ONE)
    monkeypatch.chdir(source.parent)
    scene(source.with_name("b.mkv"), ONE)
    status = run(*arguments, "--method", "solid")
    line = capsys.readouterr().err.strip()
    assert says in line and "\n" not in line
    assert status == (1 if line.startswith("skipped") else 2)
    assert sorted(p.name for p in source.parent.iterdir()) == ["a.mkv", "b.mkv", "boxes.csv"]


def test_what_is_there_and_protected_is_not_replaced(given, capsys):
    source, boxes = given(ONE)
    target = source.with_name("b.mkv")
    target.write_text("mine")
    target.chmod(0o444)
    for more in (boxes, ["--one-pass"]):
        assert run(source, "-o", target, "--method", "solid", *more) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "b.mkv is write-protected" in line and target.read_text() == "mine"
    assert sorted(p.name for p in source.parent.iterdir()) == ["a.mkv", "b.mkv", "boxes.csv"]


@pytest.mark.parametrize("more", [[], ["--one-pass"]])
def test_a_time_lapse_keeps_its_times(finder, tmp_path, more):
    source = scene(tmp_path / "a.mkv", ONE[:4], times=[n * 3 * 3600 * 2500 for n in range(4)])
    assert run(source, "-o", tmp_path / "b.mp4", "--method", "solid", *more) == 0
    assert times(tmp_path / "b.mp4")[0] == (0, 10800, 21600, 32400)


# All of it, with a real face and the real detector.


def test_a_real_face_is_found_followed_and_replaced(monkeypatch, tmp_path):
    detector_or_skip()
    monkeypatch.setattr(job.Anonymizer, "generator", Painter())
    photo = astronaut()[:256, 80:400]

    def image(number, width, height):
        return np.ascontiguousarray(photo[:height, 2 * number : 2 * number + width])

    source = scene(tmp_path / "a.mkv", [[]] * 16, width=256, height=200, image=image)
    monkeypatch.setattr(job.Anonymizer, "is_face", None)
    assert run(source, "--seed", 1) == 0
    before, after = images(source), images(tmp_path / "a_anonymized.mkv")
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        x, y = 222 - 80 - 2 * number, 128  # her nose
        features = np.s_[y - 25 : y + 25, x - 20 : x + 20]
        difference = np.abs(old[features].astype(int) - new[features]).max(-1)
        assert (difference > 0).mean() > 0.95
        np.testing.assert_array_equal(old[:, -40:], new[:, -40:])
