"""Interlaced video: refused with a remedy, or made progressive, frame by frame."""

import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.media.video import reading
from tests import video_makers


def moving(number, width, height):
    """u8[h, w, 3]: a square that moves between the two moments of each frame."""
    image = np.full((height, width, 3), 60, np.uint8)
    for field in (0, 1):
        left = 6 + 3 * (2 * number + field)
        image[field::2, left : left + 20] = 220
    return image


def combing(image):
    """How much each row differs from the mean of its neighbours."""
    rows = image[..., 1].astype(int)
    return np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean()


@pytest.fixture
def path(tmp_path):
    clip = video_makers.interlaced(tmp_path / "a.mkv", image=moving, width=128, height=96, frames=9)
    return clip.write()


def test_each_frame_becomes_a_whole_one_at_its_time(path):
    with pytest.raises(UserError, match="--deinterlace"):
        reading.open_video(path)
    info = reading.open_video(path, deinterlace=True)
    frames = list(reading.read_frames(info))
    assert [frame.pts for frame in frames] == [40 * n for n in range(9)]
    assert {frame.duration for frame in frames} == {40}
    for number, frame in enumerate(frames):
        assert combing(frame.image) < combing(moving(number, 128, 96)) / 10
        left = 6 + 6 * number  # of the first moment
        inside, outside = frame.image[:, left + 4 : left + 16], frame.image[:, left + 30 :]
        assert np.abs(inside.astype(int) - 220).max() < 16
        assert np.abs(outside.astype(int) - 60).max() < 16


def test_reading_goes_on_in_the_middle_as_from_the_start(path):
    info = reading.open_video(path, deinterlace=True)
    whole = list(reading.read_frames(info))
    for one, other in zip(whole[5:], reading.read_frames(info, 5), strict=True):
        assert one.number == other.number
        np.testing.assert_array_equal(one.image, other.image)


def test_who_insists_gets_frames_deinterlaced_that_do_not_say_what_they_are(tmp_path):
    clip = video_makers.Clip(tmp_path / "a.mkv", image=moving, width=128, height=96, frames=4)
    source = clip.write()
    before = [frame.image for frame in reading.read_frames(source)]
    info = reading.open_video(source, deinterlace=True)
    after = [frame.image for frame in reading.read_frames(info)]
    assert len(after) == 4
    assert combing(after[2]) < combing(before[2]) / 10
