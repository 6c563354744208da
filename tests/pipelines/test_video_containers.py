"""Commands on videos as people have them: containers that cannot be written, captions, places in texts."""

import av
import numpy as np
import pytest

from dp3_jax.cli import anonymize_command
from dp3_jax.common.errors import UserError
from dp3_jax.media.video import reading
from dp3_jax.pipelines.video import containers
from tests import video_makers as makers
from tests.media.test_video_streams import replaced
from tests.media.test_video_writing import copied, rewrite, shown
from tests.video_makers import Clip
from tests.video_scenes import run, stand_in


@pytest.fixture
def finder(monkeypatch):
    return stand_in(monkeypatch)


def codecs(path):
    """Of each stream."""
    with av.open(str(path)) as opened:
        return [s.codec_context.codec.canonical_name for s in opened.streams]


def sound_clip(path, sound, **more):
    """A clip in the container that its name says, with one second of sound."""
    form = {".mts": "mpegts", ".wmv": "asf"}.get(path.suffix)
    codec = more.pop("codec", "libx264")
    with av.open(str(path), "w", format=form) as output:
        options = {"bf": "0"} if codec == "libx264" else {}
        video = output.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        rate = 48000
        audio = output.add_stream(sound, rate=rate, layout="mono", bit_rate=64000)
        packets = []
        for i in range(25):
            frame = av.VideoFrame.from_ndarray(makers.picture(i)).reformat(format="yuv420p")
            frame.pts, frame.time_base = i, makers.Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        packets += makers.sine(audio, 440, 3)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            output.mux(packet)
    return path


FILES = {  # name, sound, video; what comes out
    "a.ts": ("aac", "libx264", ".mp4", ["aac", "h264"]),
    "b.mts": ("ac3", "libx264", ".mp4", ["ac3", "h264"]),
    "c.wmv": ("wmav2", "wmv2", ".mp4", ["aac", "h264"]),
    "d.flv": ("libmp3lame", "flv1", ".mp4", ["h264", "mp3"]),
    "e.ts": ("libopus", "libx264", ".mkv", ["h264", "opus"]),
    "f.3gp": ("aac", "libx264", ".3gp", ["aac", "h264"]),
}


def test_what_cannot_be_written_goes_into_another_container_and_that_is_said(
    finder, tmp_path, capsys
):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name, (sound, video, *_) in FILES.items():
        rate = {"rate": 44100} if name == "d.flv" else {}
        if rate:
            Clip(folder / name, codec=video, options={}, audio=()).write()
            continue
        sound_clip(folder / name, sound, codec=video)
    (folder / "a.mp4").write_bytes(Clip(folder / "plain.mp4").write().read_bytes())
    assert run(folder, "-o", out, "--method", "solid") == 0
    said = capsys.readouterr().err
    names = sorted(path.name for path in out.iterdir() if path.suffix != ".jsonl")
    assert names == ["a.mp4", "a.ts.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mkv", "f.3gp", "plain.mp4"]
    for name, (_, _, ending, streams) in FILES.items():
        made = "a.ts.mp4" if name == "a.ts" else name.split(".")[0] + ending
        expected = ["h264"] if name == "d.flv" else streams
        assert sorted(codecs(out / made)) == expected
        assert (f"{name}: written as {ending}" in said) == (ending != ".3gp")
    assert "c.wmv: sound (stream 1) was encoded anew" in said


def test_a_container_can_be_asked_for(finder, tmp_path, capsys):
    clip = Clip(tmp_path / "a.mp4", audio=(("aac", "eng"),)).write()
    assert run(clip, "--container", "mkv", "--method", "solid") == 0
    assert (tmp_path / "a_anonymized.mkv").read_bytes()[:4] == b"\x1a\x45\xdf\xa3"
    assert "written as .mkv: --container" in capsys.readouterr().err
    assert run(clip, "-o", tmp_path / "b.mp4", "--container", "mkv") == 2
    assert "do not agree" in capsys.readouterr().err
    clip = sound_clip(tmp_path / "c.ts", "aac")
    before = clip.read_bytes()
    assert run(clip, "--in-place", "--method", "solid") == 2
    assert "cannot be replaced" in capsys.readouterr().err
    assert clip.read_bytes() == before
    assert anonymize_command.CONTAINERS == containers.NAMES


