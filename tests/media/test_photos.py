"""Photo files: every format there and back, and nothing of the original but its pixels."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageOps, JpegImagePlugin, PngImagePlugin

from dp3_jax.common.errors import UserError
from dp3_jax.media import photos, webp
from tests.face_photos import astronaut

MASTER_KEY = b"SECRET-OF-THE-SOURCE"  # in every piece of metadata; must be in no output


def picture(size=(96, 64), mode="RGB"):
    return Image.fromarray(astronaut()).resize(size, Image.Resampling.LANCZOS).convert(mode)


def thumbnail():
    """A JPEG that holds the original face, marked by a comment."""
    opened = io.BytesIO()
    picture((160, 120)).save(opened, "JPEG", comment=MASTER_KEY)
    return opened.getvalue()


def exif_block(orientation=1):
    """EXIF with camera, time, GPS, maker note, serial number, and a thumbnail in its second directory."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Camera maker"
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Artist] = MASTER_KEY.decode()
    exif[ExifTags.Base.ImageDescription] = MASTER_KEY.decode()
    camera = exif.get_ifd(ExifTags.IFD.Exif)
    camera[ExifTags.Base.ExposureTime] = 0.01
    camera[ExifTags.Base.DateTimeOriginal] = "2020:01:02 03:04:05"
    camera[ExifTags.Base.MakerNote] = MASTER_KEY
    camera[ExifTags.Base.BodySerialNumber] = MASTER_KEY.decode()
    camera[ExifTags.Base.UserComment] = MASTER_KEY
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 0.0)
    block = exif.tobytes()
    start = 6  # "Exif\0\0", then a big-endian TIFF
    assert block[start : start + 2] == b"MM"
    (first,) = struct.unpack(">I", block[start + 4 : start + 8])
    (entries,) = struct.unpack(">H", block[start + first : start + first + 2])
    link = start + first + 2 + 12 * entries
    second = len(block) - start
    data = thumbnail()
    at = second + 2 + 2 * 12 + 4
    directory = struct.pack(">H", 2)
    directory += struct.pack(">HHII", 0x0201, 4, 1, at)  # JPEGInterchangeFormat
    directory += struct.pack(">HHII", 0x0202, 4, 1, len(data))
    block = block[:link] + struct.pack(">I", second) + block[link + 4 :]
    return block + directory + struct.pack(">I", 0) + data


def segment(marker, content):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def loaded_jpeg(path, **options):
    """A JPEG with all the metadata that phones and editors put into it, and a second picture behind it."""
    opened = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = {
        "quality": 83,
        "exif": exif_block(),
        "comment": MASTER_KEY,
        "icc_profile": profile,
        **options,
    }
    picture().save(opened, "JPEG", **options)
    content = opened.getvalue()
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>" + MASTER_KEY + b"</x:xmpmeta>")
    iptc = segment(
        0xED, b"Photoshop 3.0\x008BIM\x04\x0c\0\0" + struct.pack(">I", 600) + thumbnail()[:600]
    )
    path.write_bytes(content[:2] + xmp + iptc + content[2:] + thumbnail() + MASTER_KEY)
    return path


def test_the_test_file_really_has_a_thumbnail(tmp_path):
    content = loaded_jpeg(tmp_path / "a.jpg").read_bytes()
    assert content.count(MASTER_KEY) >= 6
    assert content.count(b"\xff\xd8\xff") >= 3  # pictures: itself, thumbnails, trailer
    with Image.open(tmp_path / "a.jpg") as image:
        first = image.getexif().get_ifd(ExifTags.IFD.IFD1)
        assert first[0x0202] == len(thumbnail())


@pytest.mark.parametrize("keep", [False, True])
def test_nothing_but_pixels_leaves_a_jpeg(tmp_path, keep):
    photo = photos.read_photo(loaded_jpeg(tmp_path / "a.jpg"))
    photos.write_photo(tmp_path / "b.jpg", photo, keep_metadata=keep)
    content = (tmp_path / "b.jpg").read_bytes()
    assert MASTER_KEY not in content
    assert content.count(b"\xff\xd8\xff") == 1
    assert content.endswith(b"\xff\xd9")
    with Image.open(tmp_path / "b.jpg") as image:
        exif = image.getexif()
        assert not exif.get_ifd(ExifTags.IFD.GPSInfo)
        assert not exif.get_ifd(ExifTags.IFD.IFD1)
        assert image.info["icc_profile"] == photo.icc_profile
        assert bool(exif) == keep
        if keep:
            camera = exif.get_ifd(ExifTags.IFD.Exif)
            assert exif[ExifTags.Base.Make] == "Camera maker"
            assert camera[ExifTags.Base.DateTimeOriginal] == "2020:01:02 03:04:05"
            assert set(camera) == {ExifTags.Base.ExposureTime, ExifTags.Base.DateTimeOriginal}
            assert ExifTags.Base.Orientation not in exif


