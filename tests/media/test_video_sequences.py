"""Numbered pictures go through `dp3 anonymize` as a video does, to a video or to numbered pictures."""

import json
import os
import signal as signals
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from dp3_jax.common.errors import UserError
from dp3_jax.common.stages import Stage
from dp3_jax.media import image_sequences
from dp3_jax.media.video import reading
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.video import job
from tests.video_scenes import HEIGHT, WIDTH, background, draw, images, paths, run, signal, stand_in

KILL = int(signals.SIGKILL)
FIRST = 7


@pytest.fixture
def parts(monkeypatch):
    """The finder that stands in for the detector."""
    return stand_in(monkeypatch)


def picture(number):
    """u8[h, w, 3] with a face that moves to the right."""
    image = background(number)
    for box in paths(number + 1, ((10, 20), (2, 0)))[number]:
        draw(image, box)
    return image


def write(folder, count=12, name="{:05d}.png", **more):
    """The pattern of pictures that are written there, numbered from FIRST."""
    folder.mkdir()
    for number in range(count):
        path = folder / name.format(number + FIRST)
        Image.fromarray(picture(number)).save(path, **more)
    return folder / name.replace("{:05d}", "%05d").replace("{}", "%d")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# What is written.


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"])
def test_pictures_become_a_video_of_any_kind(parts, tmp_path, suffix):
    source, target = write(tmp_path / "in"), tmp_path / f"out{suffix}"
    assert run(source, "-o", target, "--method", "solid") == 0
    assert names(tmp_path) == ["in", target.name]
    with reading.read_frames(target) as frames:
        info, found = frames.info, list(frames)
    assert (info.width, info.height, info.rate) == (WIDTH, HEIGHT, 25)
    times = np.array([float(f.pts * info.time_base) for f in found])
    np.testing.assert_allclose(times - times[0], np.arange(12) / 25, atol=0.001)
    shown = np.stack([f.image for f in found])
    assert not signal(shown).any()
    originals = np.stack([picture(i) for i in range(12)])
    lost = np.abs(shown.astype(int) - originals)[:, :15]  # above the faces, by the codecs
    assert np.median(lost) < 15 and lost.mean() < 15


@pytest.mark.parametrize("rate", ["30000/1001", "12.5", "0.5", "1000"])
def test_the_rate_is_the_one_that_is_asked_for(parts, tmp_path, rate):
    source, target = write(tmp_path / "in", 5, "{}.png"), tmp_path / "out.mp4"
    assert run(source, "-o", target, "--rate", rate, "--method", "solid") == 0
    with reading.read_frames(target) as frames:
        info, found = frames.info, list(frames)
    assert [f.pts * info.time_base for f in found] == [i / Fraction(rate) for i in range(5)]


def test_pictures_become_pictures_without_a_loss(parts, tmp_path):
    source = write(tmp_path / "in")
    target = tmp_path / "new" / "out" / "a%03d.png"
    assert run(source, "-o", target, "--seed", "1", "--sidecar") == 0
    assert names(target.parent) == [f"a{n:03d}.png" for n in range(FIRST, FIRST + 12)]
    assert names(target.parent.parent) == ["out", "out.tracks.json"]
    shown, originals = images(target), images(source)
    assert not signal(shown).any()
    assert np.array_equal(shown[:, :12], originals[:, :12]) and not np.array_equal(shown, originals)
    sidecar = tmp_path / "new" / "out.tracks.json"
    assert run(source, "-o", tmp_path / "again/a%03d.png", "--faces", sidecar) == 0
    np.testing.assert_array_equal(images(tmp_path / "again/a%03d.png"), shown)


def test_pictures_outside_the_spans_are_as_they_were(parts, tmp_path):
    source, target = write(tmp_path / "in"), tmp_path / "out" / "%d.png"
    line = (source, "-o", target, "--rate", "10", "--spans", "0.5-1.2", "--method", "solid")
    assert run(*line) == 0
    shown, originals = images(target), images(source)
    np.testing.assert_array_equal(shown[:5], originals[:5])
    assert not signal(shown[5:]).any()


