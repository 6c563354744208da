"""A video job that was killed, interrupted or ran out of disk ends, the next time, as if it had not been."""

import json
import os
import signal as signals
import subprocess
import sys

import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.common.stages import Stage
from dp3_jax.detection import sequence_detection
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.video import face_tracks, job, rendering_pass, work_folder
from tests.face_photos import Painter, astronaut, detector_or_skip
from tests.video_scenes import (
    images,
    paths,
    scene,
    signal,
    stand_in,
)

KILL, STOP, INTERRUPT = (int(s) for s in (signals.SIGKILL, signals.SIGSTOP, signals.SIGINT))


@pytest.fixture
def parts(monkeypatch):
    """The finder that stands in for the detector."""
    return stand_in(monkeypatch)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """What became of runs that were killed, stopped or given too little disk; by name of the scenario."""
    folder = tmp_path_factory.mktemp("ended")
    source = scene(folder / "a.mkv", paths(45, ((10, 20), (2, 0))), audio=(("flac", "eng"),))
    moments = [3, 4, 9, 12, 31, 11, 35, 40, 29, 33, 30, 34, 38, 5, 7, 6, 3, 7]
    auto = {"identity": "auto"}  # the prior's where its weights are
    scenarios = {
        "whole": [{}],
        "killed": [*({"signal": KILL, "at": at} for at in moments), {}],
        "late": [*({"signal": KILL, "at": at} for at in (130, 2)), {}],
        "interrupted": [{"signal": INTERRUPT, "at": 5}, {"signal": INTERRUPT, "at": 40}, {}],
        "stopped": [{"signal": STOP, "at": 50}, {}, {"end": KILL}, {}],
        "full": [*({"file_size": size} for size in (100, 3000, 40_000, 80_000)), {}],
        "whole_auto": [auto],
        "killed_auto": [{"signal": KILL, "at": 35, **auto}, auto],
    }
    planned = {str(folder / name / "b.mkv"): runs for name, runs in scenarios.items()}
    line = [sys.executable, "-m", "tests.killed_videos", source, json.dumps(planned)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    return folder, {name: records[str(folder / name / "b.mkv")] for name in scenarios}


NAMES = ["b.mkv", "b.mkv.tracks.json"]
WORK_FILES = {".b.mkv.dp3", ".b.mkv.dp3.lock"}


def assert_same_in_the_end(ended, name, other="whole"):
    """The last run ends well, leaves only its result, and that is the one of an uninterrupted run."""
    folder, records = ended
    assert (records[name][-1]["status"], records[name][-1]["names"]) == (0, NAMES)
    whole = folder / other
    for file in NAMES:
        assert (folder / name / file).read_bytes() == (whole / file).read_bytes()
    assert not signal(images(folder / name / "b.mkv")).any()


@pytest.mark.parametrize("name", ["killed", "late"])
def test_a_killed_job_goes_on_and_ends_as_if_it_had_not_been(ended, name):
    _, records = ended
    killed, last = records[name][:-1], records[name][-1]
    assert {record["status"] for record in killed} == {-KILL} and len(killed) >= 1
    # The sidecar has its name a moment before the video has it.
    assert all(set(record["names"]) <= WORK_FILES | {NAMES[1]} for record in killed[:-1])
    assert last["errors"] == ""
    if name == "killed":
        assert len(killed) > 8 and last["events"] < records["whole"][0]["events"]
    assert_same_in_the_end(ended, name)


def test_a_killed_job_goes_on_with_the_same_persons(ended):
    killed, last = ended[1]["killed_auto"]
    assert killed["status"] == -KILL and last["events"] < ended[1]["whole_auto"][0]["events"]
    assert_same_in_the_end(ended, "killed_auto", "whole_auto")


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
    assert set(refused["names"]) == WORK_FILES
    assert last["status"] == 0
    assert_same_in_the_end(ended, "stopped")


def test_a_full_disk_is_one_line_and_no_result(ended):
    *failed, _ = ended[1]["full"]
    assert len(failed) == 4
    for record in failed:
        assert record["status"] == 1
        (line,) = record["errors"].splitlines()
        assert line.startswith("skipped: ") and ": cannot w" in line and "File too large" in line
        assert set(record["names"]) <= {".b.mkv.dp3", NAMES[1]}
    assert_same_in_the_end(ended, "full")


def stopped_at(moment):
    """A progress that interrupts the job when so many frames are done, of both passes together."""
    done = 0

    def progress(what, count, total):
        nonlocal done
        done += count
        if done >= moment:
            raise KeyboardInterrupt

    return progress


def process(source, target, progress=lambda *_: None, **more):
    request = job.Request(source=source, target=target, master_key=b"k" * 32, **more)
    return job.process(request, Anonymizer(method="solid"), progress)


def test_detections_are_the_same_after_an_interruption(monkeypatch, tmp_path):
    """With the real detector, whose looks at a frame depend on what it has seen before, and a cut."""
    detector_or_skip()
    monkeypatch.setattr(
        face_tracks,
        "VideoDetector",
        lambda least, **_: sequence_detection.VideoDetector(least, chunk=6),
    )
    photo = astronaut()[::2, ::2]
    blocks = (
        np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8).repeat(20, 0).repeat(20, 1)
    )

    def image(number, width, height):
        if 12 <= number < 20:  # begins with a chunk
            return blocks
        left = 2 * number
        return np.ascontiguousarray(photo[:height, left : left + width])

    source = scene(tmp_path / "a.mkv", [[]] * 27, width=160, height=120, image=image)
    kept = {}

    def keep(path, tracking, *_, **__):
        kept[path.parent.name] = tracking
        path.touch()

    monkeypatch.setattr(job.track_file, "write", keep)
    process(source, tmp_path / "whole.mkv", sidecar=True)
    for moment in (8, 14, 18, 25):
        with pytest.raises(KeyboardInterrupt):
            process(source, tmp_path / "ended.mkv", stopped_at(moment), sidecar=True)
    _, summary = process(source, tmp_path / "ended.mkv", sidecar=True)
    assert summary.resumed
    whole, ended = kept[".whole.mkv.dp3"], kept[".ended.mkv.dp3"]
    assert whole.cuts == ended.cuts == (12, 20) and len(whole.tracks) >= 2
    for one, other in zip(whole.tracks, ended.tracks, strict=True):
        for a, b in zip(one.observations, other.observations, strict=True):
            assert (a.frame, a.box, a.confidence, a.source) == (
                b.frame,
                b.box,
                b.confidence,
                b.source,
            )
            np.testing.assert_array_equal(a.keypoints, b.keypoints)


