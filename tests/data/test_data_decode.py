"""What becomes of one picture file, against Pillow's own operations."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from dp3_jax.common.errors import UserError
from dp3_jax.data.decode import UnreadableImage, load_image
from dp3_jax.data.options import DataOptions
from tests.data_makers import encoded, photo

SQUARE = DataOptions(source="shapes", image_size=32, crop=None)
CELEBA = DataOptions(source="shapes", image_size=128)


def expected(image, side=32):
    fitted = ImageOps.fit(image.convert("RGB"), (min(image.size),) * 2)
    return np.asarray(fitted.resize((side, side), Image.Resampling.LANCZOS))


def test_the_celeba_crop_is_the_box_then_lanczos():
    content = encoded(photo(1), quality=95)
    reference = Image.open(io.BytesIO(content)).crop((0, 20, 178, 198))
    reference = np.asarray(reference.resize((128, 128), Image.Resampling.LANCZOS))
    assert np.array_equal(load_image(content, CELEBA), reference)


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (64, 64)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_without_a_crop_the_largest_centred_square_is_taken(kind, size):
    content = encoded(photo(2, size), kind)
    assert np.array_equal(load_image(content, SQUARE), expected(Image.open(io.BytesIO(content))))


def test_of_a_phones_multi_picture_file_the_first_is_taken():
    first, second = photo(1, (64, 64)), photo(2, (64, 64))
    content = encoded(first, "MPO", save_all=True, append_images=[second], quality=98)
    assert np.abs(load_image(content, SQUARE).astype(int) - expected(first)).mean() < 3


def test_a_path_gives_the_same_as_its_bytes(tmp_path):
    content = encoded(photo(3, (64, 64)), "PNG")
    (tmp_path / "a.png").write_bytes(content)
    assert np.array_equal(load_image(tmp_path / "a.png", SQUARE), load_image(content, SQUARE))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_greyscale_gets_three_equal_channels(kind):
    content = encoded(photo(4, (64, 64)).convert("L"), kind)
    image = load_image(content, SQUARE)
    assert np.array_equal(image[..., 0], image[..., 1])
    assert np.array_equal(image, expected(Image.open(io.BytesIO(content))))


def test_16_bit_grey_keeps_its_brightness():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    content = encoded(Image.fromarray(np.tile(ramp, (64, 1))), "PNG")
    row = load_image(content, DataOptions(source="shapes", image_size=64, crop=None))[0, :, 0]
    assert np.array_equal(row, np.rint(ramp / 257).astype(np.uint8))


def test_a_palette_becomes_its_colours():
    content = encoded(photo(5, (64, 64)).quantize(16), "PNG")
    assert np.array_equal(load_image(content, SQUARE), expected(Image.open(io.BytesIO(content))))


def test_cmyk_becomes_the_same_colours():
    original = photo(6, (64, 64))
    image = load_image(encoded(original.convert("CMYK"), "JPEG", quality=98), SQUARE)
    assert np.abs(image.astype(int) - expected(original)).mean() < 6


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_laid_over_white(kind):
    picture = photo(7, (64, 64)).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((64, 64)))
    picture.paste((10, 20, 30, 0), (0, 0, 64, 32))
    image = load_image(
        encoded(picture, kind, **({"lossless": True} if kind == "WEBP" else {})), SQUARE
    )
    assert np.all(image[:12] == 255)
    assert np.abs(image[-1].astype(int) - expected(picture.convert("RGB"))[-1]).max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = photo(8, (60, 60))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = load_image(encoded(stored, "JPEG", quality=98, exif=exif), SQUARE)
    assert np.abs(image.astype(int) - expected(upright)).mean() < 3


def damaged_files():
    jpeg, png = encoded(photo(9)), encoded(photo(9), "PNG")
    return {
        "empty": b"",
        "text": b"<html>quota exceeded</html>",
        "truncated jpeg": jpeg[: len(jpeg) // 2],
        "truncated png": png[: len(png) // 2],
        "gif, which is not among the kinds": encoded(photo(9), "GIF"),
        "header only": jpeg[:3],
        "smaller than the crop": encoded(photo(9, (100, 100))),
    }


@pytest.mark.parametrize("name", damaged_files())
def test_files_that_give_no_image_are_told_apart(name):
    with pytest.raises(UnreadableImage, match=r"\w"):
        load_image(damaged_files()[name], CELEBA)


def test_a_tiny_picture_is_not_blown_up_more_than_four_times():
    assert load_image(encoded(photo(1, (8, 8)), "PNG"), SQUARE).shape == (32, 32, 3)
    with pytest.raises(UnreadableImage, match="7x9 pixels, too small"):
        load_image(encoded(photo(1, (7, 9)), "PNG"), SQUARE)


def test_tensorflow_decodes_real_photos_to_the_same_bytes(shared_data):
    """The data were also read with TensorFlow's decoder by others; it must make no difference."""
    tf = pytest.importorskip("tensorflow")
    for path in sorted((shared_data / "celeba" / "img_align_celeba").iterdir())[:100]:
        ours = np.asarray(Image.open(path))
        theirs = tf.io.decode_jpeg(path.read_bytes(), dct_method="INTEGER_ACCURATE").numpy()
        assert np.array_equal(ours, theirs), path.name


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source", "cifar"),
        ("image_size", 0),
        ("train_examples", -1),
        ("crop", (10, 0, 5, 5)),
        ("crop", (0, 0, 5)),
        ("max_unreadable", 1.5),
        ("on_device", True),
    ],
)
def test_impossible_options_are_refused_by_name(key, value):
    with pytest.raises(UserError, match=f"data.{key}"):
        DataOptions(**{"source": "shapes", key: value})


def test_file_sources_need_a_path():
    with pytest.raises(UserError, match=r"needs data\.path"):
        DataOptions(source="celeba")
