"""Image sequences are reviewed as clips: found, drawn frame by frame, corrected, made anew and exported."""

from fractions import Fraction

import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.data import feedback, rated
from dp3_jax.media.video import probing
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.video import job
from dp3_jax.review import library
from tests import data_makers, review_makers

FRAMES, FIRST = 8, 3
SIZE, BOX = (96, 64), (30.0, 12.0, 30.0, 36.0)
MISSED = [4.0, 8.0, 16.0, 20.0]


@pytest.fixture
def frames(tmp_path):
    """A pattern of numbered pictures."""
    for number in range(FIRST, FIRST + FRAMES):
        picture = data_makers.encoded(data_makers.photo(number, SIZE), "PNG")
        data_makers.write(tmp_path / "frames" / f"{number:04d}.png", picture)
    return tmp_path / "frames" / "%04d.png"


def anonymized(frames, target):
    """`target`, with one grey face in all frames but the first and the last."""
    boxes = frames.parent.with_suffix(".csv")
    rows = [f"{frame},{','.join(map(str, BOX))}" for frame in range(1, FRAMES - 1)]
    boxes.write_text("\n".join(["frame,x,y,w,h", *rows]) + "\n")
    options = job.VideoOptions(rate=Fraction(12))
    request = job.Request(
        source=frames, target=target, given_boxes=str(boxes), sidecar=True, video=options
    )
    job.process(request, Anonymizer(method="solid"), lambda *_: None)
    return target


@pytest.mark.parametrize("result", ["out.mp4", "new/%04d.png"])
def test_a_sequence_is_looked_at_corrected_and_made_anew_as_a_clip(frames, tmp_path, result):
    target = anonymized(frames, tmp_path / result)
    session, exporter = review_makers.opened(target, frames)
    (name,) = session.works
    known = session.describe(name)
    assert (known["kind"], known["name"], known["frames"]) == ("video", result, FRAMES)
    assert known["has_original"] and known["has_result"] and not known["pending"]
    original = review_makers.pixels(frames.with_name("0005.png"))
    work = session.work(name)
    np.testing.assert_array_equal(work.original(5 - FIRST), original)

    asked = {"action": "missed", "box": MISSED, "frame": 2, "first": 0, "last": 5}
    changed = session.edit(name, {"revision": known["revision"], **asked})
    assert changed["pending"] and len(changed["faces"]) == 2
    drawn = work.drawn(work.read(), 2)
    left, top, width, height = map(int, MISSED)
    inside = np.s_[top + 6 : top + height - 6, left + 5 : left + width - 5]
    assert (drawn[inside] != original[inside]).mean() > 0.5
    np.testing.assert_array_equal(drawn[50:, :20], original[50:, :20])

    exporter.run(False)
    assert not exporter.progress()["problems"]
    assert not session.describe(name)["pending"]
    np.testing.assert_allclose(work.result(2)[inside], drawn[inside], atol=12)
    released = tmp_path / f"{target.parent.name if '%' in result else target.name}.release"
    if "%" in result:
        names = [path.name for path in sorted((released / "new").iterdir())]
        assert names == [path.name for path in sorted(frames.parent.iterdir())]
        shown = review_makers.pixels(released / "new" / "0005.png")
        np.testing.assert_array_equal(shown, work.result(2))
    else:
        assert probing.open_video(released / result).rate == 12


def test_what_is_said_of_a_sequence_is_of_its_pictures(frames, tmp_path):
    session, _ = review_makers.opened(anonymized(frames, tmp_path / "out.mp4"), frames)
    (name,) = session.works
    revision = session.describe(name)["revision"]
    session.edit(name, {"revision": revision, "action": "missed", "box": MISSED, "frame": 2})
    (entry,) = feedback.read(session.feedback_path)
    assert entry.frame == 2 and rated.is_unchanged(entry)
    picture = frames.with_name("0005.png")
    np.testing.assert_array_equal(rated.picture(entry), review_makers.pixels(picture))
    picture.write_bytes(frames.with_name("0006.png").read_bytes())
    assert not rated.is_unchanged(entry)
    picture.unlink()
    assert not rated.is_unchanged(entry)


def test_a_sequence_that_cannot_be_reviewed_is_told_in_one_line(frames, tmp_path):
    target = anonymized(frames, tmp_path / "new" / "%04d.png")
    with pytest.raises(UserError, match="frames of a clip: name them by a pattern"):
        library.find(target.parent)
    (item,) = library.find(target)
    assert "--originals FOLDER/%05d.png" in item.problem and item.source is None
    frames.with_name("0005.png").unlink()
    with pytest.raises(UserError, match=r"0005\.png is missing"):
        library.find(target, frames)
