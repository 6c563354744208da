"""A video job never shows a face and never leaves half a result, whatever happens to it."""

import json
import os
import signal as signals
import subprocess
import sys

import numpy as np
import pytest

from dp3_jax import cli
from dp3_jax.anonymization.anonymize import Anonymizer
from dp3_jax.anonymization.detection import Face
from dp3_jax.errors import UserError
from dp3_jax.video import detecting, first_pass, job, reading, second_pass, workfolder
from tests import video_makers as makers
from tests.face_photos import Broken, Painter, astronaut, detector_or_skip, everyone
from tests.video_scenes import (
    HEIGHT,
    WIDTH,
    Finder,
    background,
    draw,
    images,
    paths,
    rows,
    scene,
    signal,
)

KILL, STOP, INTERRUPT = (int(s) for s in (signals.SIGKILL, signals.SIGSTOP, signals.SIGINT))


@pytest.fixture
def parts(monkeypatch):
    """Stand-ins for the networks; yields the finder, which a test may tell what to find."""
    finder = Finder()
    monkeypatch.setattr(job, "VideoDetector", finder)
    monkeypatch.setattr(Anonymizer, "detector", None)
    monkeypatch.setattr(Anonymizer, "generator", Painter())
    monkeypatch.setattr(Anonymizer, "_is_face", staticmethod(everyone))
    return finder


def run(*arguments):
    return cli.main(["anonymize", *map(str, arguments)])


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
    assert total == "20" and 4 <= int(count) <= 8
    (line,) = printed.err.splitlines()
    assert line.startswith("covered: ") and f"in {count} of 20 frames" in line


# Ends before the end.


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """What became of runs that were killed, stopped or given too little disk; by name of the scenario."""
    folder = tmp_path_factory.mktemp("ended")
    source = scene(folder / "a.mkv", paths(45, ((10, 20), (2, 0))), audio=(("flac", "eng"),))
    moments = [3, 4, 9, 12, 31, 11, 35, 40, 29, 33, 30, 34, 38, 5, 7, 6, 3, 7]
    scenarios = {
        "whole": [{}],
        "killed": [*({"signal": KILL, "at": at} for at in moments), {}],
        "late": [*({"signal": KILL, "at": at} for at in (130, 2)), {}],
        "interrupted": [{"signal": INTERRUPT, "at": 5}, {"signal": INTERRUPT, "at": 40}, {}],
        "stopped": [{"signal": STOP, "at": 50}, {}, {"end": KILL}, {}],
        "full": [*({"file_size": size} for size in (100, 3000, 40_000, 80_000)), {}],
    }
    planned = {str(folder / name / "b.mkv"): runs for name, runs in scenarios.items()}
    line = [sys.executable, "-m", "tests.killed_videos", source, json.dumps(planned)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    return folder, {name: records[str(folder / name / "b.mkv")] for name in scenarios}


NAMES = ["b.mkv", "b.mkv.tracks.json"]
HIDDEN = {".b.mkv.dp3", ".b.mkv.dp3.lock"}


def assert_same_in_the_end(ended, name):
    """The last run ends well, leaves only its result, and that is the one of an uninterrupted run."""
    folder, records = ended
    assert (records[name][-1]["status"], records[name][-1]["names"]) == (0, NAMES)
    whole = folder / "whole"
    for file in NAMES:
        assert (folder / name / file).read_bytes() == (whole / file).read_bytes()
    assert not signal(images(folder / name / "b.mkv")).any()


@pytest.mark.parametrize("name", ["killed", "late"])
def test_a_killed_job_goes_on_and_ends_as_if_it_had_not_been(ended, name):
    _, records = ended
    killed, last = records[name][:-1], records[name][-1]
    assert {record["status"] for record in killed} == {-KILL} and len(killed) >= 1
    # The sidecar has its name a moment before the video has it.
    assert all(set(record["names"]) <= HIDDEN | {NAMES[1]} for record in killed[:-1])
    assert last["errors"] == ""
    if name == "killed":
        assert len(killed) > 8 and last["events"] < records["whole"][0]["events"]
    assert_same_in_the_end(ended, name)


def test_an_interrupted_job_says_nothing_and_goes_on(ended):
    first, second, last = ended[1]["interrupted"]
    assert [r["status"] for r in (first, second, last)] == [130, 130, 0]
    assert set(second["names"]) == {".b.mkv.dp3"}
    assert first["errors"] == second["errors"] == ""
    assert_same_in_the_end(ended, "interrupted")


def test_a_second_process_on_one_result_is_refused(ended):
    stopped, refused, last = ended[1]["stopped"]
    assert stopped["status"] == "stopped" and refused["status"] == 1
    (line,) = refused["errors"].splitlines()
    assert "another process is at work on" in line
    assert set(refused["names"]) == HIDDEN
    assert last["status"] == 0
    assert_same_in_the_end(ended, "stopped")


def test_a_full_disk_is_one_line_and_no_result(ended):
    *failed, _ = ended[1]["full"]
    assert len(failed) == 4
    for record in failed:
        assert record["status"] == 1
        (line,) = record["errors"].splitlines()
        assert line.startswith("skipped: cannot w") and "File too large" in line
        assert set(record["names"]) <= {".b.mkv.dp3", NAMES[1]}
    assert_same_in_the_end(ended, "full")
