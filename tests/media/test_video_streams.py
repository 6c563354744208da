"""What goes beside the pictures of a video: nothing that was left out comes back through it."""

import struct

import av
import numpy as np
import pytest

from dp3_jax.media.video import fonts, sound_headers, subtitle_text
from tests.media.test_video_writing import copied, rewrite
from tests.video_makers import Clip, Fraction

PLANTED = b"JanePlanted"
NAME = PLANTED.decode()


def replaced(path, extradata=None, packet=None, side_data=None, target=None):
    """The same file with another header of its last stream, and each of that stream's packets changed."""
    target = target or path.with_name(f"planted_{path.name}")
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        output.metadata["artist"] = output.metadata["comment"] = NAME
        copies = [output.add_stream_from_template(s, opaque=True) for s in source.streams]
        for copy in copies:
            copy.metadata["title"] = copy.metadata["handler_name"] = NAME
        last = copies[-1]
        if extradata is not None:
            last.codec_context.extradata = extradata(last.codec_context.extradata)
        for number, item in enumerate(source.demux()):
            if item.dts is None:
                continue
            stream, made = copies[item.stream_index], item
            if stream is last and packet is not None:
                made = av.Packet(packet(bytes(item), number))
                made.time_base, made.pts, made.dts = item.time_base, item.pts, item.dts
                made.duration, made.is_keyframe = item.duration, item.is_keyframe
            made.stream = stream
            output.mux(made)
    return target


def sound_of(path):
    """f32 of one channel: what is heard; and when it begins, in seconds."""
    with av.open(str(path)) as source:
        frames = list(source.decode(audio=0))
    waves = [frame.to_ndarray()[0].astype(np.float64) for frame in frames]
    return np.concatenate(waves), float(frames[0].time)


def vorbis_with(comments):
    """A change of Vorbis' headers: comments in place of its own."""

    def change(header):
        first, _, third = sound_headers.xiph_parts(header)
        body = struct.pack("<I", len(PLANTED)) + PLANTED + struct.pack("<I", len(comments))
        body += b"".join(struct.pack("<I", len(c)) + c for c in comments)
        return sound_headers.xiph_laced((first, b"\x03vorbis" + body + b"\x01", third))

    return change


COVER = b"METADATA_BLOCK_PICTURE=" + 3000 * b"A" + PLANTED
HEADERS = {
    "vorbis.mkv": ("vorbis", vorbis_with([b"ARTIST=" + PLANTED, COVER])),
    "vorbis.webm": ("vorbis", vorbis_with([b"LOCATION=" + PLANTED])),
    "vorbis.mp4": ("vorbis", vorbis_with([b"ARTIST=" + PLANTED])),
    "opus.mkv": ("libopus", lambda header: header + PLANTED),
    "opus.webm": ("libopus", lambda header: header + PLANTED),
    "opus.mp4": ("libopus", lambda header: header + PLANTED),
    "flac.mkv": ("flac", lambda header: header + PLANTED),
    "alac.mov": ("alac", lambda header: header + PLANTED),
    "alac.mkv": ("alac", lambda header: header + PLANTED),
    "aac.mp4": ("aac", lambda header: header + PLANTED),
    "aac.mov": ("aac", lambda header: header + PLANTED),
    "aac.mkv": ("aac", lambda header: header + PLANTED),
    "mp3.mkv": ("libmp3lame", lambda _: PLANTED),
    "pcm.mkv": ("pcm_s16le", lambda _: PLANTED),
    "pcm.mov": ("pcm_s16le", lambda _: PLANTED),
    "pcm.avi": ("pcm_s16le", lambda _: PLANTED),
}