def caption(data, _):
    """A packet of H.264 with a pair of closed captions in front (ANSI/SCTE 128, ATSC A/53 part 4)."""
    pair = b"\xfc\x94\x20"
    payload = b"\xb5\x00\x31GA94\x03\x41\xff" + pair + b"\xff"
    unit = b"\x06\x04" + bytes([len(payload)]) + payload + b"\x80"
    return len(unit).to_bytes(4, "big") + unit + data


def test_captions_and_places_are_left_out_and_named(finder, tmp_path, capsys):
    clip = replaced(Clip(tmp_path / "a.mp4").write(), packet=caption)
    for more in ((), ("--one-pass",)):
        target = tmp_path / f"b{len(more)}.mp4"
        assert run(clip, "-o", target, "--method", "solid", *more) == 0
        assert "left out: captions inside the pictures" in capsys.readouterr().err
        assert b"GA94" in clip.read_bytes() and b"GA94" not in target.read_bytes()
    clip = Clip(tmp_path / "drone.mp4", subtitles="mov_text").write()
    for more in ((), ("--one-pass",)):
        target = tmp_path / f"c{len(more)}.mp4"
        assert run(clip, "-o", target, "--method", "solid", *more) == 0
        assert (
            "left out: subtitle (stream 1, mov_text); --subtitles copy" in capsys.readouterr().err
        )
        assert b"line 0" not in target.read_bytes()
        assert run(clip, "-o", target, "--method", "solid", "--subtitles", "copy", *more) == 0
        assert "left out" not in capsys.readouterr().err
        assert b"line 0" in target.read_bytes()


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_hevc_is_labelled_as_apple_wants_it(tmp_path, name):
    options = {"x265-params": "log-level=none"}
    source = Clip(tmp_path / name, codec="libx265", options=options).write()
    rewrite(source, tmp_path / f"b{source.suffix}")
    content = (tmp_path / f"b{source.suffix}").read_bytes()
    assert b"hvc1" in content and b"hev1" not in content
    assert len(shown(tmp_path / f"b{source.suffix}")[0]) == 12


def test_a_glued_recording_with_a_repeated_time_ends_well_in_every_way(finder, tmp_path, capsys):
    once = Clip(tmp_path / "one.ts", frames=30, audio=(("aac", "eng"),)).write().read_bytes()
    (tmp_path / "glued.ts").write_bytes(2 * once)
    for more in ((), ("--one-pass",), ("--audio", "drop")):
        target = tmp_path / "out.mp4"
        assert run(tmp_path / "glued.ts", "-o", target, "--method", "solid", *more) == 0
        assert "its clock starts again" in capsys.readouterr().err
        times = np.array([time for _, time in shown(target)[0]])
        assert len(times) == 60
        assert np.abs(np.diff(times) - 0.04).max() < 0.002
        if not more:
            assert len(copied(target)[0]) > 30


def test_packets_that_a_muxer_refuses_are_encoded_anew(tmp_path):
    source = sound_clip(tmp_path / "a.mkv", "ac3")
    broken = replaced(source, packet=lambda data, n: bytes(40) if n % 7 == 3 else data)
    said = []
    rewrite(broken, tmp_path / "b.mp4", note=said.append)
    assert ["cannot be copied" in line for line in said] == [True]
    assert codecs(tmp_path / "b.mp4") == ["h264", "ac3"]
    times = [packet[1] for packet in copied(tmp_path / "b.mp4")[0][3:]]
    assert times[-1] == pytest.approx(3, abs=0.2)


def test_a_damaged_input_names_itself_also_where_its_container_is_chosen(finder, tmp_path, capsys):
    (tmp_path / "a.ts").write_bytes(b"no video at all" * 30)
    assert run(tmp_path / "a.ts", "--method", "solid") == 1
    assert "a.ts" in capsys.readouterr().err
    with pytest.raises(UserError):
        reading.open_video(tmp_path / "a.ts")


def test_sound_that_nobody_knows_is_refused_before_the_work(finder, tmp_path, capsys):
    clip = Clip(tmp_path / "a.mov", audio=(("pcm_s16le", "eng"),)).write()
    clip.write_bytes(clip.read_bytes().replace(b"sowt", b"zzzz"))
    assert run(clip, "--method", "solid") == 1
    assert "--audio drop leaves it out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.mov"]
    assert run(clip, "--method", "solid", "--audio", "drop") == 0