def test_pictures_are_written_as_photos_are(parts, tmp_path):
    """Upright, as strongly compressed as they were, with colour profile, without the rest of the metadata."""
    source, target = write(tmp_path / "in", 4, "p{:05d}.jpg"), tmp_path / "out" / "%05d.jpg"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = 6, "Jane Doe"  # turn by 90 degrees clockwise; artist
    for path in source.parent.iterdir():
        lying = Image.open(path).transpose(Image.Transpose.ROTATE_90)
        lying.save(path, quality=80, subsampling=0, exif=exif, icc_profile=profile, comment=b"home")
    assert run(source, "-o", target, "--method", "solid") == 0
    assert not signal(images(target)).any()
    for path in target.parent.iterdir():
        with Image.open(path) as after, Image.open(source.parent / f"p{path.name}") as before:
            assert after.size == (WIDTH, HEIGHT) and before.size == (HEIGHT, WIDTH)
            assert after.quantization == before.quantization
            assert after.info["icc_profile"] == profile
            assert not after.getexif() and "comment" not in after.info
        assert b"Jane" not in path.read_bytes()


def test_transparency_is_kept_in_pictures_and_png_may_become_jpeg(parts, tmp_path):
    source = write(tmp_path / "in", 3)
    for path in source.parent.iterdir():
        image = Image.open(path)
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(path)
    assert run(source, "-o", tmp_path / "out/%d.png", "--method", "solid") == 0
    with Image.open(tmp_path / "out" / f"{FIRST}.png") as after, Image.open(path) as before:
        assert after.mode == "RGBA" and after.getchannel("A") == before.getchannel("A")
    assert run(source, "-o", tmp_path / "jpeg/%d.jpg", "--method", "solid") == 0
    with Image.open(tmp_path / "jpeg" / f"{FIRST}.jpg") as after:
        assert after.format == "JPEG"


# What is refused.


def refused(capsys, *line):
    """The one line that says why."""
    assert run(*line) == 2
    (text,) = capsys.readouterr().err.splitlines()
    return text