def clip_with_sound(path, codec):
    """A clip with stereo sound, which is all that FFmpeg's own encoder of Vorbis takes."""
    more = {}
    if path.suffix == ".webm":
        options = {"crf": "10", "b": "0", "deadline": "realtime", "cpu-used": "8"}
        more = {"codec": "libvpx-vp9", "options": options}
    if path.suffix == ".avi":
        more = {"codec": "mpeg4", "options": {}, "time_base": Fraction(1, 25)}
    if codec != "vorbis":
        return Clip(path, audio=((codec, "eng"),), **more).write()
    plain = Clip(path.with_name(f"v_{path.name}"), **more).write()
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        video = output.add_stream_from_template(source.streams[0], opaque=True)
        stream = output.add_stream("vorbis", rate=44100, layout="stereo")
        stream.codec_context.options = {"strict": "experimental"}
        output.start_encoding()
        packets = [p for p in source.demux() if p.dts is not None]
        for packet in packets:
            packet.stream = video
        for start in range(0, 22050, 1024):
            wave = 0.3 * np.sin((start + np.arange(1024)) / 20).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(
                np.tile(wave, (2, 1)), format="fltp", layout="stereo"
            )
            frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            output.mux(packet)
    return path


@pytest.mark.parametrize("name", HEADERS)
def test_no_word_in_the_header_of_a_sound_comes_back(tmp_path, name):
    codec, change = HEADERS[name]
    source = replaced(clip_with_sound(tmp_path / name, codec), change)
    target = tmp_path / f"out{source.suffix}"
    rewrite(source, target)
    assert PLANTED not in target.read_bytes()
    before, after = copied(source), copied(target)
    assert [p[0] for p in before[0][3:]] == [p[0] for p in after[0][3:]]  # no sound was lost
    assert np.abs(sound_of(target)[0] - sound_of(source)[0]).max() == 0


def test_tags_between_the_sound_do_not_come_back(tmp_path):
    tag = b"ID3\x03\0\0\0\0\0\x40" + PLANTED.ljust(64, b"\0")
    source = clip_with_sound(tmp_path / "a.mkv", "libmp3lame")
    rewrite(replaced(source, packet=lambda p, n: p + tag if n % 3 else tag), tmp_path / "b.mkv")
    assert PLANTED not in (tmp_path / "b.mkv").read_bytes()
    assert len(copied(tmp_path / "b.mkv")[0]) > 6
    for codec, header in (("libopus", b"OpusTags"), ("vorbis", b"\x03vorbis"), ("flac", b"fLaC")):
        source = clip_with_sound(tmp_path / f"{codec}.mkv", codec)
        planted = replaced(source, packet=lambda p, n, h=header: p if n % 5 else h + PLANTED)
        rewrite(planted, tmp_path / "c.mkv")
        assert PLANTED not in (tmp_path / "c.mkv").read_bytes()


