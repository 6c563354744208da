"""A video job never shows a face, whatever detector, generator and files do."""

import json

import numpy as np
import pytest

from dp3_jax.pipelines.anonymize import Anonymizer
from tests import video_makers as makers
from tests.face_photos import Broken, Painter
from tests.video_scenes import (
    WIDTH,
    images,
    paths,
    run,
    scene,
    signal,
    stand_in,
)


@pytest.fixture
def parts(monkeypatch):
    """The finder that stands in for the detector."""
    return stand_in(monkeypatch)


# Detections that are missing.

CROSSING = paths(60, ((10, 20), (1.8, 0)), ((118, 30), (-1.8, 0)))
PASSING = paths(60, ((-40, 25), (4, 0)))  # comes in on the left, leaves on the right


def seen(boxes, missed):
    """What a detector that misses (frame, person) tells; it sees nothing beyond the border."""
    return [
        [b for who, b in enumerate(many) if (f, who) not in missed and 0 <= b[0] + b[2] / 2 < WIDTH]
        for f, many in enumerate(boxes)
    ]


def at_random(rate, seed, frames=60, persons=2):
    rng = np.random.default_rng(seed)
    return {(f, p) for f in range(frames) for p in range(persons) if rng.random() < rate}


def burst(*frames, persons=(0, 1)):
    return {(f, p) for f in range(*frames) for p in persons}


# Of 12 frames at the ends: tracks go on for half a second, and a face is half out of the frame before.
@pytest.mark.parametrize(
    ("boxes", "missed"),
    [
        *((CROSSING, at_random(rate, i)) for i, rate in enumerate((0.1, 0.3, 0.5))),
        (CROSSING, burst(0, 12)),
        (CROSSING, burst(48, 60)),
        (CROSSING, burst(20, 40)),
        (CROSSING, burst(24, 36, persons=(1,))),
        (PASSING, at_random(0.5, 3)),
        (PASSING, burst(0, 14)),
        (PASSING, burst(42, 60)),
    ],
)
def test_missed_detections_show_nothing_of_any_face(parts, tmp_path, boxes, missed):
    source = scene(tmp_path / "a.mkv", boxes)
    parts.told = seen(boxes, missed)
    # New faces take longer to make; what they are put into is the same.
    for method in ("solid", "generate") if boxes is PASSING else ("solid",):
        target = tmp_path / f"{method}.mkv"
        assert run(source, "-o", target, "--method", method) == 0
        shown = signal(images(target))
        assert shown.sum((1, 2)).tolist() == [0] * len(boxes)
    assert signal(images(source)).any((1, 2)).sum() >= 45


# A generator that fails.


class Sometimes(Painter):
    """Fails in every third call as `Broken` does."""

    def __init__(self, how):
        super().__init__()
        self.calls, self.broken = 0, Broken(how)

    def generate(self, image, mask, z):
        self.calls += 1
        return (self.broken if self.calls % 3 == 0 else super()).generate(image, mask, z)


@pytest.mark.parametrize("how", ["raises", "floats", "shape", "flat"])
def test_where_the_generator_fails_the_face_is_covered_and_the_summary_says_so(
    parts, monkeypatch, tmp_path, capsys, how
):
    monkeypatch.setattr(Anonymizer, "generator", Sometimes(how))
    source = scene(tmp_path / "a.mkv", paths(20, ((20, 20), (2, 0))))
    assert run(source, "-o", tmp_path / "b.mkv", "--json") == 1
    printed = capsys.readouterr()
    assert not signal(images(tmp_path / "b.mkv")).any()
    (face,) = json.loads(printed.out)["files"][0]["faces"]
    assert face["done"] == "covered"
    count, _, total = face["reason"].removeprefix("in ").split()[:3]
    assert total == "20" and 1 <= int(count) <= 8  # the network is asked in some frames only
    (line,) = printed.err.splitlines()
    assert line.startswith("covered: ") and f"in {count} of 20 frames" in line


# Files that are not what they should be.


def test_broken_files_are_one_line_each_and_the_others_go_on(parts, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    boxes = paths(50, ((10, 20), (2, 0)))
    for name in ("good.mkv", "whole.mp4", "whole.mkv"):
        scene(folder / name, boxes, audio=(("aac", "eng"),) if name == "whole.mp4" else ())
    makers.truncated(folder / "cut.mp4", folder / "whole.mp4")
    makers.truncated(folder / "half.mkv", folder / "whole.mkv")
    for name in ("whole.mp4", "whole.mkv"):
        (folder / name).unlink()
    (folder / "empty.mov").write_bytes(b"")
    (folder / "noise.webm").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "text.avi").write_text("this is no video\n" * 50)
    makers.sound_only(folder / "sound.mp4")
    assert run(folder, "-o", tmp_path / "out", "--method", "solid", "--json") == 1
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    skipped = [line for line in lines if line.startswith("skipped: ")]
    assert len(skipped) == 5
    for name in ("cut.mp4", "empty.mov", "noise.webm", "text.avi", "sound.mp4"):
        assert sum(name in line for line in skipped) == 1
    (damaged,) = [line for line in lines if line not in skipped]
    assert damaged.startswith("damaged: ") and "half.mkv" in damaged
    assert "please report" not in printed.err
    report = json.loads(printed.out)
    assert (report["summary"]["videos"], report["summary"]["skipped"]) == (2, 5)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"good.mkv", "half.mkv"}
    for name in ("good.mkv", "half.mkv"):
        assert not signal(images(tmp_path / "out" / name)).any()


def test_a_damaged_video_has_its_own_status(parts, tmp_path):
    source = scene(tmp_path / "a.mkv", paths(50, ((10, 20), (2, 0))))
    makers.truncated(tmp_path / "half.mkv", source)
    assert run(tmp_path / "half.mkv", "--method", "solid") == 1


def test_nothing_is_left_beside_the_result_of_a_call_that_cannot_work(parts, tmp_path, capsys):
    source = scene(tmp_path / "a.mkv", paths(10, ((10, 20), (2, 0))))
    (tmp_path / "boxes.csv").write_text("frame,x,y,w,h\n99,1,2,3,4\n")
    before = sorted(p.name for p in tmp_path.iterdir())
    for more, says in (
        (["--boxes", tmp_path / "boxes.csv"], "names frame 99"),
        (["--codec", "vp9", "--preset", "nonsense"], "refuses --preset"),
        (["-o", tmp_path / "b.webm", "--codec", "h264"], "cannot hold"),
    ):
        assert run(source, "--method", "solid", *more) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("skipped: ") and says in line
        assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_result_that_cannot_have_its_name_is_one_line(parts, tmp_path, capsys):
    source = scene(tmp_path / "a.mkv", paths(10, ((10, 20), (2, 0))))
    (tmp_path / "a_anonymized.mkv").mkdir()
    (tmp_path / "a_anonymized.mkv" / "x").touch()
    assert run(source, "--method", "solid") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "a_anonymized.mkv" in line and "please report" not in line
