"""`dp3 anonymize --one-pass`: from file or pipe to file or pipe, as the video comes."""

import contextlib
import os
import subprocess
import sys
import threading

import av
import numpy as np
import pytest

from dp3_jax.detection.face_detection import Detection
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.live import release_policy
from tests import face_photos, video_makers
from tests.pipelines.test_video_command import away, sound, times
from tests.video_scenes import images, paths, run, scene, signal, stand_in

ONE = paths(20, ((20, 20), (3, 0)))
LONG = paths(60, ((20, 20), (1, 0)))
LATE = [[]] * 12 + ONE[12:]


class Finder:
    """In place of the live detector: finds what has the signal colour; fails in call `fails`, from 0."""

    def __init__(self, fails=None):
        self.fails, self.calls = fails, -1  # the first call warms up

    def __call__(self, min_confidence):
        return self

    def detect(self, image, predicted, budget):
        self.calls += 1
        if self.calls - 1 == self.fails:
            raise RuntimeError("detector\nlost")
        y, x = np.nonzero(signal(image))
        if not len(x):
            return []
        box = (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)
        return [Detection(tuple(map(float, box)), None, 0.9)]


@pytest.fixture
def finder(monkeypatch):
    return stand_in(monkeypatch, release_policy, "LiveDetector", Finder())


@contextlib.contextmanager
def _fed(monkeypatch, content):
    """Standard input is a pipe that gives `content`; it stays open until the end of the block."""
    reading, writing = os.pipe()

    pipe = os.fdopen(os.dup(writing), "wb")

    def feed():
        with contextlib.suppress(BrokenPipeError), pipe:
            pipe.write(content)

    feeder = threading.Thread(target=feed)
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        feeder.start()
        yield writing
    feeder.join()


def piped(monkeypatch, content, *arguments, target=None):
    """The exit status of `dp3 anonymize -` with the content on standard input; `target` gets its output."""
    with _fed(monkeypatch, content) as writing, contextlib.ExitStack() as stack:
        os.close(writing)
        if target is not None:
            monkeypatch.setattr(sys, "stdout", stack.enter_context(open(target, "w")))
        return run("-", "--one-pass", *arguments)


def since_sound(path):
    """When all frames are shown, in s since the sound began: no container but MP4 begins before 0."""
    with av.open(str(path)) as opened:
        begin = next(opened.demux(opened.streams.audio[0]))
        return np.array(times(path)[0]) - float(begin.pts * begin.time_base)


FORMATS = {
    **video_makers.FORMATS,
    "a.ts": {"audio": (("mp2", "eng"),), "options": {"crf": "4", "bf": "2"}},
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_pipe_keeps_times_sound_and_all_of_the_picture_but_the_face(
    finder, tmp_path, monkeypatch, name
):
    source, target = scene(tmp_path / name, ONE, **FORMATS[name]), tmp_path / "out.mkv"
    if name in ("a.mp4", "a.mov"):
        source = video_makers.streamable(source, tmp_path / f"streamable{source.suffix}")
    content = source.read_bytes()
    assert piped(monkeypatch, content, "-o", "-", "--method", "solid", target=target) == 0
    before, after = images(source), images(target)
    assert before.shape == after.shape
    assert signal(before).any((1, 2)).all() and not signal(after).any()
    shown, shown_before = since_sound(target), since_sound(source)
    np.testing.assert_allclose(shown, shown_before, atol=2e-3)
    assert sound(source) == sound(target) != []
    masks = away(ONE)
    if "rotation" in FORMATS[name]:
        masks = np.rot90(masks, -1, (1, 2))
    error = np.abs(before.astype(int) - after)[masks]
    assert error.mean() < 3


def test_files_in_and_out_keep_exact_times_and_leave_metadata_behind(finder, tmp_path):
    source = video_makers.b_frames(
        tmp_path / "a.mp4", metadata={"title": "at home"}, audio=(("aac", "eng"),), chapters=True
    ).write()
    target = tmp_path / "b.mp4"
    assert run(source, "-o", target, "--one-pass") == 0
    assert times(target) == times(source)
    assert sound(target) == sound(source)
    with av.open(str(target)) as made:
        assert "title" not in made.metadata
        assert len(made.chapters()) == 2
    assert run(source, "-o", target, "--one-pass", "--audio", "drop") == 0
    assert sound(target) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_a_face_that_comes_in_gets_a_new_one_and_the_same_seed_the_same_video(
    finder, tmp_path, capsys
):
    source, made = scene(tmp_path / "a.mkv", LATE), []
    for name in ("b.mkv", "c.mkv"):
        assert run(source, "-o", tmp_path / name, "--one-pass", "--seed", "1") == 0
        made.append(images(tmp_path / name))
    assert "1 video (20 frames), 1 face (1 generated)" in capsys.readouterr().out
    np.testing.assert_array_equal(*made)
    assert not signal(made[0]).any()
    changed = (made[0] != images(source)).any((1, 2, 3))
    assert changed.tolist() == [True] * 20  # half a second before it is seen first, too


def test_spans_are_kept(finder, tmp_path):
    source, target = scene(tmp_path / "a.mkv", ONE), tmp_path / "b.mkv"
    assert run(source, "-o", target, "--one-pass", "--method", "solid", "--spans", "0.2-0.4") == 0
    shown = signal(images(target)).any((1, 2))
    assert not shown[5:10].any() and shown[:5].all() and shown[10:].all()


# --- what goes wrong --------------------------------------------------------------------------------


def partial(path):
    """The frames that are in a cut-off video."""
    with av.open(str(path)) as opened:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)])


