"""Frames that are converted where they are looked at show what frames show."""

import numpy as np
import pytest
from av.video.reformatter import Colorspace

from dp3_jax.media.video import colours, lazy_pictures, reading
from dp3_jax.media.video.lazy_pictures import GreyParts, LazyPicture
from dp3_jax.vision import blending
from dp3_jax.vision.geometry import Region
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


@pytest.mark.parametrize("size", [(64, 48), (63, 47)], ids=str)
def test_changed_regions_show_what_was_drawn_and_all_else_is_as_it_was(size):
    width, height = size
    random = np.random.default_rng(1)
    halves = (height + 1) // 2, (width + 1) // 2
    planes = [np.full(shape, v, np.uint8) for shape, v in [((height, width), 90), (halves, 120)]]
    planes = (planes[0], planes[1], planes[1] + np.uint8(20))
    picture = LazyPicture(planes, colours.yuv_to_rgb(Colorspace.ITU709, colours.LIMITED, 8))
    before = [plane.copy() for plane in planes]
    drawn = np.full((height, width, 3), (200, 90, 40), np.uint8)
    # One with a ragged edge, and one in the corner.
    ragged = Region(7, 11, random.random((13, 18)) < 0.7)
    corner = Region(height - 5, width - 9, np.ones((5, 9), bool))
    after = picture.changed(drawn, [ragged, corner, Region(0, 0, np.zeros((0, 0), bool))])
    inside = blending.union([ragged, corner], (height, width))
    shown = np.asarray(after)
    assert np.abs(shown[corner.slices].astype(int) - drawn[0, 0]).max() <= 2
    for plane, old in zip(picture.planes, before, strict=True):
        np.testing.assert_array_equal(plane, old)
    np.testing.assert_array_equal(after.planes[0][~inside], before[0][~inside])
    assert (after.planes[0][inside] != 90).all()
    share = np.pad(inside, ((0, height % 2), (0, width % 2)))
    share = share.reshape(halves[0], 2, halves[1], 2).any((1, 3))
    for plane, old in zip(after.planes[1:], before[1:], strict=True):
        np.testing.assert_array_equal(plane[~share], old[~share])
        assert (plane[share] != old[share]).all()


def test_parts_are_shown_and_nothing_else(tmp_path):
    path = Clip(tmp_path / "a.mp4", frames=1, image=noise).write()
    (whole,), (lazily,) = both(path)
    shown = lazily.shown_in([np.s_[3:17, 5:26], np.s_[10:20, 20:40]])
    inside = np.zeros(whole.shape[:2], bool)
    inside[3:17, 5:26] = inside[10:20, 20:40] = True
    np.testing.assert_array_equal(shown, np.where(inside[..., None], whole, 0))