def test_an_appended_picture_is_not_copied(tmp_path):
    """MPO: what phones write for depth and motion; the second picture shows the same face."""
    picture().save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[picture((32, 32))])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.n_frames == 2
    photo = photos.read_photo(tmp_path / "a.jpg")
    photos.write_photo(tmp_path / "b.jpg", photo)
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.format == "JPEG"
    assert (tmp_path / "b.jpg").read_bytes().count(b"\xff\xd8\xff") == 1


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_nothing_but_pixels_leaves_other_formats(tmp_path, ending, keep):
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", MASTER_KEY.decode())
    options = {
        "png": {"pnginfo": text},
        "webp": {"xmp": MASTER_KEY},
        "tif": {"description": MASTER_KEY.decode()},
    }
    source, target = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    picture().save(source, exif=exif_block(), **options[ending])
    assert MASTER_KEY in source.read_bytes()
    photos.write_photo(target, photos.read_photo(source), keep_metadata=keep)
    assert MASTER_KEY not in target.read_bytes()
    with Image.open(target) as image:
        assert (image.getexif().get(ExifTags.Base.Make) == "Camera maker") == keep


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_pixels_are_turned_upright_and_the_tag_is_dropped(tmp_path, orientation, ending):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    source = tmp_path / f"a.{ending}"
    options = {"webp": {"lossless": True}}.get(ending, {})
    picture().save(source, exif=exif.tobytes(), **options)
    with Image.open(source) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    photo = photos.read_photo(source)
    np.testing.assert_array_equal(photo.pixels, expected)
    photos.write_photo(tmp_path / f"b.{ending}", photo, keep_metadata=True)
    with Image.open(tmp_path / f"b.{ending}") as image:
        assert image.size == expected.shape[1::-1]
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize(
    ("ending", "mode"),
    [(ending, mode) for ending in ("png", "tif") for mode in ("L", "LA", "RGB", "RGBA", "P", "1")]
    + [("webp", "L"), ("webp", "RGB"), ("webp", "RGBA"), ("bmp", "L"), ("bmp", "RGB")],
)
def test_lossless_formats_keep_every_pixel_and_transparency(tmp_path, ending, mode):
    image = picture(mode="RGB").convert("RGB" if mode == "P" else mode.rstrip("A") or "L")
    image = image.convert("P") if mode == "P" else image
    if mode in ("LA", "RGBA"):
        ramp = Image.fromarray(np.tile(np.arange(96, dtype=np.uint8) * 2, (64, 1)))
        image.putalpha(ramp)
    source, target = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    image.save(source, **({"lossless": True, "exact": True} if ending == "webp" else {}))
    photo = photos.read_photo(source)
    photos.write_photo(target, photo)
    with Image.open(source) as before, Image.open(target) as after:
        assert after.format == before.format
        if mode == "RGBA" and ending == "webp":
            visible = (
                np.asarray(before)[..., 3] > 0
            )  # WebP may forget the colour of what is transparent
            np.testing.assert_array_equal(np.asarray(after)[visible], np.asarray(before)[visible])
        else:
            as_mode = "RGBA" if mode in ("LA", "RGBA") else "RGB"
            np.testing.assert_array_equal(after.convert(as_mode), before.convert(as_mode))
        assert (photo.alpha is not None) == (mode in ("LA", "RGBA"))
        if mode in ("L", "LA") and ending in ("png", "tif"):
            assert after.mode == before.mode


def test_a_palette_s_transparency_is_kept(tmp_path):
    image = picture(mode="P")
    image.save(tmp_path / "a.png", transparency=7)
    photo = photos.read_photo(tmp_path / "a.png")
    assert set(np.unique(photo.alpha)) <= {0, 255}
    np.testing.assert_array_equal(photo.alpha == 0, np.asarray(image) == 7)


@given(quality=st.integers(20, 98), subsampling=st.sampled_from([0, 1, 2]), grey=st.booleans())
def test_a_jpeg_keeps_its_quantization_and_sampling(tmp_path_factory, quality, subsampling, grey):
    folder = tmp_path_factory.mktemp("jpeg")
    image = picture(mode="L" if grey else "RGB")
    image.save(folder / "a.jpg", quality=quality, subsampling=subsampling, progressive=quality % 2)
    photos.write_photo(folder / "b.jpg", photos.read_photo(folder / "a.jpg"))
    with Image.open(folder / "a.jpg") as before, Image.open(folder / "b.jpg") as after:
        assert before.quantization == after.quantization
        assert JpegImagePlugin.get_sampling(before) == JpegImagePlugin.get_sampling(after)
        assert before.mode == after.mode
        assert bool(before.info.get("progressive")) == bool(after.info.get("progressive"))
        difference = np.abs(np.asarray(before, int) - np.asarray(after, int))
        assert difference.mean() < 1.5  # the same tables: hardly any second loss


def test_an_lzw_tiff_stays_one(tmp_path):
    picture().save(tmp_path / "a.tif", compression="tiff_lzw")
    photos.write_photo(tmp_path / "b.tif", photos.read_photo(tmp_path / "a.tif"))
    with Image.open(tmp_path / "b.tif") as image:
        assert image.info["compression"] == "tiff_lzw"


