"""Frames come with the numbers, times, orientation and colours that a player shows."""

import itertools
import os

import numpy as np
import pytest
from PIL import Image

from dp3_jax.common.errors import UserError
from dp3_jax.media.video import reading
from tests import video_makers as makers
from tests.video_makers import Clip


def frames_of(path, **more):
    with reading.read_frames(path, **more) as frames:
        return list(frames)


def close(image, expected, tolerance=12):
    """Whether pictures agree but for what 4:2:0 does to edges."""
    return np.median(np.abs(image.astype(int) - expected)) <= tolerance


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_frames_are_numbered_and_timed_as_they_were_made(tmp_path, name):
    clip = makers.vfr(tmp_path / name)
    path = clip.write()
    info = reading.open_video(path)
    found = frames_of(path)
    assert [f.number for f in found] == list(range(12))
    seconds = [float(f.pts * info.time_base) for f in found]
    assert seconds == pytest.approx([t * float(clip.time_base) for t in clip.pts()], abs=0.0006)
    assert all(close(f.image, makers.picture(f.number)) for f in found)
    assert (info.width, info.height, info.codec) == (64, 48, "h264")


def test_frames_with_b_frames_come_in_the_order_of_showing(tmp_path):
    path = makers.b_frames(tmp_path / "a.mp4").write()
    found = frames_of(path)
    assert len(found) == 30 == reading.open_video(path).frames_estimate
    assert all(b.pts > a.pts for a, b in itertools.pairwise(found))
    assert all(close(f.image, makers.picture(f.number)) for f in found)


@pytest.mark.parametrize("threads", [True, False])
def test_reading_can_begin_at_any_frame(tmp_path, threads):
    path = makers.b_frames(tmp_path / "a.mp4").write()
    whole = frames_of(path)
    for start in (1, 17, 29):
        part = frames_of(path, start=start, threads=threads)
        assert [(f.number, f.pts) for f in part] == [(f.number, f.pts) for f in whole[start:]]
        assert np.array_equal(part[0].image, whole[start].image)
    assert frames_of(path, start=30) == []


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [False, True])
def test_the_picture_is_upright_whatever_the_display_matrix(tmp_path, degrees, flip):
    stored = tmp_path / "a.mp4"
    path = makers.rotated(stored, degrees, flip=flip).write()
    info = reading.open_video(path)
    image = frames_of(path)[0].image
    # What FFmpeg's own words for the matrix mean: turned clockwise, then mirrored left to right.
    expected = np.rot90(makers.picture(0), -degrees // 90)
    expected = expected[:, ::-1] if flip else expected
    assert image.shape == expected.shape == (info.height, info.width, 3)
    assert close(image, expected)
    assert info.mirrored == flip


def test_odd_sizes_ten_bits_and_gifs_are_read(tmp_path):
    options = {"crf": "10", "b": "0", "deadline": "realtime", "cpu-used": "8"}
    odd = Clip(tmp_path / "a.webm", codec="libvpx-vp9", width=65, height=47, options=options)
    assert frames_of(odd.write())[3].image.shape == (47, 65, 3)
    ten = makers.ten_bit(tmp_path / "b.mp4").write()
    assert reading.open_video(ten).bit_depth == 10
    assert close(frames_of(ten)[3].image, makers.picture(3))
    animation = frames_of(makers.gif(tmp_path / "c.gif"))
    assert [f.pts for f in animation] == [0, 10, 14, 39]
    assert close(animation[2].image, makers.picture(2, 33, 21))


def flat(colour):
    return lambda number, width, height: np.full((height, width, 3), colour, np.uint8)


@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("value_range", [1, 2])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le"])
def test_matrix_and_range_of_the_source_are_honoured(tmp_path, matrix, value_range, pixel_format):
    tags = {**makers.LIMITED_709, "colorspace": matrix, "color_range": value_range}
    for i, colour in enumerate([(200, 30, 60), (20, 180, 90), (255, 255, 255), (40, 40, 200)]):
        clip = Clip(tmp_path / f"{i}.mp4", frames=1, tags=tags, image=flat(colour))
        clip.pixel_format = pixel_format
        image = frames_of(clip.write())[0].image
        assert np.abs(image[20, 30].astype(int) - colour).max() <= 3


def test_pixel_aspect_and_streams_are_told(tmp_path):
    clip = makers.two_audio(tmp_path / "a.mp4", aspect=makers.Fraction(4, 3), rotation=90)
    info = reading.open_video(clip.write())
    assert info.sample_aspect_ratio == makers.Fraction(3, 4)  # as shown: turned
    assert [(s.codec, s.language) for s in info.audio] == [("aac", "eng"), ("aac", "deu")]
    with_cover = reading.open_video(Clip(tmp_path / "b.mp4", cover=True).write())
    assert with_cover.codec == "h264"
    assert "cover art" in with_cover.left_out[0]


def bad_files(folder):
    (folder / "zero.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("hello world\n" * 50)
    (folder / "noise.mkv").write_bytes(os.urandom(50_000))
    (folder / "list.mp4").write_text("ffconcat version 1.0\nfile zero.mp4\n")
    Image.fromarray(makers.picture(0)).save(folder / "photo.mp4", "JPEG")
    makers.sound_only(folder / "sound.mp4")
    makers.interlaced(folder / "interlaced.mp4").write()
    makers.truncated(folder / "cut.mp4", Clip(folder / "whole.mp4").write())
    (folder / "whole.mp4").unlink()
    return [*sorted(folder.iterdir()), folder / "missing.mp4", folder]


def test_what_is_no_video_is_refused_in_one_line(tmp_path):
    for path in bad_files(tmp_path):
        with pytest.raises(UserError) as refusal:
            reading.open_video(path)
        assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_of_a_cut_or_damaged_file_the_rest_is_read_and_the_damage_told(tmp_path):
    whole = makers.b_frames(tmp_path / "whole.mkv").write()
    cut = makers.truncated(tmp_path / "cut.mkv", whole)
    with reading.read_frames(cut) as frames:
        found = list(frames)
    assert 0 < len(found) < 28 and "cut off" in frames.damage
    content = bytearray(whole.read_bytes())
    place = len(content) * 9 // 10
    content[place : place + 30] = bytes(30)
    damaged = tmp_path / "damaged.mkv"
    damaged.write_bytes(content)
    numbers = [[(f.number, f.pts) for f in frames_of(damaged)] for _ in range(2)]
    assert numbers[0] == numbers[1] and len(numbers[0]) > 10


def test_an_undamaged_file_is_not_called_damaged(tmp_path):
    with reading.read_frames(makers.vfr(tmp_path / "a.mp4").write()) as frames:
        list(frames)
    assert frames.damage is None


def test_the_shared_clips_have_the_frames_that_their_list_says(shared_data):
    folder = shared_data / "video"
    rows = (folder / "manifest.csv").read_text().splitlines()[1:]
    for row in rows:
        name, width, height, _, count, _ = row.split(",")
        if int(width) > 800:
            continue  # decoding them takes too long here
        info = reading.open_video(folder / name)
        assert (info.width, info.height) == (int(width), int(height))
        assert info.frames_estimate == int(count)


def test_names_of_videos():
    assert reading.is_video_name("a/b.MP4") and reading.is_video_name("c.gif")
    assert not reading.is_video_name("a.jpg") and not reading.is_video_name("mp4")