def test_a_gap_is_refused_and_named(tmp_path, capsys):
    source = write(tmp_path / "in")
    (tmp_path / "in" / "00010.png").unlink()
    assert "in/00010.png is missing" in refused(capsys, source, "-o", tmp_path / "out.mp4")
    assert names(tmp_path) == ["in"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("in/%05d.png", "say where the video of in/%05d.png goes: -o NAME.mp4, or -o FOLDER/%05d.png"),
        ("in/%05d.png -o out", "say where"),
        ("in/%05d.png -o out.png", "say where"),
        ("in/%05d.png --in-place", "--in-place cannot"),
        ("in/%05d.png in/%05d.png -o out.mp4", "anonymize other inputs apart"),
        ("in/%05d.png -o in/b%05d.png", "in is there already"),
        ("in/%05d.png -o b%05d.png", "name a new folder"),
        ("in/%04d.png -o out.mp4", "there is no picture in/%04d.png"),
        ("no/%05d.png -o out.mp4", "cannot look for no/%05d.png"),
        ("in/%05d.png -o out.mp4 --rate 0", "--rate 0 is no number"),
        ("in/%05d.png -o out.mp4 --rate 1/0", "--rate 1/0 is no number"),
        ("in/%05d.png -o out.mp4 --rate fast", "--rate fast is no number"),
        ("in/%05d.png -o out.mp4 --rate 1e9", "--rate 1e9 is no number"),
        ("in/%05d.png -o out.mp4 --rate 1e-9", "from 1/1000 to 1000"),
        ("in/00007.png -o out.png --rate 25", "--rate is of numbered pictures"),
        ("in/%05d.png -o out.mp4 --one-pass", "--one-pass does not read pictures"),
        ("in/00007.png -o out/%05d.png", "does not end like a photo"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path, monkeypatch, capsys, line, says):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in", 2)
    assert says in refused(capsys, *line.split())
    assert names(tmp_path) == ["in"] and len(names(tmp_path / "in")) == 2


def skipped(capsys, *line):
    """The one line that says why a sequence was skipped."""
    assert run(*line) == 1
    (text,) = capsys.readouterr().err.splitlines()
    return text


@pytest.mark.parametrize("target", ["out.mp4", "out/%05d.png"])
def test_a_broken_or_unequal_picture_is_one_line_and_nothing_is_written(
    parts, tmp_path, capsys, target
):
    source = write(tmp_path / "in")
    path = tmp_path / "in" / "00012.png"
    whole = path.read_bytes()
    line = (source, "-o", tmp_path / target, "--method", "solid")
    path.write_bytes(whole[: len(whole) // 2])
    assert f": cannot read {path}" in skipped(capsys, *line)
    Image.fromarray(picture(5)[:, :-2]).save(path)
    assert f"{path} has {WIDTH - 2}x{HEIGHT} pixels" in skipped(capsys, *line)
    assert names(tmp_path) == ["in"]
    path.write_bytes(whole)
    assert run(*line) == 0


def test_options_of_encoders_are_refused_for_pictures(parts, tmp_path, capsys):
    source = write(tmp_path / "in", 2)
    text = skipped(capsys, source, "-o", tmp_path / "out/%d.png", "--crf", "20")
    assert "--crf" in text and names(tmp_path) == ["in"]


@pytest.mark.parametrize("target", ["out.mp4", "out/%05d.png"])
def test_pictures_that_change_meanwhile_are_not_released(parts, tmp_path, target):
    """Faces were looked for in other pictures than would be shown."""
    source = write(tmp_path / "in")

    def swap(what, count, total):
        if what == Stage.RENDERING and count == 0:
            image = background()
            draw(image, (100, 40, 32, 40))
            Image.fromarray(image).save(tmp_path / "in" / "00012.png")

    request = job.Request(source=source, target=tmp_path / target)
    with pytest.raises(UserError, match="have changed meanwhile"):
        job.process(request, Anonymizer(method="solid"), swap)
    assert not (tmp_path / target).exists()


# Going on after a kill.


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """What became of runs that were killed, by the target's kind."""
    folder = tmp_path_factory.mktemp("ended")
    source = write(folder / "in", 24)
    moments = [3, 6, 20, 30, 27, 14, *range(1, 8)]  # the last ones are after all is drawn
    killed = [*({"signal": KILL, "at": at} for at in moments), {}]
    planned = {
        str(folder / f"{name}_{kind}" / target): runs
        for kind, target in (("video", "b.mp4"), ("pictures", "%05d.png"))
        for name, runs in (("whole", [{}]), ("killed", killed))
    }
    line = [sys.executable, "-m", "tests.killed_videos", str(source), json.dumps(planned)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["video", "pictures"])
def test_a_killed_job_goes_on_and_ends_as_if_it_had_not_been(ended, kind):
    folder, records = ended
    (killed,) = [r for target, r in records.items() if f"killed_{kind}" in target]
    assert [r["status"] for r in killed[:-1]] == [-KILL] * (len(killed) - 1) and len(killed) > 10
    assert killed[-1]["status"] == 0 and killed[-1]["errors"] == ""
    whole, again = folder / f"whole_{kind}", folder / f"killed_{kind}"
    assert names(whole) == names(again)
    for name in names(whole):
        assert (whole / name).read_bytes() == (again / name).read_bytes()
    assert not list(folder.glob(f".killed_{kind}*"))
    if kind == "pictures":
        assert all(record["names"] == [] for record in killed[:-1])  # all or none
        assert len(names(whole)) == 24


def test_what_a_job_left_that_was_stopped_at_its_very_end_is_removed(
    parts, tmp_path, monkeypatch, capsys
):
    line = (write(tmp_path / "in", 3), "-o", tmp_path / "out" / "%d.png", "--method", "solid")
    replace = os.replace

    def stop(source, target):
        replace(source, target)
        if target == tmp_path / "out":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        assert run(*line) == 130
    assert names(tmp_path) == [".out.dp3", "in", "out"] and len(names(tmp_path / "out")) == 3
    assert "out is there already" in refused(capsys, *line)
    assert names(tmp_path) == ["in", "out"] and len(names(tmp_path / "out")) == 3


def test_a_job_does_not_go_on_with_other_pictures(parts, tmp_path):
    source, target = write(tmp_path / "in"), tmp_path / "out" / "%d.png"
    request = job.Request(source=source, target=target, master_key=b"k" * 32)

    def stop(what, count, total):
        if what == Stage.RENDERING and count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.process(request, Anonymizer(method="solid"), stop)
    path = tmp_path / "in" / "00012.png"
    os.utime(path, ns=(1, 1))
    _, summary = job.process(request, Anonymizer(method="solid"), lambda *_: None)
    assert not summary.resumed and names(tmp_path) == ["in", "out"]


@given(
    number=st.integers(0, 10**7), digits=st.integers(0, 9), before=st.sampled_from(["", "a", "7"])
)
def test_names_of_pictures_are_those_of_c(tmp_path_factory, number, digits, before):
    pattern = tmp_path_factory.getbasetemp() / f"{before}%{f'0{digits}' if digits else ''}d.png"
    assert image_sequences.path_of(pattern, number).name == pattern.name % number