def test_another_format_can_be_asked_for(tmp_path):
    image = picture()
    image.putalpha(0)
    image.save(tmp_path / "a.png")
    photos.write_photo(tmp_path / "b.jpg", photos.read_photo(tmp_path / "a.png"))
    with Image.open(tmp_path / "b.jpg") as after:
        assert after.format == "JPEG"
        assert np.asarray(after).min() > 250  # what is transparent shows white, not what was hidden


def sixteen_bits(path):
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(path)


def sixteen_bit_colours(path):
    import cv2

    cv2.imwrite(str(path), np.full((8, 8, 3), 40000, np.uint16))


def animated(path):
    picture().save(path, save_all=True, append_images=[picture().rotate(90)])


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("a.png", sixteen_bits, "more than 8 bits"),
        ("a.tif", sixteen_bits, "more than 8 bits"),
        ("a.png", sixteen_bit_colours, "more than 8 bits"),
        ("a.tif", sixteen_bit_colours, "more than 8 bits|cannot read"),
        ("a.jpg", lambda path: picture(mode="CMYK").save(path), "CMYK"),
        ("a.webp", animated, "2 pictures"),
        ("a.tif", animated, "2 pictures"),
        ("a.png", animated, "2 pictures"),
        ("a.jpg", lambda path: path.write_bytes(b"hello"), "not a JPEG"),
        ("a.jpg", lambda path: path.write_bytes(b""), "not a JPEG"),
        ("a.jpg", lambda path: path.write_bytes(thumbnail()[:2000]), "complete"),
        ("a.jpg", lambda path: None, "no file"),
        ("a.jpg", lambda path: path.mkdir(), "cannot read"),
        ("a.png", lambda path: picture().save(path, "GIF"), "not a JPEG"),
    ],
)
def test_what_cannot_be_written_back_is_refused_in_one_line(tmp_path, name, make, says):
    make(tmp_path / name)
    with pytest.raises(UserError, match=says) as raised:
        photos.read_photo(tmp_path / name)
    assert "\n" not in str(raised.value) and str(tmp_path / name) in str(raised.value)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header
    import zlib

    chunk += struct.pack(">I", zlib.crc32(b"IHDR" + header))
    data = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + data)
    with pytest.raises(UserError, match="60000x60000"):
        photos.read_photo(tmp_path / "a.png")


def test_damaged_exif_is_no_reason_to_refuse_a_photo(tmp_path):
    picture().save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(20))
    photo = photos.read_photo(tmp_path / "a.jpg")
    assert photo.pixels.shape == (64, 96, 3) and photo.exif == b""


def test_a_failed_write_leaves_what_was_there(tmp_path):
    (tmp_path / "b.webp").write_bytes(b"before")
    picture((20000, 1)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="cannot write"):
        photos.write_photo(tmp_path / "b.webp", photos.read_photo(tmp_path / "a.png"))
    assert (tmp_path / "b.webp").read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.webp"]
    with pytest.raises(UserError, match="must end in"):
        photos.write_photo(tmp_path / "b.gif", photos.read_photo(tmp_path / "a.png"))


def test_replacing_a_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "a.png"
    picture().save(path)
    path.chmod(0o600)
    photos.write_photo(path, photos.read_photo(path))
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("quality", [15, 50, 80, 95])
@pytest.mark.parametrize("more", [{}, {"method": 6}, {"icc_profile": bytes(9001)}])
def test_webp_is_compressed_as_its_source(tmp_path, quality, more):
    picture((300, 200)).save(tmp_path / "a.webp", quality=quality, **more)
    assert abs(webp.compression((tmp_path / "a.webp").read_bytes()) - quality) <= 4
    photo = photos.read_photo(tmp_path / "a.webp")
    photos.write_photo(tmp_path / "b.webp", photo)
    sizes = [
        (tmp_path / name).stat().st_size - 9001 * ("icc_profile" in more)
        for name in ("a.webp", "b.webp")
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.25)


def test_lossless_webp_stays_lossless_behind_a_long_profile(tmp_path):
    picture().save(tmp_path / "a.webp", lossless=True, icc_profile=bytes(9001))
    assert webp.compression((tmp_path / "a.webp").read_bytes()) is None
    photo = photos.read_photo(tmp_path / "a.webp")
    photos.write_photo(tmp_path / "b.webp", photo)
    np.testing.assert_array_equal(
        photos.read_photo(tmp_path / "b.webp").pixels, np.asarray(picture())
    )


def test_the_compression_of_a_lossy_webp_with_transparency_is_found(tmp_path):
    shown = picture((300, 200))
    shown.putalpha(Image.linear_gradient("L").resize(shown.size))
    shown.save(tmp_path / "a.webp", quality=70)
    assert abs(webp.compression((tmp_path / "a.webp").read_bytes()) - 70) <= 4


@given(st.binary(max_size=80))
def test_damaged_webp_headers_are_refused_and_nothing_else(content):
    for start in (b"", b"RIFF0000WEBP", b"RIFF0000WEBPVP8 \xff\0\0\0\0\0\0\x9d\x01\x2a"):
        try:
            found = webp.compression(start + content)
        except ValueError:
            continue
        assert found is None or 0 <= found <= 100
