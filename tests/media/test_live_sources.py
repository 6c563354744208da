"""Where live frames come from, and what is said of sources that cannot be read."""

import sys

import pytest
from PIL import Image

from dp3_jax.common.errors import UserError
from dp3_jax.media.live import sources
from dp3_jax.media.live.sources import Wanted, open_source
from tests import video_makers
from tests.media.test_live_ends import grey, opened, parsed


@pytest.fixture
def clip(tmp_path):
    """Five grey frames at 10 a second."""
    target = tmp_path / "clip.mkv"
    with opened(target, rate=10.0) as sink:
        for number in range(5):
            sink.write(grey(40 * number), number / 10)
    return target


def test_a_file_is_paced_and_its_frames_are_numbered(clip):
    waits = []
    source = open_source(str(clip), Wanted(), waits.append)
    found = list(source.frames)
    assert (source.width, source.height) == (64, 48)
    assert [frame.number for frame in found] == list(range(5))
    assert [frame.seconds for frame in found] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert waits and max(waits) <= 0.4 + 1e-6
    assert [int(frame.image.mean() / 40 + 0.5) for frame in found] == list(range(5))


def test_a_file_that_is_cut_off_says_so_at_its_end(tmp_path):
    whole = video_makers.Clip(tmp_path / "whole.mp4", frames=60, audio=(("aac", "eng"),)).write()
    streamable, cut = tmp_path / "streamable.mp4", tmp_path / "cut.mp4"
    video_makers.streamable(whole, streamable)
    video_makers.truncated(cut, streamable, 0.7)
    shown = []
    with pytest.raises(UserError, match=r"cut.mp4 is damaged.*; what could be read was shown"):
        shown.extend(open_source(str(cut), Wanted(paced=False)).frames)
    assert 10 < len(shown) < 60


def test_the_source_is_not_written_over(clip):
    content = clip.read_bytes()
    asked = parsed(str(clip), "--to", str(clip.parent / "." / clip.name), "--method", "solid")
    with pytest.raises(UserError, match="would overwrite the source"):
        asked.run(asked)
    assert clip.read_bytes() == content


@pytest.mark.parametrize(
    ("closed", "open_it"),
    [
        ("stdin", lambda: open_source("-", Wanted((64, 48), 25.0))),
        ("stdout", lambda: opened("-").__enter__()),
    ],
)
def test_a_pipe_that_is_not_there_is_told_in_one_line(monkeypatch, closed, open_it):
    monkeypatch.setattr(sys, closed, None)
    with pytest.raises(UserError, match="is closed; lead it"):
        open_it()


def test_numbered_pictures_come_at_the_rate_that_is_asked_for(tmp_path):
    for number in range(3, 6):
        Image.fromarray(grey(40 * number)).save(tmp_path / f"{number}.png")
    for asked, rate in ((None, 25), (5.0, 5)):
        source = open_source(str(tmp_path / "%d.png"), Wanted(rate=asked), lambda _: None)
        assert (source.width, source.height, source.rate) == (64, 48, rate)
        found = list(source.frames)
        assert [frame.seconds for frame in found] == pytest.approx([n / rate for n in range(3)])
        assert [frame.image[0, 0, 0] for frame in found] == [120, 160, 200]


def test_as_fast_as_possible_waits_for_nothing(clip):
    def never(seconds):
        raise AssertionError("waited")

    source = open_source(str(clip), Wanted(paced=False), never)
    assert len(list(source.frames)) == 5


def test_a_stream_is_read_and_its_end_ends_it(clip):
    """A file's address stands for a network's."""
    source = open_source(f"file://{clip}", Wanted())
    assert [frame.number for frame in source.frames] == list(range(5))


def test_passwords_are_not_shown():
    shown = sources.without_password("rtsp://user:pass@host:554/x?y=a@b")
    assert shown == "rtsp://host:554/x?y=a@b"
    assert sources.without_password("camera 0") == "camera 0"
