"""Small video files with every peculiarity that real ones have."""

import dataclasses
import math
import pathlib
from fractions import Fraction

import av
import numpy as np
from PIL import Image

RATE = 25
LIMITED_709 = {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}
# By a name, what makes a `Clip` of 20 frames of its container one that is hard to keep: B-frames, uneven
# times, two languages, a rotation.
FORMATS = {
    "a.mp4": {"audio": (("aac", "eng"),), "options": {"crf": "4", "bf": "2"}},
    "a.mkv": {"audio": (("flac", "eng"), ("flac", "deu")), "times": [n * n * 7 for n in range(20)]},
    "a.webm": {
        "codec": "libvpx-vp9",
        "options": {"crf": "4", "b": "0", "deadline": "realtime", "cpu-used": "8"},
        "audio": (("libopus", "eng"),),
    },
    "a.mov": {"rotation": 90, "audio": (("pcm_s16le", "eng"),), "options": {"crf": "4"}},
}


def picture(number, width=64, height=48):
    """u8[h, w, 3]: a gradient, a red mark in the upper left corner, a square that moves with the number."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, 128 + 0 * x], -1).astype(np.uint8)
    image[: height // 4, : width // 4] = (220, 20, 20)
    left = 4 * number % (width - 8)
    image[height // 2 : height // 2 + 8, left : left + 8] = (250, 250, 30)
    return image


@dataclasses.dataclass
class Clip:
    """What to make; `write` makes it. Times are in ticks of `time_base`."""

    path: pathlib.Path
    frames: int = 12
    width: int = 64
    height: int = 48
    codec: str = "libx264"
    options: dict = dataclasses.field(default_factory=lambda: {"crf": "10", "bf": "0"})
    pixel_format: str = "yuv420p"
    time_base: Fraction = Fraction(1, RATE * 100)
    times: list | None = None  # pts of the frames; None: constant rate from 0
    tags: dict = dataclasses.field(default_factory=lambda: dict(LIMITED_709))
    aspect: Fraction | None = None
    rotation: int = 0  # degrees clockwise that a player turns the picture
    flip: bool = False
    audio: tuple = ()  # (codec, language) of each track
    loudness: object = staticmethod(lambda t: 0.3)  # of seconds
    subtitles: str | None = None  # codec
    chapters: bool = False
    metadata: dict = dataclasses.field(default_factory=dict)
    cover: bool = False
    image: object = staticmethod(picture)

    def write(self):
        with av.open(str(self.path), "w") as output:
            output.metadata.update(self.metadata)
            video = self._video(output)
            sounds = [self._audio(output, *track) for track in self.audio]
            text = None
            if self.subtitles:
                text = output.add_mux_stream(self.subtitles)
                text.time_base = Fraction(1, 1000)
                text.metadata["language"] = "fra"
            cover = self._cover(output) if self.cover else None
            if self.chapters:
                output.set_chapters([
                    {"id": i, "start": 200 * i, "end": 200 * (i + 1), "time_base": Fraction(1, 1000),
                     "metadata": {"title": f"part {i}"}} for i in range(2)
                ])  # fmt: skip
            output.start_encoding()
            if cover is not None:
                frame = av.VideoFrame.from_ndarray(picture(0, 32, 32)).reformat(format="yuvj420p")
                output.mux(cover.encode(frame))
            for packet in sorted(self._packets(video, sounds, text), key=_seconds):
                output.mux(packet)
        return self.path

    def pts(self):
        """The times of the frames in ticks."""
        step = round(1 / (RATE * self.time_base))
        return self.times or [i * step for i in range(self.frames)]

    def _video(self, output):
        stream = output.add_stream(self.codec, rate=RATE, options=self.options)
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, self.pixel_format
        stream.codec_context.time_base = self.time_base
        stream.time_base = self.time_base
        for name, value in self.tags.items():
            setattr(stream.codec_context, name, value)
        if self.aspect:
            stream.codec_context.sample_aspect_ratio = self.aspect
        if self.rotation or self.flip:
            stream.set_display_rotation(-self.rotation, hflip=self.flip)
        return stream

    def _audio(self, output, codec, language):
        stream = output.add_stream(codec, rate=16000, layout="mono")
        stream.metadata["language"] = language
        return stream

    def _cover(self, output):
        stream = output.add_stream("mjpeg")
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
        stream.disposition = av.stream.Disposition.attached_pic
        return stream

    def _packets(self, video, sounds, text):
        for i, pts in enumerate(self.pts()):
            frame = av.VideoFrame.from_ndarray(self.image(i, self.width, self.height))
            tags = self.tags
            frame = frame.reformat(
                format=self.pixel_format,
                dst_colorspace={9: 9, 6: 5, 5: 5}.get(tags.get("colorspace"), 1),
                dst_color_range=tags.get("color_range", 1),
            )
            frame.pts, frame.time_base = pts, self.time_base
            yield from video.encode(frame)
        yield from video.encode(None)
        for number, stream in enumerate(sounds):
            yield from sine(stream, 330 * (number + 1), len(self.pts()) / RATE, self.loudness)
        if text is not None:
            for i in range(2):
                payload = f"line {i}".encode()
                if self.subtitles == "mov_text":
                    payload = len(payload).to_bytes(2, "big") + payload
                packet = av.Packet(payload)
                packet.stream, packet.time_base = text, Fraction(1, 1000)
                packet.pts = packet.dts = 40 + 200 * i
                packet.duration, packet.is_keyframe = 100, True
                yield packet


def sine(stream, pitch, seconds, loudness=lambda t: 0.3):
    size = stream.codec_context.frame_size or 1024
    for start in range(0, math.ceil(seconds * 16000), size):
        t = (start + np.arange(size)) / 16000
        wave = loudness(t) * np.sin(2 * np.pi * pitch * t)
        kind = stream.codec_context.format.name
        scale, dtype = {
            "flt": (1, np.float32), "s16": (2**15 - 1, np.int16), "s32": (2**31 - 1, np.int32)
        }[kind.removesuffix("p")]  # fmt: skip
        samples = (wave * scale).astype(dtype)
        frame = av.AudioFrame.from_ndarray(samples[None], format=kind, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _seconds(packet):
    return packet.dts * packet.time_base


def vfr(path, **more):
    """Variable frame rate: gaps of 20 to 240 ms."""
    gaps = [100, 50, 130, 100, 600, 20, 100, 333, 100, 100, 70]
    return Clip(path, times=[0, *np.cumsum(gaps).tolist()], **more)


def b_frames(path, **more):
    return Clip(path, frames=30, options={"crf": "10", "bf": "3", "preset": "medium"}, **more)


def rotated(path, degrees, **more):
    return Clip(path, rotation=degrees, **more)


def two_audio(path, codec="aac", **more):
    return Clip(path, audio=((codec, "eng"), (codec, "deu")), **more)


def ten_bit(path, **more):
    return Clip(path, pixel_format="yuv420p10le", **more)


def interlaced(path, **more):
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    return Clip(path, options=options, **more)


def phone(path, **more):
    """What a phone writes: place, device and time."""
    metadata = {
        "location": "+48.8577+002.2950/",
        "creation_time": "2024-05-06T07:08:09.000000Z",
        "title": "at home",
        "artist": "Jane Doe",
        "comment": "secret comment",
    }
    return Clip(path, metadata=metadata, audio=(("aac", "eng"),), **more)


def gif(path, durations=(100, 40, 250, 100), loop=0, size=(33, 21)):
    """An animated GIF; durations in ms."""
    images = [Image.fromarray(picture(i, *size)) for i in range(len(durations))]
    more = {} if loop is None else {"loop": loop}
    images[0].save(path, save_all=True, append_images=images[1:], duration=list(durations), **more)
    return path


def truncated(path, source, share=0.6):
    """The first part of a file."""
    content = pathlib.Path(source).read_bytes()
    pathlib.Path(path).write_bytes(content[: int(len(content) * share)])
    return path


def streamable(source, target):
    """The same MP4 with its index at its beginning."""
    with av.open(str(source)) as whole, av.open(
        str(target), "w", options={"movflags": "+faststart"}
    ) as output:  # fmt: skip
        copies = [output.add_stream_from_template(stream) for stream in whole.streams]
        for packet in whole.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    return target


def sound_only(path):
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        for packet in sine(stream, 440, 0.5):
            output.mux(packet)
    return path
