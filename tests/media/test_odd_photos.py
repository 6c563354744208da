"""Photos that other programs show: large texts and profiles, colour chunks, a missing end, any ending."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from dp3_jax.common.errors import UserError
from dp3_jax.media import photos, png
from tests.face_photos import astronaut

COLOURS = {
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000),
    b"sRGB": b"\0",
    b"cICP": bytes([9, 16, 0, 1]),  # BT.2020, PQ
    b"mDCV": struct.pack(">8H2I", 35400, 14600, 8500, 39850, 6550, 2300, 15635, 16450, 10**7, 50),
    b"cLLI": struct.pack(">2I", 10**7, 4 * 10**6),
}


def picture(size=(96, 64)):
    return Image.fromarray(astronaut()).resize(size, Image.Resampling.LANCZOS)


def saved(image, *arguments, **options):
    opened = io.BytesIO()
    image.save(opened, *arguments, **options)
    return opened.getvalue()


def chunks(content):
    found, at = {}, 8
    while at < len(content):
        (size,) = struct.unpack_from(">I", content, at)
        found[content[at + 4 : at + 8]] = content[at + 8 : at + 8 + size]
        at += 12 + size
    return found


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("keyword", ["XML:com.adobe.xmp", "Comment", "Raw profile type exif"])
def test_a_png_may_hold_megabytes_of_text(packed, keyword):
    info = PngImagePlugin.PngInfo()
    add = info.add_itxt if keyword.startswith("XML") else info.add_text
    add(keyword, "photoshop:DocumentAncestors " * 120_000, zip=packed)
    source = saved(picture(), "PNG", pnginfo=info)
    photo = photos.decode_photo(source)
    np.testing.assert_array_equal(photo.pixels, np.asarray(picture()))
    assert b"Ancestors" not in photos.encode_photo(photo)


def test_a_png_may_hold_a_large_colour_profile():
    profile = np.random.default_rng(0).bytes(2_500_000)
    photo = photos.decode_photo(saved(picture(), "PNG", icc_profile=profile))
    assert photo.icc_profile == profile
    assert photos.decode_photo(photos.encode_photo(photo)).icc_profile == profile


def test_a_png_is_turned_by_the_orientation_in_its_large_text():
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<a tiff:Orientation="6"/>' + " " * 3_000_000, zip=True)
    photo = photos.decode_photo(saved(picture(), "PNG", pnginfo=info))
    np.testing.assert_array_equal(photo.pixels, np.rot90(np.asarray(picture()), -1))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_what_says_what_a_png_s_colours_mean_is_kept(mode):
    source = png.with_colours(saved(picture().convert(mode), "PNG"), list(COLOURS.items()))
    result = photos.encode_photo(photos.decode_photo(source), mark=True)
    assert {name: body for name, body in chunks(result).items() if name in COLOURS} == COLOURS
    order = list(chunks(result))
    assert max(map(order.index, COLOURS)) < order.index(b"IDAT")
    Image.open(io.BytesIO(result)).verify()


def test_text_by_the_name_of_a_colour_chunk_is_no_colour():
    hidden = [(name, (b"Jane Doe, Elm Street" * 2)[: len(body)]) for name, body in COLOURS.items()]
    source = png.with_colours(saved(picture(), "PNG"), hidden)
    result = photos.encode_photo(photos.decode_photo(source))
    assert not set(COLOURS) & set(chunks(result))


def test_other_formats_get_no_png_chunks():
    source = png.with_colours(saved(picture(), "PNG"), list(COLOURS.items()))
    for container in ("JPEG", "WEBP", "TIFF", "BMP"):
        content = photos.encode_photo(photos.decode_photo(source), container)
        assert Image.open(io.BytesIO(content)).format == container


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_without_its_end_is_whole(options, missing):
    content = saved(picture((200, 133)), "JPEG", quality=90, **options)
    whole, cut = (photos.decode_photo(c).pixels for c in (content, content[:-missing]))
    np.testing.assert_array_equal(whole, cut)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("share", [0.4, 0.8, 0.97])
def test_a_jpeg_without_its_last_rows_is_not(options, share):
    content = saved(picture((200, 133)), "JPEG", quality=90, **options)
    with pytest.raises(UserError, match="complete"):
        photos.decode_photo(content[: int(share * len(content))])


def test_a_png_without_its_end_is_whole():
    content = saved(picture(), "PNG")
    np.testing.assert_array_equal(photos.decode_photo(content[:-12]).pixels, np.asarray(picture()))
    with pytest.raises(UserError, match="complete"):
        photos.decode_photo(content[: len(content) // 2])


@pytest.mark.parametrize("ending", [".jfif", ".JFIF", ".jif", ".jfi", ".pjpeg", ".pjp", ".dib"])
def test_rarer_endings_are_known(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    assert photos.is_photo_name(path)
    picture().save(path, "BMP" if ending == ".dib" else "JPEG")
    photo = photos.read_photo(path)
    photos.write_photo(path, photo)
    assert photos.read_photo(path).format == photo.format


def test_the_finest_progressive_jpeg_can_be_written():
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    content = saved(Image.fromarray(noise), "JPEG", quality=100, subsampling=0)
    photo = photos.decode_photo(content)
    photo.encoding["progressive"] = True
    again = photos.decode_photo(photos.encode_photo(photo))
    assert np.abs(again.pixels.astype(int) - photo.pixels).mean() < 2


def test_a_png_cut_anywhere_is_read_or_refused_in_one_line():
    source = png.with_colours(
        saved(picture((16, 16)), "PNG", icc_profile=bytes(90)), [*COLOURS.items()]
    )
    for end in range(len(source)):
        try:
            assert photos.decode_photo(source[:end]).pixels.shape == (16, 16, 3)
        except UserError as error:
            assert "\n" not in str(error)