def test_the_comment_in_a_table_of_channels_is_cut_out():
    table = (
        "0" * 4 + "01" + "0011" + "0001" + "0000" * 2 + "00" + "000" + "0000" + "000" + "0" + "0000"
    )
    bits = "00010" + "0011" + "0000" + "000" + table
    bits += "0" * (-len(bits) % 8)
    head = int(bits, 2).to_bytes(len(bits) // 8, "big")
    extension = b"\x56\xe5\x00"
    cleaned = sound_headers.clean("aac", head + bytes([len(PLANTED)]) + PLANTED + extension)
    assert cleaned == head + b"\0" + extension


@pytest.mark.parametrize("header", ["1208", "118856e500", "2b920800", "131056e5a0", "eb098800"])
def test_usual_headers_of_aac_stay_as_they_are(header):
    assert sound_headers.clean("aac", bytes.fromhex(header)) == bytes.fromhex(header)
    assert sound_headers.clean("aac", bytes.fromhex(header) + PLANTED) == bytes.fromhex(header)


def test_sound_of_an_unknown_header_is_encoded_anew(tmp_path):
    assert sound_headers.clean("speex", PLANTED) is None
    # An object type that cannot be read through to its end: enhanced low delay.
    source = clip_with_sound(tmp_path / "a.mkv", "libopus")
    planted = replaced(source, lambda header: header[:18] + b"\2" + PLANTED)
    said = []
    rewrite(planted, tmp_path / "b.mkv", note=said.append)
    assert PLANTED not in (tmp_path / "b.mkv").read_bytes()


SCRIPT = rf"""[Script Info]
Title: {NAME}
Original Script: {NAME}
ScriptType: v4.00+
PlayResX: 640
Collisions: {NAME}

[Aegisub Project Garbage]
Audio File: ../../{NAME}/raw.wav

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: {NAME},Arial,20,&H00FFFFFF,&H000000FF,&H00000000,&H00000000,0,0,0,0,100,100,0,0,1,2,2,2,10,10,10,1

[Fonts]
fontname: {NAME}.ttf

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:00.04,0:00:00.14,{NAME},{NAME},0,0,0,,{NAME}
Dialogue: 0,0:00:00.04,0:00:00.14,{NAME},{NAME},0,0,0,{NAME},{{by {NAME}}}{{{NAME}\i1\r{NAME}}}hello, you
"""  # noqa: E501


def ass_clip(folder):
    """A Matroska file with the subtitles of `SCRIPT`."""
    (folder / "s.ass").write_text(SCRIPT)
    plain = Clip(folder / "plain.mkv").write()
    with (
        av.open(str(plain)) as pictures,
        av.open(str(folder / "s.ass")) as script,
        av.open(str(folder / "ass.mkv"), "w") as output,
    ):
        copies = [
            output.add_stream_from_template(s.streams[0], opaque=True) for s in (pictures, script)
        ]
        for source, copy in zip((script, pictures), copies[::-1], strict=True):
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = copy
                    output.mux(packet)
    return folder / "ass.mkv"


def test_scripts_keep_what_is_shown_and_no_names(tmp_path):
    source = ass_clip(tmp_path)
    left_out = rewrite(source, tmp_path / "none.mkv", subtitles="drop")[1]
    assert [what for what in left_out if "ass" in what and "--subtitles copy" in what]
    assert copied(tmp_path / "none.mkv") == []
    rewrite(source, tmp_path / "b.mkv")
    content = (tmp_path / "b.mkv").read_bytes()
    assert PLANTED in source.read_bytes() and PLANTED not in content
    assert b"PlayResX: 640" in content and b"Arial" in content
    [[kind, _, _, packet]] = copied(tmp_path / "b.mkv")
    assert kind == "subtitle"
    assert packet[0] == b"0,0,Style1,,0,0,0,,{\\i1\\rStyle1}hello, you"
    assert packet[1:] == copied(source)[0][3][1:]


def test_timed_text_keeps_words_and_letters_and_no_other_boxes(tmp_path):
    def boxed(data, number):
        style = struct.pack(">I4sH12s", 22, b"styl", 1, bytes(12))
        address = struct.pack(">I4s", 8 + len(PLANTED), b"href") + PLANTED
        return data + style + address if len(data) > 2 else data

    font = struct.pack(">I4sHHB", 13 + len(PLANTED), b"ftab", 1, 1, len(PLANTED)) + PLANTED
    entry = bytes(4) + b"\1\xff" + bytes(4) + bytes(8) + b"\0\0\0\1\0\1\0\x12" + b"\xff" * 4
    source = Clip(tmp_path / "a.mp4", subtitles="mov_text").write()
    planted = replaced(source, lambda _: entry + font, boxed)
    assert PLANTED in planted.read_bytes()
    rewrite(planted, tmp_path / "b.mp4")
    assert PLANTED not in (tmp_path / "b.mp4").read_bytes()
    packets = [p[0] for p in copied(tmp_path / "b.mp4")[0][3:] if len(p[0]) > 2]
    assert [p[2:8] for p in packets] == [b"line 0", b"line 1"]
    assert all(p[8:16] == struct.pack(">I4s", 22, b"styl") for p in packets)


def test_places_of_cues_and_nothing_else_beside_their_text():
    kept = subtitle_text.cue_settings(f"line:0 position:20%,center align:start {NAME} id:{NAME}")
    assert kept == "line:0 position:20%,center align:start"
    header = f"# {NAME}\r\nsize: 720x576\r\nid: {NAME}\npalette: 000000, ffffff\n".encode()
    assert subtitle_text.Subtitles("dvd_subtitle", header).header == (
        b"size: 720x576\npalette: 000000, ffffff\n"
    )


def font_with(names):
    """A font of two tables: glyphs (none), and names by their numbers."""
    strings = b"".join(names.values())
    records, at = b"", 0
    for number, text in names.items():
        records += struct.pack(">6H", 1, 0, 0, number, len(text), at)
        at += len(text)
    name = struct.pack(">HHH", 0, len(names), 6 + len(records)) + records + strings
    tables = {b"glyf": b"\0" * 5, b"name": name, b"DSIG": PLANTED}
    offset, directory, body = 12 + 16 * len(tables), b"", b""
    for tag, content in tables.items():
        directory += struct.pack(">4sIII", tag, 0, offset + len(body), len(content))
        body += content
    return b"\0\1\0\0" + struct.pack(">4H", len(tables), 0, 0, 0) + directory + body + PLANTED


def test_fonts_come_with_subtitles_without_their_makers_names(tmp_path):
    font = font_with({0: PLANTED, 1: b"Deja", 9: PLANTED, 4: b"Deja Regular"})
    source = ass_clip(tmp_path)
    with av.open(str(source)) as given, av.open(str(tmp_path / "font.mkv"), "w") as output:
        copies = [output.add_stream_from_template(s, opaque=True) for s in given.streams]
        output.add_attachment(f"{NAME}.ttf", "font/ttf", font)
        output.add_attachment("b.ttf", "font/ttf", PLANTED)
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    left_out = rewrite(tmp_path / "font.mkv", tmp_path / "b.mkv")[1]
    assert left_out == ("attachment (stream 3)",)
    content = (tmp_path / "b.mkv").read_bytes()
    assert PLANTED not in content
    with av.open(str(tmp_path / "b.mkv")) as after:
        [attachment] = [s for s in after.streams if s.type == "attachment"]
        assert b"Deja Regular" in attachment.data and b"glyf" in attachment.data
        assert fonts.clean(attachment.data)[0] == attachment.data
    assert "attachment" in str(rewrite(tmp_path / "font.mkv", tmp_path / "c.mkv", subtitles="drop"))


def shifted(bits, data):
    """Bits, then bytes, then zeros up to a whole byte."""
    text = bits + "".join(f"{byte:08b}" for byte in data)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


@pytest.mark.parametrize(
    "front",
    [
        b"\x81" + bytes([len(PLANTED)]) + PLANTED,  # a data element, aligned to bytes
        shifted("110" + f"{len(PLANTED):04b}", b"\x00" + PLANTED[1:]),  # a fill element
        shifted("110" + "1111" + f"{len(PLANTED) + 8:08b}", bytes(12) + PLANTED[1:]),
    ],
    ids=["data", "fill", "long fill"],
)
def test_data_in_front_of_the_sound_in_aac_is_zeros(tmp_path, front):
    source = clip_with_sound(tmp_path / "a.mkv", "aac")
    with av.open(str(source)) as opened:
        packets = [bytes(p) for p in opened.demux(audio=0) if p.size]
    sound = shifted("", packets[5])
    wave = {}
    for name, data in (("planted", front + sound), ("clean", sound)):
        cleaned = sound_headers.clean_packet("aac", data)
        assert len(cleaned) == len(data)
        wave[name] = cleaned
    assert wave["clean"] == sound
    assert PLANTED[1:] not in wave["planted"]
    zeros = sum(a != b for a, b in zip(wave["planted"], front + sound, strict=True))
    assert 0 < zeros <= len(front)
    assert wave["planted"].endswith(sound[len(sound) // 2 :])


def test_padding_of_opus_is_zeros():
    packet = b"\xfb\x41" + bytes([len(PLANTED)]) + b"sound of a frame" + PLANTED
    cleaned = sound_headers.clean_packet("opus", packet)
    assert cleaned == packet[: -len(PLANTED)] + bytes(len(PLANTED))
    plain = b"\xf8" + PLANTED  # one frame and no padding
    assert sound_headers.clean_packet("opus", plain) == plain


def test_what_lies_behind_the_header_of_vorbis_is_cut_off(tmp_path):
    source = clip_with_sound(tmp_path / "a.mkv", "vorbis")
    with av.open(str(source)) as opened:
        header = opened.streams.audio[0].codec_context.extradata
    assert sound_headers.clean("vorbis", header + PLANTED) == sound_headers.clean("vorbis", header)
    assert sound_headers.clean("vorbis", header).endswith(header[-200:])
