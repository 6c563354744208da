"""Frames that are converted where they are looked at show what frames show."""

import numpy as np
import pytest

from dp3_jax.media.video import lazy_pictures, reading
from dp3_jax.media.video.lazy_pictures import GreyParts, LazyPicture
from tests.video_makers import Clip


def noise(number, width, height):
    """u8[h, w, 3]: another colour in each px."""
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def both(path):
    """The frames of a clip as arrays, and lazily."""
    with reading.read_frames(path) as whole, reading.read_frames(path, lazy=True) as lazily:
        return [frame.image for frame in whole], [frame.image for frame in lazily]


PARTS = [
    np.s_[:, :],
    np.s_[3:17, 5:26],
    np.s_[4:5, 9:10],
    np.s_[1::3, 2::5],
    np.s_[10:10, 3:8],
    np.s_[30:99, 40:99],
]


@pytest.mark.parametrize(
    "options", [{}, {"rotation": 90}, {"rotation": 180}, {"flip": True}], ids=str
)
def test_parts_and_the_whole_are_what_is_converted_at_once(tmp_path, options):
    path = Clip(tmp_path / "a.mp4", frames=3, image=noise, **options).write()
    for whole, lazily in zip(*both(path), strict=True):
        assert isinstance(lazily, LazyPicture)
        assert (lazily.shape, lazily.nbytes, len(lazily)) == (whole.shape, whole.nbytes, len(whole))
        np.testing.assert_array_equal(np.asarray(lazily), whole)
        for part in PARTS:
            np.testing.assert_array_equal(lazily[part], whole[part])


def test_an_odd_size_is_converted_alike(tmp_path):
    options = {"codec": "libvpx-vp9", "options": {"crf": "4", "b": "0"}}
    path = Clip(tmp_path / "a.webm", frames=2, width=63, height=47, image=noise, **options).write()
    for whole, lazily in zip(*both(path), strict=True):
        assert isinstance(lazily, LazyPicture)
        np.testing.assert_array_equal(np.asarray(lazily), whole)
        np.testing.assert_array_equal(lazily[11:47, 20:63], whole[11:47, 20:63])


def test_what_is_stored_otherwise_comes_as_arrays(tmp_path):
    path = Clip(tmp_path / "a.mkv", frames=2, codec="ffv1", options={}, pixel_format="yuv444p")
    assert all(isinstance(image, np.ndarray) for image in both(path.write())[1])


def test_small_and_grey_pictures_are_nearly_those_of_the_whole(tmp_path):
    path = Clip(tmp_path / "a.mp4", frames=1, width=320, height=180).write()
    (whole,), (lazily,) = both(path)
    for factor in (1 / 3, 0.5, 0.7, 1.4):
        ours, other = (lazy_pictures.resized(one, factor).astype(int) for one in (lazily, whole))
        assert ours.shape == other.shape
        assert np.abs(ours - other).mean() < 1.5
    ours, other = (lazy_pictures.grey(one).ravel() for one in (lazily, whole))
    assert np.corrcoef(ours, other)[0, 1] > 0.95  # other weights of the colours, other levels
    part = np.s_[20:90, 31:200]
    np.testing.assert_array_equal(GreyParts(whole)[part], lazy_pictures.grey(whole)[part])
