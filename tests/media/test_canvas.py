"""Pictures that are looked at and drawn in otherwise than they are stored: only what is drawn changes."""

import dataclasses
import functools
import http.server
import threading
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.media.live.sources import Wanted, open_source
from dp3_jax.media.video import encoding, rates, reading, writing
from dp3_jax.media.video.canvas import Canvas
from dp3_jax.media.video.colours import Colours
from dp3_jax.media.video.encoding import EncoderSettings
from dp3_jax.media.video.levels import Levels, Pack
from dp3_jax.media.video.tones import HLG, PQ
from tests.face_photos import BOX, astronaut, detector_or_skip
from tests.video_makers import Clip

WIDTH, HEIGHT = 64, 48
SDR, IN_HLG, IN_PQ = Colours(1, 1, 1, 1), Colours(9, 9, HLG, 1), Colours(9, 9, PQ, 1)
KINDS = {  # by name: encoder, pixel format, tags, pixel aspect
    "flat.mp4": ("ffv1", "yuv420p", SDR, Fraction(1, 2)),
    "narrow.mp4": ("ffv1", "yuv444p", SDR, Fraction(3, 2)),
    "ten.mkv": ("ffv1", "yuv422p10le", SDR, None),
    "hlg.mkv": ("ffv1", "yuv420p10le", IN_HLG, None),
    "pq.mkv": ("ffv1", "yuv444p12le", IN_PQ, None),
    "alpha.mkv": ("ffv1", "yuva420p", SDR, None),
    "deep_alpha.mkv": ("ffv1", "yuva444p10le", SDR, None),
    "alpha.mov": ("qtrle", "argb", Colours(0, 1, 1, 0), None),
}
NEW = (200, 150, 120)  # what is drawn, RGB


