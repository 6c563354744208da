import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dp3_jax.common import images
from dp3_jax.common.errors import UserError

LEVELS = np.arange(256, dtype=np.uint8)


def random_pictures(count, side=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.mark.parametrize("module", [np, jnp])
def test_levels_survive_the_way_to_float_and_back(module):
    floats = images.to_float(module.asarray(LEVELS))
    assert floats.dtype == np.float32
    assert float(floats[0]) == -1.0
    assert float(floats[-1]) == 1.0
    np.testing.assert_array_equal(images.to_uint8(floats), LEVELS)


def test_values_outside_the_range_are_clipped_and_not_wrapped():
    values = np.array([-np.inf, -2.0, 0.0, 0.999, 1.01, 5.0, np.inf, np.nan], np.float32)
    assert images.to_uint8(values).tolist() == [0, 0, 128, 255, 255, 255, 255, 0]


def test_float_pixels_are_not_taken_for_levels():
    with pytest.raises(TypeError, match="float32"):
        images.to_float(np.zeros((1, 2, 2, 3), np.float32))


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 3))
def test_each_picture_is_at_its_place_in_the_grid(count, columns, padding):
    pictures = random_pictures(count)
    grid = images.make_grid(pictures, columns, padding)
    columns = min(columns, count)
    rows = -(-count // columns)
    assert grid.shape == (rows * (8 + padding) + padding, columns * (8 + padding) + padding, 3)
    for index, picture in enumerate(pictures):
        top = padding + index // columns * (8 + padding)
        left = padding + index % columns * (8 + padding)
        np.testing.assert_array_equal(grid[top : top + 8, left : left + 8], picture)


def test_png_holds_the_pixels_and_equal_pixels_make_equal_files(tmp_path):
    picture = random_pictures(1, side=33)[0]
    images.write_png(tmp_path / "a.png", picture)
    images.write_png(tmp_path / "b.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_picture_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        images.write_png(tmp_path / "file" / "a.png", random_pictures(1)[0])