def test_a_detector_that_fails_ends_a_pipe_before_that_frame_and_leaves_no_file(
    finder, tmp_path, monkeypatch, capsys
):
    content = scene(tmp_path / "a.mkv", LONG).read_bytes()
    finder.fails = 50
    target = tmp_path / "out.mkv"
    assert piped(monkeypatch, content, "-o", "-", "--method", "solid", target=target) == 1
    got = partial(target)
    assert len(got) == 50
    assert not signal(got).any()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["skipped: -: frame 50: detector lost; it cannot be shown"]
    target.unlink()
    finder.calls = -1
    assert piped(monkeypatch, content, "-o", target, "--method", "solid", "--quiet") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


@pytest.mark.usefixtures("finder")
def test_a_generator_that_fails_leaves_covers_and_the_video_is_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Anonymizer, "generator", face_photos.Broken("raises"))
    source, target = scene(tmp_path / "a.mkv", ONE), tmp_path / "b.mkv"
    assert run(source, "-o", target, "--one-pass") == 1
    assert len(images(target)) == 20 and not signal(images(target)).any()
    assert "in 20 of 20 frames: " in capsys.readouterr().err


def test_a_cut_off_input_gives_what_it_has_and_says_so(finder, tmp_path, monkeypatch, capsys):
    whole = scene(tmp_path / "a.mkv", LONG).read_bytes()
    target = tmp_path / "out.mkv"
    content = whole[: len(whole) // 2]
    assert piped(monkeypatch, content, "-o", "-", "--method", "solid", target=target) == 1
    got = partial(target)
    assert 20 < len(got) < 40 and not signal(got).any()
    assert "may be cut off" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: scene(path / "a.mov", LONG, audio=(("pcm_s16le", "eng"),)), "index is at its end"),
        (lambda path: video_makers.interlaced(path / "a.mkv").write(), "interlaced"),
        (lambda path: video_makers.sound_only(path / "a.mkv"), "only audio"),
        (lambda path: path / "empty", "nothing came on standard input"),
        (lambda path: path / "text", "cannot read standard input as a video"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("finder")
def test_an_input_that_cannot_be_read_is_told_in_one_line(
    tmp_path, monkeypatch, capsys, make, message
):
    (tmp_path / "text").write_text("no video")
    (tmp_path / "empty").touch()
    content = make(tmp_path).read_bytes()
    target = tmp_path / "out.mkv"
    assert piped(monkeypatch, content, "-o", "-", target=target) == 1
    assert target.read_bytes() == b""
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_when_the_reader_has_left_it_ends_though_the_source_is_still_open(
    finder, tmp_path, monkeypatch, capsys
):
    # The end of the content is missing and never comes.
    content = scene(tmp_path / "a.mkv", LONG).read_bytes()
    reading, writing = os.pipe()
    with _fed(monkeypatch, content[:-2000]) as never_closed, os.fdopen(writing, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        os.close(reading)
        try:
            assert run("-", "--one-pass", "-o", "-", "--method", "solid") == 1
        finally:
            os.close(never_closed)
    (line,) = capsys.readouterr().err.splitlines()
    assert "nobody reads standard output any more" in line


@pytest.mark.parametrize(
    ("closed", "arguments"), [("stdin", ["-", "-o", "b.mkv"]), ("stdout", ["a.mkv", "-o", "-"])]
)
def test_what_was_started_without_its_pipe_says_so(monkeypatch, capsys, closed, arguments):
    monkeypatch.setattr(sys, closed, None)
    assert run(*arguments, "--one-pass") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is closed; lead it" in line


def test_a_folder_is_no_video(finder, tmp_path, monkeypatch, capsys):
    with (tmp_path / "out.mkv").open("w") as target:
        monkeypatch.setattr(sys, "stdout", target)
        assert run(tmp_path, "--one-pass", "-o", "-") == 1
    assert f"{tmp_path} is a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "-o", "b.mkv"], "needs --one-pass"),
        (["a.mkv", "-o", "-"], "needs --one-pass"),
        (["-", "--one-pass"], "say where the video goes"),
        (["-", "--one-pass", "-o", "b.txt"], "does not end like a video"),
        (["-", "a.mkv", "--one-pass", "-o", "b.mkv"], "standard input, -, is one input"),
        (["a.mkv", "b.mkv", "--one-pass", "-o", "-"], "one video, not 2"),
        (["-", "--one-pass", "--in-place", "-o", "-"], "--in-place"),
        (["a.mkv", "--one-pass", "--faces", "a.json"], "--faces does not go with --one-pass"),
        (["a.mkv", "--one-pass", "--boxes", "a.csv"], "--boxes does not go with --one-pass"),
        (["a.mkv", "--one-pass", "--keep", "her.jpg"], "--keep does not go with --one-pass"),
        (["a.mkv", "--one-pass", "--sidecar"], "--sidecar does not go with --one-pass"),
        (["a.png", "--one-pass"], "for videos, and a.png is none"),
    ],
)
def test_what_one_pass_cannot_do_is_refused_in_one_line(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    for name in ("a.mkv", "b.mkv", "a.png"):
        (tmp_path / name).touch()
    assert run(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_file_that_one_pass_cannot_write_is_refused(finder, tmp_path, capsys):
    source = video_makers.gif(tmp_path / "a.gif")
    assert run(source, "--one-pass", "-o", tmp_path / "b.gif") == 1
    assert "cannot write gif" in capsys.readouterr().err
    assert not (tmp_path / "b.gif").exists()


def test_cat_into_dp3_into_a_file_with_the_real_detector(tmp_path):
    face_photos.detector_or_skip()
    clip = video_makers.Clip(
        tmp_path / "a.mkv", frames=5, width=512, height=512, audio=(("aac", "eng"),),
        image=lambda number, width, height: face_photos.astronaut(),
    ).write()  # fmt: skip
    command = [sys.executable, "-m", "dp3_jax.cli", "anonymize", "-", "--one-pass", "-o", "-"]
    command += ["--method", "solid"]
    with (tmp_path / "out.mkv").open("wb") as target:
        done = subprocess.run(
            command, input=clip.read_bytes(), stdout=target,
            stderr=subprocess.PIPE, check=True,
        )  # fmt: skip
    assert "1 video (5 frames), 1 face (1 solid)" in done.stderr.decode()
    before, after = images(clip), images(tmp_path / "out.mkv")
    hidden = face_photos.masked(face_photos.face())
    difference = np.abs(before.astype(int) - after).mean(-1)
    assert (difference[:, hidden].mean(1) > 12).all()
    assert difference[:, ~hidden].mean() < 3
    assert sound(clip) == sound(tmp_path / "out.mkv") != []
