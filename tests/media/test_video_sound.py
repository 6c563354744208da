"""Sound that is cut away is gone; times that do not rise are repaired; a still end is no damage."""

import itertools
import pathlib
import struct

import av
import numpy as np
import pytest

from dp3_jax.media.video import audio_encoding, reading
from tests import video_makers as makers
from tests.media.test_video_streams import sound_of
from tests.media.test_video_writing import copied, rewrite, shown
from tests.video_makers import Clip
from tests.video_scenes import run, stand_in


def boxes(data, start, end):
    """(type, place, size) of each box."""
    while start + 8 <= end:
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        yield kind, start, size
        start += size


def with_edits(path, edits, track=1):
    """Writes another edit list of a track: (duration, time in the track), in 1/1000 s and ticks."""
    data = path.read_bytes()
    moov, size = next((a, n) for kind, a, n in boxes(data, 0, len(data)) if kind == b"moov")
    traks = [(a, n) for kind, a, n in boxes(data, moov + 8, moov + size) if kind == b"trak"]
    trak, length = traks[track]
    kept = [
        data[a : a + n] for kind, a, n in boxes(data, trak + 8, trak + length) if kind != b"edts"
    ]
    entries = b"".join(struct.pack(">Iihh", *edit, 1, 0) for edit in edits)
    elst = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    body = b"".join([kept[0], struct.pack(">I4s", 8 + len(elst), b"edts") + elst, *kept[1:]])
    new = struct.pack(">I4s", 8 + len(body), b"trak") + body
    inside = data[moov + 8 : trak] + new + data[trak + length : moov + size]
    whole = data[:moov] + struct.pack(">I4s", 8 + len(inside), b"moov") + inside
    path.write_bytes(whole + data[moov + size :])
    return path


RATE = 16000


def loud_clip(path, codec, loud):
    """3 s, with a tone that is loud where `loud(seconds)`."""
    loudness = lambda t: np.where(loud(t), 0.8, 0.05)  # noqa: E731
    return Clip(path, frames=75, audio=((codec, "eng"),), loudness=loudness).write()