def write_clip(path, encoder, pixel_format, tags, aspect=None, *, images=None, options=None):
    """A clip of component arrays; by default three of noise, in a corner wholly transparent."""
    levels = Levels.of(tags, pixel_format, WIDTH, HEIGHT)
    pack = Pack(levels, levels, pixel_format)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(encoder, rate=10, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        context = stream.codec_context
        context.colorspace, context.color_primaries = tags.matrix, tags.primaries
        context.color_trc, context.color_range = tags.transfer, tags.range
        if aspect:
            context.sample_aspect_ratio = aspect
        for number, image in enumerate(images or (noise(levels, i) for i in range(3))):
            frame = pack(np.ascontiguousarray(image, levels.dtype))
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def noise(levels, number):
    random = np.random.default_rng(number)
    image = random.integers(levels.most // 3, levels.most // 2, (HEIGHT, WIDTH, 4))
    image[..., 3] = random.integers(4 * levels.most // 5, levels.most + 1)
    image[:8, :8, 3] = 0
    return image


def rewrite(source, target, draw=lambda image: image, settings=EncoderSettings()):  # noqa: B008
    """The whole way of a clip with `draw` for a renderer; (encoding, what was written)."""
    info = reading.open_video(source)
    chosen = encoding.choose_encoding(info, target.suffix, settings)
    info = encoding.as_written(info, chosen)
    canvas = Canvas(info, chosen.keeps_stored)
    segment = target.with_suffix(writing.SEGMENT_SUFFIX)
    with (
        reading.read_frames(info, stored=chosen.keeps_stored) as frames,
        writing.SegmentWriter(segment, info, chosen) as writer,
    ):
        for frame in frames:
            image = draw(frame.image)
            if frame.stored is not None:
                image = canvas.merged(frame.stored, frame.image, image)
            writer.write(image, frame.pts, frame.duration)
    writing.assemble(target, info, chosen, [segment], source=None)
    return chosen, list(reading.read_frames(target, stored=True))


def draw(image):
    """A patch of one colour in the middle."""
    height, width = image.shape[:2]
    image = image.copy()
    image[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = NEW
    return image


@pytest.mark.parametrize("name", KINDS)
def test_all_but_what_is_drawn_stays_to_the_last_bit(tmp_path, name):
    source = write_clip(tmp_path / name, *KINDS[name])
    before = list(reading.read_frames(source, stored=True))
    chosen, after = rewrite(source, tmp_path / f"out_{name}", draw)
    told = reading.open_video(tmp_path / f"out_{name}")
    info = reading.open_video(source)
    assert (told.codec, told.pixel_format, told.colours) == (
        info.codec,
        info.pixel_format,
        info.colours,
    )
    assert told.sample_aspect_ratio == info.sample_aspect_ratio == KINDS[name][3]
    assert not chosen.remarks and len(after) == 3
    for old, new in zip(before, after, strict=True):
        drawn = (cv2.resize(draw(np.zeros_like(old.image)), (WIDTH, HEIGHT)) > 0).any(-1)
        around = (
            cv2.dilate(drawn.astype(np.uint8), np.ones((5, 5))) > 0
        )  # colour has half the resolution
        np.testing.assert_array_equal(old.stored[~around], new.stored[~around])
        if info.has_alpha:
            np.testing.assert_array_equal(old.stored[..., 3], new.stored[..., 3])
        height, width = new.image.shape[:2]
        middle = new.image[5 * height // 12 : 7 * height // 12, 5 * width // 12 : 7 * width // 12]
        assert np.abs(middle.astype(int) - NEW).max() <= 6


@pytest.mark.parametrize("tags", [IN_HLG, IN_PQ])
def test_hdr_is_looked_at_as_the_sdr_that_it_was_made_of(tmp_path, tags):
    """White at 203 cd/m2 or 75% (ITU-R BT.2408), colours from BT.709 to BT.2020 (BT.2087)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    sdr = np.stack([x * 3, y * 4, (x + y) * 2], -1).clip(0, 215)
    light = np.where(sdr <= 10, sdr / 255 / 12.92, ((sdr / 255 + 0.055) / 1.055) ** 2.4)
    to_2020 = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    light = light @ np.transpose(to_2020)
    if tags is IN_PQ:
        power = (light * 203 / 10_000) ** 0.1593017578125
        signal = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    else:
        light = light * 0.265
        upper = 0.17883277 * np.log(np.maximum(12 * light - 0.28466892, 1e-9)) + 0.55991073
        signal = np.where(light <= 1 / 12, np.sqrt(3 * light), upper)
    levels = Levels.of(tags, "yuv444p10le", WIDTH, HEIGHT)
    to_levels = levels.from_rgb()
    stored = np.rint(signal @ to_levels[:, :3].T + to_levels[:, 3])
    source = write_clip(tmp_path / "a.mkv", "ffv1", "yuv444p10le", tags, images=[stored])
    (frame,) = reading.read_frames(source)
    errors = np.abs(
        frame.image.astype(int) - sdr
    )  # 10 bits of PQ are coarse in dark, strong colours
    assert np.percentile(errors, 99) <= 4 and errors.mean() < 1


@pytest.mark.parametrize(
    ("codec", "ending", "options"),
    [
        ("libx265", ".mp4", {"x265-params": "log-level=none", "crf": "4"}),
        ("libsvtav1", ".mkv", {"crf": "10", "preset": "10"}),
        ("prores_ks", ".mov", {"profile": "3"}),
    ],
)
def test_ten_bits_come_out_as_ten_bits_with_their_tags(tmp_path, codec, ending, options):
    levels = Levels.of(IN_HLG, "yuv420p10le", WIDTH, HEIGHT)
    ramp = np.full((HEIGHT, WIDTH, 3), 512)
    ramp[..., 0] = 400 + np.arange(WIDTH)  # 64 of the 1024 levels: 8 bits have 16 for them
    pixel_format = "yuv422p10le" if codec == "prores_ks" else "yuv420p10le"
    images = [ramp.astype(levels.dtype)] * 2
    path = tmp_path / f"a{ending}"
    if codec == "prores_ks":
        options = options | {"profile": "3"}
    source = write_clip(path, codec, pixel_format, IN_HLG, images=images, options=options)
    _, after = rewrite(source, tmp_path / f"b{ending}")
    told = reading.open_video(tmp_path / f"b{ending}")
    assert (told.codec, told.pixel_format) == (reading.open_video(source).codec, pixel_format)
    if codec != "prores_ks":
        assert told.colours == IN_HLG
    values = after[0].stored[8:40, :, 0].mean(0)
    assert len(np.unique(np.rint(values))) > 40
    assert np.abs(values - ramp[0, :, 0]).mean() < 2


def test_what_has_too_few_bits_for_hdr_says_so_and_offers_what_has(tmp_path):
    path = write_clip(tmp_path / "a.mkv", *KINDS["hlg.mkv"])
    for ending, settings in ((".webm", EncoderSettings()), (".mp4", EncoderSettings(codec="h264"))):
        with pytest.raises(UserError, match=r"HDR.*--codec av1"):
            encoding.choose_encoding(reading.open_video(path), ending, settings)
    sdr = reading.open_video(write_clip(tmp_path / "b.mkv", *KINDS["ten.mkv"]))
    (remark,) = encoding.choose_encoding(sdr, ".webm", EncoderSettings()).remarks
    assert "8 bits" in remark and "--codec av1" in remark


def test_the_transparency_of_webm_is_kept(tmp_path):
    options = {"crf": "4", "b": "0", "deadline": "realtime", "cpu-used": "8"}
    images = [np.full((HEIGHT, WIDTH, 4), 120, np.uint8) for _ in range(3)]
    for number, image in enumerate(images):
        image[..., 3] = 255
        image[:, : 16 + 8 * number, 3] = 0
    source = write_clip(
        tmp_path / "a.webm", "libvpx-vp9", "yuva420p", SDR, images=images, options=options
    )
    chosen, after = rewrite(source, tmp_path / "b.webm", draw)
    assert chosen.codec == "vp9" and not chosen.remarks
    for image, frame in zip(images, after, strict=True):
        assert np.abs(frame.stored[..., 3].astype(int) - image[..., 3]).mean() < 2


def test_a_face_that_lies_in_the_transparency_alone_does_not_stay_there(tmp_path):
    levels = Levels.of(SDR, "yuva420p", WIDTH, HEIGHT)
    image = np.full((HEIGHT, WIDTH, 4), 128)
    image[..., 0] = 220
    random = np.random.default_rng(0).integers(40, 220, (HEIGHT // 4, WIDTH // 4))
    image[..., 3] = np.kron(random, np.ones((4, 4)))
    source = write_clip(
        tmp_path / "a.mkv", "ffv1", "yuva420p", SDR, images=[image.astype(levels.dtype)]
    )
    (before,) = reading.read_frames(source)
    assert before.image.std() > 3  # it is seen
    _, (after,) = rewrite(source, tmp_path / "b.mkv", draw)
    assert (after.stored[18:30, 24:40, 3] == 255).all()
    np.testing.assert_array_equal(after.stored[:12, ..., 3], image[:12, ..., 3])


def test_pixels_whose_aspect_cannot_be_told_become_square(tmp_path):
    source = write_clip(tmp_path / "flat.mp4", *KINDS["flat.mp4"])
    _, after = rewrite(source, tmp_path / "b.webm", draw)
    assert reading.open_video(tmp_path / "b.webm").canvas_size == (WIDTH, 2 * HEIGHT)
    assert np.abs(after[0].image[40:56, 26:38].astype(int) - NEW).max() < 25


def test_transparency_without_room_is_laid_over_black_and_told(tmp_path):
    source = write_clip(tmp_path / "a.mov", *KINDS["alpha.mov"])
    info = reading.open_video(source)
    chosen = encoding.choose_encoding(info, ".mp4", EncoderSettings())
    assert chosen.flattens and "over black" in chosen.remarks[0]
    flat = next(reading.read_frames(dataclasses.replace(info, flattened=True))).image
    old = next(reading.read_frames(source, stored=True)).stored
    expected = old[..., :3] * (old[..., 3:] / 255)
    assert np.abs(flat - expected).max() <= 1 and not flat[:8, :8].any()


def test_a_size_that_changes_gets_bars(tmp_path):
    path = tmp_path / "a.ts"
    content = b""
    for width, height in ((64, 48), (32, 64)):
        part = Clip(
            tmp_path / "p.ts", frames=2, width=width, height=height,
            image=lambda n, w, h: np.full((h, w, 3), 200, np.uint8),
        )  # fmt: skip
        content += part.write().read_bytes()
    path.write_bytes(content)
    images = [frame.image for frame in reading.read_frames(path)]
    assert {image.shape for image in images} == {(48, 64, 3)}
    assert images[0].min() > 180
    last = images[-1]  # 24 x 48 in the middle
    assert last[:, 22:42].min() > 180 and last[:, :18].max() < 20 and last[:, -18:].max() < 20


def test_faces_are_found_in_square_pixels(tmp_path):
    """As many as in the clip that was squeezed."""
    detector = detector_or_skip()
    photo = cv2.resize(astronaut(), (256, 256), interpolation=cv2.INTER_AREA)
    for aspect in (Fraction(1, 3), Fraction(3)):
        size = (256, 85) if aspect < 1 else (85, 256)
        squeezed = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
        path = Clip(
            tmp_path / "a.mp4", frames=2, width=size[0] & ~1, height=size[1] & ~1, aspect=aspect,
            image=lambda n, w, h, image=squeezed: np.ascontiguousarray(image[:h, :w]),
        ).write()  # fmt: skip
        for frame in reading.read_frames(path):
            (face,) = detector.detect(frame.image)
            assert np.abs(np.array(face.box) - np.array(BOX) / 2).max() < 8


def test_rates_come_from_the_frames_where_the_header_makes_them_up():
    times = [40 * i + i % 3 for i in range(30)]
    measured = rates.measured(times, Fraction(1, 1000))
    assert abs(rates.believed(Fraction(1000), measured) - 25) < 0.2
    assert rates.believed(Fraction(25), measured) == 25  # more exact
    paused = times[:15] + [time + 5000 for time in times[15:]]
    assert abs(rates.measured(paused, Fraction(1, 1000)) - 25) < 0.5
    assert rates.believed(None, None) is None
    assert rates.measured([None, 5, 5], Fraction(1, 1000)) is None


def test_a_turned_source_behind_an_address_is_upright(tmp_path):
    path = Clip(tmp_path / "a.mp4", frames=3, rotation=90).write()
    upright = next(reading.read_frames(path)).image
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = open_source(f"http://127.0.0.1:{server.server_address[1]}/a.mp4", Wanted())
        frames = list(source.frames)
        server.shutdown()
    assert (source.width, source.height) == (48, 64) and len(frames) == 3
    np.testing.assert_array_equal(frames[0].image, upright)
