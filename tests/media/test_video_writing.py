"""A video that is read and written again is the same video, but for what must not be in it."""

import itertools
import os
import subprocess
import sys

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp3_jax.common.errors import UserError
from dp3_jax.media.video import encoding, reading, writing
from dp3_jax.media.video.encoding import EncoderSettings
from tests import video_makers as makers
from tests.video_makers import Clip, Fraction

DEFAULT = EncoderSettings()


def rewrite(source, target, asked=DEFAULT, length=7, **more):
    """Frames through unchanged, in segments of `length` frames; (encoding, what was left out)."""
    folder = target.parent / "segments"
    folder.mkdir(exist_ok=True)
    paths = []
    info = reading.open_video(source)
    chosen = encoding.choose_encoding(info, target.suffix, asked)
    info = encoding.as_written(info, chosen)
    with reading.read_frames(info, stored=chosen.keeps_stored) as frames:
        for _, group in itertools.groupby(frames, lambda frame: frame.number // length):
            paths.append(folder / f"{len(paths)}{writing.SEGMENT_SUFFIX}")
            with writing.SegmentWriter(paths[-1], info, chosen) as segment:
                for frame in group:
                    image = frame.image if frame.stored is None else frame.stored
                    segment.write(image, frame.pts, frame.duration)
    more = {"subtitles": "copy", **more}
    left_out = writing.assemble(target, info, chosen, paths, source=source, **more)
    return chosen, left_out


def shown(path):
    """[(number, seconds)] of all frames and what the header says."""
    with reading.read_frames(path) as frames:
        info = frames.info
        times = [(f.number, float(f.pts * info.time_base)) for f in frames]
    assert frames.damage is None
    return times, info


def copied(path):
    """Of each audio and subtitle stream: language, disposition, and all packets."""
    found = {}
    with av.open(str(path)) as container:
        streams = [s for s in container.streams if s.type in ("audio", "subtitle")]
        for s in streams:
            found[s.index] = [s.type, s.language, int(s.disposition)]
        for packet in container.demux(streams) if streams else ():
            if packet.size:
                times = (packet.pts * packet.time_base, packet.duration * packet.time_base)
                found[packet.stream_index].append((bytes(packet), *map(float, times)))
    return list(found.values())


def video_packets(path):
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        return [(p.dts, p.pts, p.duration) for p in container.demux(video) if p.size], video


def assert_same(source, target, tolerance=0.0):
    before, info = shown(source)
    after, told = shown(target)
    assert len(before) == len(after)
    assert np.abs(np.array(before) - np.array(after)).max() <= tolerance
    assert copied(source) == copied(target)
    assert (told.width, told.height) == (info.width, info.height)
    assert told.sample_aspect_ratio in (info.sample_aspect_ratio, 1)
    return info, told


CLIPS = {
    "plain.mp4": Clip,
    "vfr.mp4": makers.vfr,
    "vfr.mkv": makers.vfr,
    "b.mp4": makers.b_frames,
    "b.mkv": makers.b_frames,
    "b.mov": lambda path: makers.b_frames(path, audio=(("aac", "eng"),)),
    "two.mp4": makers.two_audio,
    "two.mkv": lambda path: makers.two_audio(path, "libopus", subtitles="subrip", chapters=True),
    "flac.mkv": lambda path: Clip(path, audio=(("flac", "eng"), ("pcm_s16le", "deu"))),
    "text.mp4": lambda path: Clip(path, subtitles="mov_text", audio=(("aac", "eng"),)),
    "ten.mp4": makers.ten_bit,
    "wide.mp4": lambda path: Clip(path, aspect=Fraction(4, 3)),
    "odd.mp4": lambda path: Clip(path, width=65, height=47, pixel_format="yuv444p"),
    "late.mp4": lambda path: Clip(path, times=[100 * i + 1250 for i in range(12)]),
    "early.mp4": lambda path: Clip(
        path, times=[100 * i - 250 for i in range(12)], audio=(("aac", "eng"),)
    ),
    "single.mp4": lambda path: Clip(path, frames=1),
    "mp3.avi": lambda path: Clip(
        path, codec="mpeg4", options={}, time_base=Fraction(1, 25), audio=(("libmp3lame", "eng"),)
    ),
    "h264.avi": lambda path: Clip(path, time_base=Fraction(1, 25), audio=(("pcm_s16le", "eng"),)),
    "motion.avi": lambda path: Clip(
        path, codec="mjpeg", options={}, pixel_format="yuvj420p", tags={"color_range": 2},
        time_base=Fraction(1, 25),
    ),
    "hevc.mp4": lambda path: Clip(path, codec="libx265", options={"x265-params": "log-level=none"}),
    "vp9.webm": lambda path: Clip(
        path, codec="libvpx-vp9", width=65, height=47, audio=(("libopus", "eng"),),
        options={"crf": "10", "b": "0", "deadline": "realtime", "cpu-used": "8"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLIPS)
def test_times_sound_size_and_codec_are_kept(tmp_path, name):
    source = CLIPS[name](tmp_path / name).write()
    target = tmp_path / f"out_{name}"
    rewrite(source, target)
    info, told = assert_same(source, target)
    assert (told.codec, told.container) == (info.codec, info.container)
    if not name.endswith(".avi") and "mpeg4" not in told.codec:
        assert told.colours == info.colours
    packets, _ = video_packets(target)
    if not name.endswith(".mkv"):  # Matroska holds no times of decoding
        assert all(b[0] > a[0] for a, b in itertools.pairwise(packets))
        assert all(dts <= pts for dts, pts, _ in packets)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_rotated_video_is_shown_the_same_way(tmp_path, degrees):
    source = makers.rotated(tmp_path / "a.mp4", degrees, aspect=Fraction(4, 3)).write()
    target = tmp_path / "b.mp4"
    rewrite(source, target)
    assert_same(source, target)
    images = [next(reading.read_frames(path)).image for path in (source, target)]
    assert np.abs(images[0].astype(int) - images[1]).mean() < 4


def test_frames_last_until_the_next_in_a_video_with_b_frames_and_variable_rate(tmp_path):
    clip = makers.vfr(tmp_path / "a.mp4")
    rewrite(clip.write(), tmp_path / "b.mp4", EncoderSettings(preset="medium"), length=5)
    packets, stream = video_packets(tmp_path / "b.mp4")
    assert any(dts != pts - packets[0][1] + packets[0][0] for dts, pts, _ in packets)  # B-frames
    ticks = clip.time_base / stream.time_base
    lasting = {pts: duration for _, pts, duration in packets}
    times = [int(t * ticks) for t in clip.pts()]
    assert sorted(lasting) == times
    assert [lasting[t] for t in times[:-1]] == [b - a for a, b in itertools.pairwise(times)]
    assert stream.duration == times[-1] + lasting[times[-1]]


@settings(max_examples=12)
@given(
    gaps=st.lists(st.integers(1, 400), min_size=1, max_size=14),
    length=st.integers(1, 6),
    first=st.integers(0, 300),
)
def test_any_times_in_any_segments_come_back(tmp_path_factory, gaps, length, first):
    folder = tmp_path_factory.mktemp("any")
    times = [first + sum(gaps[:i]) for i in range(len(gaps) + 1)]
    source = Clip(folder / "a.mp4", width=16, height=16, times=times).write()
    rewrite(source, folder / "b.mp4", EncoderSettings(preset="fast"), length=length)
    assert_same(source, folder / "b.mp4")


def test_chapters_and_subtitles_stay_and_private_metadata_goes(tmp_path):
    source = makers.phone(tmp_path / "a.mov", chapters=True, subtitles="mov_text").write()
    rewrite(source, tmp_path / "b.mp4")
    with av.open(str(source)) as before, av.open(str(tmp_path / "b.mp4")) as after:
        assert [
            (c["start"] * c["time_base"], c["metadata"]["title"]) for c in after.chapters()
        ] == [(c["start"] * c["time_base"], c["metadata"]["title"]) for c in before.chapters()]
        assert set(after.metadata) <= {"major_brand", "minor_version", "compatible_brands"}
        assert [s.language for s in after.streams.subtitles] == ["fra"]
    content = (tmp_path / "b.mp4").read_bytes()
    for planted in (b"48.85", b"Jane Doe", b"secret comment", b"at home", b"Lavf"):
        assert planted in source.read_bytes() + b"Lavf"
        assert planted not in content


def test_the_time_of_the_take_is_kept_on_request_and_nothing_else(tmp_path):
    source = makers.phone(tmp_path / "a.mp4").write()
    rewrite(source, tmp_path / "b.mp4", keep_metadata=True)
    with av.open(str(tmp_path / "b.mp4")) as after:
        assert after.metadata["creation_time"].startswith("2024-05-06T07:08:09")
        assert "location" not in after.metadata and "title" not in after.metadata


def test_cover_art_is_left_out_and_said(tmp_path):
    source = Clip(tmp_path / "a.mp4", cover=True, audio=(("aac", "eng"),)).write()
    _, left_out = rewrite(source, tmp_path / "b.mp4", audio="drop")
    assert [what.split(" (")[0] for what in left_out] == ["cover art", "audio"]
    with av.open(str(tmp_path / "b.mp4")) as after:
        assert [s.type for s in after.streams] == ["video"]


@pytest.mark.parametrize("loop", [None, 0, 3])
def test_a_gif_keeps_its_times_its_repetitions_and_its_colours(tmp_path, loop):
    source = makers.gif(tmp_path / "a.gif", loop=loop)
    rewrite(source, tmp_path / "b.gif", length=2)
    with makers.Image.open(source) as before, makers.Image.open(tmp_path / "b.gif") as after:
        assert after.n_frames == before.n_frames
        assert after.info.get("loop") == before.info.get("loop")
        for i in range(before.n_frames):
            before.seek(i), after.seek(i)
            assert after.info["duration"] == before.info["duration"]
            images = [np.asarray(image.convert("RGB")).astype(int) for image in (before, after)]
            assert np.abs(images[0] - images[1]).max() <= 16


def chart(number, width, height):
    """Blocks of 16 px in random colours, black, white and grey among them."""
    colours = np.random.default_rng(1).integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    colours[0, :3] = [[0, 0, 0], [255, 255, 255], [128, 128, 128]]
    return np.kron(colours, np.ones((16, 16, 1), np.uint8))


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("value_range", [1, 2])
@pytest.mark.parametrize("sampling", ["yuv420p", "yuv444p"])
def test_a_colour_chart_keeps_its_colours(tmp_path, matrix, value_range, sampling):
    tags = {**makers.LIMITED_709, "colorspace": matrix, "color_range": value_range}
    options = {"crf": "0", "preset": "medium"}
    clip = Clip(tmp_path / "a.mp4", 2, 64, 48, options=options, tags=tags, image=chart)
    clip.pixel_format = sampling
    rewrite(clip.write(), tmp_path / "b.mp4", EncoderSettings(crf=0))
    paths = (tmp_path / "a.mp4", tmp_path / "b.mp4")
    before, after = (next(reading.read_frames(path)).image.astype(int) for path in paths)
    centres = np.s_[8::16, 8::16]
    assert np.abs(after - before)[centres].max() <= 3
    assert np.abs(after - before)[centres].mean() <= 1.2
    assert np.abs(after - chart(0, 64, 48))[centres].max() <= 5  # made by another conversion


def test_containers_and_codecs_can_be_changed(tmp_path):
    source = makers.vfr(tmp_path / "a.mp4", audio=(("aac", "eng"),)).write()
    rewrite(source, tmp_path / "b.mkv", EncoderSettings("hevc", 25))
    # The sound begins before 0 here, which Matroska cannot hold: all is moved by one amount.
    (before, _), (after, _) = shown(source), shown(tmp_path / "b.mkv")
    sounds = [copied(path)[0][3:] for path in (source, tmp_path / "b.mkv")]
    assert [packet[0] for packet in sounds[0]] == [packet[0] for packet in sounds[1]]
    moved = [
        new[1] - old[1] for old, new in zip(before + sounds[0], after + sounds[1], strict=True)
    ]
    assert moved == pytest.approx([moved[0]] * len(moved), abs=0.0011)  # Matroska counts ms
    rewrite(source, tmp_path / "c.webm", EncoderSettings(preset="8"), audio="drop")
    before, after = shown(source)[0], shown(tmp_path / "c.webm")
    assert np.abs(np.array(before) - np.array(after[0])).max() <= 0.0006
    assert after[1].codec == "vp9"
    rewrite(makers.gif(tmp_path / "d.gif"), tmp_path / "e.mp4")
    assert_same(tmp_path / "d.gif", tmp_path / "e.mp4")
    rewrite(source, tmp_path / "f.mkv", EncoderSettings("ffv1"))
    images = [next(reading.read_frames(p)).image.astype(int) for p in (source, tmp_path / "f.mkv")]
    assert np.abs(images[0] - images[1]).mean() <= 1


@pytest.mark.parametrize(
    ("suffix", "asked", "word"),
    [
        (".webm", EncoderSettings("h264"), "cannot hold h264"),
        (".xyz", EncoderSettings(), "choose one of"),
        (".avi", EncoderSettings(), "avi"),
        (".mp4", EncoderSettings("h266"), "unknown --codec"),
        (".mp4", EncoderSettings(crf=99), "out of range"),
        (".mp4", EncoderSettings(preset="quick"), "--preset quick"),
        (".mkv", EncoderSettings("ffv1", crf=3), "no --crf"),
        (".mp4", EncoderSettings("mpeg4", preset="fast"), "no --preset"),
        (".mp4", EncoderSettings("mpeg4", hardware=True), "hardware"),
    ],
)
def test_impossible_wishes_are_refused_in_one_line(tmp_path, suffix, asked, word):
    info = reading.open_video(Clip(tmp_path / "a.mp4", frames=2).write())
    with pytest.raises(UserError, match=word) as refusal:
        encoding.choose_encoding(info, suffix, asked)
    assert "\n" not in str(refusal.value)


def test_sound_that_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    source = Clip(tmp_path / "a.mp4", audio=(("aac", "eng"),)).write()
    with pytest.raises(UserError, match="--audio drop"):
        rewrite(source, tmp_path / "b.webm")
    assert not (tmp_path / "b.webm").exists()


@pytest.mark.parametrize("width", [160, 192, 256])
def test_the_same_frames_give_the_same_bits_whatever_lies_in_memory(tmp_path, width):
    """At 160 and 192 px x264's macroblock tree made nearly every run another file."""
    info = reading.open_video(Clip(tmp_path / "a.mp4", width=width, height=96).write())
    chosen = encoding.choose_encoding(info, ".mp4", EncoderSettings())
    y, x = np.mgrid[:96, :width]
    noise = np.random.default_rng(0).integers(0, 12, (96, width, 1))
    frames = [
        (np.dstack([120 + 20 * np.sin((x - n) / 9), 110 + 15 * np.cos(y / 7), 60 + 0 * x])
         + np.roll(noise, n, 1)).astype(np.uint8)
        for n in range(10)
    ]  # fmt: skip
    written = set()
    for run in range(12):
        rubbish = [np.full(size, run, np.uint8) for size in range(1000, 60000, 3000)]
        del rubbish[::2]
        with writing.SegmentWriter(tmp_path / "s", info, chosen) as segment:
            for number, image in enumerate(frames):
                segment.write(image, number * 100)
        written.add((tmp_path / "s").read_bytes())
    assert len(written) == 1


def test_a_segment_that_failed_or_was_cut_is_none(tmp_path):
    source = Clip(tmp_path / "a.mp4").write()
    info = reading.open_video(source)
    chosen = encoding.choose_encoding(info, ".mp4", EncoderSettings())
    path = tmp_path / "0.segment"
    with (
        pytest.raises(RuntimeError, match="stop"),
        writing.SegmentWriter(path, info, chosen) as segment,
    ):
        segment.write(makers.picture(0), 0)
        raise RuntimeError("stop")
    assert os.listdir(tmp_path) == ["a.mp4"]
    with writing.SegmentWriter(path, info, chosen) as segment:
        segment.write(makers.picture(0), 0)
    makers.truncated(path, path, 0.9)
    with pytest.raises(UserError, match="not a whole segment"):
        writing.assemble(tmp_path / "b.mp4", info, chosen, [path], source=None)
    assert sorted(os.listdir(tmp_path)) == ["0.segment", "a.mp4"]


FULL_DISK = """
import pathlib, resource, sys
from dp3_jax.media.video import encoding, reading, writing
source, segment, target = map(pathlib.Path, sys.argv[1:])
info = reading.open_video(source)
chosen = encoding.choose_encoding(info, ".mp4", encoding.EncoderSettings(crf=1))
with writing.SegmentWriter(segment, info, chosen) as writer:
    for frame in reading.read_frames(source):
        writer.write(frame.image, frame.pts)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
writing.assemble(target, info, chosen, [segment], source=source)
"""


def test_a_full_disk_leaves_no_file_and_one_line(tmp_path):
    Clip(tmp_path / "a.mp4").write()
    paths = [str(tmp_path / name) for name in ("a.mp4", "0.segment", "b.mp4")]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "UserError: cannot write" in done.stderr.splitlines()[-1]
    assert sorted(os.listdir(tmp_path)) == ["0.segment", "a.mp4"]


@pytest.mark.parametrize(
    "name",
    ["lp_driving_d18.mp4", "intel_face-demographics-walking.gif"],
)
def test_shared_clips_come_back(tmp_path, shared_data, name):
    target = tmp_path / name
    rewrite(shared_data / "video" / name, target, length=100)
    assert_same(shared_data / "video" / name, target)