def loudest(path, options):
    """The largest RMS of a tenth of a second of sound."""
    with av.open(str(path), options=options) as source:
        frames = list(source.decode(audio=0))
    scale = 32768 if frames[0].format.name.startswith("s16") else 1
    wave = np.concatenate([frame.to_ndarray()[0] for frame in frames]) / scale
    pieces = [wave[i : i + RATE // 10] for i in range(0, len(wave), RATE // 10)]
    return max(float(np.sqrt(np.mean(piece**2))) for piece in pieces), len(wave) / RATE


EDITS = {  # what is loud, the edit list, the seconds that are heard
    "start": (lambda t: t < 0.9, [(2000, RATE)], 2.0),
    "end": (lambda t: t > 1.1, [(1000, 0)], 1.0),
    "middle": (lambda t: (t > 1.1) & (t < 1.9), [(1000, 0), (1000, 2 * RATE)], 2.0),
    "late": (lambda t: t < 0.9, [(500, -1), (2000, RATE)], 2.0),
}


@pytest.mark.parametrize(("codec", "suffix"), [("aac", ".mp4"), ("pcm_s16le", ".mov")])
@pytest.mark.parametrize("name", EDITS)
def test_sound_that_an_edit_list_cuts_away_is_gone(tmp_path, name, codec, suffix):
    loud, edits, seconds = EDITS[name]
    source = with_edits(loud_clip(tmp_path / f"a{suffix}", codec, loud), edits)
    assert loudest(source, {"ignore_editlist": "1"})[0] > 0.3
    for target in (tmp_path / f"b{suffix}", tmp_path / "b.mkv"):
        said = []
        rewrite(source, target, note=said.append)
        assert "cut away" in said[0]
        for options in ({}, {"ignore_editlist": "1"}):
            loudness, length = loudest(target, options)
            assert loudness < 0.1
            assert length == pytest.approx(seconds, abs=0.15)
        with av.open(str(target)) as after:
            assert after.streams.audio[0].codec_context.codec.canonical_name == codec
        begins = [shown(path)[0][0][1] - sound_of(path)[1] for path in (source, target)]
        assert begins[0] == pytest.approx(begins[1], abs=0.09)


def test_one_pass_encodes_the_same_sound_anew(monkeypatch, tmp_path):
    stand_in(monkeypatch)
    loud, edits, _ = EDITS["start"]
    source = with_edits(loud_clip(tmp_path / "a.mp4", "aac", loud), edits)
    rewrite(source, tmp_path / "b.mkv")
    assert run(source, "-o", tmp_path / "c.mkv", "--one-pass", "--method", "solid") == 0
    assert loudest(tmp_path / "c.mkv", {})[0] < 0.1
    sounds = [sound_of(tmp_path / name)[0] for name in ("b.mkv", "c.mkv")]
    assert len(sounds[0]) == len(sounds[1])


def test_an_encoders_padding_is_no_cut(tmp_path):
    for codec, name in (("aac", "a.mp4"), ("libopus", "a.mkv"), ("libmp3lame", "b.mp4")):
        source = Clip(tmp_path / name, audio=((codec, "eng"),)).write()
        [(_, found)] = audio_encoding.scan(source).items()
        assert not audio_encoding.is_cut(codec.removeprefix("lib"), found)


def with_sound_times(path, change, codec="aac"):
    """A clip whose sound's packets have changed times; `change(number, ticks, duration)`."""
    source = Clip(path.with_name("steady.mkv"), frames=50, audio=((codec, "eng"),)).write()
    with av.open(str(source)) as given, av.open(str(path), "w") as output:
        copies = [output.add_stream_from_template(s, opaque=True) for s in given.streams]
        counts = itertools.count()
        for packet in given.demux():
            if packet.dts is None:
                continue
            if packet.stream_index == 1:
                time = change(next(counts), packet.pts, packet.duration)
                packet.pts = packet.dts = time
            packet.stream = copies[packet.stream_index]
            output.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_time_that_is_given_twice_is_repaired(tmp_path, suffix):
    source = with_sound_times(tmp_path / "a.mkv", lambda n, t, d: t - d if n == 10 else t)
    said = []
    rewrite(source, tmp_path / f"b{suffix}", note=said.append)
    assert ["repaired" in line for line in said] == [True]
    times = [packet[1] for packet in copied(tmp_path / f"b{suffix}")[0][3:]]
    steps = np.diff(times)
    assert steps.min() > 0.03 and steps.max() < 0.1
    assert sum(len(p) for p in copied(source)) == sum(
        len(p) for p in copied(tmp_path / f"b{suffix}")
    )


def test_recordings_behind_one_another_keep_their_lengths(tmp_path):
    clip = Clip(tmp_path / "a.ts", frames=50, options={"bf": "2"}, audio=(("aac", "eng"),))
    once = clip.write().read_bytes()
    glued = tmp_path / "glued.ts"
    glued.write_bytes(3 * once)
    for drop in ("copy", "drop"):
        with reading.read_frames(glued) as frames:
            times = [frame.pts for frame in frames]
            assert frames.damage is None
            jumps = frames.jumps
        assert [float(jump) for jump in jumps] == pytest.approx([2, 4], abs=0.001)
        assert set(np.diff(times)) == {3600}  # ticks of 1/90000 s, 25 a second
        rewrite(glued, tmp_path / "b.mp4", audio=drop, jumps=jumps)
        after, _ = shown(tmp_path / "b.mp4")
        assert len(after) == 150
        assert after[-1][1] - after[0][1] == pytest.approx(149 / 25, abs=0.001)
    rewrite(glued, tmp_path / "c.mkv", jumps=jumps)
    times = [packet[1] for packet in copied(tmp_path / "c.mkv")[0][3:]]
    assert np.diff(times).min() > 0.03 and np.diff(times).max() < 0.13
    assert times[-1] == pytest.approx(6, abs=0.2)


def still_end(path, seconds=8, sound=0):
    """20 frames in 2 s, the last of which is shown for longer; or sound for so many seconds instead."""
    plain = Clip(path.with_name("plain.mkv"), frames=20, times=[250 * i for i in range(20)]).write()
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        copy = output.add_stream_from_template(source.streams[0], opaque=True)
        audio = output.add_stream("aac", rate=16000, layout="mono") if sound else None
        output.start_encoding()
        packets = [p for p in source.demux() if p.dts is not None]
        for packet in packets:
            packet.stream, packet.duration = copy, 100
        if not sound:
            packets[-1].duration = 1000 * seconds
        if audio is not None:
            packets += list(makers.sine(audio, 440, sound))
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            output.mux(packet)
    return path


@pytest.mark.parametrize("name", ["still.mp4", "still.mkv", "sound.mkv", "sound.flv"])
def test_a_still_end_and_longer_sound_are_no_damage(tmp_path, name):
    source = still_end(tmp_path / name, sound=10 if "sound" in name else 0)
    with reading.read_frames(source) as frames:
        assert sum(1 for _ in frames) == 20
    assert frames.damage is None
    target = tmp_path / "out.mkv"
    rewrite(source, target, until=frames.info.duration_seconds)
    with av.open(str(target)) as after:
        assert after.duration / av.time_base == pytest.approx(10, abs=0.2)


@pytest.mark.parametrize("name", ["still.mkv", "sound.mkv", "still.mp4"])
def test_a_file_that_was_cut_off_is_damaged(tmp_path, name):
    source = still_end(tmp_path / name, sound=10 if "sound" in name else 0)
    if name.endswith(".mp4"):
        source = makers.streamable(source, tmp_path / "index_first.mp4")
    cut = makers.truncated(tmp_path / f"cut_{name}", source, 0.7)
    with reading.read_frames(cut) as frames:
        list(frames)
    assert frames.damage is not None
    assert pathlib.Path(cut).name in frames.damage