def work(target):
    return target.with_name(f".{target.name}.dp3")


def lose_segment(folder):
    (folder / "segment_000001.segment").write_bytes(b"")


def lose_state(folder):
    (folder / "segment_000002.state").write_bytes(b"")


def lose_states(folder):
    for file in folder.glob("*.state"):
        file.unlink()


@pytest.mark.parametrize("lose", [lose_segment, lose_state, lose_states])
def test_a_job_goes_on_when_a_power_cut_took_files(parts, monkeypatch, tmp_path, lose):
    monkeypatch.setattr(rendering_pass, "SEGMENT_SECONDS", 0.4)
    source, target = scene(tmp_path / "a.mkv", paths(40, ((10, 20), (2, 0)))), tmp_path / "b.mkv"
    with pytest.raises(KeyboardInterrupt):
        process(source, target, stopped_at(40 + 35))
    assert len(list(work(target).glob("*.segment"))) == 3
    lose(work(target))
    _, summary = process(source, target)
    assert summary.resumed and not signal(images(target)).any()
    process(source, tmp_path / "c.mkv")
    assert target.read_bytes() == (tmp_path / "c.mkv").read_bytes()


def test_a_job_does_not_go_on_with_faces_of_other_weights(parts, monkeypatch, tmp_path):
    monkeypatch.setattr(rendering_pass, "SEGMENT_SECONDS", 0.4)
    source, target = scene(tmp_path / "a.mkv", paths(30, ((10, 20), (2, 0)))), tmp_path / "b.mkv"
    request = job.Request(source=source, target=target, master_key=b"k" * 32)
    with pytest.raises(KeyboardInterrupt):
        job.process(request, Anonymizer(), stopped_at(30 + 15))
    other = Painter()
    other.fingerprint = "1" * 64
    monkeypatch.setattr(Anonymizer, "generator", other)
    drawn = []
    job.process(request, Anonymizer(), lambda what, count, _: drawn.append((what, count)))
    assert sum(count for what, count in drawn if what == Stage.RENDERING) == 30
    assert (Stage.RENDERING, 0) in drawn and (Stage.DETECTION, 30) in drawn


def test_what_must_not_be_gone_on_with_is_thrown_away(parts, tmp_path):
    """Another source of the same name, other settings: the job begins anew."""
    source, target = scene(tmp_path / "a.mkv", paths(12, ((10, 20), (2, 0)))), tmp_path / "b.mkv"
    for change in (
        lambda: os.utime(source, ns=(1, 1)),
        lambda: scene(source, paths(12, ((30, 20), (2, 0)))),
    ):
        with pytest.raises(KeyboardInterrupt):
            process(source, target, stopped_at(12 + 5))
        change()
        _, summary = process(source, target)
        assert not summary.resumed and not signal(images(target)).any()


def test_another_file_under_the_same_tracks_is_noticed(parts, tmp_path):
    """Frames of other times than those that were looked at would have their faces elsewhere."""
    boxes = paths(12, ((10, 20), (2, 0)))
    source = scene(tmp_path / "a.mkv", boxes)

    def swap(what, count, total):
        if what == Stage.RENDERING:
            scene(source, boxes, times=[0, *range(150, 150 + 11 * 100, 100)])

    with pytest.raises(UserError, match="frame 1 is not the one that was looked at"):
        process(source, tmp_path / "b.mkv", swap)
    assert not (tmp_path / "b.mkv").exists()


def test_a_drive_without_locks_is_worked_on_all_the_same(monkeypatch, tmp_path):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(work_folder.fcntl, "flock", refuse)
    with work_folder.work_folder(tmp_path / "b.mkv", {}):
        pass
    assert list(tmp_path.iterdir()) == []
