"""Every sound and text that can be copied into every container: no word of a header or a tag comes back."""

import io

import av
import numpy as np
import pytest

from dp3_jax.media.video import encoding
from tests import video_makers as makers
from tests.media.test_video_streams import PLANTED, replaced, sound_of
from tests.media.test_video_writing import copied, rewrite
from tests.video_makers import Clip, Fraction

RATE = 48000
SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
PICTURES = {  # encoder and options
    ".webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}),
    ".avi": ("mpeg4", {}),
}
# FFmpeg does not decode its own TTA in Matroska, and PyAV gives no array of 64-bit samples.
NOT_READ = ("tta", "pcm_s64le")


def encoders_of(container):
    """(codec, encoder) of all sound that FFmpeg can encode here and put into a container."""
    with av.open(io.BytesIO(), "w", format=container) as output:
        names = sorted(output.supported_codecs)
    found = {}
    for name in names:
        try:
            codec = av.Codec(name, "w")
        except ValueError:
            continue
        if codec.type == "audio" and codec.canonical_name not in NOT_READ:
            found.setdefault(codec.canonical_name, name)
    return found.items()


def clip_with(path, encoder):
    """A clip of 10 frames with as much stereo sound."""
    name, options = PICTURES.get(path.suffix, ("libx264", {"bf": "0"}))
    with av.open(str(path), "w") as output:
        video = output.add_stream(name, rate=25, options=options)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = output.add_stream(encoder, rate=RATE, layout="stereo", bit_rate=128000)
        sound.codec_context.options = {"strict": "experimental"}
        output.start_encoding()
        packets = []
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(makers.picture(i)).reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        for start in range(0, RATE * 2 // 5, 1024):
            wave = 0.3 * np.sin((start + np.arange(1024)) / 20).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(
                np.tile(wave, (2, 1)), format="fltp", layout="stereo"
            )
            frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
            packets += sound.encode(frame)
        packets += sound.encode(None)
        for packet in sorted(packets, key=lambda p: (p.dts or 0) * p.time_base):
            output.mux(packet)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_planted_word_comes_back_through_any_sound(tmp_path, suffix):
    tried = []
    for codec, encoder in encoders_of(encoding.CONTAINERS[suffix]):
        try:
            source = clip_with(tmp_path / f"{codec}{suffix}", encoder)
        except (av.error.FFmpegError, ValueError, OSError):
            continue  # at this rate there is no such sound
        try:
            planted = replaced(source, lambda header: (header or b"") + PLANTED)
        except (av.error.FFmpegError, ValueError, OSError):
            continue  # the muxer builds the header itself, so that nothing can be planted
        said = []
        rewrite(planted, tmp_path / f"out{suffix}", note=said.append)
        assert PLANTED not in (tmp_path / f"out{suffix}").read_bytes(), codec
        if not any("anew" in line for line in said):
            assert np.array_equal(sound_of(tmp_path / f"out{suffix}")[0], sound_of(source)[0]), (
                codec
            )
        tried.append(codec)
    assert len(tried) >= 2


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("subrip", ".mkv"), ("webvtt", ".mkv"), ("webvtt", ".webm"), ("mov_text", ".mp4"), ("mov_text", ".mov")],
)  # fmt: skip
def test_no_planted_word_comes_back_through_any_text(tmp_path, codec, suffix):
    more = {}
    if suffix == ".webm":
        name, options = PICTURES[suffix]
        more = {"codec": name, "options": options}
    source = Clip(tmp_path / f"a{suffix}", subtitles=codec, **more).write()
    planted = source
    if codec != "subrip":  # which has no header
        planted = replaced(source, lambda header: (header or b"") + PLANTED)
    target = tmp_path / f"out{suffix}"
    rewrite(planted, target)
    content = target.read_bytes()
    assert PLANTED not in content
    assert b"line 0" in content and b"line 1" in content
    before, after = copied(source)[0], copied(target)[0]
    assert [p[1] for p in before[3:]] == pytest.approx([p[1] for p in after[3:]], abs=0.002)
